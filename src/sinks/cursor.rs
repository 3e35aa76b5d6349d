//! How far a sink is, kept over restarts: a file of its own in `sinks` in the state folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::audit::Journal;
use crate::fs::trust;
use crate::name::Name;

/// How often a place is written: what a crash makes come twice.
const EVERY: Duration = Duration::from_secs(1);

/// The folder of places in a state folder.
#[must_use]
pub fn folder(state: &Path) -> PathBuf {
    state.join("sinks")
}

/// Has every sink get the events from `seq` on, also where its place is behind them: they are other events than it had
/// with these numbers, because the trail was continued from before them.
///
/// # Errors
/// Where a place cannot be read or replaced.
pub fn lower(state: &Path, seq: u64) -> io::Result<()> {
    let entries = match fs::read_dir(folder(state)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        found => found?,
    };
    for entry in entries {
        let path = entry?.path();
        // What is no place is refused, with its name, where the sink starts.
        let place = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<u64>().ok());
        if place.is_some_and(|next| next > seq) {
            trust::replace(&path, format!("{seq}\n").as_bytes())?;
        }
    }
    Ok(())
}

/// The places of all sinks, as they are kept: what is before all of them may be let go.
pub(super) struct Cursors {
    places: Vec<AtomicU64>,
    journal: Journal,
}

impl Cursors {
    pub(super) fn new(count: usize, journal: Journal) -> Self {
        Self { places: (0..count).map(|_| AtomicU64::new(0)).collect(), journal }
    }

    fn at(&self, number: usize, next: u64) {
        if let Some(place) = self.places.get(number) {
            place.store(next, Ordering::Release);
        }
        let least = self.places.iter().map(|place| place.load(Ordering::Acquire)).min();
        self.journal.set_retention_floor(least.unwrap_or(u64::MAX));
    }
}

pub(super) struct Cursor {
    path: PathBuf,
    next: u64,
    kept: u64,
    since: Instant,
    all: (usize, Arc<Cursors>),
}

impl Cursor {
    /// Of the sink of this name; one that is new begins with the first event that is there.
    pub(super) fn open(dir: &Path, name: &Name, all: (usize, Arc<Cursors>)) -> io::Result<Self> {
        trust::create_folder(dir)?;
        let path = dir.join(name.as_str());
        let next = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map_err(|_| {
                let why = format!(
                    "{}: no place of a sink; without it, the sink gets all events again",
                    path.display()
                );
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => 1,
            Err(error) => return Err(error),
        };
        all.1.at(all.0, next);
        Ok(Self { path, next, kept: next, since: Instant::now(), all })
    }

    /// The `seq` of the first event that it has not got.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn advance(&mut self, next: u64) {
        self.next = next;
    }

    /// Keeps it, but not too often.
    pub(super) fn persist_if_due(&mut self) -> io::Result<()> {
        if self.next == self.kept || self.since.elapsed() < EVERY { Ok(()) } else { self.keep() }
    }

    pub(super) fn keep(&mut self) -> io::Result<()> {
        if self.next == self.kept {
            return Ok(());
        }
        trust::replace(&self.path, format!("{}\n", self.next).as_bytes())?;
        (self.kept, self.since) = (self.next, Instant::now());
        self.all.1.at(self.all.0, self.next);
        Ok(())
    }
}
