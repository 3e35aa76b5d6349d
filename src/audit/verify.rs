//! Checking a trail offline: nothing here is shared with what wrote it but the form of a line.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::{GENESIS, hash_of, split_line};
use super::recover::segments;

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
    /// The hash of the last event; note it elsewhere to notice a later cut.
    pub head: String,
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

/// Reads every segment in `dir`, in order, and checks each event against the one before.
///
/// # Errors
/// Where a file cannot be read; what is wrong inside is no error but a [`Finding`].
pub fn verify(dir: &Path) -> io::Result<Report> {
    let paths = segments(dir)?;
    let mut walk = Walk { prev: GENESIS.to_vec(), next_seq: 1, calls: HashSet::new() };
    let mut report = Report::default();
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
    Ok(walk.close(report))
}

struct Walk {
    prev: Vec<u8>,
    next_seq: u64,
    /// Calls with an intent whose outcome was not read yet.
    calls: HashSet<String>,
}

impl Walk {
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        let (body, hash) = split_line(line).ok_or("not an audit line")?;
        if hash_of(body) != *hash {
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
        self.prev = hash.to_vec();
        self.next_seq += 1;
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

    fn finding(&self, segment: String, line: u64, problem: &str) -> Finding {
        Finding { segment, line, seq: self.next_seq, problem: problem.to_owned() }
    }

    fn close(self, mut report: Report) -> Report {
        report.open = u64::try_from(self.calls.len()).unwrap_or(u64::MAX);
        report.head = String::from_utf8_lossy(&self.prev).into_owned();
        report
    }
}
