//! `[limits]`: upper bounds of requests, connections and times.

use std::time::Duration;

use ipnet::IpNet;

use crate::config::decode::{Reader, duration, integer, network, or_default, section, size};
use crate::framing::MAX_HEADERS;
use crate::gateway::limits::USUAL_SHARE;

section! {
    /// The upper bounds of requests, connections and times.
    pub struct Limits {
        /// The size of a request's body; a longer one is answered 413.
        max_body: u64 = or_default(16 << 20, size(0..=1 << 40)),
        /// The size of a body that a rule looks at; such a rule does not allow a longer one.
        max_judged_body: u64 = or_default(64 << 10, size(0..=16 << 20)),
        /// The size of a request's header block; a longer one is answered 431.
        // The HTTP library does not accept a longer single header name.
        max_header_bytes: u64 = or_default(32 << 10, size(64..=60 << 10)),
        /// The number of header lines of a request; with more, 431.
        max_headers: usize = or_default(100, integer(1..=MAX_HEADERS)),
        /// The size of a request's path and query; a longer one is answered 414.
        // Its canonical form may be three times as long, and the HTTP library does not accept a target of 64 KiB.
        max_target_bytes: u64 = or_default(8 << 10, size(64..=16 << 10)),
        /// The time until a request's head is complete; else 408.
        header_timeout: Duration = or_default(Duration::from_secs(10), time_out()),
        /// The time in which a request's body must bring 1 KiB; else 408.
        body_timeout: Duration = or_default(Duration::from_mins(1), time_out()),
        /// The time until a request's body is complete; else 408.
        body_total_timeout: Duration = or_default(Duration::from_hours(1), time_out()),
        /// The time to connect to the upstream and to begin an answer, and the longest pause in one; else 504.
        upstream_timeout: Duration = or_default(Duration::from_mins(1), time_out()),
        /// The time for which a connection without a request is kept.
        idle_timeout: Duration = or_default(Duration::from_mins(2), time_out()),
        /// The number of connections at a time; fewer where too few files may be open.
        connections: u32 = or_default(20_000, integer(1..=u32::MAX)),
        /// The number of connections of one address (of IPv6 a /64), not of this machine. 1024: at most half of all.
        /// Another number: as written. 0: no limit.
        connections_per_address: u32 = or_default(USUAL_SHARE.into(), count()),
        /// The networks (CIDR) whose addresses may have any number of connections.
        trusted_proxies: Vec<IpNet> = or_default(Vec::new(), network().list()),
        /// The number of failed authentications of one address in a minute; with more, 429. A good token is never held
        /// up by it. 0: no limit.
        auth_failures_per_minute: u32 = or_default(60, count()),
        /// The number of refusals of one address in a minute that the trail lists one by one (of one consumer ten times
        /// as many), and as many KiB; more are summed up. 0: all are listed.
        refusals_per_minute: u32 = or_default(600, count()),
        /// The number of requests of one consumer in a minute, which it may make all at once; with more,
        /// 429. 0: no limit.
        requests_per_minute: u32 = or_default(0, count()),
        /// The number of calls of one consumer at a time; with more, 429. 0: no limit.
        concurrency: u32 = or_default(0, count()),
    }
}

/// Reads a time-out.
fn time_out() -> Reader<Duration> {
    duration(Duration::from_millis(1)..=Duration::from_hours(24))
}

/// Reads a number that may be 0.
fn count() -> Reader<u32> {
    integer(0..=u32::MAX)
}
