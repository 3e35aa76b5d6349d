//! The journal: one chain, one open segment, group commit.
//!
//! Whoever appends an event chains it under one lock. With `sync`, an intent waits until the
//! journal's thread has made it durable together with all that came meanwhile, and an outcome is
//! written before the last byte of its answer. With `batched`, the thread writes and flushes every
//! 10 ms. When a disk fails, nothing is forwarded until it works again, and what could not be recorded
//! is counted and told.

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

/// When an intent counts as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once it is on the disk.
    Sync,
    /// Once it is in memory; it is on the disk within 10 ms.
    Batched,
}

/// How the journal is kept.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// When an intent counts as recorded.
    pub durability: Durability,
    /// The size at which a new segment is begun, in bytes.
    pub rotate: u64,
    /// How often heads are signed.
    pub heads: CheckpointPolicy,
    /// How long closed segments are kept, and how.
    pub keep: Retention,
}

/// What the first segment tells beside what is found on the trail.
#[derive(Debug, Default)]
pub struct Opening {
    /// By what the store was changed last.
    pub store: Option<Revision>,
    /// What custodians did before: each has the members of an `admin` event. All are recorded with the first event,
    /// before the head that is over it is kept apart from the trail.
    pub changes: Vec<String>,
}

/// The call could not be recorded; it must not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit journal cannot record")]
pub struct Unrecorded;

/// The journal. Cheap to clone; [`Journal::close`] ends it.
#[derive(Clone)]
pub struct Journal(Arc<JournalCore>);

/// The thread that flushes and the one that keeps what is closed, ended by [`Journal::close`].
#[derive(Debug)]
pub struct JournalThreads {
    flushing: JoinHandle<()>,
    archiving: (mpsc::Sender<()>, JoinHandle<()>),
}

impl Journal {
    /// Opens the journal on `disk` and starts its threads; `signer` signs its heads. A disk that fails is no error here:
    /// the journal is then not [healthy](Self::healthy), records nothing, and tries again.
    ///
    /// # Errors
    /// Where the thread cannot be started.
    pub fn open(
        (disk, signer): (Box<dyn Disk>, Signer),
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JournalThreads)> {
        Self::open_with(Opening::default(), (disk, signer), settings, clock, metrics)
    }

    /// The same, with what is to be told first.
    ///
    /// # Errors
    /// As those of [`open`](Self::open).
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

    /// Appends the intent of a call that came at `time`. With `sync` the receiver tells when it is durable.
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

    /// Appends an outcome; `closes` says that an intent of this call was appended before.
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

    /// Counts a refusal that came at `time` and is told in sum, within about a minute.
    pub(super) fn suppressed(&self, source: RefusalSource, time: SystemTime) {
        let mut tail = self.0.tail();
        // Only the first sets the time by which the thread must look again.
        if tail.floods.count(source, (time, Instant::now())) {
            self.0.wake_writer(&mut tail);
        }
    }

    /// Records what custodians changed: each of `events` has the members of an `admin` event, each after a
    /// comma; `store` is the state that the store is in by them. Comes back when all are on the disk, by one flush.
    ///
    /// # Errors
    /// [`Unrecorded`]: all have to be tried again, though some may be recorded.
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

    /// Waits until what was appended is on the disk; whether it is. A flush that is waited for in vain
    /// is waited for by nobody else.
    pub(super) async fn wait_durable(&self, durable: oneshot::Receiver<bool>) -> bool {
        let told = tokio::time::timeout(PATIENCE, durable).await;
        if told.is_err() {
            self.0.mark_hung();
        }
        matches!(told, Ok(Ok(true)))
    }

    /// Flushes what is there and ends the journal's threads.
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

    /// Says what the store was changed by last, for the segments that are begun from now on.
    pub fn knows_store(&self, stamp: Revision) {
        self.0.knows_store(stamp);
    }

    /// The `seq` before which all is on the disk: it may be taken elsewhere.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.0.durable()
    }

    /// Says that events from this `seq` on may not be let go yet. Until this is said, none may.
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
