//! The idle state of a connection, and how the worker asks idle connections to park or to make room.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use crate::audit::Peer;

/// The idle time after which a connection is parked. Busy connections are never idle this long.
const LONG: Duration = Duration::from_secs(1);

/// The idle state of one connection: whether it waits for a request, and since when.
#[derive(Debug)]
pub(super) struct IdleState {
    arrival: Rc<Peer>,
    since: Cell<Option<Instant>>,
    park_requested: Cell<bool>,
    /// Whether the connection must make room for another one.
    unwanted: Cell<bool>,
}

impl IdleState {
    pub(super) fn new(arrival: Rc<Peer>) -> Self {
        Self { arrival, since: Cell::default(), park_requested: Cell::default(), unwanted: Cell::default() }
    }

    /// Records that the connection is idle since `since`, with nothing unread and nothing unsent.
    pub(super) fn begin(&self, since: Instant) {
        self.since.set(Some(since));
    }

    /// Records that the connection is no longer idle.
    pub(super) fn end(&self) {
        self.since.set(None);
    }

    /// Asks the connection to make room, if no request on it was authenticated. Returns whether it was asked now, for
    /// the first time. Single bytes and refused requests do not protect a connection, since they cost
    /// the client nothing.
    pub(super) fn yield_place(&self) -> bool {
        !self.arrival.authenticated.get() && !self.unwanted.replace(true)
    }

    /// Returns whether the connection must make room.
    pub(super) fn is_unwanted(&self) -> bool {
        self.unwanted.get() && !self.arrival.authenticated.get()
    }

    /// Asks the connection once to park, if it has been idle for [`LONG`]. Returns whether it was asked now.
    pub(super) fn request_park(&self, now: Instant) -> bool {
        let is_long = self.since.get().is_some_and(|since| now.saturating_duration_since(since) >= LONG);
        is_long && !self.park_requested.replace(true)
    }

    /// Returns whether the connection was asked to park and is still idle. Clears the request.
    pub(super) fn take_park_request(&self) -> bool {
        self.park_requested.take() && self.since.get().is_some()
    }
}
