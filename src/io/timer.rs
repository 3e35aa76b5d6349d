//! A deadline timer that is cheap to move.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep};

/// A deadline that may move at every request. Its timer is re-armed only when it expires, or when the deadline is
/// earlier than before.
#[derive(Default)]
pub struct LazyTimer {
    sleep: Option<Pin<Box<Sleep>>>,
    started: Option<Instant>,
}

impl LazyTimer {
    /// Polls the timer, which is ready once `until` has passed.
    pub fn poll(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }

    /// Returns the start of the current wait, which begins now if none is running. [`clear`](Self::clear)
    /// ends the wait.
    pub fn start(&mut self) -> Instant {
        *self.started.get_or_insert_with(Instant::now)
    }

    /// Ends the current wait.
    pub fn clear(&mut self) {
        self.started = None;
    }
}
