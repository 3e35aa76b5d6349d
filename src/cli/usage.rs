//! Finds on the trail which consumer used which version of a credential recently.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::Path;

use serde::Serialize;

use super::table::table;
use crate::audit::trail::event::{Event, EventKind};
use crate::audit::{is_compressed, segments};

/// How much of the end of the trail is read, in bytes.
const MAX_READ: u64 = 32 << 20;

/// The last use of one version by one consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct VersionUse {
    version: u64,
    consumer: String,
    last: String,
}

/// Finds the last use of each version by each consumer, as far as the end of the trail shows it.
pub(super) fn recent_uses(dir: &Path, credential: &str) -> anyhow::Result<Vec<VersionUse>> {
    let mut found: BTreeMap<(u64, String), String> = BTreeMap::new();
    let mut left = MAX_READ;
    // Compressed segments are too old for this question.
    for path in segments(dir).unwrap_or_default().iter().rev().take_while(|path| !is_compressed(path)) {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        let from = length.saturating_sub(left);
        file.seek(SeekFrom::Start(from))?;
        left = left.saturating_sub(length);
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            // The first line may be cut in two by the seek, and is then not an event.
            let Some(event) = Event::parse(&line) else { continue };
            if event.event != EventKind::Outcome || event.credential.as_deref() != Some(credential) {
                continue;
            }
            let consumer = event.consumer.as_deref().unwrap_or("-").to_owned();
            let last = found.entry((event.credential_version.unwrap_or(0), consumer)).or_default();
            let time = event.time.as_deref().unwrap_or_default();
            if last.as_str() < time {
                time.clone_into(last);
            }
        }
        if left == 0 {
            break;
        }
    }
    let uses = found.into_iter().map(|((version, consumer), last)| VersionUse { version, consumer, last });
    Ok(uses.collect())
}

/// Formats the uses as a table, for people.
pub(super) fn format_uses(uses: &[VersionUse]) -> String {
    let cells = |used: &VersionUse| [used.version.to_string(), used.consumer.clone(), used.last.clone()];
    table(&["version", "used by", "last"], uses.iter().map(cells), "the latest of the trail knows of no use")
}
