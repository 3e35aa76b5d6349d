//! What is left of the oldest segments once they were let go: enough to check that what is kept goes on from them.
//!
//! A stub (`audit-SEQ-TIME.stub`, named as the last segment that it stands for) holds the tree over all events up to
//! there, signed. It counts only where the trail itself says, in a `journal` event `retired`, that they were let go:
//! who takes segments away and has no key can make neither.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::chain::Hex;
use crate::audit::proof::checkpoint::{Checkpoint, encode_hash};
use crate::audit::proof::merkle::MerkleTree;
use crate::fs::trust;

const EXTENSION: &str = "stub";

/// What stands for the events that were let go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::audit) struct RetiredStub {
    /// The `seq` of the last of them.
    pub(in crate::audit) through: u64,
    /// The `hash` of that one, which the first that is kept has as its `prev`.
    pub(in crate::audit) last: String,
    /// A head over all of them, signed.
    pub(in crate::audit) note: String,
    /// The peaks of the tree over them.
    peaks: Vec<String>,
}

impl RetiredStub {
    pub(in crate::audit) fn new(tree: &MerkleTree, last: &Hex, note: String) -> Self {
        let peaks = tree.peaks().iter().map(encode_hash).collect();
        Self { through: tree.size(), last: String::from_utf8_lossy(last).into_owned(), note, peaks }
    }

    /// The latest in `dir`, and those before it are of no use any more.
    pub(in crate::audit) fn latest(dir: &Path) -> io::Result<Option<Self>> {
        let mut found = Vec::new();
        for path in stubs(dir)? {
            let told = serde_json::from_slice::<Self>(&fs::read(&path)?);
            found.push(told.map_err(|error| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {error}", path.display()))
            })?);
        }
        Ok(found.into_iter().max_by_key(|stub| stub.through))
    }

    /// The tree over what was let go, if it is that of the signed head. Who signed is another question.
    pub(in crate::audit) fn tree(&self) -> Option<MerkleTree> {
        let head = Checkpoint::parse_unverified(&self.note)?;
        self.tree_of(&head)
    }

    /// The same for a head that was found genuine.
    pub(in crate::audit) fn tree_of(&self, head: &Checkpoint) -> Option<MerkleTree> {
        head.tree(&self.peaks).filter(|_| head.size == self.through)
    }

    /// The hash of the last event that was let go.
    pub(in crate::audit) fn hash(&self) -> Option<Hex> {
        self.last.as_bytes().try_into().ok()
    }

    /// Puts it beside the segment at `last`, durably, in the place of all former ones.
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
    Ok(paths.into_iter().filter(|path| path.extension().is_some_and(|found| found == EXTENSION)).collect())
}
