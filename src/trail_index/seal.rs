//! Whether an index is as the last search left it. It is no evidence, and a search that trusted one of which rows were
//! taken away would say that nothing happened: what anything else has changed in it is made anew.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// What is known of the index's file, beside it; held by each search.
#[derive(Debug)]
pub(super) struct Seal {
    index: PathBuf,
    file: File,
}

/// What the system says of a file: no writer can set all of it.
fn state(index: &Path) -> io::Result<String> {
    let found = fs::metadata(index)?;
    let (written, changed) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Ok(format!("{} {} {} {written:?} {changed:?}\n", found.dev(), found.ino(), found.len()))
}

/// A file of the index's own beside it.
pub(super) fn beside(index: &Path, end: &str) -> PathBuf {
    let mut name = index.as_os_str().to_owned();
    name.push(end);
    name.into()
}

impl Seal {
    /// The seal of the index at `index`, and whether that is as the last search left it. Beside another search,
    /// which has looked, it is.
    pub(super) fn open(index: &Path) -> io::Result<(Self, bool)> {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(beside(index, ".seal"))?;
        let alone = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        let is_as_left = if alone {
            let mut left = String::new();
            file.read_to_string(&mut left)?;
            // Where it is there, something was not ended as a search ends.
            let log = fs::metadata(beside(index, "-wal")).is_ok_and(|log| log.len() > 0);
            !log && state(index).is_ok_and(|state| state == left)
        } else {
            true
        };
        if !alone {
            // Once the other has made it anew, where it does.
            flock(&file, FlockOperation::LockShared)?;
        }
        Ok((Self { index: index.to_owned(), file }, is_as_left))
    }

    /// Lets other searches use it as well.
    pub(super) fn share(&self) -> io::Result<()> {
        Ok(flock(&self.file, FlockOperation::LockShared)?)
    }

    /// Says that the index is as a search leaves it. The last of several that end says it.
    pub(super) fn close(mut self) -> io::Result<()> {
        if flock(&self.file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.file.write_all(state(&self.index)?.as_bytes())?;
        }
        Ok(())
    }
}
