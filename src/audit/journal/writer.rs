//! The journal's thread: it decides when to flush, and ends the journal.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::buffer::WakeOn;
use super::core::JournalCore;
use super::settings::Durability;
use crate::audit::trail::event::JournalAction;

/// How long `batched` gathers events before a flush. A crash may lose events of this period.
const BATCH: Duration = Duration::from_millis(10);
/// The longest time that a written outcome waits for its flush if no intent requires one sooner.
const OUTCOME_FLUSH: Duration = Duration::from_millis(50);
/// Interval between retries after a disk failure.
const RETRY: Duration = Duration::from_millis(250);

/// A drop guard: however the thread ends, the journal refuses to record after it.
struct EndGuard<'c>(&'c JournalCore);

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        self.0.healthy.store(false, Ordering::Release);
    }
}

pub(super) fn run(core: &JournalCore) {
    let _guard = EndGuard(core);
    loop {
        let stop = wait(core);
        core.append_suppressed(stop);
        if stop {
            core.append_own(JournalAction::Closed, &[]);
        }
        core.sign_head(stop);
        core.flush_once();
        if stop {
            end(core);
            return;
        }
    }
}

/// Flushes the events of the last iteration, and logs how many are not recorded.
fn end(core: &JournalCore) {
    if !core.tail().pending.is_empty() {
        core.flush_once();
    }
    let tail = core.tail();
    if tail.pending_events + tail.unrecorded > 0 {
        let (pending, unrecorded) = (tail.pending_events, tail.unrecorded);
        tracing::error!(pending, unrecorded, "the audit journal ends with events that it could not record");
    }
}

/// Waits until a flush is needed and due. Returns whether the journal is to end.
fn wait(core: &JournalCore) -> bool {
    let mut tail = core.tail();
    let patience = if core.healthy.load(Ordering::Acquire) {
        while !tail.stop && tail.waiters.is_empty() && !tail.unflushed {
            tail.waiting = WakeOn::Event;
            let now = Instant::now();
            let due = tail.head_due.map(|due| due.saturating_duration_since(now));
            tail = match tail.suppressed.wait(now).into_iter().chain(due).min() {
                None => core.wake.wait(tail).unwrap_or_else(PoisonError::into_inner),
                Some(Duration::ZERO) => break,
                Some(left) => core.wake.wait_timeout(tail, left).unwrap_or_else(PoisonError::into_inner).0,
            };
        }
        match core.settings.durability {
            Durability::Batched => BATCH,
            Durability::Sync if tail.waiters.is_empty() => OUTCOME_FLUSH,
            Durability::Sync => Duration::ZERO,
        }
    } else {
        RETRY
    };
    // An intent that waits to be durable ends this wait, and so does a request to stop.
    let until = Instant::now() + patience;
    let sync = core.settings.durability == Durability::Sync && core.healthy.load(Ordering::Acquire);
    while !tail.stop && (!sync || tail.waiters.is_empty()) {
        let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) else {
            break;
        };
        tail.waiting = if sync { WakeOn::Waiter } else { WakeOn::Nothing };
        tail = core.wake.wait_timeout(tail, left).unwrap_or_else(PoisonError::into_inner).0;
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
