//! The stub of retired segments. It shows that the segments still kept continue from the deleted ones.
//!
//! A stub (`audit-SEQ-TIME.retired`, named like the last segment it stands for) holds the signed tree over all events up
//! to there. It counts only if a `journal` event `retired` on the trail records the deletion. Without the key, nobody
//! who deletes segments can forge either of them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::Hex;
use crate::audit::proof::checkpoint::{Checkpoint, encode_hash};
use crate::audit::proof::merkle::MerkleTree;
use crate::fs::trust;

const EXTENSION: &str = "retired";

/// The extension that earlier versions gave to stubs; such stubs are read, and replaced by the next one.
const FORMER_EXTENSION: &str = "stub";

/// A stub that stands for retired events.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::audit) struct RetiredStub {
    /// The `seq` of the last retired event.
    pub(in crate::audit) through: u64,
    /// The `hash` of that event, which is the `prev` of the first event still kept.
    pub(in crate::audit) last: String,
    /// A signed head over all retired events.
    pub(in crate::audit) note: String,
    /// The peaks of the tree over these events.
    peaks: Vec<String>,
}

impl RetiredStub {
    pub(in crate::audit) fn new(tree: &MerkleTree, last: &Hex, note: String) -> Self {
        let peaks = tree.peaks.iter().map(encode_hash).collect();
        Self { through: tree.size, last: String::from_utf8_lossy(last).into_owned(), note, peaks }
    }

    /// Reads the latest stub in `dir`. Earlier stubs are obsolete.
    pub(in crate::audit) fn latest(dir: &Path) -> io::Result<Option<Self>> {
        let mut found = Vec::new();
        for path in stubs(dir)? {
            let stub = serde_json::from_slice::<Self>(&fs::read(&path)?);
            found.push(stub.map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            })?);
        }
        Ok(found.into_iter().max_by_key(|stub| stub.through))
    }

    /// Returns the tree over the retired events if it matches the head. Does not check the signature.
    pub(in crate::audit) fn tree(&self) -> Option<MerkleTree> {
        let head = Checkpoint::parse_unverified(&self.note)?;
        self.tree_of(&head)
    }

    /// Returns the tree over the retired events if it matches `head`, whose signature the caller has verified.
    pub(in crate::audit) fn tree_of(&self, head: &Checkpoint) -> Option<MerkleTree> {
        head.tree(&self.peaks).filter(|_| head.size == self.through)
    }

    /// Returns the hash of the last retired event.
    pub(in crate::audit) fn hash(&self) -> Option<Hex> {
        self.last.as_bytes().try_into().ok()
    }

    /// Durably writes the stub for segments up to `last`, and replaces all earlier stubs.
    pub(in crate::audit) fn keep(&self, dir: &Path, last: &Path) -> io::Result<()> {
        let path = dir.join(format!("{}.{EXTENSION}", super::segment::stem(last)));
        trust::replace(&path, format!("{}\n", serde_json::to_string(self)?).as_bytes())?;
        for former in stubs(dir)?.into_iter().filter(|former| *former != path) {
            fs::remove_file(former)?;
        }
        Ok(())
    }
}

fn stubs(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path()));
    let paths: Vec<PathBuf> = paths.collect::<io::Result<_>>()?;
    let is_stub = |path: &PathBuf| {
        path.extension().is_some_and(|found| found == EXTENSION || found == FORMER_EXTENSION)
    };
    Ok(paths.into_iter().filter(is_stub).collect())
}
