//! What the framer and the service of one connection tell each other.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::Waker;

use tokio::time::Instant;

use crate::gateway::RawHead;
use crate::server::idle::IdleState;

/// What they tell each other.
#[derive(Debug)]
pub(in crate::server) struct Pipeline {
    received: RefCell<VecDeque<RawHead>>,
    in_flight: Cell<bool>,
    /// When the last request had its answer, until the framer has seen it.
    finished: Cell<Option<Instant>>,
    /// Were the connection to end now, the answer would be cut and look whole.
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

    /// A request passes on.
    pub(in crate::server) fn queue(&self, received: RawHead) {
        self.quiet.end();
        self.received.borrow_mut().push_back(received);
        self.in_flight.set(true);
    }

    /// The next request, as received.
    pub(in crate::server) fn take(&self) -> Option<RawHead> {
        self.received.borrow_mut().pop_front()
    }

    /// Only the end of the connection will tell the end of the answer: cut off before, it must not
    /// look like one.
    pub(in crate::server) fn mark_close_delimited(&self) {
        self.cut.set(true);
    }

    /// The request in flight has its whole answer: the next head may pass.
    pub(in crate::server) fn mark_finished(&self) {
        let now = Instant::now();
        self.in_flight.set(false);
        self.finished.set(Some(now));
        // Unless the framer knows better.
        self.quiet.begin(now);
        self.wake();
    }

    /// The next head may pass, as far as the socket is concerned.
    pub(in crate::server) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Whether a request has passed that has not its whole answer.
    pub(in crate::server) fn is_in_flight(&self) -> bool {
        self.in_flight.get()
    }

    /// When the last request had its answer, told once.
    pub(in crate::server) fn take_finished(&self) -> Option<Instant> {
        self.finished.take()
    }

    /// Whether the connection must not end so that its answer looks whole.
    pub(in crate::server) fn would_truncate(&self) -> bool {
        self.cut.get()
    }

    /// All of the answer was written.
    pub(in crate::server) fn mark_complete(&self) {
        self.cut.set(false);
    }

    /// Whom to wake when the request in flight has its answer, and when that is written.
    pub(in crate::server) fn set_waker(&self, waker: Option<Waker>) {
        *self.waker.borrow_mut() = waker;
    }
}
