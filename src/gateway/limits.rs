//! The limits of the gateway, each with its default.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::framing::HeadLimits;

/// The delay before a response that asks the caller to retry later. Without it, a caller that retries at once would
/// fill the workers and the trail with refusals. A caller that honours `Retry-After` loses nothing, since that is at
/// least one second.
pub const REFUSAL_DELAY: Duration = Duration::from_millis(250);
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
    /// allowed in total. Returns `None` for an unlimited peer: this machine and trusted proxies carry the
    /// connections of others.
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
