//! Notifies a worker's connections that the worker ends, that they should be parked, or that they must make room. Busy
//! connections pay nothing for it.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;

use tokio::time::Instant;

use super::idle::IdleState;

/// The registered connections of one worker.
#[derive(Default)]
pub(super) struct Drain {
    begun: Cell<bool>,
    next: Cell<u64>,
    /// The waker and idle state of each connection, by connection number.
    tasks: RefCell<BTreeMap<u64, (Waker, Rc<IdleState>)>>,
}

/// The registration of a connection; dropping it removes the entry.
struct Registration<'d> {
    drain: &'d Drain,
    number: u64,
}

impl Drain {
    /// Notifies every connection that the worker ends.
    pub(super) fn begin(&self) {
        self.begun.set(true);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for (waker, _) in tasks.into_values() {
            waker.wake();
        }
    }

    /// Asks idle connections to park. The worker calls this about once a second.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        for (waker, idle) in self.tasks.borrow().values() {
            if idle.request_park(now) {
                waker.wake_by_ref();
            }
        }
    }

    /// Closes connections without an authenticated request, the oldest first. It closes several at once, since it
    /// searches the whole table. Returns the number of closed connections.
    pub(super) fn make_room(&self) -> usize {
        let tasks = self.tasks.borrow();
        let most = tasks.len() / 64 + 1;
        let unwanted = tasks.values().filter(|(_, idle)| idle.yield_place()).take(most);
        unwanted.map(|(waker, _)| waker.wake_by_ref()).count()
    }

    /// Runs a connection to its end. `wind_up` is called once, when the worker ends. Only the connection's own task may
    /// await this, since its waker is stored once.
    pub(super) async fn run<C: Future>(
        &self,
        mut connection: Pin<&mut C>,
        idle: Rc<IdleState>,
        wind_up: impl Fn(Pin<&mut C>),
    ) -> C::Output {
        let number = self.next.replace(self.next.get() + 1);
        let registration = Registration { drain: self, number };
        let (mut unregistered, mut was_notified) = (Some(idle), false);
        let output = std::future::poll_fn(|cx| {
            if let Some(idle) = unregistered.take() {
                self.tasks.borrow_mut().insert(number, (cx.waker().clone(), idle));
            }
            if self.begun.get() && !was_notified {
                was_notified = true;
                wind_up(connection.as_mut());
            }
            connection.as_mut().poll(cx)
        })
        .await;
        drop(registration);
        output
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.drain.tasks.borrow_mut().remove(&self.number);
    }
}
