//! A file that always holds the latest head, for `audit verify --head`. If the gateway's machine cannot rewrite the
//! file later, no event before that head can be changed or cut off undetected.

use std::fs::File;
use std::io;
use std::path::Path;

use super::trail_reader::Line;
use crate::audit::trail::event::Event;
use crate::fs::trust;

/// Returns the latest head among these events, as a signed note.
pub(super) fn latest_checkpoint(lines: &[Line]) -> Option<String> {
    let is_head = |line: &&Line| memchr::memmem::find(&line.text, b"\"event\":\"head\"").is_some();
    let mut heads = lines.iter().rev().filter(is_head);
    heads.find_map(|line| Some((*Event::parse(&line.text)?.note?).to_owned()))
}

/// Replaces the file at `path` by the latest head among these events, if there is one. Other users, such as
/// auditors, may read it.
pub(super) fn store(path: &Path, lines: &[Line]) -> io::Result<()> {
    let Some(note) = latest_checkpoint(lines) else { return Ok(()) };
    trust::replace_with(path, note.as_bytes(), |new| File::create(new))
}
