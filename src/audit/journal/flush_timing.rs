//! When the journal's thread flushes.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Durability;
use super::buffer::WakeOn;
use super::writer::JournalCore;

/// How long `batched` gathers events before it flushes: what a crash may lose.
const BATCH: Duration = Duration::from_millis(10);
/// How long a written outcome may wait for its flush where no intent asks for one sooner.
const OUTCOME_FLUSH: Duration = Duration::from_millis(50);
/// How long until a failed disk is tried again.
const RETRY: Duration = Duration::from_millis(250);

impl JournalCore {
    /// Waits until there is something to flush and it is time to; whether the end was asked for.
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
        // An intent that waits to be durable ends the patience; so does the end.
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
            // Lets a worker that shares our core go on first, and bring more to be flushed together: each flush costs the
            // processor as much as a call. With a core to ourselves this costs nothing. Once, since while all calls wait
            // for one flush there is nothing left to do beside it.
            std::thread::yield_now();
        }
        stop
    }
}
