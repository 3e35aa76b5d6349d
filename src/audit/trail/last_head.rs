//! The last head, stored apart from the trail. It shows whether the trail was cut off, emptied or replaced.
//!
//! claviger writes it only after all events that it covers are on the disk, so that a crash never looks like a cut. A
//! last head older than the trail's own is valid, too: the trail must hold what it names, and may continue from there.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::chain::{Hex, hex, verified_line};
use super::event::Event;
use super::misnamed::First;
use super::retired::RetiredStub;
use super::segment::{each_whole, is_compressed, parse_segment_name, segments};
use crate::audit::proof::checkpoint::CheckpointKey;
use crate::fs::trust;
use crate::storage::Revision;

/// The state of the trail at the time when the head was signed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct LastHead {
    /// The number of events, including the head's own.
    pub events: u64,
    /// The hash of the last of these events.
    pub hash: String,
    /// The time of signing (RFC 3339).
    pub time: String,
    /// The head itself, a signed note.
    pub note: String,
    /// The number of events that had been retired by then.
    pub retired: u64,
    /// The number of segments that held the other events.
    pub segments: u64,
    /// The path of the trail's folder.
    pub dir: String,
    /// The revision of the store after its last change known by then. Older files do not have it.
    #[serde(default, deserialize_with = "stamp")]
    pub store: Option<Revision>,
}

impl LastHead {
    /// Completes a signed head, now on the disk in `dir`, with the state of that folder and of the store.
    pub(in crate::audit) fn complete(mut self, dir: &Path, store: Option<Revision>) -> io::Result<Self> {
        self.retired = RetiredStub::latest(dir)?.map_or(0, |stub| stub.through);
        self.segments = count_segments(&segments(dir)?, self.retired, self.events);
        self.dir = dir.to_string_lossy().into_owned();
        self.store = store;
        Ok(self)
    }

    /// Parses a last head in the format of [`Self::text`].
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if the text has another format.
    pub fn parse(text: &str) -> io::Result<Self> {
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("it is damaged: {error}"));
        serde_json::from_str(text).map_err(wrong)
    }

    /// Formats the last head as its file has it: one line of JSON.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { events, hash, time, note, retired, segments, dir, store } = self;
        let text = serde_json::json!({
            "events": events, "hash": hash, "time": time, "note": note, "retired": retired, "segments": segments, "dir": dir,
            "store": store.map(|stamp| stamp.to_string()),
        });
        format!("{text}\n")
    }

    /// Describes what the trail in `dir`, with the segments `paths`, lacks of this head; `None` if it lacks nothing.
    ///
    /// A stub counts only if `verifier`, when given, has signed it. Of the events before the last one, only the number
    /// of segments is checked. [`verify`](crate::audit::verify) checks the rest.
    ///
    /// # Errors
    /// An I/O error if a file cannot be read.
    pub fn missing_in(
        &self,
        dir: &Path,
        paths: &[PathBuf],
        verifier: Option<&CheckpointKey>,
    ) -> io::Result<Option<String>> {
        let stub = trust::if_found(RetiredStub::latest(dir))?.flatten();
        let retired = match &stub {
            Some(stub) if verifier.is_some_and(|key| key.open(&stub.note).is_none()) => {
                return Ok(Some("its stub is not signed by the key of this gateway".into()));
            }
            stub => stub.as_ref().map_or(0, |stub| stub.through),
        };
        let found = at(paths, self.events)?;
        if found.as_ref() != Some(&self.hash) {
            let last = Last::of(paths)?;
            let reaches_retired = last.as_ref().is_some_and(|last| last.seq >= retired);
            if found.is_some() || self.events > retired || !reaches_retired {
                return Ok(Some(self.differs(dir, last)));
            }
        }
        let (present, expected) = (count_segments(paths, retired, self.events), self.segments);
        let has_hole = retired == self.retired && present < expected;
        let hole = || {
            format!(
                "its first {} events were in {expected} segments, of which {present} are here",
                self.events
            )
        };
        Ok(has_hole.then(hole))
    }

    /// Returns the last segment of a trail that does not hold this head, if the chain cannot be continued from it. That
    /// is so if nothing of it can be read, or if its first event has the next `seq` but not the right `prev`.
    ///
    /// # Errors
    /// An I/O error if a file cannot be read.
    pub fn stray_end(&self, paths: &[PathBuf]) -> io::Result<Option<PathBuf>> {
        let Some((last, before)) = paths.split_last() else { return Ok(None) };
        let is_stray = match First::of(last)? {
            // A plain segment may be torn in its first line; a compressed one holds complete lines only.
            None => is_compressed(last),
            Some(first) => {
                let former =
                    Last::of(before)?.filter(|former| (former.seq + 1, 0) == (first.seq, first.line));
                former.is_some_and(|former| former.hash.as_slice() != first.prev.as_bytes())
                    && at(std::slice::from_ref(last), self.events)?.as_ref() != Some(&self.hash)
            }
        };
        Ok(is_stray.then(|| last.clone()))
    }

    /// Describes how a trail with this last event differs from the recorded state.
    fn differs(&self, dir: &Path, last: Option<Last>) -> String {
        let Self { events, time, .. } = self;
        let Some(Last { seq: last, time: until, .. }) = last else {
            let was = if Path::new(&self.dir) == dir { String::new() } else { format!(" in {}", self.dir) };
            return format!("it had {events} events{was}, the last of {time}, and none is here");
        };
        if last >= *events {
            return format!(
                "event {events}, of {time}, is not the one that was recorded: the trail was replaced"
            );
        }
        let (missing, until) = (events - last, until.unwrap_or_default());
        format!(
            "it had {events} events, the last of {time}, and has {last}, the last of {until}: {missing} are missing"
        )
    }
}

fn stamp<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Revision>, D::Error> {
    let text = Option::<String>::deserialize(value)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

/// Counts the segments that begin after the retired events and no later than event number `events`.
fn count_segments(paths: &[PathBuf], retired: u64, events: u64) -> u64 {
    let firsts = paths.iter().filter_map(|path| parse_segment_name(path)).map(|(first, _)| first);
    u64::try_from(firsts.filter(|first| (retired + 1..=events).contains(first)).count()).unwrap_or(u64::MAX)
}

/// The last event of a trail.
struct Last {
    seq: u64,
    time: Option<String>,
    hash: Hex,
}

impl Last {
    fn of(paths: &[PathBuf]) -> io::Result<Option<Self>> {
        for path in paths.iter().rev() {
            let mut last = Vec::new();
            each_whole(path, |line| {
                if verified_line(line).is_some() {
                    last.clear();
                    last.extend_from_slice(line);
                }
                true
            })?;
            if let Some((_, hash)) = verified_line(&last)
                && let Some(event) = Event::parse(&last)
            {
                let time = event.time.as_deref().map(str::to_owned);
                return Ok(Some(Self { seq: event.seq, time, hash: hex(&hash) }));
            }
        }
        Ok(None)
    }
}

/// Returns the hash of the event with this `seq`; `None` if it is missing or was altered.
fn at(paths: &[PathBuf], seq: u64) -> io::Result<Option<String>> {
    let opening = format!("{{\"seq\":{seq},");
    for path in
        paths.iter().rev().filter(|path| parse_segment_name(path).is_none_or(|(first, _)| first <= seq))
    {
        let (mut found, mut ends) = (None, false);
        each_whole(path, |line| {
            ends |= line.starts_with(b"{\"seq\":");
            if line.starts_with(opening.as_bytes()) {
                found = verified_line(line).map(|(_, hash)| hex(&hash));
            }
            true
        })?;
        if let Some(hash) = found {
            return Ok(Some(String::from_utf8_lossy(&hash).into_owned()));
        }
        if ends && parse_segment_name(path).is_some() {
            return Ok(None);
        }
    }
    Ok(None)
}
