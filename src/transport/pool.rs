//! The idle connections of one worker.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use super::connect::{Connection, Endpoint};

/// The maximum number of idle connections for one endpoint and worker.
const MOST_IDLE: usize = 512;

/// The idle connections of one worker, not shared between threads.
#[derive(Default)]
pub(super) struct Pool {
    /// The idle connections by endpoint id; a list, since there are few endpoints.
    idle: RefCell<Vec<(u64, Vec<Idle>)>>,
}

struct Idle {
    connection: Box<Connection>,
    until: Instant,
}

impl Pool {
    /// Takes an idle connection that is still open; the most recently used first.
    pub(super) async fn reuse(&self, endpoint: &Endpoint, now: Instant) -> Option<Box<Connection>> {
        loop {
            let mut idle = of(&mut self.idle.borrow_mut(), endpoint.id)?.pop()?;
            if now < idle.until
                && !idle.connection.watch.is_poisoned.get()
                && idle.connection.is_reusable().await
            {
                return Some(idle.connection);
            }
        }
    }

    /// Returns a connection to the pool after its exchange.
    pub(super) fn release(&self, endpoint: u64, pool_idle: Duration, connection: Box<Connection>) {
        let connection = Idle { connection, until: Instant::now() + pool_idle };
        let mut idle = self.idle.borrow_mut();
        match of(&mut idle, endpoint) {
            Some(connections) if connections.len() < MOST_IDLE => connections.push(connection),
            Some(_) => {}
            None => idle.push((endpoint, vec![connection])),
        }
    }

    /// Closes connections that exceeded their idle time. The worker calls this about once a second.
    pub(super) fn sweep(&self) {
        let now = Instant::now();
        self.idle.borrow_mut().retain_mut(|(_, connections)| {
            connections.retain(|idle| now < idle.until && !idle.connection.watch.is_poisoned.get());
            !connections.is_empty()
        });
    }

    /// Closes every idle connection.
    pub(super) fn clear(&self) {
        self.idle.borrow_mut().clear();
    }
}

/// Finds the idle connections of one endpoint by its id.
fn of(idle: &mut [(u64, Vec<Idle>)], endpoint: u64) -> Option<&mut Vec<Idle>> {
    idle.iter_mut().find(|(id, _)| *id == endpoint).map(|(_, connections)| connections)
}
