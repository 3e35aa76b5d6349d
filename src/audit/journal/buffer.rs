//! The buffer of events that are not on the disk yet. Its one lock gives events their order.

use std::time::{Instant, SystemTime};

use serde_json::Value;
use tokio::sync::oneshot;

use super::settings::Unrecorded;
use super::suppressed::SuppressedCounts;
use crate::audit::proof::merkle::Hash;
use crate::audit::trail::chain::ChainHead;
use crate::audit::trail::event::{EventKind, JournalAction, format_members, push_opening};

/// Bytes of events that are buffered while the disk fails. Beyond that, the buffer takes only outcomes of calls with a
/// recorded intent; refusals are counted.
const MAX_PENDING: usize = 16 << 20;

/// The event that wakes the journal's thread, besides a request to stop.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) enum WakeOn {
    /// Nothing wakes it: it is working, or sleeps until its time-out.
    #[default]
    Nothing,
    /// Any appended event.
    Event,
    /// An event with a waiter. Outcomes alone would wake the thread once per call for nothing.
    Waiter,
}

#[derive(Default)]
pub(super) struct EventBuffer {
    /// The end of the chain; `None` until the folder could be read.
    pub(super) head: Option<ChainHead>,
    /// The hashes of lines that are not in the Merkle tree yet.
    pub(super) leaves: Vec<Hash>,
    pub(super) pending: Vec<u8>,
    /// The buffer of the former batch, for reuse.
    pub(super) spare: Vec<u8>,
    pub(super) pending_events: u64,
    pub(super) unflushed: bool,
    pub(super) waiters: Vec<oneshot::Sender<bool>>,
    /// Number of calls with an intent and no outcome yet.
    pub(super) open: u64,
    pub(super) unrecorded: u64,
    pub(super) suppressed: SuppressedCounts,
    /// Whether the disk fails and that was logged.
    pub(super) failing: bool,
    /// When a head must be signed if no event comes before.
    pub(super) head_due: Option<Instant>,
    /// The event that the thread waits for.
    pub(super) waiting: WakeOn,
    pub(super) stop: bool,
}

impl EventBuffer {
    /// Whether the buffer may take no more events while the disk fails.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() > MAX_PENDING
    }

    /// Returns the `seq` of the next event.
    pub(super) fn next_seq(&self) -> u64 {
        self.head.as_ref().map_or(0, |head| head.next_seq)
    }

    /// Whether the thread waits for what the buffer now holds.
    pub(super) fn is_waited_for(&self) -> bool {
        match self.waiting {
            WakeOn::Nothing => false,
            WakeOn::Event => true,
            WakeOn::Waiter => !self.waiters.is_empty(),
        }
    }

    /// Appends one event; each of its `members` begins with a comma.
    pub(super) fn append(
        &mut self,
        event: EventKind,
        time: SystemTime,
        members: &[&[u8]],
    ) -> Result<(), Unrecorded> {
        let head = self.head.as_mut().ok_or(Unrecorded)?;
        let hash = head.append(&mut self.pending, |out| {
            push_opening(out, time, event);
            for part in members {
                out.extend_from_slice(part);
            }
        });
        self.leaves.push(hash);
        self.pending_events += 1;
        self.unflushed = true;
        Ok(())
    }

    /// Appends an event of the journal's own, with its version and process.
    pub(super) fn append_own(
        &mut self,
        time: SystemTime,
        action: JournalAction,
        details: &[(&'static str, Value)],
    ) -> Result<(), Unrecorded> {
        let process = [
            ("what", action.as_str().into()),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("pid", std::process::id().into()),
        ];
        self.append(EventKind::Journal, time, &[format_members(process.iter().chain(details)).as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_alone_do_not_wake_a_thread_that_waits_for_an_intent() {
        let mut tail = EventBuffer { unflushed: true, ..EventBuffer::default() };
        for (waiting, before, after) in
            [(WakeOn::Nothing, false, false), (WakeOn::Event, true, true), (WakeOn::Waiter, false, true)]
        {
            tail.waiting = waiting;
            tail.waiters.clear();
            assert_eq!(tail.is_waited_for(), before, "{waiting:?}");
            tail.waiters.push(oneshot::channel().0);
            assert_eq!(tail.is_waited_for(), after, "{waiting:?}");
        }
    }
}
