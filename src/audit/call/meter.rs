//! The progress of a call, and the counters that the transport updates.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

/// The shared counters of one call. Functions that no longer hold the body itself can read them, too.
pub type Meter = Rc<Counters>;

/// Counters of one call: of the body from the consumer, and of the credential in the answer.
#[derive(Debug, Default)]
pub struct Counters {
    /// Number of body bytes read from the consumer.
    pub bytes: Cell<u64>,
    /// Whether the whole body was handed to the upstream's connection.
    pub is_whole: Cell<bool>,
    /// Whether the upstream would take more of the body than the consumer has sent.
    pub is_awaited: Cell<bool>,
    /// The last time at which part of the body was handed to the upstream's connection.
    pub last_progress: Cell<Option<Instant>>,
    /// How often the upstream's answer contained the credential that was sent to it.
    pub scrubbed: Cell<u32>,
}

/// The progress of a call, for its outcome.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    /// The status that the consumer sees, once there is an answer.
    pub status: Option<u16>,
    /// The status of the upstream's answer.
    pub upstream_status: Option<u16>,
    /// Body bytes handed to the consumer.
    pub bytes_out: u64,
    /// Time from sending the request to the head of the upstream's answer.
    pub upstream: Option<Duration>,
    /// Number of times that the request was sent.
    pub attempts: u32,
    /// Number of logins begun for this call, including those that other calls waited for, too.
    pub logins: u32,
    /// The reason why a link that may lead past the gateway was left in the answer.
    pub link_kept: Option<&'static str>,
}
