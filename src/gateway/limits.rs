//! The limits of the gateway, each with its default.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::code::Code;
use crate::framing::HeadLimits;

/// The delay before a response that asks the caller to retry later. Without it, a caller that retries at once would
/// fill the workers and the trail with refusals. A caller that honours `Retry-After` loses nothing, since that is at
/// least one second.
pub const REFUSAL_DELAY: Duration = Duration::from_millis(250);
const MINUTE: Duration = Duration::from_mins(1);
/// The default limit of connections from one address; never more than half of all connections.
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
    /// The time within which a request head must be complete.
    pub header_timeout: Duration,
    /// The interval in which a request body must deliver at least 1 KiB.
    pub body_timeout: Duration,
    /// The maximum duration of a request body.
    pub body_total_timeout: Duration,
    /// The maximum idle time of a kept-alive connection.
    pub idle_timeout: Duration,
    /// The maximum number of consumer connections.
    pub connections: usize,
    /// The maximum number of connections from one address. 0 means no limit. [`USUAL_SHARE`] means that many, or half
    /// of all connections if that is less.
    pub connections_per_address: usize,
    /// The networks whose addresses may open any number of connections.
    pub trusted_proxies: Arc<[IpNet]>,
    /// The maximum number of failed authentication attempts per minute and address; 0 means no limit.
    pub auth_failures_per_minute: u32,
    /// The maximum number of refusals per minute and address that the trail records individually; 0 means all.
    pub refusals_per_minute: u32,
}

impl Limits {
    /// Returns the address under which connections of `peer` are counted, and the limit for it if `all` connections are
    /// allowed in total. Returns `None` for an unlimited peer: this machine and trusted proxies carry the connections
    /// of others.
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

/// Normalises the peer's address. An IPv4-mapped IPv6 address, as a listener on `[::]` sees it, becomes IPv4 (RFC 4291
/// §2.5.5.2). The zone is removed.
#[must_use]
pub fn simplest(peer: SocketAddr) -> SocketAddr {
    SocketAddr::new(peer.ip().to_canonical(), peer.port())
}

/// Returns the unit that counts as one address. For IPv6 it is the network, since a client usually controls all of it.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            v6.to_ipv4_mapped().map_or_else(|| IpAddr::V6((v6.to_bits() >> 64 << 64).into()), IpAddr::V4)
        }
    }
}

/// The quota of one consumer over all workers: its limits and its usage.
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

/// The permit of one call in flight. Dropping it releases the slot.
#[derive(Debug)]
pub struct ConcurrencyPermit(Arc<Used>);

impl Quota {
    /// Creates a quota with a limit of requests per minute and a limit of calls in flight. `None` or 0 means no limit.
    #[must_use]
    pub fn new(per_minute: Option<u32>, concurrency: Option<u32>) -> Self {
        let used = Used { epoch: Instant::now(), arrival: AtomicU64::new(0), in_flight: AtomicU32::new(0) };
        let limit = |most: Option<u32>| most.filter(|most| *most > 0);
        Self { per_minute: limit(per_minute), concurrency: limit(concurrency), used: Arc::new(used) }
    }

    /// Returns the same consumer's quota with new limits. The usage carries over: the used share of a minute's
    /// requests, and every counted call in flight.
    #[must_use]
    pub fn with_limits(self: Arc<Self>, per_minute: u32, concurrency: u32) -> Arc<Self> {
        if (self.per_minute.unwrap_or(0), self.concurrency.unwrap_or(0)) == (per_minute, concurrency) {
            return self;
        }
        let fresh = Self::new(Some(per_minute), Some(concurrency));
        Arc::new(Self { used: Arc::clone(&self.used), ..fresh })
    }

    /// Charges one call to the quota.
    ///
    /// # Errors
    /// The code, and the delay after which the caller should retry.
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
        // GCRA: each call advances the arrival time by one step; a burst of one minute's calls is allowed.
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
