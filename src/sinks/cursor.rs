//! The cursor of a sink, kept across restarts in a file of its own in the state folder's `sinks`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::audit::Journal;
use crate::fs::trust;
use crate::name::Name;

/// How often a cursor is written. A crash repeats the events of this period.
const EVERY: Duration = Duration::from_secs(1);

/// Returns the folder of cursors in a state folder.
#[must_use]
pub fn folder(state: &Path) -> PathBuf {
    state.join("sinks")
}

/// Lowers every cursor beyond `seq` to `seq`, so that each sink gets the events from there on. The trail was continued
/// from before these cursors, so different events now have the numbers that the sinks already received.
///
/// # Errors
/// An I/O error if the folder cannot be read, or a cursor cannot be replaced.
pub fn lower(state: &Path, seq: u64) -> io::Result<()> {
    for entry in trust::if_found(fs::read_dir(folder(state)))?.into_iter().flatten() {
        let path = entry?.path();
        // An invalid cursor is refused, with its name, when its sink starts.
        let next = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        if next.is_some_and(|next| next > seq) {
            trust::replace(&path, format!("{seq}\n").as_bytes())?;
        }
    }
    Ok(())
}

/// The stored cursors of all sinks. Events before all of them may be deleted.
pub(super) struct Cursors {
    next: Vec<AtomicU64>,
    journal: Journal,
}

impl Cursors {
    pub(super) fn new(count: usize, journal: Journal) -> Self {
        Self { next: (0..count).map(|_| AtomicU64::new(0)).collect(), journal }
    }

    fn at(&self, number: usize, next: u64) {
        if let Some(stored) = self.next.get(number) {
            stored.store(next, Ordering::Release);
        }
        let least = self.next.iter().map(|next| next.load(Ordering::Acquire)).min();
        self.journal.set_retention_floor(least.unwrap_or(u64::MAX));
    }
}

pub(super) struct Cursor {
    path: PathBuf,
    /// The `seq` of the first event that was not delivered yet.
    pub(super) next: u64,
    /// The `seq` in the file, and the time since which it is there.
    stored: u64,
    since: Instant,
    all: (usize, Arc<Cursors>),
}

impl Cursor {
    /// Opens the cursor of the sink `name`. A new sink begins with the first event on the trail.
    pub(super) fn open(dir: &Path, name: &Name, all: (usize, Arc<Cursors>)) -> io::Result<Self> {
        trust::create_folder(dir)?;
        let path = dir.join(name.as_str());
        let next = match trust::if_found(fs::read_to_string(&path))? {
            Some(text) => text.trim().parse().map_err(|_| {
                let why = format!(
                    "{}: not a valid sink cursor; delete the file to send all events again",
                    path.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?,
            None => 1,
        };
        all.1.at(all.0, next);
        Ok(Self { path, next, stored: next, since: Instant::now(), all })
    }

    /// Stores the cursor, unless it was stored shortly before.
    pub(super) fn persist_if_due(&mut self) -> io::Result<()> {
        if self.next == self.stored || self.since.elapsed() < EVERY { Ok(()) } else { self.store() }
    }

    pub(super) fn store(&mut self) -> io::Result<()> {
        if self.next == self.stored {
            return Ok(());
        }
        trust::replace(&self.path, format!("{}\n", self.next).as_bytes())?;
        (self.stored, self.since) = (self.next, Instant::now());
        self.all.1.at(self.all.0, self.next);
        Ok(())
    }
}
