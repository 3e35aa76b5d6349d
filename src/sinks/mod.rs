//! Sinks, which get events from the trail as they come. Each sink has its own cursor in the trail, and gets every event
//! from there on at least once. No call waits for a sink: sinks read flushed events on a thread of their own.

mod cursor;
mod http;
mod remote;
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

use tokio::io::{AsyncWriteExt as _, Stdout};
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
    /// Starts the sinks on the trail in `dir`. `folder` holds their cursors. Returns `None` if the configuration
    /// has no sink.
    ///
    /// # Errors
    /// An I/O error if the folder of cursors cannot be created, a cursor cannot be read, or the thread does not start.
    pub fn start(
        plans: &[SinkConfig],
        (dir, folder): (&Path, &Path),
        journal: &Journal,
        metrics: &Arc<Metrics>,
    ) -> io::Result<Option<Self>> {
        if plans.is_empty() {
            journal.set_retention_floor(u64::MAX);
            return Ok(None);
        }
        let mut sinks = Vec::new();
        let cursors = Arc::new(cursor::Cursors::new(plans.len(), journal.clone()));
        for (number, plan) in plans.iter().enumerate() {
            let cursor = Cursor::open(folder, &plan.name, (number, Arc::clone(&cursors)))?;
            sinks.push(Sink {
                name: plan.name,
                writer: SinkWriter::of(&plan.kind),
                reader: TrailReader::new(dir.to_owned(), journal.clone(), cursor.next),
                cursor,
                metrics: Arc::clone(metrics),
                labels: crate::metrics::Sink { sink: crate::metrics::NameLabel(Some(plan.name)) },
            });
        }
        let (stop, stopped) = watch::channel(false);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || {
            let local = LocalSet::new();
            for sink in sinks {
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
            tracing::error!("the thread of the sinks has panicked");
        }
    }
}

/// A running sink.
struct Sink {
    name: Name,
    writer: SinkWriter,
    reader: TrailReader,
    cursor: Cursor,
    metrics: Arc<Metrics>,
    labels: crate::metrics::Sink,
}

/// The writer of a sink. Each method returns the `seq` before which every event was delivered, if it knows.
enum SinkWriter {
    Stdout(Stdout),
    Syslog(Box<syslog::Syslog>),
    Http(Box<http::Http>),
    Witness(PathBuf),
}

impl SinkWriter {
    fn of(kind: &SinkKind) -> Self {
        match kind {
            SinkKind::Stdout => Self::Stdout(tokio::io::stdout()),
            SinkKind::Syslog(remote) => Self::Syslog(Box::new(syslog::Syslog::new(remote.clone()))),
            SinkKind::Http(remote, format) => Self::Http(Box::new(http::Http::new(remote.clone(), *format))),
            SinkKind::Witness(path) => Self::Witness(path.clone()),
        }
    }

    async fn send(&mut self, lines: &[Line]) -> Result<Option<u64>, String> {
        match self {
            Self::Syslog(syslog) => return syslog.send(lines).await,
            Self::Http(http) => http.send(lines).await?,
            Self::Witness(path) => {
                witness::store(path, lines).map_err(|error| format!("{}: {error}", path.display()))?;
            }
            Self::Stdout(stdout) => {
                let bytes: Vec<u8> =
                    lines.iter().flat_map(|line| line.text.iter().chain(b"\n")).copied().collect();
                stdout.write_all(&bytes).await.map_err(|error| error.to_string())?;
                stdout.flush().await.map_err(|error| error.to_string())?;
            }
        }
        Ok(lines.last().map(|last| last.seq + 1))
    }

    /// Checks a sink while there is nothing to send.
    async fn idle(&mut self) -> Result<Option<u64>, String> {
        if let Self::Syslog(syslog) = self { syslog.idle().await } else { Ok(None) }
    }

    /// Ends a sink after its last event.
    async fn end(&mut self) -> Result<Option<u64>, String> {
        if let Self::Syslog(syslog) = self { syslog.end().await } else { Ok(None) }
    }
}

impl Sink {
    async fn run(mut self, mut stopped: watch::Receiver<bool>) {
        tokio::select! {
            () = self.deliver(stopped.clone()) => {}
            () = drain_deadline(&mut stopped) => {}
        }
        // Only syslog learns at the end which events were delivered.
        let ended = tokio::time::timeout(DRAIN, self.writer.end()).await;
        if let Ok(Ok(Some(next))) = ended {
            self.cursor.next = next;
        }
        if let Err(error) = self.cursor.store() {
            tracing::error!(sink = %self.name, %error, "cannot store the cursor of a sink: the next start sends some events again");
        }
    }

    async fn deliver(&mut self, stopped: watch::Receiver<bool>) {
        let (mut pause, mut failing) = (BACKOFF.0, false);
        loop {
            match self.step().await {
                Ok(was_there) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!(sink = %self.name, "the sink accepts events again");
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
                        tracing::error!(sink = %self.name, why, "the sink does not accept events; they stay on the trail, and claviger retries");
                    }
                    self.metrics.sink_up.get_or_create(&self.labels).set(0);
                    self.reader.go_back(self.cursor.next);
                    if *stopped.borrow() {
                        return;
                    }
                    sleep(pause).await;
                    pause = (pause * 2).min(BACKOFF.1);
                }
            }
            let behind = i64::try_from(self.reader.lag(self.cursor.next)).unwrap_or(i64::MAX);
            self.metrics.sink_behind.get_or_create(&self.labels).set(behind);
        }
    }

    /// Sends the events that are available. Returns whether there were any.
    async fn step(&mut self) -> Result<bool, String> {
        let lines = self.reader.lines().map_err(|error| format!("reading the trail: {error}"))?;
        let delivered =
            if lines.is_empty() { self.writer.idle().await? } else { self.writer.send(&lines).await? };
        if let Some(next) = delivered {
            self.cursor.next = next;
        }
        self.cursor.persist_if_due().map_err(|error| format!("storing the cursor: {error}"))?;
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
