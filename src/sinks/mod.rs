//! Taking events elsewhere as they come: each sink has its own place in the trail and gets every event from there on, at
//! least once. Nothing waits for a sink: it reads what is on the disk already, on a thread of its own.

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

/// How often a sink looks for more where there was nothing.
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a sink that failed is left alone: at first, and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How long the last events may take when the gateway ends. What is left goes out after the next start.
const DRAIN: Duration = Duration::from_secs(3);

/// What a sink is.
#[derive(Clone)]
pub enum SinkKind {
    /// Lines on standard output.
    Stdout,
    /// Messages of RFC 5424, framed by octet counting (RFC 6587, RFC 5425).
    Syslog(Remote),
    /// Posts.
    Http(Remote, PayloadFormat),
    /// A file that always holds the latest head.
    Witness(PathBuf),
}

/// A sink as configured.
#[derive(Clone)]
pub struct SinkConfig {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub kind: SinkKind,
}

/// The sinks at work.
#[derive(Debug)]
pub struct Delivery {
    stop: watch::Sender<bool>,
    thread: JoinHandle<()>,
}

impl Delivery {
    /// Starts the sinks on the trail in `dir`; their places are kept in `places`. `None` where there are none.
    ///
    /// # Errors
    /// Where the folder of places or the thread cannot be made.
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
            // Who does not take what is on standard output must not keep the gateway from ending.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("delivery".into()).spawn(run)?;
        Ok(Some(Self { stop, thread }))
    }

    /// Delivers what is there still, for a moment, and ends.
    pub fn stop(self) {
        self.stop.send_replace(true);
        if self.thread.join().is_err() {
            tracing::error!("the delivery's thread had panicked");
        }
    }
}

/// One sink at work.
struct Sink {
    name: Name,
    carrier: SinkWriter,
    place: Cursor,
    feed: TrailReader,
    metrics: Arc<Metrics>,
    labels: crate::metrics::Sink,
}

/// What takes lines elsewhere. Each method tells the `seq` before which all was taken, if it knows.
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

    /// While there is nothing to send.
    async fn idle(&mut self) -> Result<Option<u64>, String> {
        match self {
            Self::Syslog(syslog) => syslog.idle().await,
            Self::Stdout(_) | Self::Http(_) | Self::Witness(_) => Ok(None),
        }
    }

    /// After the last line.
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
        // Syslog alone learns at the end what was taken.
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

    /// Sends what is there; whether anything was.
    async fn step(&mut self) -> Result<bool, String> {
        let lines = self.feed.lines().map_err(|error| format!("reading the trail: {error}"))?;
        let taken =
            if lines.is_empty() { self.carrier.idle().await? } else { self.carrier.send(&lines).await? };
        if let Some(next) = taken {
            self.place.advance(next);
        }
        self.place.persist_if_due().map_err(|error| format!("keeping its place: {error}"))?;
        // So that one sink with much to do does not keep the others from theirs.
        tokio::task::yield_now().await;
        Ok(!lines.is_empty())
    }
}

/// Comes back some time after the end was asked for.
async fn drain_deadline(stopped: &mut watch::Receiver<bool>) {
    // A sender that is gone is as good as the word.
    stopped.wait_for(|stop| *stop).await.map(drop).unwrap_or_default();
    sleep(DRAIN).await;
}
