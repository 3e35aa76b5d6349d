//! Checking a trail offline: nothing here is shared with what wrote it but the form of a line.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::{GENESIS, hash_of, hex, split_line};
use super::note::{Checkpoint, Verifier};
use super::recover::segments;
use super::tree::Tree;

/// The first thing that is wrong with a trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The segment's file name.
    pub segment: String,
    /// The line in it, from 1.
    pub line: u64,
    /// The `seq` that belongs there.
    pub seq: u64,
    /// What is wrong.
    pub problem: String,
}

/// What a trail holds.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// Segments read.
    pub segments: u64,
    /// Events read.
    pub events: u64,
    /// Intents without an outcome: calls in flight, or lost when the gateway last ended.
    pub open: u64,
    /// Bytes after the last whole line: one being written, or torn when the gateway last ended.
    pub unfinished_bytes: u64,
    /// The hash of the last event.
    pub head: String,
    /// Heads read. Where keys are given, each is signed by one of them.
    pub heads: u64,
    /// Events that no head is over: those since the last one.
    pub unsigned: u64,
    /// The last head, a signed note; kept elsewhere, it makes any later change of what is before it show.
    pub checkpoint: Option<String>,
    /// The first thing that is wrong; nothing after it was read.
    pub finding: Option<Finding>,
}

#[derive(Deserialize)]
struct Line<'a> {
    seq: u64,
    prev: &'a str,
    event: &'a str,
    request_id: Option<&'a str>,
}

#[derive(Deserialize)]
struct HeadLine {
    note: String,
}

/// What an auditor trusts.
#[derive(Debug, Default)]
pub struct Trusted {
    /// Public keys of the gateway: each head must be signed by one. None: signatures are not looked at.
    pub keys: Vec<Verifier>,
    /// Heads that were kept elsewhere: the trail must be what it was then, and go on from there.
    pub heads: Vec<Checkpoint>,
}

impl Trusted {
    /// What a head says, where a trusted key has signed it; where none is given, whoever has.
    #[must_use]
    pub fn open(&self, note: &str) -> Option<Checkpoint> {
        match self.keys.as_slice() {
            [] => Checkpoint::unverified(note),
            keys => keys.iter().find_map(|key| key.open(note)),
        }
    }
}

/// So many events without a head are never written: they are due much earlier.
const MOST_UNSIGNED: u64 = 2_000_000;

/// Reads every segment in `dir`, in order, and checks each event against the one before, and against every
/// head that is over it. `progress` is told how many bytes were read, from time to time.
///
/// # Errors
/// Where a file cannot be read; what is wrong inside is no error but a [`Finding`].
pub fn verify(dir: &Path, trusted: &Trusted, mut progress: impl FnMut(u64)) -> io::Result<Report> {
    let paths = segments(dir)?;
    let mut walk = Walk::new(trusted);
    let mut report = Report::default();
    let mut bytes_read = 0;
    for (at, path) in paths.iter().enumerate() {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        report.segments += 1;
        let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
        let (mut bytes, mut number) = (Vec::new(), 0);
        loop {
            bytes.clear();
            let read = reader.read_until(b'\n', &mut bytes)?;
            if read == 0 {
                break;
            }
            number += 1;
            bytes_read += u64::try_from(read).unwrap_or(u64::MAX);
            if report.events.is_multiple_of(4096) {
                progress(bytes_read);
            }
            let Some(line) = bytes.strip_suffix(b"\n") else {
                if at + 1 == paths.len() {
                    report.unfinished_bytes = u64::try_from(read).unwrap_or(u64::MAX);
                    break;
                }
                report.finding = Some(walk.finding(name.clone(), number, "a line has no end"));
                return Ok(walk.close(report));
            };
            if let Err(problem) = walk.take(line) {
                report.finding = Some(walk.finding(name.clone(), number, &problem));
                return Ok(walk.close(report));
            }
            report.events += 1;
        }
    }
    if let Err(problem) = walk.reaches_all() {
        let last = paths.last().and_then(|path| path.file_name()).unwrap_or_default();
        report.finding = Some(walk.finding(last.to_string_lossy().into_owned(), 0, &problem));
    }
    Ok(walk.close(report))
}

struct Walk<'t> {
    trusted: &'t Trusted,
    prev: Vec<u8>,
    next_seq: u64,
    /// Calls with an intent whose outcome was not read yet.
    calls: HashSet<String>,
    tree: Tree,
    heads: u64,
    /// Events since the last head.
    unsigned: u64,
    checkpoint: Option<String>,
}

impl<'t> Walk<'t> {
    fn new(trusted: &'t Trusted) -> Self {
        Self {
            trusted,
            prev: GENESIS.to_vec(),
            next_seq: 1,
            calls: HashSet::new(),
            tree: Tree::default(),
            heads: 0,
            unsigned: 0,
            checkpoint: None,
        }
    }

    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let (body, carried) = split_line(line).ok_or("not an audit line")?;
        let hash = hash_of(body);
        if hex(&hash) != carried {
            return Err("edited: its hash is not that of its content".into());
        }
        let told: Line =
            serde_json::from_slice(line).map_err(|error| format!("not an audit line: {error}"))?;
        if told.seq != self.next_seq {
            let verb = if told.seq > self.next_seq { "missing" } else { "inserted or out of order" };
            return Err(format!(
                "seq {} stands where {} belongs: events are {verb}",
                told.seq, self.next_seq
            ));
        }
        if told.prev.as_bytes() != self.prev {
            return Err("its prev is not the hash of the event before: the chain is broken here".into());
        }
        self.unsigned += 1;
        if told.event == "head" {
            self.head(line)?;
        } else if self.unsigned > MOST_UNSIGNED && !self.trusted.keys.is_empty() {
            return Err(format!("{MOST_UNSIGNED} events without a head: heads were taken away"));
        }
        (self.prev, self.next_seq) = (carried.to_vec(), self.next_seq + 1);
        self.tree.push(&hash);
        self.agrees()?;
        match (told.event, told.request_id) {
            ("intent", Some(id)) if !self.calls.insert(id.to_owned()) => {
                return Err(format!("a second intent of the call {id}"));
            }
            ("outcome", Some(id)) => {
                self.calls.remove(id);
            }
            _ => {}
        }
        Ok(())
    }

    /// A head must be over all that is before it, as it was.
    fn head(&mut self, line: &[u8]) -> Result<(), String> {
        let HeadLine { note } = serde_json::from_slice(line).map_err(|error| format!("no head: {error}"))?;
        let head =
            self.trusted.open(&note).ok_or("forged: the head is not signed by a key that is trusted")?;
        if head.size != self.tree.size() {
            return Err(format!(
                "the head is over {} events and stands after {}",
                head.size,
                self.tree.size()
            ));
        }
        if head.root != self.tree.root() {
            return Err("the events before the head are not those that it was signed over".into());
        }
        self.heads += 1;
        (self.unsigned, self.checkpoint) = (0, Some(note));
        Ok(())
    }

    /// Whether what was read so far is what it was when a head was kept.
    fn agrees(&self) -> Result<(), String> {
        let size = self.tree.size();
        match self.trusted.heads.iter().find(|head| head.size == size && head.root != self.tree.root()) {
            Some(head) => Err(format!(
                "forked: the first {size} events are not those of the head that was kept, of {}",
                head.time
            )),
            None => Ok(()),
        }
    }

    /// What must hold at the end of the trail.
    fn reaches_all(&self) -> Result<(), String> {
        let size = self.tree.size();
        if let Some(head) = self.trusted.heads.iter().find(|head| head.size > size) {
            let (all, time) = (head.size, &head.time);
            return Err(format!(
                "cut off: the head that was kept, of {time}, is over {all} events, and there are {size}"
            ));
        }
        if size > 0 && self.heads == 0 && !self.trusted.keys.is_empty() {
            return Err("nothing in it is signed: there is no head".into());
        }
        Ok(())
    }

    fn finding(&self, segment: String, line: u64, problem: &str) -> Finding {
        Finding { segment, line, seq: self.next_seq, problem: problem.to_owned() }
    }

    fn close(self, mut report: Report) -> Report {
        report.open = u64::try_from(self.calls.len()).unwrap_or(u64::MAX);
        report.head = String::from_utf8_lossy(&self.prev).into_owned();
        (report.heads, report.unsigned, report.checkpoint) = (self.heads, self.unsigned, self.checkpoint);
        report
    }
}
