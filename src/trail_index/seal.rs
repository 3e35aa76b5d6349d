//! The seal of an index, which shows whether the index is as the last search left it. The index is no evidence, but a
//! search would miss events whose rows were removed. An index that another program changed is therefore rebuilt.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::fs::trust::beside;

/// The file beside the index with its recorded state. Each search holds a lock on it.
#[derive(Debug)]
pub(super) struct Seal {
    index: PathBuf,
    file: File,
}

/// Formats metadata that identify the state of the index's file. A program that writes the file cannot set all of them.
fn state(index: &Path) -> io::Result<String> {
    let found = fs::metadata(index)?;
    let (written, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Ok(format!("{} {} {} {written:?} {changed:?}\n", found.dev(), found.ino(), found.len()))
}

impl Seal {
    /// Opens the seal of the index at `index`. Returns it, and whether the index is as the last search left it. If
    /// another search runs, that search has checked the index, and the result is true.
    pub(super) fn open(index: &Path) -> io::Result<(Self, bool)> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(beside(index, ".seal"))?;
        let alone = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        let mut is_as_left = true;
        if alone {
            let mut left = String::new();
            file.read_to_string(&mut left)?;
            // Entries in the log show that a process did not end as a search does.
            let log = fs::metadata(beside(index, "-wal")).is_ok_and(|log| log.len() > 0);
            is_as_left = !log && state(index).is_ok_and(|state| state == left);
        } else {
            // Wait until the other search has rebuilt the index, if it does.
            flock(&file, FlockOperation::LockShared)?;
        }
        Ok((Self { index: index.to_owned(), file }, is_as_left))
    }

    /// Shares the lock with other searches.
    pub(super) fn share(&self) -> io::Result<()> {
        Ok(flock(&self.file, FlockOperation::LockShared)?)
    }

    /// Records the state of the index as a search leaves it. Of several searches, only the last one to end records it.
    pub(super) fn close(mut self) -> io::Result<()> {
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(state(&self.index)?.as_bytes())?;
        }
        Ok(())
    }
}
