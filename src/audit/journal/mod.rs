//! The journal: one chain, one open segment, group commit.
//!
//! Each append chains its event under one lock. With `sync`, an intent waits until the journal's thread has flushed it,
//! together with all events appended meanwhile. An outcome is written before the last byte of its answer is sent.
//! With `batched`, the thread writes and flushes every 10 ms.
//!
//! When a disk fails, nothing is forwarded until it works again. The journal counts the events that it could not
//! record, and then records their number.

pub(super) mod barrier;
mod buffer;
mod checkpoints;
mod core;
mod recover;
mod retention;
pub(super) mod settings;
pub(super) mod suppressed;
mod writer;

use std::io;
use std::ops::Deref;
use std::sync::{Arc, mpsc};
use std::thread::{Builder, JoinHandle};

pub use self::core::JournalCore;
use super::proof::checkpoint::Signer;
use super::trail::disk::Disk;
use crate::clock::Clock;
use crate::metrics::Metrics;
use retention::Archiver;
use settings::{Opening, Settings};

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
    /// Opens the journal on `disk`, records `opening` in its first segment, and starts its threads. Heads are signed by
    /// `signer`, the gateway's key.
    ///
    /// A failing disk is no error here. The journal is then not [healthy](JournalCore::healthy), and retries
    /// until the disk works.
    ///
    /// # Errors
    /// An I/O error if a thread cannot be started.
    pub fn open(
        opening: Opening,
        (disk, signer): (Box<dyn Disk>, Signer),
        settings: Settings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> io::Result<(Self, JournalThreads)> {
        let core = Arc::new(JournalCore::new(opening, (disk, signer), settings, clock, metrics));
        core.flush_once();
        let writer = Arc::clone(&core);
        let flushing = Builder::new().name("journal".into()).spawn(move || writer::run(&writer))?;
        let (stop, stopped) = mpsc::channel();
        let archiver = Archiver::new(Arc::clone(&core));
        let archiving = Builder::new().name("archivist".into()).spawn(move || archiver.run(&stopped))?;
        Ok((Self(core), JournalThreads { flushing, archiving: (stop, archiving) }))
    }

    /// Flushes pending events and ends the journal's threads.
    pub fn close(&self, threads: JournalThreads) {
        let JournalThreads { flushing, archiving: (stop, archiving) } = threads;
        drop(stop);
        self.tail().stop = true;
        self.wake.notify_all();
        if flushing.join().is_err() | archiving.join().is_err() {
            tracing::error!("a thread of the journal has panicked");
        }
        if let Err(error) = self.keep_head() {
            tracing::warn!(%error, "cannot store the last head of the trail in the state folder");
        }
    }
}

impl Deref for Journal {
    type Target = JournalCore;

    fn deref(&self) -> &JournalCore {
        &self.0
    }
}
