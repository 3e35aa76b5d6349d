//! What the trail knows of the store: by what it was changed last. `journal` events that begin a segment say it, and
//! each `admin` event, so that it is known whatever was let go.

use std::collections::VecDeque;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::chain::verified_line;
use super::last_head::each_whole;
use super::segment::{each_line, segments};
use crate::storage::Revision;

/// So many events are kept of those that a store does not know of.
const MOST: usize = 100;

/// What was recorded after the state that a store is in.
#[derive(Debug, Default)]
pub struct Forgotten {
    /// How many changes.
    pub changes: u64,
    /// The lines of the latest of them, in order.
    pub latest: VecDeque<Vec<u8>>,
    /// When the gateway last saw the trail whole, where a custodian accepted since that events are missing: more
    /// changes may have been among them.
    pub until: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    event: &'a str,
    store: &'a str,
}

/// What a line says of the store, and whether it is of a change.
fn parse_stamp(line: &[u8]) -> Option<(Revision, bool)> {
    // Cheaper than reading every call. In a string the quotes would be escaped.
    memchr::memmem::find(line, b",\"store\":\"")?;
    verified_line(line)?;
    let Line { event, store } = serde_json::from_slice(line).ok()?;
    let is_change = event == "admin";
    (is_change || event == "journal").then_some((store.parse().ok()?, is_change))
}

/// When the trail had all, as a line says that tells that it is continued without some of it.
fn accepted_until(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Accepted {
        event: String,
        until: String,
    }
    memchr::memmem::find(line, b"\"what\":\"trail accepted\"")?;
    verified_line(line)?;
    let Accepted { event, until } = serde_json::from_slice(line).ok()?;
    (event == "admin").then_some(until)
}

/// By what the store was changed last, as far as the trail in `dir` knows; `None` where it knows of no store.
///
/// # Errors
/// Where it cannot be read.
pub fn known_store(dir: &Path) -> io::Result<Option<Revision>> {
    for path in segments(dir)?.iter().rev() {
        let mut last = None;
        each_whole(path, |line| last = parse_stamp(line).map(|(stamp, _)| stamp).or(last))?;
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}

/// The changes on the trail in `dir` after the last state of the store that it `holds`.
///
/// # Errors
/// Where it cannot be read.
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
