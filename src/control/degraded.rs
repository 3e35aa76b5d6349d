//! Records why the gateway does not apply the whole store, since when, and when it retries.

use std::time::{Duration, Instant};

use crate::storage::Revision;

/// How long the gateway waits before it retries a failed store update, if the store does not change meanwhile.
const RETRY: Duration = Duration::from_secs(2);

/// How long the gateway may apply only a part of the store before it reports itself as not ready.
const GRACE: Duration = Duration::from_secs(2);

/// How much of the store the gateway does not apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// The store could not be read.
    Unread,
    /// The store content of this revision conflicts with the configuration file.
    Unfit(Revision),
    /// The content of this revision is in force, except the records that could not be opened.
    Sealed(Revision),
}

/// The present problem with the store; it exists until the problem is solved.
#[derive(Debug)]
pub(super) struct Degraded {
    /// The reason, as it was logged.
    why: String,
    extent: Extent,
    since: Instant,
    /// When the gateway last tried.
    tried: Instant,
}

impl Degraded {
    /// Records the present problem, which follows the problem `former`, and logs it if it is new.
    pub(super) fn after(former: Option<&Self>, extent: Extent, why: String) -> Self {
        let now = Instant::now();
        if former.is_none_or(|former| former.why != why) {
            let effect = match extent {
                Extent::Unread | Extent::Unfit(_) => {
                    "the store cannot be followed: its last known content stays in force"
                }
                Extent::Sealed(_) => {
                    "some records of the store cannot be opened: their last known content stays in force"
                }
            };
            tracing::error!(%why, "{effect}");
        }
        Self { why, extent, since: former.map_or(now, |former| former.since), tried: now }
    }

    /// Whether the gateway tried this revision only a moment ago, so that a retry can wait. A new revision never waits,
    /// nor does a store that can be read again.
    pub(super) fn may_wait(&self, stamp: Option<Revision>) -> bool {
        match self.extent {
            Extent::Unread => false,
            Extent::Unfit(of) | Extent::Sealed(of) => Some(of) == stamp && self.tried.elapsed() < RETRY,
        }
    }

    /// Whether this problem is already recorded.
    pub(super) fn is(&self, extent: Extent, why: &str) -> bool {
        self.extent == extent && self.why == why
    }

    /// Whether revocations in the store take effect in spite of the problem.
    pub(super) fn is_followed(&self) -> bool {
        match self.extent {
            Extent::Unread | Extent::Unfit(_) => false,
            Extent::Sealed(_) => true,
        }
    }

    /// The reason why the gateway is not ready, once the problem has lasted too long. `lease_expired`: whether the lease
    /// on store data has expired.
    pub(super) fn unready(&self, lease_expired: bool) -> Option<String> {
        let what = match self.extent {
            Extent::Unread if lease_expired => "it cannot be read, so calls that depend on it are refused",
            Extent::Unfit(_) if lease_expired => {
                "it conflicts with the configuration file, so calls that depend on it are refused"
            }
            Extent::Unread | Extent::Unfit(_) => {
                "its changes cannot be followed, so what was revoked may still be accepted"
            }
            Extent::Sealed(_) => "some of its records cannot be opened",
        };
        (self.since.elapsed() >= GRACE).then(|| format!("store: {what}: {}", self.why))
    }
}
