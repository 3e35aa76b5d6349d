//! The settings of a journal, and what it is given when it is opened.

use std::time::Duration;

use crate::storage::{PendingAuditEvent, Revision};

/// How often heads are signed: after a number of events, and after an interval.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointPolicy {
    /// The number of events after which a head is signed.
    pub events: u64,
    /// The longest time that an event waits for a head.
    pub interval: Duration,
}

/// How long closed segments are kept, and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Time until a closed segment is compressed.
    pub plain: Duration,
    /// Longest time that events are kept; `None` keeps them for ever.
    pub age: Option<Duration>,
    /// Largest total size of all closed segments, in bytes; `None` sets no limit.
    pub size: Option<u64>,
}

/// The moment at which an intent counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// An intent counts as recorded once it is on the disk.
    Sync,
    /// An intent counts as recorded once it is in memory. It is on the disk within 10 ms.
    Batched,
}

/// The settings of the journal.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The moment at which an intent counts as recorded.
    pub durability: Durability,
    /// The segment size in bytes at which the next segment is begun.
    pub rotate: u64,
    /// How often heads are signed.
    pub heads: CheckpointPolicy,
    /// How long closed segments are kept, and in which form.
    pub keep: Retention,
}

/// Events and facts that the first segment records in addition to what recovery finds on the trail.
#[derive(Debug, Default)]
pub struct Opening {
    /// The revision of the store after its last change.
    pub store: Option<Revision>,
    /// Earlier changes by operators. All are recorded together with the first event, before a head that covers it is
    /// stored apart from the trail.
    pub changes: Vec<PendingAuditEvent>,
}

/// The error for a call that could not be recorded and therefore must not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit journal cannot record")]
pub struct Unrecorded;
