//! A file that always holds the latest head, for `audit verify --head`. If the gateway's machine cannot rewrite the
//! file later, no event before that head can be changed or cut off undetected.

use std::fs::{self, File};
use std::io::{self, Write as _};
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

/// Replaces the file at `path` by the latest head among these events, if there is one.
pub(super) fn store(path: &Path, lines: &[Line]) -> io::Result<()> {
    let Some(note) = latest_checkpoint(lines) else { return Ok(()) };
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let mut file = File::create(&new)?;
    file.write_all(note.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    // Without it, a power failure could bring an older head back.
    File::open(trust::folder(path))?.sync_all()
}
