//! The journal: one chain, one open segment, group commit.
//!
//! Each append chains its event under one lock. With `sync`, an intent waits until the journal's thread has flushed it,
//! together with all events appended meanwhile. An outcome is written before the last byte of its answer is sent.
//! With `batched`, the thread writes and flushes every 10 ms.
//!
//! When a disk fails, nothing is forwarded until it works again. The journal counts the events that it could not
//! record, and then records their number.

pub(super) mod barrier;
pub(super) mod buffer;
pub(super) mod checkpoints;
pub(super) mod flush_timing;
pub(super) mod own_events;
pub(super) mod recover;
pub(super) mod retention;
pub(super) mod suppressed;
pub(super) mod writer;
use std::io;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use tokio::sync::oneshot;

use super::proof::checkpoint::Signer;
use super::trail::disk::Disk;
use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::storage::Revision;
use checkpoints::CheckpointPolicy;
use retention::{Archiver, Retention};
use suppressed::RefusalSource;
use writer::{JournalCore, PATIENCE};

/// The moment at which an intent counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// An intent counts as recorded once it is on the disk.
    Sync,
    /// An intent counts as recorded once it is in memory. It is on the disk within 10 ms.
    Batched,
}

/// The settings of the journal.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// The moment at which an intent counts as recorded.
    pub durability: Durability,
    /// The segment size in bytes at which the next segment is begun.
    pub rotate: u64,
    /// How often heads are signed.
    pub heads: CheckpointPolicy,
    /// How long closed segments are kept, and in which form.
    pub keep: Retention,
}

/// Events and facts that the first segment records in addition to what recovery finds on the trail.
#[derive(Debug, Default)]
pub struct Opening {
    /// The revision of the store after its last change.
    pub store: Option<Revision>,
    /// Earlier changes by operators: each string has the members of an `admin` event. All are recorded together with
    /// the first event, before a head that covers it is stored apart from the trail.
    pub changes: Vec<String>,
}

/// The error for a call that could not be recorded and therefore must not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit journal cannot record")]
pub struct Unrecorded;

/// The journal of audit events. It is cheap to clone; [`Journal::close`] ends it.
#[derive(Clone)]
pub struct Journal(Arc<JournalCore>);

/// The flushing thread and the retention thread, both ended by [`Journal::close`].
#[derive(Debug)]
pub struct JournalThreads {
    flushing: JoinHandle<()>,
    archiving: (mpsc::Sender<()>, JoinHandle<()>),
}

impl Journal {
    /// Opens the journal on `disk` and starts its threads; `signer` signs its heads.
    ///
    /// A failing disk is no error here. The journal is then not [healthy](Self::healthy), records nothing, and retries.
    ///
    /// # Errors
    /// An I/O error if a thread cannot be started.
    pub fn open(
        (disk, signer): (Box<dyn Disk>, Signer),
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JournalThreads)> {
        Self::open_with(Opening::default(), (disk, signer), settings, clock, metrics)
    }

    /// Opens the journal like [`open`](Self::open), and records `opening` in its first segment.
    ///
    /// # Errors
    /// The errors of [`open`](Self::open).
    pub fn open_with(
        opening: Opening,
        kept: (Box<dyn Disk>, Signer),
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JournalThreads)> {
        let shared = Arc::new(JournalCore::new(kept, (settings, opening), clock, metrics));
        shared.flush_once();
        let own = Arc::clone(&shared);
        let flushing = std::thread::Builder::new().name("journal".into()).spawn(move || own.run())?;
        let (stop, stopped) = mpsc::channel();
        let archivist = Archiver::new(Arc::clone(&shared));
        let archiving = std::thread::Builder::new().name("archivist".into());
        let archiving = archiving.spawn(move || archivist.run(&stopped))?;
        Ok((Self(shared), JournalThreads { flushing, archiving: (stop, archiving) }))
    }

    /// Whether calls can be recorded now.
    #[must_use]
    pub fn healthy(&self) -> bool {
        self.0.healthy()
    }

    /// Appends the intent of a call that arrived at `time`. With `sync`, the receiver reports when it is durable.
    pub(super) fn intent(
        &self,
        time: SystemTime,
        facts: &[u8],
    ) -> Result<Option<oneshot::Receiver<bool>>, Unrecorded> {
        if !self.healthy() {
            return Err(Unrecorded);
        }
        let mut tail = self.0.tail();
        if tail.stop || tail.is_full() {
            return Err(Unrecorded);
        }
        tail.append("intent", time, &[facts])?;
        tail.open += 1;
        let durable = match self.0.settings.durability {
            Durability::Sync => {
                let (waiter, durable) = oneshot::channel();
                tail.waiters.push(waiter);
                Some(durable)
            }
            Durability::Batched => None,
        };
        self.0.wake_writer(&mut tail);
        Ok(durable)
    }

    /// Appends an outcome. `closes` is whether an intent of this call was appended before.
    pub(super) fn outcome(&self, members: &[u8], closes: bool) {
        let now = self.0.clock.now();
        let mut tail = self.0.tail();
        if closes {
            tail.open = tail.open.saturating_sub(1);
        } else if tail.is_full() {
            tail.unrecorded += 1;
            return;
        }
        if tail.append("outcome", now, &[members]).is_err() {
            tail.unrecorded += 1;
            return;
        }
        self.0.require_written(&tail);
        self.0.wake_writer(&mut tail);
    }

    /// Counts a refusal that arrived at `time`. The trail gets one event with the count within about a minute.
    pub(super) fn suppressed(&self, source: RefusalSource, time: SystemTime) {
        let mut tail = self.0.tail();
        // Only the first refusal sets the time at which the thread must wake up.
        if tail.floods.count(source, (time, Instant::now())) {
            self.0.wake_writer(&mut tail);
        }
    }

    /// Records changes by operators, and returns when all of them are on the disk. One flush covers them all.
    ///
    /// Each of `events` has the members of an `admin` event, each preceded by a comma. `store` is the revision of the
    /// store after these changes.
    ///
    /// # Errors
    /// [`Unrecorded`] if any event is not on the disk. The caller must retry all events, though some may be recorded.
    pub async fn admin<'e>(
        &self,
        events: impl IntoIterator<Item = &'e str>,
        store: Option<Revision>,
    ) -> Result<(), Unrecorded> {
        let store = store.map_or(String::new(), |stamp| format!(",\"store\":\"{stamp}\""));
        let (waiter, durable) = oneshot::channel();
        {
            let mut tail = self.0.tail();
            if !self.healthy() || tail.stop || tail.is_full() {
                return Err(Unrecorded);
            }
            for members in events {
                tail.append("admin", self.0.clock.now(), &[members.as_bytes(), store.as_bytes()])?;
            }
            tail.waiters.push(waiter);
            self.0.wake_writer(&mut tail);
        }
        if self.wait_durable(durable).await { Ok(()) } else { Err(Unrecorded) }
    }

    /// Waits until an appended event is on the disk. Returns whether it is. After one time-out, no other call waits for
    /// the same flush.
    pub(super) async fn wait_durable(&self, durable: oneshot::Receiver<bool>) -> bool {
        let flushed = tokio::time::timeout(PATIENCE, durable).await;
        if flushed.is_err() {
            self.0.mark_hung();
        }
        matches!(flushed, Ok(Ok(true)))
    }

    /// Flushes pending events and ends the journal's threads.
    pub fn close(&self, flusher: JournalThreads) {
        let JournalThreads { flushing, archiving: (stop, archiving) } = flusher;
        drop(stop);
        self.0.tail().stop = true;
        self.0.wake.notify_all();
        if flushing.join().is_err() | archiving.join().is_err() {
            tracing::error!("a thread of the journal had panicked");
        }
        if let Err(error) = self.0.keep_head() {
            tracing::warn!(%error, "the last head of the trail is not kept in the state folder");
        }
    }

    /// Sets the revision of the store after its last change, for the segments that are begun from now on.
    pub fn knows_store(&self, stamp: Revision) {
        self.0.knows_store(stamp);
    }

    /// Returns the `seq` before which every event is on the disk. Sinks may read events up to there.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.0.durable()
    }

    /// Sets the `seq` from which on events may not be deleted yet. Until this is called, none may be deleted.
    pub fn set_retention_floor(&self, seq: u64) {
        self.0.set_retention_floor(seq);
    }

    pub(super) fn is_written(&self) -> bool {
        self.0.is_written()
    }

    pub(super) fn write(&self) {
        self.0.write();
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }
}
