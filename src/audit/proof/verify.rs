//! Offline verification of a trail. It shares nothing with the writer of the trail but the format of a line.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use serde::Serialize;

use super::checkpoint::{Checkpoint, CheckpointKey};
use super::merkle::MerkleTree;
use crate::audit::trail::chain::{ChainHead, hash_of, hex, split_line};
use crate::audit::trail::event::{Event, EventKind, JournalAction};
use crate::audit::trail::last_head::LastHead;
use crate::audit::trail::retired::RetiredStub;
use crate::audit::trail::segment::{is_damage, open, parse_segment_name, read_line, segments};

/// The first fault found in a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file name of the segment.
    pub segment: String,
    /// The line number in the segment, from 1.
    pub line: u64,
    /// The `seq` that is expected there.
    pub seq: u64,
    /// A description of the fault.
    pub problem: String,
}

/// The result of a verification.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Number of segments read.
    pub segments: u64,
    /// Number of events read.
    pub events: u64,
    /// Number of retired events before those. A signed stub stands for them.
    pub retired: u64,
    /// Number of intents without an outcome: calls in flight, or lost when the gateway last ended.
    pub open: u64,
    /// Number of bytes after the last complete line, which is being written or was torn when the gateway last ended.
    pub unfinished_bytes: u64,
    /// Time of the first event that was read (RFC 3339).
    pub first: Option<String>,
    /// Time of the last event that was read (RFC 3339).
    pub last: Option<String>,
    /// The hash of the last event.
    pub head: String,
    /// Number of heads read. If keys are given, one of them has signed each head.
    pub heads: u64,
    /// Number of events after the last head, which no head covers.
    pub unsigned: u64,
    /// The last head, a signed note. If an auditor stores it elsewhere, any later change of the events before it shows.
    pub checkpoint: Option<String>,
    /// The first fault. Nothing after it was read.
    pub finding: Option<Finding>,
}

/// The keys and heads that an auditor trusts.
#[derive(Debug, Default)]
pub struct TrustAnchors {
    /// Public keys of the gateway, one of which must have signed each head. If empty, signatures are not checked.
    pub keys: Vec<CheckpointKey>,
    /// Heads stored elsewhere. The trail must agree with each of them and continue from it.
    pub heads: Vec<Checkpoint>,
}

impl TrustAnchors {
    /// Returns the content of a head if a trusted key has signed it. Without trusted keys, returns it unverified.
    #[must_use]
    pub fn open(&self, note: &str) -> Option<Checkpoint> {
        match self.keys.as_slice() {
            [] => Checkpoint::parse_unverified(note),
            keys => keys.iter().find_map(|key| key.open(note)),
        }
    }
}

/// More events than this without a head are never written, since heads are due much earlier.
const MOST_UNSIGNED: u64 = 2_000_000;

/// How often a trail is read again if it changes while it is read.
const TRIES: u32 = 4;

/// Reads every segment in `dir` in order. Checks each event against the one before, and against every head that covers
/// it. `progress` receives the number of bytes read so far from time to time.
///
/// # Errors
/// An [`io::Error`] if a file cannot be read. A fault inside a file is a [`Finding`] of the report.
///
/// # Examples
///
/// ```
/// use claviger::audit::{TrustAnchors, verify};
///
/// let folder = tempfile::tempdir().unwrap();
/// let report = verify(folder.path(), &TrustAnchors::default(), |_| {}).unwrap();
/// assert_eq!(report.events, 0);
/// ```
pub fn verify(dir: &Path, trusted: &TrustAnchors, progress: impl FnMut(u64)) -> io::Result<Report> {
    verify_against(None, dir, trusted, progress)
}

/// Verifies like [`verify`], and checks that the trail holds what `last` names. The caller must read this last head of
/// the state folder before the call.
///
/// # Errors
/// The errors of [`verify`].
pub fn verify_against(
    last: Option<&LastHead>,
    dir: &Path,
    trusted: &TrustAnchors,
    mut progress: impl FnMut(u64),
) -> io::Result<Report> {
    for _ in 0..TRIES {
        match verify_once(last, dir, trusted, &mut progress) {
            // A running gateway has deleted or compressed a segment since the listing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && dir.is_dir() => {}
            done => return done,
        }
    }
    verify_once(last, dir, trusted, &mut progress)
}

fn verify_once(
    last: Option<&LastHead>,
    dir: &Path,
    trusted: &TrustAnchors,
    progress: &mut impl FnMut(u64),
) -> io::Result<Report> {
    let mut verifier = TrailVerifier {
        trusted,
        last,
        chain: ChainHead::default(),
        calls: HashSet::new(),
        tree: MerkleTree::default(),
        recorded_retired: 0,
        report: Report::default(),
    };
    let mut paths = segments(dir)?;
    if let Some(stub) = RetiredStub::latest(dir)? {
        if let Err(problem) = verifier.continue_from(&stub) {
            return Ok(verifier.finish("the stub".into(), Err((0, problem.into()))));
        }
        // Skip segments that were retired but not deleted yet.
        let retired = paths.iter().zip(paths.iter().skip(1)).take_while(|(_, next)| {
            parse_segment_name(next).is_some_and(|(first, _)| first <= stub.through + 1)
        });
        let retired = retired.count();
        paths.drain(..retired);
    }
    let (mut name, mut bytes_read) = (String::new(), 0);
    for (at, path) in paths.iter().enumerate() {
        let is_last = at + 1 == paths.len();
        name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let before = bytes_read;
        let mut report_read = |read| {
            bytes_read = before + read;
            progress(bytes_read);
        };
        let result = verifier.segment((path, is_last), &mut report_read)?;
        if result.is_err() {
            return Ok(verifier.finish(name, result));
        }
    }
    let complete = verifier.check_end().map_err(|problem| (0, problem));
    Ok(verifier.finish(name, complete))
}

struct TrailVerifier<'t> {
    trusted: &'t TrustAnchors,
    last: Option<&'t LastHead>,
    chain: ChainHead,
    /// Ids of calls with an intent whose outcome was not read yet.
    calls: HashSet<String>,
    tree: MerkleTree,
    /// Number of events that the trail records as retired.
    recorded_retired: u64,
    report: Report,
}

impl TrailVerifier<'_> {
    /// Continues after the retired events that a stub stands for.
    fn continue_from(&mut self, stub: &RetiredStub) -> Result<(), &'static str> {
        let head = self.trusted.open(&stub.note);
        let head = head.ok_or("forged: the stub is not signed by a key that is trusted")?;
        let (Some(tree), Some(hash)) = (stub.tree_of(&head), stub.hash()) else {
            return Err("the stub was altered: it is not what was signed");
        };
        (self.chain, self.tree) = (ChainHead { next_seq: stub.through + 1, hash }, tree);
        self.check_agreement()
            .map_err(|_| "forked: the deleted events are not those that the stored head covers")?;
        self.report.retired = stub.through;
        Ok(())
    }

    /// Verifies the lines of one segment. `Ok(Err(_))` has the number of the first faulty line, and the fault.
    fn segment(
        &mut self,
        (path, is_last): (&Path, bool),
        progress: &mut impl FnMut(u64),
    ) -> io::Result<Result<(), (u64, String)>> {
        let (mut reader, mut bytes, mut number, mut all) = (open(path)?, Vec::new(), 0, 0);
        self.report.segments += 1;
        loop {
            let read = match read_line(&mut reader, &mut bytes) {
                Err(error) if is_damage(&error) => {
                    return Ok(Err((number + 1, format!("it cannot be decompressed from here on: {error}"))));
                }
                read => u64::try_from(read?).unwrap_or(u64::MAX),
            };
            if read == 0 {
                return Ok(Ok(()));
            }
            number += 1;
            all += read;
            if self.report.events.is_multiple_of(4096) {
                progress(all);
            }
            match bytes.strip_suffix(b"\n") {
                Some(line) => {
                    if let Err(problem) = self.event(line) {
                        return Ok(Err((number, problem)));
                    }
                    self.report.events += 1;
                }
                None if is_last => self.report.unfinished_bytes += read,
                None => return Ok(Err((number, "a line has no end".into()))),
            }
        }
    }

    /// Verifies the next line.
    fn event(&mut self, line: &[u8]) -> Result<(), String> {
        let (body, carried) = split_line(line).ok_or("not an audit line")?;
        let hash = hash_of(body);
        if hex(&hash) != carried {
            return Err("edited: its hash is not that of its content".into());
        }
        let event: Event<'_> =
            serde_json::from_slice(line).map_err(|error| format!("not an audit line: {error}"))?;
        let next_seq = self.chain.next_seq;
        if event.seq != next_seq {
            let verb = if event.seq > next_seq { "missing" } else { "inserted or out of order" };
            return Err(format!("seq {} stands where {next_seq} belongs: events are {verb}", event.seq));
        }
        if event.prev.as_deref().map(str::as_bytes) != Some(&self.chain.hash) {
            return Err("its prev is not the hash of the event before: the chain is broken here".into());
        }
        self.report.unsigned += 1;
        if event.event == EventKind::Head {
            self.head(event.note.as_deref().ok_or("no head: it has no note")?)?;
        } else if self.report.unsigned > MOST_UNSIGNED && !self.trusted.keys.is_empty() {
            return Err(format!("{MOST_UNSIGNED} events without a head: heads were removed"));
        }
        self.chain = ChainHead { next_seq: next_seq + 1, hash: hex(&hash) };
        self.tree.push(&hash);
        self.check_agreement()?;
        let action = event.what.as_deref().and_then(JournalAction::parse);
        if event.event == EventKind::Journal && action == Some(JournalAction::Retired) {
            self.recorded_retired = self.recorded_retired.max(event.through.unwrap_or(0));
        }
        let time = event.time.as_deref().unwrap_or_default();
        self.report.first.get_or_insert_with(|| time.to_owned());
        let last = self.report.last.get_or_insert_default();
        last.clear();
        last.push_str(time);
        match (event.event, event.request_id.as_deref()) {
            (EventKind::Intent, Some(id)) if !self.calls.insert(id.to_owned()) => {
                return Err(format!("a second intent of the call {id}"));
            }
            (EventKind::Outcome, Some(id)) => {
                self.calls.remove(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// Checks that a head covers exactly the events before it.
    fn head(&mut self, note: &str) -> Result<(), String> {
        let head =
            self.trusted.open(note).ok_or("forged: the head is not signed by a key that is trusted")?;
        if head.size != self.tree.size {
            return Err(format!("the head covers {} events, but stands after {}", head.size, self.tree.size));
        }
        if head.root != self.tree.root() {
            return Err("the events before the head are not those that it was signed over".into());
        }
        self.report.heads += 1;
        (self.report.unsigned, self.report.checkpoint) = (0, Some(note.to_owned()));
        Ok(())
    }

    /// Checks that the events read so far agree with the heads stored elsewhere.
    fn check_agreement(&self) -> Result<(), String> {
        let size = self.tree.size;
        if let Some(last) = self.last.filter(|last| last.events == size)
            && last.hash.as_bytes() != self.chain.hash
        {
            let time = &last.time;
            return Err(format!(
                "replaced: event {size}, of {time}, is not the one that the state folder knows of"
            ));
        }
        match self.trusted.heads.iter().find(|head| head.size == size && head.root != self.tree.root()) {
            Some(head) => Err(format!(
                "forked: the first {size} events are not those that the stored head, of {}, covers",
                head.time
            )),
            None => Ok(()),
        }
    }

    /// Checks what must hold at the end of the trail.
    fn check_end(&self) -> Result<(), String> {
        let size = self.tree.size;
        let retired = self.report.retired;
        if retired > self.recorded_retired {
            return Err(format!(
                "the first {retired} events are missing, and the trail does not record their deletion"
            ));
        }
        if let Some(head) = self.trusted.heads.iter().find(|head| head.size > size) {
            let (all, time) = (head.size, &head.time);
            return Err(format!(
                "cut off: the stored head, of {time}, covers {all} events, but the trail has {size}"
            ));
        }
        if let Some(last) = self.last.filter(|last| last.events > size) {
            let (all, time) = (last.events, &last.time);
            return Err(format!(
                "cut off: the state folder knows of {all} events, the last of {time}, but the trail has {size}"
            ));
        }
        if size > 0 && self.report.heads == 0 && retired == 0 && !self.trusted.keys.is_empty() {
            return Err("the trail has no head, so nothing of it is signed".into());
        }
        Ok(())
    }

    /// Completes the report. A fault has the number of its line in the segment with this name.
    fn finish(mut self, segment: String, result: Result<(), (u64, String)>) -> Report {
        let seq = self.chain.next_seq;
        self.report.finding = result.err().map(|(line, problem)| Finding { segment, line, seq, problem });
        self.report.open = u64::try_from(self.calls.len()).unwrap_or(u64::MAX);
        self.report.head = String::from_utf8_lossy(&self.chain.hash).into_owned();
        self.report
    }
}
