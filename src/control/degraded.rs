//! What keeps all of the store from being in force, since when, and when to try again.

use std::time::{Duration, Instant};

use crate::storage::Revision;

/// How long until what could not be put in force is tried again, if nothing changes meanwhile.
const RETRY: Duration = Duration::from_secs(2);

/// How long not all of the store may be in force until the gateway says that it is not ready.
const APART: Duration = Duration::from_secs(2);

/// How much of the store is not in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// It could not be read.
    Unread,
    /// What it held under this stamp does not go with the file.
    Unfit(Revision),
    /// All that it held under this stamp is in force but what could not be opened.
    Sealed(Revision),
}

/// What is wrong, until it is not any more.
#[derive(Debug)]
pub(super) struct Degraded {
    /// As it was said.
    why: String,
    extent: Extent,
    since: Instant,
    /// When it was last tried.
    tried: Instant,
}

impl Degraded {
    /// Takes up what is wrong now, after what was wrong `before`, and says it where it is new.
    pub(super) fn after(before: Option<&Self>, (extent, why): (Extent, String)) -> Self {
        let now = Instant::now();
        if before.is_none_or(|before| before.why != why) {
            match extent {
                Extent::Unread | Extent::Unfit(_) => {
                    tracing::error!(%why, "the store cannot be followed: what was in force stays");
                }
                Extent::Sealed(_) => {
                    tracing::error!(%why, "not all that the store holds could be put in force: what was opened before stays in use");
                }
            }
        }
        Self { why, extent, since: before.map_or(now, |before| before.since), tried: now }
    }

    /// Whether the store's content of this stamp was tried only just. What is new is not held up by
    /// what was wrong before it, nor is a store that can be read again.
    pub(super) fn may_wait(&self, stamp: Option<Revision>) -> bool {
        match self.extent {
            Extent::Unread => false,
            Extent::Unfit(of) | Extent::Sealed(of) => Some(of) == stamp && self.tried.elapsed() < RETRY,
        }
    }

    /// Whether it is this that is wrong already.
    pub(super) fn is(&self, extent: Extent, why: &str) -> bool {
        self.extent == extent && self.why == why
    }

    /// Whether what was revoked in the store is out of force all the same.
    pub(super) fn is_followed(&self) -> bool {
        match self.extent {
            Extent::Unread | Extent::Unfit(_) => false,
            Extent::Sealed(_) => true,
        }
    }

    /// Why nobody should rely on what is in force, once it has lasted for too long; `lapsed` says that
    /// nobody can any more.
    pub(super) fn unready(&self, lapsed: bool) -> Option<String> {
        let what = match self.extent {
            Extent::Unread if lapsed => "it cannot be read, so calls that rest on it are refused",
            Extent::Unfit(_) if lapsed => {
                "it does not go with the file, so calls that rest on it are refused"
            }
            Extent::Unread | Extent::Unfit(_) => {
                "what is changed there cannot be followed, so what was revoked may still be let in"
            }
            Extent::Sealed(_) => "not all that it holds could be put in force",
        };
        (self.since.elapsed() >= APART).then(|| format!("store: {what}: {}", self.why))
    }
}
