//! How long what came from the store is good: as long as the store could be read not too long ago.
//!
//! It is a lease, and whoever follows the store renews it: should that one hang, on a disk that does
//! not answer, calls that rest on the store end all the same.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Snapshot;
use super::decide::Caller;
use crate::code::Code;

/// Until when the store vouches for what came from it. Each snapshot has that of the one before it.
#[derive(Debug)]
pub struct StoreLease {
    begun: Instant,
    /// In milliseconds since `begun`.
    until: AtomicU64,
}

impl Default for StoreLease {
    /// For ever, until it is renewed for less.
    fn default() -> Self {
        Self { begun: Instant::now(), until: AtomicU64::new(u64::MAX) }
    }
}

impl StoreLease {
    /// The store was read just now, and vouches for so long; for ever where `bound` is zero.
    pub fn renew(&self, bound: Duration) {
        let until = (self.begun.elapsed() + bound).as_millis();
        let until = u64::try_from(until).ok().filter(|_| !bound.is_zero()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Release);
    }

    /// Whether it does so still.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.begun.elapsed().as_millis() <= u128::from(self.until.load(Ordering::Acquire))
    }
}

impl Snapshot {
    /// Why a call that policy permits is not made now: the code, and the reason for the trail. What
    /// concerns the consumer itself is 403; the rest is our own doing, and 503.
    #[must_use]
    pub fn blocked_by(
        &self,
        caller: &impl Caller,
        (upstream, credential): (usize, usize),
    ) -> Option<(Code, &'static str)> {
        let frozen = self.freezes.blocked_by((caller.consumer(), upstream, credential));
        frozen.or_else(|| self.expired_for(caller, credential))
    }

    fn expired_for(&self, caller: &impl Caller, credential: usize) -> Option<(Code, &'static str)> {
        let stored = |credential| self.custody.credential(credential).is_some_and(|held| held.stored);
        // The time last: who does not rest on the store does not ask for it.
        let rests = caller.is_stored() || stored(credential);
        (rests && !self.vouched.is_valid())
            .then_some((Code::StoreUnavailable, "the store could not be read for too long"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasts_until_its_end_and_for_ever_without_one() {
        let vouched = StoreLease::default();
        assert!(vouched.is_valid());
        let brief = Duration::from_millis(5);
        vouched.renew(brief);
        std::thread::sleep(2 * brief);
        assert!(!vouched.is_valid());
        vouched.renew(Duration::from_hours(1));
        assert!(vouched.is_valid());
        vouched.renew(brief);
        std::thread::sleep(2 * brief);
        assert!(!vouched.is_valid());
        vouched.renew(Duration::ZERO);
        assert!(vouched.is_valid());
    }
}
