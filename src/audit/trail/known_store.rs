//! The store revision that the trail knows. Each `journal` event that begins a segment and each `admin` event has it,
//! so that it survives the deletion of old segments.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use super::chain::verified_line;
use super::event::{Event, EventKind};
use super::segment::{each_line, each_whole, segments};
use crate::storage::Revision;

/// The largest number of events that are returned of changes unknown to a store.
const MOST: usize = 100;

/// Changes on the trail that are later than the state of a store.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// The number of these changes.
    pub changes: u64,
    /// The lines of the latest changes, in order.
    pub latest: VecDeque<Vec<u8>>,
    /// The last time at which the trail was complete, if an operator has since accepted that events are missing. More
    /// changes may have been among the missing events.
    pub until: Option<String>,
}

/// Parses the store revision from a line. Also returns whether the line records a change.
fn parse_stamp(line: &[u8]) -> Option<(Revision, bool)> {
    // This search is cheaper than parsing every call. Inside a string the quotes would be escaped.
    memchr::memmem::find(line, b",\"store\":\"")?;
    verified_line(line)?;
    let event = Event::parse(line)?;
    let is_change = event.event == EventKind::Admin;
    (is_change || event.event == EventKind::Journal).then_some((event.store?.parse().ok()?, is_change))
}

/// Parses the time up to which the trail was complete from the event of `audit accept`.
fn accepted_until(line: &[u8]) -> Option<String> {
    memchr::memmem::find(line, b"\"what\":\"trail accepted\"")?;
    verified_line(line)?;
    let event = Event::parse(line).filter(|event| event.event == EventKind::Admin)?;
    Some((*event.until?).to_owned())
}

/// Returns the last store revision on the trail in `dir`; `None` if the trail has none.
///
/// # Errors
/// An I/O error if the trail cannot be read.
pub fn known_store(dir: &Path) -> io::Result<Option<Revision>> {
    for path in segments(dir)?.iter().rev() {
        let mut last = None;
        each_whole(path, |line| {
            last = parse_stamp(line).map(|(stamp, _)| stamp).or(last);
            true
        })?;
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

/// Collects the changes on the trail in `dir` after the last revision for which `holds` is true.
///
/// # Errors
/// An I/O error if the trail cannot be read.
pub fn find_forgotten(dir: &Path, holds: impl Fn(Revision) -> bool) -> io::Result<Forgotten> {
    let mut found = Forgotten::default();
    each_line(dir, |line| {
        match parse_stamp(line) {
            Some((stamp, _)) if holds(stamp) => found = Forgotten::default(),
            Some((_, true)) => {
                found.changes += 1;
                found.latest.push_back(line.to_vec());
                if found.latest.len() > MOST {
                    found.latest.pop_front();
                }
            }
            Some((_, false)) => {}
            None => found.until = accepted_until(line).or(found.until.take()),
        }
        true
    })?;
    Ok(found)
}
