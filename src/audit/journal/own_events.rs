//! The journal's own events on the trail.

use std::time::Instant;

use tokio::sync::oneshot;

use super::writer::JournalCore;

impl JournalCore {
    /// Appends one event per source of suppressed refusals. With `all`, appends those that are not due yet, too.
    pub(in crate::audit) fn append_suppressed(&self, all: bool) {
        let now = self.clock.now();
        let mut tail = self.tail();
        if tail.head.is_none() || tail.is_full() {
            return;
        }
        for flood in tail.floods.take(Instant::now(), all) {
            let members = journal_event("suppressed", &flood);
            if tail.append("journal", now, &[members.as_bytes()]).is_err() {
                return;
            }
        }
    }

    /// Appends an event of the journal's own and waits until it is on the disk. Returns whether it is.
    pub(in crate::audit) fn append_and_wait(&self, what: &str, detail: &str) -> bool {
        let (now, members) = (self.clock.now(), journal_event(what, detail));
        let (waiter, durable) = oneshot::channel();
        {
            let mut tail = self.tail();
            if tail.stop || tail.is_full() || tail.append("journal", now, &[members.as_bytes()]).is_err() {
                return false;
            }
            tail.waiters.push(waiter);
            self.wake_writer(&mut tail);
        }
        durable.blocking_recv() == Ok(true)
    }

    pub(in crate::audit) fn append_own(&self, what: &str, detail: &str) {
        let (now, members) = (self.clock.now(), journal_event(what, detail));
        if self.tail().append("journal", now, &[members.as_bytes()]).is_err() {
            tracing::warn!(what, "a journal event could not be recorded");
        }
    }
}

/// Formats the members of an event of the journal's own: `what`, version and pid, and then `detail`.
pub(in crate::audit) fn journal_event(what: &str, detail: &str) -> String {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    format!(",\"what\":\"{what}\",\"version\":\"{version}\",\"pid\":{pid}{detail}")
}
