//! Connections that wait for a request, and how those that wait for long, or in vain, are told.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::Peer;

/// How long a connection is silent before it is parked: far longer than a busy one ever is.
const LONG: Duration = Duration::from_secs(1);

/// Whether one connection waits for a request to begin, and since when.
#[derive(Debug)]
pub(super) struct IdleState {
    arrival: Rc<Peer>,
    since: Cell<Option<Instant>>,
    asked: Cell<bool>,
    /// Its place is wanted for another.
    unwanted: Cell<bool>,
}

impl IdleState {
    pub(super) fn new(arrival: Rc<Peer>) -> Self {
        Self { arrival, since: Cell::default(), asked: Cell::default(), unwanted: Cell::default() }
    }

    /// It waits since then, with nothing unread and nothing unsent.
    pub(super) fn begin(&self, since: Instant) {
        self.since.set(Some(since));
    }

    /// It waits no more.
    pub(super) fn end(&self) {
        self.since.set(None);
    }

    /// Gives its place to another, where no request on it was authenticated yet; whether that is so, for the first
    /// time. A byte, or a request that is refused, is no claim to a place: both cost nothing.
    pub(super) fn yield_place(&self) -> bool {
        !self.arrival.authenticated.get() && !self.unwanted.replace(true)
    }

    /// Whether its place is another's.
    pub(super) fn is_unwanted(&self) -> bool {
        self.unwanted.get() && !self.arrival.authenticated.get()
    }

    /// Asks it to be parked if it has waited for long, once.
    pub(super) fn request_park(&self, now: Instant) -> bool {
        let long = self.since.get().is_some_and(|since| now.saturating_duration_since(since) >= LONG);
        long && !self.asked.replace(true)
    }

    /// Whether it was asked, and still waits.
    pub(super) fn take_park_request(&self) -> bool {
        self.asked.take() && self.since.get().is_some()
    }
}
