//! A lease on store data: how long data read from the store stays valid.
//!
//! The follower of the store renews the lease after each successful read. If the follower hangs, for example on a disk
//! that does not respond, the lease expires and calls that depend on the store are refused.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The expiry of the lease on store data. Each snapshot shares the lease of the one before it.
#[derive(Debug)]
pub struct StoreLease {
    begun: Instant,
    /// The expiry, in milliseconds since `begun`.
    until: AtomicU64,
}

impl Default for StoreLease {
    /// Creates a lease without an end; the first renewal may set one.
    fn default() -> Self {
        Self { begun: Instant::now(), until: AtomicU64::new(u64::MAX) }
    }
}

impl StoreLease {
    /// Renews the lease for `bound` from now, after a successful read of the store. A `bound` of zero means no end.
    pub fn renew(&self, bound: Duration) {
        let until = (self.begun.elapsed() + bound).as_millis();
        let until = u64::try_from(until).ok().filter(|_| !bound.is_zero()).unwrap_or(u64::MAX);
        self.until.store(until, Ordering::Release);
    }

    /// Returns whether the lease has not expired.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.begun.elapsed().as_millis() <= u128::from(self.until.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lasts_until_its_end_and_for_ever_without_one() {
        let store_lease = StoreLease::default();
        assert!(store_lease.is_valid());
        let brief = Duration::from_millis(5);
        store_lease.renew(brief);
        std::thread::sleep(2 * brief);
        assert!(!store_lease.is_valid());
        store_lease.renew(Duration::from_hours(1));
        assert!(store_lease.is_valid());
        store_lease.renew(brief);
        std::thread::sleep(2 * brief);
        assert!(!store_lease.is_valid());
        store_lease.renew(Duration::ZERO);
        assert!(store_lease.is_valid());
    }
}
