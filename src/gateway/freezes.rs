//! Freezes: what an operator has stopped. A freeze covers everything, an upstream, a consumer or a credential.

use std::collections::{HashMap, HashSet};

use crate::code::Code;

/// The frozen objects, by their indexes in the snapshot.
#[derive(Debug, Default)]
pub struct Freezes {
    /// Whether all calls are frozen.
    pub gateway: bool,
    /// Indexes of the frozen upstreams.
    pub upstreams: HashSet<usize>,
    /// Indexes of the frozen consumers.
    pub consumers: HashSet<usize>,
    /// Indexes of the unavailable credentials, with the reason for each.
    pub credentials: HashMap<usize, &'static str>,
}

impl Freezes {
    /// Returns why the gateway blocks a call of this consumer, to this upstream, with this credential.
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

    /// Returns why the gateway blocks all calls of this consumer to this upstream, whatever the body.
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

/// The reason recorded for a frozen credential.
pub const FROZEN_CREDENTIAL: &str = "the credential is frozen";
