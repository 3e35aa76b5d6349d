//! A file that always holds the latest head, for `audit verify --head`. If the gateway's machine cannot rewrite the
//! file later, no event before that head can be changed or cut off undetected.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use serde::Deserialize;

use super::trail_reader::Line;
use crate::fs::trust;

#[derive(Deserialize)]
struct Head {
    note: String,
}

/// Returns the latest head among these events, as a signed note.
pub(super) fn latest_checkpoint(lines: &[Line]) -> Option<String> {
    let is_head = |line: &&Line| memchr::memmem::find(&line.text, b"\"event\":\"head\"").is_some();
    let mut heads = lines.iter().rev().filter(is_head);
    heads.find_map(|line| serde_json::from_slice::<Head>(&line.text).ok()).map(|head| head.note)
}

pub(super) struct Witness(PathBuf);

impl Witness {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn send(&self, lines: &[Line]) -> Result<Option<u64>, String> {
        if let Some(note) = latest_checkpoint(lines) {
            self.keep(&note).map_err(|error| format!("{}: {error}", self.0.display()))?;
        }
        Ok(lines.last().map(|last| last.seq + 1))
    }

    fn keep(&self, note: &str) -> io::Result<()> {
        let mut fresh = self.0.clone().into_os_string();
        fresh.push(".new");
        let mut file = File::create(&fresh)?;
        file.write_all(note.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &self.0)?;
        // Without it, a power failure could bring an older head back.
        File::open(trust::folder(&self.0))?.sync_all()
    }
}
