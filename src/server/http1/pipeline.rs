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
pub(crate) struct Pipeline {
    received: RefCell<VecDeque<RawHead>>,
    /// Whether a request was passed and its response is incomplete.
    pub(crate) in_flight: Cell<bool>,
    /// When the last response was complete; cleared once the framer has read it.
    pub(crate) last_end: Cell<Option<Instant>>,
    /// Whether a close now would make a truncated response look complete: only the close marks its end.
    pub(crate) may_truncate: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    pub(crate) idle: Rc<IdleState>,
}

impl Pipeline {
    pub(crate) fn new(idle: Rc<IdleState>) -> Self {
        let (received, in_flight, last_end) = Default::default();
        let (may_truncate, waker) = Default::default();
        Self { received, in_flight, last_end, may_truncate, waker, idle }
    }

    /// Queues a request that the framer passed to hyper.
    pub(crate) fn queue(&self, received: RawHead) {
        self.idle.end();
        self.received.borrow_mut().push_back(received);
        self.in_flight.set(true);
    }

    /// Takes the next queued head, as received.
    pub(crate) fn take(&self) -> Option<RawHead> {
        self.received.borrow_mut().pop_front()
    }

    /// Records that the request in flight has its complete response, so that the next head may pass.
    pub(crate) fn mark_finished(&self) {
        let now = Instant::now();
        self.in_flight.set(false);
        self.last_end.set(Some(now));
        // The framer may correct this.
        self.idle.begin(now);
        self.wake();
    }

    /// Wakes the connection's task, so that the next head may pass.
    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Stores the task to wake when the response is complete, and when it is written.
    pub(crate) fn set_waker(&self, waker: Option<Waker>) {
        *self.waker.borrow_mut() = waker;
    }
}
