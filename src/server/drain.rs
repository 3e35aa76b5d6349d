//! Telling a worker's connections that it ends, or that they were silent for long, at no cost to those
//! that only serve.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Waker;

use tokio::time::Instant;

use super::idle::IdleState;

/// The connections of one worker, to be told once.
#[derive(Default)]
pub(super) struct Drain {
    begun: Cell<bool>,
    next: Cell<u64>,
    /// The tasks to wake, by the number of their connection.
    tasks: RefCell<BTreeMap<u64, (Waker, Rc<IdleState>)>>,
}

/// A connection's place among those to be told; dropping it gives it up.
struct Registration<'d> {
    drain: &'d Drain,
    number: u64,
}

impl Drain {
    /// Tells every connection.
    pub(super) fn begin(&self) {
        self.begun.set(true);
        let tasks = std::mem::take(&mut *self.tasks.borrow_mut());
        for (waker, _) in tasks.into_values() {
            waker.wake();
        }
    }

    /// Tells those that were silent for long. To be called every second or so.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        for (waker, quiet) in self.tasks.borrow().values() {
            if quiet.request_park(now) {
                waker.wake_by_ref();
            }
        }
    }

    /// Ends connections on which no request was authenticated yet, those first that wait longest: some at once, since
    /// finding them means looking through all. How many there were.
    pub(super) fn make_room(&self) -> usize {
        let tasks = self.tasks.borrow();
        let most = tasks.len() / 64 + 1;
        let unwanted = tasks.values().filter(|(_, quiet)| quiet.yield_place()).take(most);
        unwanted.map(|(waker, _)| waker.wake_by_ref()).count()
    }

    /// Runs a connection to its end. `wind_up` is called once, when the worker ends. To be awaited
    /// by the connection's own task, whose waker stays the same.
    pub(super) async fn run<C: Future>(
        &self,
        mut connection: Pin<&mut C>,
        quiet: Rc<IdleState>,
        wind_up: impl Fn(Pin<&mut C>),
    ) -> C::Output {
        let number = self.next.replace(self.next.get() + 1);
        let place = Registration { drain: self, number };
        let (mut waits, mut told) = (Some(quiet), false);
        let output = std::future::poll_fn(|cx| {
            if let Some(quiet) = waits.take() {
                self.tasks.borrow_mut().insert(number, (cx.waker().clone(), quiet));
            }
            if self.begun.get() && !told {
                told = true;
                wind_up(connection.as_mut());
            }
            connection.as_mut().poll(cx)
        })
        .await;
        drop(place);
        output
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.drain.tasks.borrow_mut().remove(&self.number);
    }
}
