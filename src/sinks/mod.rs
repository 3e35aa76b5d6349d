//! Sinks, which get events from the trail as they come. Each sink has its own cursor in the trail, and gets every event
//! from there on at least once. No call waits for a sink: sinks read flushed events on a thread of their own.

mod cursor;
mod http;
mod remote;
mod stdout;
mod syslog;
mod trail_reader;
mod witness;

pub use cursor::{folder, lower};
pub use http::PayloadFormat;
pub use remote::Remote;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::sleep;

use crate::audit::Journal;
use crate::metrics::Metrics;
use crate::name::Name;
use cursor::Cursor;
use trail_reader::{Line, TrailReader};

/// How often a sink polls for events when there were none.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The back-off of a failing sink: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long a sink may send its last events when the gateway ends. The rest is sent after the next start.
const DRAIN: Duration = Duration::from_secs(3);

/// The kind of a sink, with its settings.
#[derive(Clone)]
pub enum SinkKind {
    /// Lines on standard output.
    Stdout,
    /// Messages of RFC 5424, framed by octet counting (RFC 6587, RFC 5425).
    Syslog(Remote),
    /// HTTP POST requests in this format.
    Http(Remote, PayloadFormat),
    /// A file that always holds the latest head.
    Witness(PathBuf),
}

/// A sink as configured.
#[derive(Clone)]
pub struct SinkConfig {
    /// The name of the sink.
    pub name: Name,
    /// The kind of the sink.
    pub kind: SinkKind,
}

/// The running sinks of a gateway.
#[derive(Debug)]
pub struct Delivery {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Delivery {
    /// Starts the sinks on the trail in `dir`. The folder `places` holds their cursors. Returns `None` if no sink is
    /// configured.
    ///
    /// # Errors
    /// An I/O error if the folder of cursors cannot be created, a cursor cannot be read, or the thread cannot be
    /// started.
    pub fn start(
        plans: &[SinkConfig],
        (dir, places): (&Path, &Path),
        journal: &Journal,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Option<Self>> {
        if plans.is_empty() {
            journal.set_retention_floor(u64::MAX);
            return Ok(None);
        }
        let mut tasks = Vec::new();
        let kept = Arc::new(cursor::Cursors::new(plans.len(), journal.clone()));
        for (number, plan) in plans.iter().enumerate() {
            let place = Cursor::open(places, &plan.name, (number, Arc::clone(&kept)))?;
            let feed = TrailReader::new(dir.to_owned(), journal.clone(), place.next());
            let labels = crate::metrics::Sink { sink: crate::metrics::NameLabel(Some(plan.name)) };
            tasks.push((plan.clone(), place, feed, Arc::clone(metrics), labels));
        }
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            let local = LocalSet::new();
            for (plan, place, feed, metrics, labels) in tasks {
                let sink = Sink {
                    carrier: SinkWriter::of(&plan.kind),
                    name: plan.name,
                    place,
                    feed,
                    metrics,
                    labels,
                };
                local.spawn_local(sink.run(stopped.clone()));
            }
            runtime.block_on(local);
            // A blocked reader of standard output must not keep the gateway from ending.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("delivery".into()).spawn(run)?;
        Ok(Some(Self { stop, thread }))
    }

    /// Sends the remaining events for a short time, and ends the sinks.
    pub fn stop(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the delivery's thread had panicked");
        }
    }
}

/// A running sink.
struct Sink {
    name: Name,
    carrier: SinkWriter,
    place: Cursor,
    feed: TrailReader,
    metrics: Arc<Metrics>,
    labels: crate::metrics::Sink,
}

/// The writer of a sink. Each method returns the `seq` before which every event was delivered, if it knows.
enum SinkWriter {
    Stdout(stdout::Stdout),
    Syslog(Box<syslog::Syslog>),
    Http(Box<http::Http>),
    Witness(witness::Witness),
}

impl SinkWriter {
    fn of(kind: &SinkKind) -> Self {
        match kind {
            SinkKind::Stdout => Self::Stdout(stdout::Stdout::default()),
            SinkKind::Syslog(remote) => Self::Syslog(Box::new(syslog::Syslog::new(remote.clone()))),
            SinkKind::Http(remote, form) => Self::Http(Box::new(http::Http::new(remote.clone(), *form))),
            SinkKind::Witness(path) => Self::Witness(witness::Witness::new(path.clone())),
        }
    }

    async fn send(&mut self, lines: &[Line]) -> Result<Option<u64>, String> {
        match self {
            Self::Stdout(stdout) => stdout.send(lines).await,
            Self::Syslog(syslog) => syslog.send(lines).await,
            Self::Http(http) => http.send(lines).await,
            Self::Witness(witness) => witness.send(lines),
        }
    }

    /// Checks a sink while there is nothing to send.
    async fn idle(&mut self) -> Result<Option<u64>, String> {
        match self {
            Self::Syslog(syslog) => syslog.idle().await,
            Self::Stdout(_) | Self::Http(_) | Self::Witness(_) => Ok(None),
        }
    }

    /// Ends a sink after its last event.
    async fn end(&mut self) -> Result<Option<u64>, String> {
        match self {
            Self::Syslog(syslog) => syslog.end().await,
            Self::Stdout(_) | Self::Http(_) | Self::Witness(_) => Ok(None),
        }
    }
}

impl Sink {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            () = self.deliver(stopped.clone()) => {}
            () = drain_deadline(&mut stopped) => {}
        }
        // Only syslog learns at the end which events were delivered.
        let ended = tokio::time::timeout(DRAIN, self.carrier.end()).await;
        if let Ok(Ok(Some(next))) = ended {
            self.place.advance(next);
        }
        if let Err(error) = self.place.keep() {
            tracing::error!(sink = %self.name, %error, "the place of a sink was not kept: events will come twice");
        }
    }

    async fn deliver(&mut self, stopped: watch::Receiver<bool>) {
        let (mut pause, mut failing) = (BACKOFF.0, false);
        loop {
            match self.step().await {
                Ok(was_there) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(sink = %self.name, "the sink takes events again");
                    }
                    self.metrics.sink_up.get_or_create(&self.labels).set(1);
                    pause = BACKOFF.0;
                    if !was_there {
                        if *stopped.borrow() {
                            return;
                        }
                        sleep(POLL_INTERVAL).await;
                    }
                }
                Err(why) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(sink = %self.name, why, "the sink takes no events: they stay on the trail until it does");
                    }
                    self.metrics.sink_up.get_or_create(&self.labels).set(0);
                    self.feed.go_back(self.place.next());
                    if *stopped.borrow() {
                        return;
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
            let behind = i64::try_from(self.feed.lag(self.place.next())).unwrap_or(i64::MAX);
            self.metrics.sink_behind.get_or_create(&self.labels).set(behind);
        }
    }

    /// Sends the events that are available. Returns whether there were any.
    async fn step(&mut self) -> Result<bool, String> {
        let lines = self.feed.lines().map_err(|error| format!("reading the trail: {error}"))?;
        let taken =
            if lines.is_empty() { self.carrier.idle().await? } else { self.carrier.send(&lines).await? };
        if let Some(next) = taken {
            self.place.advance(next);
        }
        self.place.persist_if_due().map_err(|error| format!("keeping its place: {error}"))?;
        // Yield, so that a busy sink does not block the others.
        tokio::task::yield_now().await;
        Ok(!lines.is_empty())
    }
}

/// Returns when the time for the last events is over.
async fn drain_deadline(stopped: &mut watch::Receiver<bool>) {
    // A dropped sender counts as a request to stop.
    stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
    sleep(DRAIN).await;
}
