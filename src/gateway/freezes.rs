//! Freezes: what an operator has stopped. A freeze covers everything, an upstream, a consumer or a credential.

use std::collections::{HashMap, HashSet};

use crate::code::{Code, Fault};
use crate::ids::{ConsumerId, CredentialId, UpstreamId};

/// The frozen objects.
#[derive(Debug, Default)]
pub struct Freezes {
    /// Whether all calls are frozen.
    pub gateway: bool,
    /// The frozen upstreams.
    pub upstreams: HashSet<UpstreamId>,
    /// The frozen consumers.
    pub consumers: HashSet<ConsumerId>,
    /// The credentials that are frozen or not available, each with the refusal of its calls.
    pub credentials: HashMap<CredentialId, Fault>,
}

impl Freezes {
    /// The refusal of a call with a frozen credential.
    pub const CREDENTIAL: Fault = Fault { code: Code::Frozen, reason: "the credential is frozen" };

    /// Returns why the gateway blocks a call of this consumer, to this upstream, with this credential.
    #[must_use]
    pub fn blocked_by(
        &self,
        consumer: ConsumerId,
        upstream: UpstreamId,
        credential: CredentialId,
    ) -> Option<Fault> {
        self.blocked_before_body(consumer, upstream).or_else(|| self.credentials.get(&credential).copied())
    }

    /// Returns why the gateway blocks all calls of this consumer to this upstream, whatever the body.
    #[must_use]
    pub fn blocked_before_body(&self, consumer: ConsumerId, upstream: UpstreamId) -> Option<Fault> {
        if self.gateway {
            return Some(Fault { code: Code::Frozen, reason: "the gateway is frozen" });
        }
        if self.consumers.contains(&consumer) {
            return Some(Fault { code: Code::ConsumerFrozen, reason: "the consumer is frozen" });
        }
        let frozen = self.upstreams.contains(&upstream);
        frozen.then_some(Fault { code: Code::Frozen, reason: "the upstream is frozen" })
    }
}
