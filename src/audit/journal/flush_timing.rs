//! The timing of flushes by the journal's thread.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Durability;
use super::buffer::WakeOn;
use super::writer::JournalCore;

/// How long `batched` gathers events before a flush. A crash may lose events of this period.
const BATCH: Duration = Duration::from_millis(10);
/// The longest time that a written outcome waits for its flush if no intent requires one sooner.
const OUTCOME_FLUSH: Duration = Duration::from_millis(50);
/// Interval between retries after a disk failure.
const RETRY: Duration = Duration::from_millis(250);

impl JournalCore {
    /// Waits until a flush is needed and due. Returns whether the journal is to end.
    pub(in crate::audit) fn wait(&self) -> bool {
        let mut tail = self.tail();
        let patience = if self.healthy.load(Ordering::Acquire) {
            while !tail.stop && tail.waiters.is_empty() && !tail.unflushed {
                tail.waiting = WakeOn::Event;
                let now = Instant::now();
                let due = tail.head_due.map(|due| due.saturating_duration_since(now));
                tail = match tail.floods.wait(now).into_iter().chain(due).min() {
                    None => self.wake.wait(tail).unwrap_or_else(PoisonError::into_inner),
                    Some(Duration::ZERO) => break,
                    Some(left) => {
                        self.wake.wait_timeout(tail, left).unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
            match self.settings.durability {
                Durability::Batched => BATCH,
                Durability::Sync if tail.waiters.is_empty() => OUTCOME_FLUSH,
                Durability::Sync => Duration::ZERO,
            }
        } else {
            RETRY
        };
        // An intent that waits to be durable ends this wait, and so does a request to stop.
        let until = Instant::now() + patience;
        let sync = self.settings.durability == Durability::Sync && self.healthy.load(Ordering::Acquire);
        while !tail.stop && (!sync || tail.waiters.is_empty()) {
            let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
            else {
                break;
            };
            tail.waiting = if sync { WakeOn::Waiter } else { WakeOn::Nothing };
            tail = self.wake.wait_timeout(tail, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        tail.waiting = WakeOn::Nothing;
        let stop = tail.stop;
        drop(tail);
        if sync {
            // Let a worker on the same processor core run first, so that one flush covers more events: each flush costs
            // the processor as much as a call. On a core of its own the thread loses nothing. One yield is enough:
            // while all calls wait for a flush, there is no other work.
            std::thread::yield_now();
        }
        stop
    }
}
