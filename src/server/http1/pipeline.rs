//! The state that the framer and the service of one connection share.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use tokio::time::Instant;

use crate::gateway::RawHead;
use crate::server::idle::IdleState;

/// The shared state of one connection.
#[derive(Debug)]
pub(in crate::server) struct Pipeline {
    received: RefCell<VecDeque<RawHead>>,
    in_flight: Cell<bool>,
    /// When the last response was complete; cleared once the framer has read it.
    finished: Cell<Option<Instant>>,
    /// Whether a close now would make a truncated response look complete.
    cut: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    pub(in crate::server) quiet: Rc<IdleState>,
}

impl Pipeline {
    pub(in crate::server) fn new(quiet: Rc<IdleState>) -> Self {
        let (received, in_flight, finished) = Default::default();
        let (cut, waker) = Default::default();
        Self { received, in_flight, finished, cut, waker, quiet }
    }

    /// Queues a request that the framer passed to hyper.
    pub(in crate::server) fn queue(&self, received: RawHead) {
        self.quiet.end();
        self.received.borrow_mut().push_back(received);
        self.in_flight.set(true);
    }

    /// Takes the next queued head, as received.
    pub(in crate::server) fn take(&self) -> Option<RawHead> {
        self.received.borrow_mut().pop_front()
    }

    /// Records that only the close of the connection marks the end of the response. A truncated response must then not
    /// end in a normal close.
    pub(in crate::server) fn mark_close_delimited(&self) {
        self.cut.set(true);
    }

    /// Records that the request in flight has its complete response, so that the next head may pass.
    pub(in crate::server) fn mark_finished(&self) {
        let now = Instant::now();
        self.in_flight.set(false);
        self.finished.set(Some(now));
        // The framer may correct this.
        self.quiet.begin(now);
        self.wake();
    }

    /// Wakes the connection's task, so that the next head may pass.
    pub(in crate::server) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Returns whether a request was passed and its response is incomplete.
    pub(in crate::server) fn is_in_flight(&self) -> bool {
        self.in_flight.get()
    }

    /// Returns once when the last response was complete.
    pub(in crate::server) fn take_finished(&self) -> Option<Instant> {
        self.finished.take()
    }

    /// Returns whether a normal close would make a truncated response look complete.
    pub(in crate::server) fn would_truncate(&self) -> bool {
        self.cut.get()
    }

    /// Records that the whole response was written.
    pub(in crate::server) fn mark_complete(&self) {
        self.cut.set(false);
    }

    /// Stores the task to wake when the response is complete, and when it is written.
    pub(in crate::server) fn set_waker(&self, waker: Option<Waker>) {
        *self.waker.borrow_mut() = waker;
    }
}
