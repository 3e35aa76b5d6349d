//! The quota of a consumer: requests per minute, and calls in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::code::Code;

const MINUTE: Duration = Duration::from_mins(1);

/// The quota of one consumer over all workers: its limits and its usage.
#[derive(Debug)]
pub struct Quota {
    per_minute: Option<u32>,
    concurrency: Option<u32>,
    usage: Arc<Usage>,
}

#[derive(Debug)]
struct Usage {
    epoch: Instant,
    /// GCRA's theoretical arrival time, in nanoseconds since the epoch.
    arrival: AtomicU64,
    in_flight: AtomicU32,
}

/// The permit of one call in flight. Dropping it releases the slot.
#[derive(Debug)]
pub struct ConcurrencyPermit(Arc<Usage>);

impl Quota {
    /// Creates a quota with a limit of requests per minute and a limit of calls in flight. `None` or 0 means no limit.
    #[must_use]
    pub fn new(per_minute: Option<u32>, concurrency: Option<u32>) -> Self {
        let usage = Usage { epoch: Instant::now(), arrival: AtomicU64::new(0), in_flight: AtomicU32::new(0) };
        let limit = |most: Option<u32>| most.filter(|most| *most > 0);
        Self { per_minute: limit(per_minute), concurrency: limit(concurrency), usage: Arc::new(usage) }
    }

    /// Returns the same consumer's quota with new limits. The usage carries over: the used share of a minute's
    /// requests, and every counted call in flight.
    #[must_use]
    pub fn with_limits(self: Arc<Self>, per_minute: u32, concurrency: u32) -> Arc<Self> {
        if (self.per_minute.unwrap_or(0), self.concurrency.unwrap_or(0)) == (per_minute, concurrency) {
            return self;
        }
        let fresh = Self::new(Some(per_minute), Some(concurrency));
        Arc::new(Self { usage: Arc::clone(&self.usage), ..fresh })
    }

    /// Charges one call to the quota.
    ///
    /// # Errors
    /// The code, and the delay after which the caller should retry.
    pub fn take(&self) -> Result<Option<ConcurrencyPermit>, (Code, Duration)> {
        let mut permit = None;
        if let Some(most) = self.concurrency {
            let claim = |used: u32| (used < most).then_some(used + 1);
            let claimed = self.usage.in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim);
            claimed.map_err(|_| (Code::ConcurrencyLimited, Duration::from_secs(1)))?;
            permit = Some(ConcurrencyPermit(Arc::clone(&self.usage)));
        }
        let Some(per_minute) = self.per_minute else { return Ok(permit) };
        // GCRA: each call advances the arrival time by one step; a burst of one minute's calls is allowed.
        let minute = u64::try_from(MINUTE.as_nanos()).unwrap_or(u64::MAX);
        let step = minute / u64::from(per_minute);
        let now = u64::try_from(self.usage.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let next = |arrival: u64| {
            let arrival = arrival.max(now) + step;
            (arrival <= now + step * u64::from(per_minute)).then_some(arrival)
        };
        match self.usage.arrival.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(_) => Ok(permit),
            Err(arrival) => {
                let wait = (arrival + step).saturating_sub(now + step * u64::from(per_minute));
                Err((Code::RateLimited, Duration::from_nanos(wait)))
            }
        }
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_gives_a_minutes_calls_and_no_more() {
        let quota = Quota::new(Some(3), None);
        assert!((0..3).all(|_| quota.take().is_ok()));
        let refused = quota.take().map(|_| ()).err();
        assert!(
            matches!(refused, Some((Code::RateLimited, wait)) if wait > Duration::from_secs(19)),
            "{refused:?}"
        );
    }

    #[test]
    fn a_place_in_flight_is_given_back() {
        let quota = Quota::new(None, Some(1));
        let place = quota.take();
        assert!(place.is_ok() && quota.take().is_err());
        drop(place);
        assert!(quota.take().is_ok());
    }

    #[test]
    fn what_was_used_counts_under_other_limits_too() {
        let quota = Arc::new(Quota::new(Some(2), Some(2)));
        let place = quota.take();
        assert!(place.is_ok());
        let fewer = Arc::clone(&quota).with_limits(2, 1);
        assert!(matches!(fewer.take(), Err((Code::ConcurrencyLimited, _))));
        drop(place);
        assert!(fewer.take().is_ok());
        let more = fewer.with_limits(60, 0);
        let refused = more.take().map(|_| ()).err();
        assert!(
            matches!(refused, Some((Code::RateLimited, wait)) if wait <= Duration::from_secs(1)),
            "{refused:?}"
        );
    }
}
