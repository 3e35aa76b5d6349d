//! The running server: the workers, and the handle by which the control thread manages them.

mod connection_limit;
mod descriptors;
mod drain;
mod http1;
mod http2;
mod idle;
mod timeouts;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::watch;

use crate::audit::{Disk, Journal, JournalThreads, Opening, Signer};
use crate::clock::Clock;
use crate::config::{self, Compiled, Listener};
use crate::gateway::{Forwarder, Gateway, Snapshot};
use crate::metrics::Metrics;
use crate::transport::Transport;
use connection_limit::ConnectionLimiter;
use drain::Drain;
use worker::{BoundListener, Worker};

/// The parameters of a server.
pub struct Setup {
    /// The compiled configuration.
    pub compiled: Compiled,
    /// The number of workers; 0 means one for each core available to this process.
    pub workers: usize,
    /// The folder for request bodies that do not fit into memory.
    pub spool: PathBuf,
    /// The storage of the trail.
    pub disk: Box<dyn Disk>,
    /// The signer of the trail's heads.
    pub signer: Signer,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
}

/// A running server. Dropping it without [`stop`](Self::stop) leaves its threads running.
pub struct Server {
    /// The handle that always holds the current configuration.
    pub current: Arc<ArcSwap<Snapshot>>,
    /// The listening addresses, with the actual ports.
    pub addresses: Vec<SocketAddr>,
    /// Each listener's configured address, and its TLS settings if it has any.
    tls: Vec<(SocketAddr, Option<Arc<ArcSwap<ServerConfig>>>)>,
    /// The handle that always holds the admin listener's settings.
    pub admin: Arc<ArcSwap<config::Admin>>,
    stop: watch::Sender<Option<Duration>>,
    workers: Vec<JoinHandle<()>>,
    /// The number of connections that the file descriptors allow.
    room: usize,
    journal: (Journal, JournalThreads),
    /// The metrics of the process.
    pub metrics: Arc<Metrics>,
}

impl Server {
    /// Opens the trail, binds the addresses and starts the workers. A trail that cannot be written is no error here:
    /// the gateway then refuses every call until it can be written.
    ///
    /// # Errors
    /// An I/O error if an address cannot be bound or a thread cannot be started.
    pub fn start(setup: Setup) -> io::Result<Self> {
        let count = match setup.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        };
        let Compiled { snapshot, mut listeners, admin, journal, store, .. } = setup.compiled;
        let admin = admin.unwrap_or_else(|| config::Admin { tls: None, hosts: Vec::new() });
        let admin = Arc::new(ArcSwap::from_pointee(admin));
        let snapshot = Arc::new(ArcSwap::from_pointee(snapshot));
        let (stop, stopped) = watch::channel(None);
        let room = descriptors::room(count);
        let limiter = Arc::new(ConnectionLimiter::new(room));
        for listener in &listeners {
            worker::probe(listener.address).map_err(|error| with_address(listener.address, &error))?;
        }
        let (clock, metrics) = (setup.clock, setup.metrics);
        let (opening, storage) = (Opening { store, changes: Vec::new() }, (setup.disk, setup.signer));
        let journal = Journal::open(opening, storage, journal, Arc::clone(&clock), Arc::clone(&metrics))?;
        let settings = |listener: &Listener| {
            (listener.address, listener.tls.clone().map(|tls| Arc::new(ArcSwap::new(tls))))
        };
        let tls: Vec<_> = listeners.iter().map(settings).collect();
        let seed = WorkerSeed {
            snapshot: Arc::clone(&snapshot),
            journal: journal.0.clone(),
            clock,
            spool: setup.spool,
            limiter,
            metrics: Arc::clone(&metrics),
            stop: stopped,
        };
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let mut bound = Vec::with_capacity(listeners.len());
            for (listener, (_, tls)) in listeners.iter_mut().zip(&tls) {
                let socket =
                    worker::bind(listener.address).map_err(|error| with_address(listener.address, &error))?;
                // The first worker determines the port that the others share.
                listener.address = socket.local_addr()?;
                let address = listener.address.to_string().into();
                bound.push(BoundListener { socket, address, tls: tls.clone() });
            }
            let seed = seed.clone();
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            workers.push(thread.spawn(move || seed.run(bound))?);
        }
        let addresses = listeners.iter().map(|listener| listener.address).collect();
        let server = Self { current: snapshot, addresses, tls, admin, stop, workers, room, journal, metrics };
        server.publish_limit(server.snapshot().limits.connections);
        Ok(server)
    }

    /// Returns the current configuration.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Replaces the configuration. New calls use it, and calls in flight keep theirs. New TLS handshakes use its
    /// certificates, if it has any. The listening addresses do not change.
    pub fn replace(&self, compiled: Compiled) {
        let mut listeners = compiled.listeners;
        for (address, current) in &self.tls {
            // Matched by address, since the file may now list other listeners before this one.
            let Some(at) = listeners.iter().position(|listener| listener.address == *address) else {
                continue;
            };
            if let (Some(current), Some(tls)) = (current, listeners.remove(at).tls) {
                current.store(tls);
            }
        }
        // A reload cannot turn the admin listener's TLS on or off.
        if let Some(admin) = compiled.admin
            && admin.tls.is_some() == self.admin.load().tls.is_some()
        {
            self.admin.store(Arc::new(admin));
        }
        let connections = compiled.snapshot.limits.connections;
        let former = self.current.swap(Arc::new(compiled.snapshot));
        if former.limits.connections != connections {
            self.publish_limit(connections);
        }
    }

    /// Publishes the connection limit, if the configuration allows `connections`.
    fn publish_limit(&self, connections: usize) {
        descriptors::warn_of(connections, self.room);
        let limit = i64::try_from(connections.min(self.room)).unwrap_or(i64::MAX);
        self.metrics.connections_limit.set(limit);
    }

    /// Returns the journal of the trail.
    #[must_use]
    pub fn journal(&self) -> &Journal {
        &self.journal.0
    }

    /// Stops accepting, waits at most `drain` for calls in flight, and closes the trail.
    pub fn stop(self, drain: Duration) {
        self.stop.send_replace(Some(drain));
        for worker in self.workers {
            if worker.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
        let (journal, flusher) = self.journal;
        journal.close(flusher);
    }
}

/// The parts that are moved to a worker's thread.
#[derive(Clone)]
struct WorkerSeed {
    snapshot: Arc<ArcSwap<Snapshot>>,
    journal: Journal,
    clock: Arc<dyn Clock>,
    spool: PathBuf,
    limiter: Arc<ConnectionLimiter>,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<Option<Duration>>,
}

impl WorkerSeed {
    fn run(self, listeners: Vec<BoundListener>) {
        let built = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
        let built = built.inspect_err(|error| tracing::error!(%error, "a worker cannot start"));
        let Ok(runtime) = built else { return };
        let gateway = Gateway {
            journal: self.journal,
            forwarder: Forwarder {
                snapshot: self.snapshot,
                clock: self.clock,
                transport: Transport::default(),
                spool: self.spool,
            },
        };
        let (limiter, metrics, stop) = (self.limiter, self.metrics, self.stop);
        let (gateway, drain) = (Rc::new(gateway), Rc::new(Drain::default()));
        runtime.block_on(Worker { gateway, drain, limiter, metrics, stop }.run(listeners));
    }
}

fn with_address(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}
