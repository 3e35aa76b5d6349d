//! Connections that wait for their next request, and how those that wait for long are told.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// How long a connection is silent before it is parked: far longer than a busy one ever is.
const LONG: Duration = Duration::from_secs(1);

/// Whether one connection waits for a request to begin, and since when.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    since: Cell<Option<Instant>>,
    asked: Cell<bool>,
}

impl Quiet {
    /// It waits since then, with nothing unread and nothing unsent.
    pub(super) fn begin(&self, since: Instant) {
        self.since.set(Some(since));
    }

    /// It waits no more.
    pub(super) fn end(&self) {
        self.since.set(None);
    }

    /// Asks it to be parked if it has waited for long, once.
    pub(super) fn ask(&self, now: Instant) -> bool {
        let long = self.since.get().is_some_and(|since| now.saturating_duration_since(since) >= LONG);
        long && !self.asked.replace(true)
    }

    /// Whether it was asked, and still waits.
    pub(super) fn is_due(&self) -> bool {
        self.asked.take() && self.since.get().is_some()
    }
}
