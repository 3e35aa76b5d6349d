//! No answer is whole before its outcome is in the file.

use std::task::{Context, Poll};

use super::Journal;

/// What all that one connection's consumer is sent passes: it is held until the outcomes so far are in the file.
pub struct WriteBarrier {
    journal: Journal,
    yielded: bool,
}

impl Journal {
    /// A gate for one connection.
    #[must_use]
    pub fn gate(&self) -> WriteBarrier {
        WriteBarrier { journal: self.clone(), yielded: false }
    }
}

impl WriteBarrier {
    /// Ready once nothing is owed to the file. What is, is written here, though not before the worker's other calls
    /// had their turn: one write for all of them costs what it would for each.
    pub fn poll(&mut self, cx: &Context<'_>) -> Poll<()> {
        if !self.journal.is_written() {
            if !std::mem::replace(&mut self.yielded, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            self.journal.write();
        }
        self.yielded = false;
        Poll::Ready(())
    }
}
