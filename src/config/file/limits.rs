//! `[limits]`: upper bounds of requests, connections and times.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::decode::scalar::integer;
use crate::config::decode::text::network;
use crate::config::decode::units::{duration, size};
use crate::config::decode::{Node, Read, Table};
use crate::gateway::limits::USUAL_SHARE;

/// The upper bounds of requests, connections and times.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The greatest length of a request's body, in bytes.
    pub max_body: u64,
    /// The greatest length of a body that rules read, in bytes.
    pub max_judged_body: u64,
    /// The greatest length of a request's header block, in bytes.
    pub max_header_bytes: u64,
    /// The greatest number of a request's header lines.
    pub max_headers: u32,
    /// The greatest length of a request's target, in bytes.
    pub max_target_bytes: u64,
    /// The time-out of a request's head.
    pub header_timeout: Duration,
    /// The time in which a request's body must bring at least 1 KiB.
    pub body_timeout: Duration,
    /// The time-out of a request's whole body.
    pub body_total_timeout: Duration,
    /// The time-out of the upstream's connection and of the start of its answer, and the longest pause within an
    /// answer.
    pub upstream_timeout: Duration,
    /// How long a connection without a request is kept.
    pub idle_timeout: Duration,
    /// The greatest number of connections in all.
    pub connections: u32,
    /// The greatest number of connections from one address; 0 for no limit. The default is at most half of all.
    pub connections_per_address: u32,
    /// Networks of trusted front proxies; each of their addresses may have any number of connections.
    pub trusted_proxies: Vec<IpNet>,
    /// The greatest number of failed authentications from one address per minute; 0 for no limit.
    pub auth_failures_per_minute: u32,
    /// The number of refusals per address and minute that are recorded one by one; 0 for all.
    pub refusals_per_minute: u32,
    /// The greatest number of requests of one consumer per minute; 0 for no limit.
    pub requests_per_minute: u32,
    /// The greatest number of requests of one consumer in flight; 0 for no limit.
    pub concurrency: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_body: 16 << 20,
            max_judged_body: 64 << 10,
            max_header_bytes: 32 << 10,
            max_headers: 100,
            max_target_bytes: 8 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_mins(1),
            body_total_timeout: Duration::from_hours(1),
            upstream_timeout: Duration::from_mins(1),
            idle_timeout: Duration::from_mins(2),
            connections: 20_000,
            connections_per_address: USUAL_SHARE.into(),
            trusted_proxies: Vec::new(),
            auth_failures_per_minute: 60,
            refusals_per_minute: 600,
            requests_per_minute: 0,
            concurrency: 0,
        }
    }
}

impl Limits {
    pub(super) fn read(node: &Node<'_>) -> Read<Self> {
        let default = Self::default();
        let mut table = Table::of(node)?;
        let mut wait = |key, default| table.or_default(key, default, duration(PATIENCE));
        let header_timeout = wait("header_timeout", default.header_timeout);
        let body_timeout = wait("body_timeout", default.body_timeout);
        let body_total_timeout = wait("body_total_timeout", default.body_total_timeout);
        let upstream_timeout = wait("upstream_timeout", default.upstream_timeout);
        let idle_timeout = wait("idle_timeout", default.idle_timeout);
        let max_headers = table.or_default("max_headers", default.max_headers, integer(1..=MOST_HEADERS));
        let mut count = |key, default, least| table.or_default(key, default, integer(least..=u32::MAX));
        let limits = Self {
            max_headers,
            connections: count("connections", default.connections, 1),
            connections_per_address: count("connections_per_address", default.connections_per_address, 0),
            auth_failures_per_minute: count("auth_failures_per_minute", default.auth_failures_per_minute, 0),
            refusals_per_minute: count("refusals_per_minute", default.refusals_per_minute, 0),
            requests_per_minute: count("requests_per_minute", default.requests_per_minute, 0),
            concurrency: count("concurrency", default.concurrency, 0),
            trusted_proxies: table.or_default("trusted_proxies", Vec::new(), |node| node.list(network)),
            max_body: table.or_default("max_body", default.max_body, size(0..=1 << 40)),
            max_judged_body: table.or_default("max_judged_body", default.max_judged_body, size(0..=16 << 20)),
            max_header_bytes: table.or_default("max_header_bytes", default.max_header_bytes, size(HEADERS)),
            max_target_bytes: table.or_default("max_target_bytes", default.max_target_bytes, size(TARGET)),
            header_timeout,
            body_timeout,
            body_total_timeout,
            upstream_timeout,
            idle_timeout,
        };
        table.finish();
        Ok(limits)
    }
}

/// The range of configurable time-outs.
const PATIENCE: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_hours(24);

/// The range of a request's header block, in bytes: the HTTP library does not accept a longer single header name.
const HEADERS: RangeInclusive<u64> = 64..=60 << 10;
/// The range of a request's target, in bytes. Its canonical form may be three times as long, and the HTTP library does
/// not accept a target of 64 KiB.
const TARGET: RangeInclusive<u64> = 64..=16 << 10;

/// The greatest configurable number of header lines: [`MAX_HEADERS`](crate::framing::MAX_HEADERS).
const MOST_HEADERS: u32 = 256;
