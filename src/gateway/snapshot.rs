//! The compiled configuration.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::failure_limiter::FailureLimiter;
use super::freezes::Freezes;
use super::limits::Limits;
use super::quota::Quota;
use super::store_lease::StoreLease;
use crate::code::{Code, Fault};
use crate::custody::{Custody, Mark};
use crate::fs::trust::TrustedOwner;
use crate::ids::{ConsumerId, CredentialId, UpstreamId};
use crate::inbound::{Directory, ReplayCache};
use crate::policy::Policy;
use crate::route::Routes;
use crate::scheme::{RefusedLogins, TokenSlot};
use crate::signature::HmacKey;
use crate::upstream::Upstream;

const STORE_EXPIRED: Fault =
    Fault { code: Code::StoreUnavailable, reason: "the store could not be read for too long" };

/// The compiled configuration. A request uses one snapshot from beginning to end.
pub struct Snapshot {
    /// The consumers and their credentials.
    pub directory: Directory,
    /// The routes to the upstreams.
    pub routes: Routes,
    /// The roles and grants that permit calls.
    pub policy: Policy,
    /// The upstream credentials.
    pub custody: Custody,
    /// The slots of the access tokens that upstreams issued; kept across reloads.
    pub token_slots: HashMap<CredentialId, Arc<TokenSlot>>,
    /// The rejected logins, kept across reloads and restarts.
    pub refused_logins: Arc<RefusedLogins>,
    /// The upstreams; other tables hold indexes into this list.
    pub upstreams: Vec<Upstream>,
    /// The active freezes.
    pub freezes: Freezes,
    /// The lease on all data that came from the store.
    pub store_lease: Arc<StoreLease>,
    /// The configured limits.
    pub limits: Limits,
    /// The quota of each consumer, by the consumer's index.
    pub quotas: Vec<Arc<Quota>>,
    /// The counters of failed attempts and refusals, kept across reloads.
    pub failures: Arc<FailureLimiter>,
    /// The single-use signatures seen so far, kept across reloads.
    pub nonces: Arc<ReplayCache>,
    /// The key of the fingerprints under which the trail records wrong credentials.
    pub fingerprints: HmacKey,
}

impl Snapshot {
    /// Persists rejected logins in the file at `path` from now on, and restores those that it holds. Entries of unknown
    /// credentials, or of former versions of a credential, are discarded.
    ///
    /// # Errors
    /// An I/O error if the file cannot be read, is damaged, or can be read or replaced by others. No entry
    /// is restored then.
    pub fn recall_logins(&self, path: &Path, keeper: TrustedOwner) -> io::Result<()> {
        self.refused_logins.open(path, keeper)?;
        let is_marked = |id: &CredentialId, mark: &Mark| {
            self.custody.credential(*id).is_some_and(|credential| credential.is_marked(mark))
        };
        let recalled = self.token_slots.iter().filter(|(id, slot)| slot.restore(|mark| is_marked(id, mark)));
        let names: Vec<_> = recalled.map(|(_, slot)| slot.names()).collect();
        self.refused_logins.keep_only(&names);
        Ok(())
    }

    /// Returns the quota of the consumer called `name`.
    #[must_use]
    pub fn quota(&self, name: &str) -> Option<Arc<Quota>> {
        self.quotas.get(self.directory.id_of(name)?.index()).map(Arc::clone)
    }

    /// Returns the upstream with this id.
    #[must_use]
    pub fn upstream(&self, id: UpstreamId) -> Option<&Upstream> {
        self.upstreams.get(id.index())
    }

    /// Returns the id of the upstream called `name`.
    #[must_use]
    pub fn upstream_id(&self, name: &str) -> Option<UpstreamId> {
        self.upstreams.iter().position(|upstream| upstream.name.as_str() == name).map(UpstreamId::new)
    }

    /// Returns why the gateway blocks a call that policy permits. `is_stored` means that the caller comes from the
    /// store. A cause that concerns the consumer gives 403; any other gives 503.
    #[must_use]
    pub fn blocked_by(
        &self,
        consumer: ConsumerId,
        is_stored: bool,
        upstream: UpstreamId,
        credential: CredentialId,
    ) -> Option<Fault> {
        self.freezes.blocked_by(consumer, upstream, credential).or_else(|| {
            // The clock is read last, and only for calls that depend on the store.
            let is_stored =
                is_stored || self.custody.credential(credential).is_some_and(|found| found.stored);
            (is_stored && !self.store_lease.is_valid()).then_some(STORE_EXPIRED)
        })
    }
}
