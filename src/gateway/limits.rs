//! Limits: every one has a default and stands here.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::code::Code;
use crate::framing::HeadLimits;

/// How long the answer is held back that tells somebody to come later. Whoever asks on at once,
/// whatever it is told, would otherwise fill the workers and the trail with refusals; whoever waits as
/// it is told loses nothing, since that is a second at least.
pub const REFUSAL_DELAY: Duration = Duration::from_millis(250);
const MINUTE: Duration = Duration::from_mins(1);
/// How many connections one address may have where nothing else is written; never more than half of all.
pub const USUAL_SHARE: u16 = 1024;

/// The configured limits.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The longest request body, in bytes.
    pub max_body: u64,
    /// The longest body that rules look at, in bytes.
    pub max_judged_body: usize,
    /// Limits of a request head.
    pub head: HeadLimits,
    /// A request head must be whole by then.
    pub header_timeout: Duration,
    /// A request body must bring 1 KiB in each such time.
    pub body_timeout: Duration,
    /// The longest time that a request body may take in all.
    pub body_total: Duration,
    /// How long a kept-alive connection may be idle.
    pub idle_timeout: Duration,
    /// Consumers' connections, in all.
    pub connections: usize,
    /// Consumers' connections from one address; 0: no limit; [`USUAL_SHARE`]: that, or half of all where that is less.
    pub connections_per_address: usize,
    /// Networks whose addresses may have any number of connections.
    pub trusted_proxies: Arc<[IpNet]>,
    /// Failed attempts to authenticate a minute and address; 0: no limit.
    pub auth_failures_per_minute: u32,
    /// Refusals a minute and address that the trail is told one by one; 0: all.
    pub refusals_per_minute: u32,
}

impl Limits {
    /// As what the connections of `peer` are counted, and how many there may be where there may be `all` of
    /// everybody; `None` where it may have any number. This machine and trusted proxies bring the connections of
    /// others.
    #[must_use]
    pub fn share(&self, peer: IpAddr, all: usize) -> Option<(IpAddr, usize)> {
        let (peer, written) = (peer.to_canonical(), self.connections_per_address);
        let usual = written == usize::from(USUAL_SHARE);
        let most = if usual { written.min(all / 2).max(1) } else { written };
        let free =
            || peer.is_loopback() || self.trusted_proxies.iter().any(|trusted| trusted.contains(&peer));
        (most > 0 && !free()).then(|| (network(peer), most))
    }
}

/// The peer's address in its simplest form: of one that maps IPv4 into IPv6, as a listener on `[::]` sees it,
/// the IPv4 address (RFC 4291 §2.5.5.2), and no zone.
#[must_use]
pub fn simplest(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// What counts as one address: of IPv6 the network, since whoever has one address has all of it.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            v6.to_ipv4_mapped().map_or_else(|| IpAddr::V6((v6.to_bits() >> 64 << 64).into()), IpAddr::V4)
        }
    }
}

/// What one consumer may use, over all workers, and has used.
#[derive(Debug)]
pub struct Quota {
    per_minute: Option<u32>,
    concurrency: Option<u32>,
    used: Arc<Used>,
}

#[derive(Debug)]
struct Used {
    epoch: Instant,
    /// GCRA's theoretical arrival time, in nanoseconds since the epoch.
    arrival: AtomicU64,
    in_flight: AtomicU32,
}

/// One call in flight; dropping it gives the place back.
#[derive(Debug)]
pub struct ConcurrencyPermit(Arc<Used>);

impl Quota {
    /// A quota of so many requests a minute, and so many in flight.
    #[must_use]
    pub fn new(per_minute: Option<u32>, concurrency: Option<u32>) -> Self {
        let used = Used { epoch: Instant::now(), arrival: AtomicU64::new(0), in_flight: AtomicU32::new(0) };
        let limit = |most: Option<u32>| most.filter(|most| *most > 0);
        Self { per_minute: limit(per_minute), concurrency: limit(concurrency), used: Arc::new(used) }
    }

    /// The same consumer's quota from now on. What was used of the former counts: the same part of a
    /// minute's requests, and every call that was counted and is still in flight.
    #[must_use]
    pub fn with_limits(self: Arc<Self>, per_minute: u32, concurrency: u32) -> Arc<Self> {
        if (self.per_minute.unwrap_or(0), self.concurrency.unwrap_or(0)) == (per_minute, concurrency) {
            return self;
        }
        let fresh = Self::new(Some(per_minute), Some(concurrency));
        Arc::new(Self { used: Arc::clone(&self.used), ..fresh })
    }

    /// Takes one call out of the quota.
    ///
    /// # Errors
    /// The code, and how long until it makes sense to ask again.
    pub fn take(&self) -> Result<Option<ConcurrencyPermit>, (Code, Duration)> {
        let place = match self.concurrency {
            None => None,
            Some(most) => {
                let claim = |used: u32| (used < most).then_some(used + 1);
                self.used
                    .in_flight
                    .fetch_update(Ordering::AcqRel, Ordering::Acquire, claim)
                    .map_err(|_| (Code::ConcurrencyLimited, Duration::from_secs(1)))?;
                Some(ConcurrencyPermit(Arc::clone(&self.used)))
            }
        };
        let Some(per_minute) = self.per_minute else { return Ok(place) };
        // GCRA: each call moves the arrival time on; a whole minute's calls may come at once.
        let minute = u64::try_from(MINUTE.as_nanos()).unwrap_or(u64::MAX);
        let step = minute / u64::from(per_minute);
        let now = u64::try_from(self.used.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let next = |arrival: u64| {
            let arrival = arrival.max(now) + step;
            (arrival <= now + step * u64::from(per_minute)).then_some(arrival)
        };
        match self.used.arrival.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(_) => Ok(place),
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
