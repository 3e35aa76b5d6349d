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

/// Reads the event of a line that contains `text`, if the line is intact. The search is cheaper than parsing every
/// call. Inside a string the quotes of `text` would be escaped.
fn event_with<'l>(line: &'l [u8], text: &str) -> Option<Event<'l>> {
    memchr::memmem::find(line, text.as_bytes())?;
    verified_line(line)?;
    Event::parse(line)
}

/// Parses the store revision from a line. Also returns whether the line records a change.
fn parse_stamp(line: &[u8]) -> Option<(Revision, bool)> {
    let event = event_with(line, ",\"store\":\"")?;
    let is_change = event.event == EventKind::Admin;
    (is_change || event.event == EventKind::Journal).then_some((event.store?.parse().ok()?, is_change))
}

/// Parses the time up to which the trail was complete from the event of `audit accept`.
fn accepted_until(line: &[u8]) -> Option<String> {
    let event = event_with(line, "\"what\":\"trail accepted\"")?;
    event.until.filter(|_| event.event == EventKind::Admin).map(|until| (*until).to_owned())
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
