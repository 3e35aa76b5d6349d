//! Reads flushed lines of the trail from a given `seq` on.

use std::io::{self, BufRead};
use std::path::PathBuf;

use crate::audit::{Journal, open_at, parse_segment_name, read_line, segments, stem};

/// Approximate size limit of one batch: lines and bytes.
const MOST: (usize, usize) = (1000, 1 << 20);

/// An event as a line of the trail.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) seq: u64,
    /// The line without its line feed.
    pub(super) text: Vec<u8>,
}

pub(super) struct TrailReader {
    dir: PathBuf,
    journal: Journal,
    /// The `seq` of the next line to return.
    next: u64,
    open: Option<Open>,
}

struct Open {
    stem: String,
    reader: Box<dyn BufRead + Send>,
    /// The byte offset of the next line in the decompressed segment.
    at: u64,
}

impl TrailReader {
    pub(super) fn new(dir: PathBuf, journal: Journal, next: u64) -> Self {
        Self { dir, journal, next, open: None }
    }

    /// Returns the number of flushed events from `next` on.
    pub(super) fn lag(&self, next: u64) -> u64 {
        self.journal.durable().saturating_sub(next)
    }

    /// Goes back, so that the events from `next` on are returned again.
    pub(super) fn go_back(&mut self, next: u64) {
        if next != self.next {
            (self.next, self.open) = (next, None);
        }
    }

    /// Reads the next batch of lines; empty if there are none yet.
    pub(super) fn lines(&mut self) -> io::Result<Vec<Line>> {
        let durable = self.journal.durable();
        let (mut lines, mut bytes) = (Vec::new(), 0);
        if durable > 0 && self.next > durable {
            tracing::error!(
                next = self.next,
                durable,
                "the trail ends before the cursor of a sink, so it is another trail; the sink gets all its events"
            );
            self.go_back(1);
        }
        let mut line = Vec::new();
        while self.next < durable && lines.len() < MOST.0 && bytes < MOST.1 {
            if self.open.is_none() && !self.open()? {
                break;
            }
            let Some(open) = &mut self.open else { break };
            let read = read_line(&mut open.reader, &mut line)?;
            let Some(whole) = line.strip_suffix(b"\n").filter(|_| read > 0) else {
                if !self.leave_segment(read)? {
                    break;
                }
                continue;
            };
            open.at += u64::try_from(read).map_err(io::Error::other)?;
            let Some(seq) = seq(whole).filter(|seq| *seq >= self.next) else { continue };
            if seq > self.next {
                let missing = seq - self.next;
                tracing::warn!(
                    from = self.next,
                    missing,
                    "events were deleted from the trail before a sink got them"
                );
            }
            bytes += read;
            self.next = seq + 1;
            lines.push(Line { seq, text: whole.to_vec() });
        }
        Ok(lines)
    }

    /// Opens the segment with the next line. Returns whether there is one.
    fn open(&mut self) -> io::Result<bool> {
        let paths = segments(&self.dir)?;
        let begins = |path: &PathBuf| parse_segment_name(path).is_some_and(|(first, _)| first <= self.next);
        // Take the last segment that begins at or before `next`. If all begin later, the events between are gone.
        let Some(path) = paths.iter().rev().find(|path| begins(path)).or(paths.first()) else {
            return Ok(false);
        };
        self.open = Some(Open { stem: stem(path), reader: open_at(path, 0)?, at: 0 });
        Ok(true)
    }

    /// Continues after the end of the open segment: in the next segment, or at the same offset once the
    /// segment has more lines.
    fn leave_segment(&mut self, torn: usize) -> io::Result<bool> {
        let Some(open) = self.open.take() else { return Ok(false) };
        let paths = segments(&self.dir)?;
        let here = paths.iter().position(|path| stem(path) == open.stem);
        match (here.and_then(|here| paths.get(here + 1)), here.and_then(|here| paths.get(here))) {
            (Some(next), _) => {
                self.open = Some(Open { stem: stem(next), reader: open_at(next, 0)?, at: 0 });
                Ok(true)
            }
            (None, Some(same)) if torn > 0 => {
                // The rest of the line will come; read it again from its beginning.
                self.open = Some(Open { reader: open_at(same, open.at)?, ..open });
                Ok(false)
            }
            (None, Some(_)) => {
                self.open = Some(open);
                Ok(false)
            }
            (None, None) => Ok(true),
        }
    }
}

/// Parses the `seq` at the beginning of a line.
fn seq(line: &[u8]) -> Option<u64> {
    let rest = line.strip_prefix(b"{\"seq\":")?;
    let end = rest.iter().position(|byte| *byte == b',')?;
    std::str::from_utf8(rest.get(..end)?).ok()?.parse().ok()
}
