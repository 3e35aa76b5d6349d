//! Limits the consumer connections: in total, and from one address.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dashmap::DashMap;

use crate::gateway::limits::Limits;
use crate::metrics::Metrics;

/// Limits the consumer connections of all workers.
pub(super) struct ConnectionLimiter {
    /// The number of connections that the file descriptors allow.
    most: usize,
    all: AtomicUsize,
    by_address: DashMap<IpAddr, usize>,
}

/// A counted connection; dropping it releases its slot.
pub(super) struct ConnectionGuard {
    limiter: Arc<ConnectionLimiter>,
    address: Option<IpAddr>,
    metrics: Arc<Metrics>,
}

/// Why a connection is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// There are too many connections in total.
    All,
    /// There are too many connections from its address.
    Address,
}

impl Full {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Address => "address",
        }
    }
}

impl ConnectionLimiter {
    pub(super) fn new(most: usize) -> Self {
        Self { most, all: AtomicUsize::default(), by_address: DashMap::default() }
    }

    /// Counts a connection, unless there are too many in total or from its address.
    pub(super) fn enter(
        self: &Arc<Self>,
        peer: IpAddr,
        limits: &Limits,
        metrics: &Arc<Metrics>,
    ) -> Result<ConnectionGuard, Full> {
        let most = self.most.min(limits.connections);
        let claim = |used: usize| (used < most).then_some(used + 1);
        self.all.fetch_update(Ordering::AcqRel, Ordering::Acquire, claim).map_err(|_| Full::All)?;
        metrics.connections.inc();
        let (limiter, metrics) = (Arc::clone(self), Arc::clone(metrics));
        let mut guard = ConnectionGuard { limiter, address: None, metrics };
        if let Some((peer, each)) = limits.share(peer, most) {
            let mut count = self.by_address.entry(peer).or_insert(0);
            if *count >= each {
                drop(count);
                return Err(Full::Address);
            }
            *count += 1;
            guard.address = Some(peer);
        }
        Ok(guard)
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.limiter.all.fetch_sub(1, Ordering::AcqRel);
        self.metrics.connections.dec();
        if let Some(address) = self.address {
            self.limiter.by_address.alter(&address, |_, count| count.saturating_sub(1));
            self.limiter.by_address.remove_if(&address, |_, count| *count == 0);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::framing::HeadLimits;

    fn limits(each: usize) -> Limits {
        let second = Duration::from_secs(1);
        Limits {
            max_body: 0,
            max_judged_body: 0,
            head: HeadLimits { target: 0, headers: 0, lines: 0 },
            header_timeout: second,
            body_timeout: second,
            body_total_timeout: second,
            idle_timeout: second,
            connections: 10,
            connections_per_address: each,
            trusted_proxies: ["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()].into(),
            auth_failures_per_minute: 0,
            refusals_per_minute: 0,
        }
    }

    #[test]
    fn whoever_has_one_address_of_a_network_has_one_share() {
        let (limiter, metrics) = (Arc::new(ConnectionLimiter::new(usize::MAX)), Arc::new(Metrics::default()));
        let enter = |peer: &str| limiter.enter(peer.parse().unwrap(), &limits(2), &metrics);
        let guests = [enter("2001:db8::1"), enter("2001:db8::2")];
        assert!(guests.iter().all(Result::is_ok));
        assert_eq!(enter("2001:db8::3:4").err(), Some(Full::Address));
        let others = [enter("2001:db8:0:1::1"), enter("192.0.2.1"), enter("::ffff:192.0.2.1")];
        assert!(others.iter().all(Result::is_ok) && enter("192.0.2.1").is_err());
        drop(guests);
        assert!(enter("2001:db8::3:4").is_ok());
    }

    #[test]
    fn one_address_has_no_more_than_half_by_default_and_else_what_is_written() {
        let metrics = Arc::new(Metrics::default());
        for (room, written, expected) in [
            (usize::MAX, 1024, 5),
            (6, 1024, 3),
            (3, 1024, 1),
            (1, 1024, 1),
            (usize::MAX, 1023, 10),
            (6, 5, 5),
            (usize::MAX, 0, 10),
        ] {
            let limiter = Arc::new(ConnectionLimiter::new(room));
            let enter = |peer: &str| limiter.enter(peer.parse().unwrap(), &limits(written), &metrics);
            let guests: Vec<_> = (0..20).map(|_| enter("192.0.2.1")).take_while(Result::is_ok).collect();
            assert_eq!(guests.len(), expected, "{written} of {room}");
            let another = enter("192.0.2.2").is_ok();
            assert_eq!(another, expected < room.min(10), "{written} of {room}: the rest is for others");
        }
        let many = Limits { connections: 20_000, ..limits(1024) };
        assert_eq!(many.share("192.0.2.1".parse().unwrap(), 20_000).map(|(_, most)| most), Some(1024));
    }

    #[test]
    fn this_machine_and_trusted_proxies_may_have_any_number_within_all() {
        let metrics = Arc::new(Metrics::default());
        for peer in
            ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.2.3", "::ffff:10.1.2.3", "fd00::1"]
        {
            let limiter = Arc::new(ConnectionLimiter::new(6));
            let enter = || limiter.enter(peer.parse().unwrap(), &limits(2), &metrics);
            let guests: Vec<_> = (0..6).map(|_| enter()).collect();
            assert!(guests.iter().all(Result::is_ok), "{peer}");
            assert_eq!(enter().err(), Some(Full::All), "{peer}: no more than there are descriptors for");
            drop(guests);
            assert!(enter().is_ok(), "{peer}: room again");
        }
        let limiter = Arc::new(ConnectionLimiter::new(usize::MAX));
        let enter = |peer: &str| limiter.enter(peer.parse().unwrap(), &limits(0), &metrics);
        let guests: Vec<_> = (0..10).map(|_| enter("192.0.2.1")).collect();
        assert!(
            guests.iter().all(Result::is_ok) && enter("192.0.2.1").is_err(),
            "0: no limit but that of all"
        );
    }
}
