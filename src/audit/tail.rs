//! What was appended and is not on the disk yet, under the one lock that gives events their order.

use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use super::chain::Head;
use super::event::push_opening;
use super::flood::Floods;
use super::journal::Unrecorded;
use super::tree::Hash;

/// Bytes of events kept for a disk that does not take them. Beyond, only the outcomes of calls
/// already recorded are kept; refusals are counted.
const MAX_PENDING: usize = 16 << 20;

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, under the one lock")]
pub(super) struct Tail {
    /// The chain's end; `None` until the folder could be read.
    pub(super) head: Option<Head>,
    /// The hashes of lines that are not in the tree yet.
    pub(super) leaves: Vec<Hash>,
    pub(super) pending: Vec<u8>,
    /// The buffer of the former batch, to be used again.
    pub(super) spare: Vec<u8>,
    pub(super) pending_events: u64,
    pub(super) unflushed: bool,
    pub(super) waiters: Vec<oneshot::Sender<bool>>,
    /// Calls with an intent and no outcome yet.
    pub(super) open: u64,
    pub(super) unrecorded: u64,
    pub(super) floods: Floods,
    /// The disk does not work, and that was said.
    pub(super) failing: bool,
    /// When a head is to be signed, if nothing comes until then.
    pub(super) head_due: Option<Instant>,
    /// The thread waits for any event.
    pub(super) waiting: bool,
    pub(super) stop: bool,
}

impl Tail {
    /// Whether no more events may be kept for a disk that does not take them.
    pub(super) fn is_full(&self) -> bool {
        self.pending.len() > MAX_PENDING
    }

    /// Appends one event; each of its `members` begins with a comma.
    pub(super) fn append(
        &mut self,
        event: &str,
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
}
