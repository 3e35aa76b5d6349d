//! The write barrier: no answer is complete before its outcome is written to the file.

use std::task::{Context, Poll};

use super::Journal;

/// Holds back all bytes for one connection's consumer until the outcomes so far are written to the file.
pub struct WriteBarrier {
    journal: Journal,
    yielded: bool,
}

impl WriteBarrier {
    /// Creates the write barrier of one connection.
    #[must_use]
    pub fn new(journal: &Journal) -> Self {
        Self { journal: journal.clone(), yielded: false }
    }

    /// Ready once every event that the barrier requires is written to the file. If events are missing, yields once and
    /// then writes them, so that one write covers all calls of this worker.
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
