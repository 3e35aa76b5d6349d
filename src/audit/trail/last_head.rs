//! The last head, as it is kept apart from the trail: by it a trail that was cut, emptied or replaced is noticed.
//!
//! It is written only after all that it names is on the disk, so that a crash never looks like a cut. One that is older
//! than the trail's own last head is as good: the trail must hold what it names, and may go on from there.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};

use super::chain::verified_line;
use super::misnamed::First;
use super::retired::RetiredStub;
use super::segment::{is_compressed, is_damage, open, parse_segment_name, read_line, segments};
use crate::audit::proof::checkpoint::CheckpointKey;
use crate::storage::Revision;

/// What the trail was when the head was signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct LastHead {
    /// How many events there were, the head's own among them.
    pub events: u64,
    /// The hash of the last of them.
    pub hash: String,
    /// When the head was signed (RFC 3339).
    pub time: String,
    /// The head, a signed note.
    pub note: String,
    /// How many events had been let go by then, and how many segments held the others.
    pub retired: u64,
    /// See `retired`.
    pub segments: u64,
    /// The folder of the trail.
    pub dir: String,
    /// What the store was changed by last, as far as was known by then; older files do not say it.
    #[serde(default, deserialize_with = "stamp")]
    pub store: Option<Revision>,
}

/// A head that was signed, until it is on the disk and kept.
#[derive(Debug, Clone)]
pub(in crate::audit) struct Signed {
    pub(in crate::audit) events: u64,
    pub(in crate::audit) hash: String,
    pub(in crate::audit) time: String,
    pub(in crate::audit) note: String,
}

impl LastHead {
    /// What is to be kept of a head that is on the disk, in `dir`.
    pub(in crate::audit) fn of(signed: Signed, dir: &Path, store: Option<Revision>) -> io::Result<Self> {
        let retired = RetiredStub::latest(dir)?.map_or(0, |stub| stub.through);
        let Signed { events, hash, time, note } = signed;
        let segments = count_held(&segments(dir)?, retired, events);
        let dir = dir.to_string_lossy().into_owned();
        Ok(Self { events, hash, time, note, retired, segments, dir, store })
    }

    /// Reads what [`Self::text`] gives.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn parse(text: &str) -> io::Result<Self> {
        let wrong = |error| io::Error::new(io::ErrorKind::InvalidData, format!("it is damaged: {error}"));
        serde_json::from_str(text).map_err(wrong)
    }

    /// As its file has it: one line of JSON.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { events, hash, time, note, retired, segments, dir, store } = self;
        let text = serde_json::json!({
            "events": events, "hash": hash, "time": time, "note": note, "retired": retired, "segments": segments, "dir": dir,
            "store": store.map(|stamp| stamp.to_string()),
        });
        format!("{text}\n")
    }

    /// What of this the trail in `dir`, of these segments, does not hold, in words; `None` where it holds all. A stub
    /// counts where `verifier`, if there is one, has signed it. Of what is before, only the number of segments is looked
    /// at: the rest is for [`verify`](crate::audit::verify).
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn missing_in(
        &self,
        dir: &Path,
        paths: &[PathBuf],
        verifier: Option<&CheckpointKey>,
    ) -> io::Result<Option<String>> {
        let stub = match RetiredStub::latest(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            found => found?,
        };
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
        let (held, wanted) = (count_held(paths, retired, self.events), self.segments);
        let has_hole = retired == self.retired && held < wanted;
        let hole = || {
            format!("its first {} events were in {wanted} segments, of which {held} are here", self.events)
        };
        Ok(has_hole.then(hole))
    }

    /// The last of these segments of a trail that does not hold this head, where no chain may be continued from it:
    /// nothing of it can be read, or its first event has the next number and does not follow the last event before.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn stray_end(&self, paths: &[PathBuf]) -> io::Result<Option<PathBuf>> {
        let Some((last, before)) = paths.split_last() else { return Ok(None) };
        let is_stray = match First::of(last)? {
            // A plain one may be torn in its first line; only whole lines are compressed.
            None => is_compressed(last),
            Some(first) => {
                let former =
                    Last::of(before)?.filter(|former| (former.seq + 1, 0) == (first.seq, first.line));
                former.is_some_and(|former| former.hash != first.prev)
                    && at(std::slice::from_ref(last), self.events)?.as_ref() != Some(&self.hash)
            }
        };
        Ok(is_stray.then(|| last.clone()))
    }

    /// In which way a trail with this last event is not what it was.
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

/// How many segments begin after what was let go, and before the last event that is meant.
fn count_held(paths: &[PathBuf], retired: u64, events: u64) -> u64 {
    let firsts = paths.iter().filter_map(|path| parse_segment_name(path)).map(|(first, _)| first);
    u64::try_from(firsts.filter(|first| (retired + 1..=events).contains(first)).count()).unwrap_or(u64::MAX)
}

/// The hash of the event with this number; `None` where it is not there, or was altered.
fn at(paths: &[PathBuf], seq: u64) -> io::Result<Option<String>> {
    let opening = format!("{{\"seq\":{seq},");
    for path in
        paths.iter().rev().filter(|path| parse_segment_name(path).is_none_or(|(first, _)| first <= seq))
    {
        let (mut found, mut ends) = (None, false);
        each_whole(path, |line| {
            ends |= line.starts_with(b"{\"seq\":");
            if line.starts_with(opening.as_bytes()) {
                found = verified_line(line).map(|(_, hash)| super::chain::hex(&hash));
            }
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

/// The last event of a trail.
#[derive(Deserialize)]
struct Last {
    seq: u64,
    time: Option<String>,
    hash: String,
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
            })?;
            if let Ok(last) = serde_json::from_slice(&last) {
                return Ok(Some(last));
            }
        }
        Ok(None)
    }
}

/// Hands over the whole lines of one segment, as far as it can be read.
pub(in crate::audit) fn each_whole(path: &Path, mut take: impl FnMut(&[u8])) -> io::Result<()> {
    let (mut reader, mut line) = (open(path)?, Vec::new());
    loop {
        match read_line(&mut reader, &mut line) {
            Ok(0) => return Ok(()),
            Err(error) if is_damage(&error) => return Ok(()),
            read => read?,
        };
        if let Some(whole) = line.strip_suffix(b"\n") {
            take(whole);
        }
    }
}
