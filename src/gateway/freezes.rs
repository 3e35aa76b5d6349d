//! What a custodian has stopped for now: everything, an upstream, a consumer, a credential.

use std::collections::{HashMap, HashSet};

use crate::code::Code;

/// What is frozen, by places in the snapshot.
#[derive(Debug, Default)]
pub struct Freezes {
    /// Every call.
    pub gateway: bool,
    /// Calls to these upstreams.
    pub upstreams: HashSet<usize>,
    /// Calls of these consumers.
    pub consumers: HashSet<usize>,
    /// Calls with these credentials, and why they are not to be had.
    pub credentials: HashMap<usize, &'static str>,
}

impl Freezes {
    /// Why a call by this consumer, to this upstream and with this credential is not made now.
    #[must_use]
    pub fn blocked_by(
        &self,
        (consumer, upstream, credential): (usize, usize, usize),
    ) -> Option<(Code, &'static str)> {
        let early = self.blocked_before_body((consumer, upstream));
        if early.is_some() {
            return early;
        }
        let why = self.credentials.get(&credential)?;
        let code = if *why == FROZEN_CREDENTIAL { Code::Frozen } else { Code::CredentialUnavailable };
        Some((code, why))
    }

    /// Why none of the consumer's calls to this upstream is made now, whatever its body says.
    #[must_use]
    pub fn blocked_before_body(&self, (consumer, upstream): (usize, usize)) -> Option<(Code, &'static str)> {
        if self.gateway {
            return Some((Code::Frozen, "the gateway is frozen"));
        }
        if self.consumers.contains(&consumer) {
            return Some((Code::ConsumerFrozen, "the consumer is frozen"));
        }
        if self.upstreams.contains(&upstream) {
            return Some((Code::Frozen, "the upstream is frozen"));
        }
        None
    }
}

/// Why a frozen credential is not used.
pub const FROZEN_CREDENTIAL: &str = "the credential is frozen";
