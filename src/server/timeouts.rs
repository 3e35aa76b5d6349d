//! The time-outs of a consumer connection.

use std::time::Duration;

use crate::gateway::limits::Limits;

/// The time-outs of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// The time-out for a complete head, from its first byte.
    pub(super) head: Duration,
    /// The time-out for the first byte of a head.
    pub(super) idle: Duration,
    /// The maximum time without progress while a response is written.
    pub(super) write: Duration,
}

impl Timeouts {
    pub(super) fn of(limits: &Limits) -> Self {
        Self { head: limits.header_timeout, idle: limits.idle_timeout, write: limits.body_timeout }
    }
}
