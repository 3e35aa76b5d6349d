//! The journal's file operations as a trait, so that a test can make any of them fail.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Advice;

use super::last_head::LastHead;
use crate::fs::trust;

/// Size in bytes of a page of the kernel's file cache.
const PAGE: u64 = 4096;

/// The disk operations that the journal needs. Any of them may fail; the journal then reports that, and the gateway
/// forwards no call.
pub trait Disk: Send + Sync {
    /// Returns the folder of the segments.
    fn dir(&self) -> &Path;

    /// Creates the folder if it is missing. The journal calls this first, and again after each failure.
    ///
    /// # Errors
    /// An I/O error if the folder cannot be created, or is not this journal's.
    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.dir())
    }

    /// Creates an empty private segment, and makes its name durable.
    ///
    /// # Errors
    /// An I/O error if the file exists, cannot be created, or its name cannot be flushed.
    fn create(&self, name: &str) -> io::Result<File>;

    /// Appends all of `bytes`. After a failure, any part of them may have been appended.
    ///
    /// # Errors
    /// An I/O error if a write fails.
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()>;

    /// Makes appended bytes durable.
    ///
    /// # Errors
    /// An I/O error if the flush fails. The appended bytes may then be lost.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Truncates the segment to `len` bytes.
    ///
    /// # Errors
    /// An I/O error if the truncation fails.
    fn cut(&self, file: &File, len: u64) -> io::Result<()>;

    /// Stores the last durable head apart from the trail. The default implementation does nothing.
    ///
    /// # Errors
    /// An I/O error if the head cannot be stored.
    fn keep_head(&self, _head: &LastHead) -> io::Result<()> {
        Ok(())
    }
}

/// A folder of the real file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The newest segment: its inode number and its path.
    newest: Mutex<Option<(u64, PathBuf)>>,
}

impl Folder {
    /// Makes a `Folder` for segments in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self { path: dir, newest: Mutex::default() }
    }
}

impl Disk for Folder {
    fn dir(&self) -> &Path {
        &self.path
    }

    fn create(&self, name: &str) -> io::Result<File> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let path = self.path.join(name);
        let file = OpenOptions::new().append(true).read(true).create_new(true).mode(0o600).open(&path)?;
        // A file that root creates on the command line must belong to the gateway's user.
        trust::hand_over(&file, &path)?;
        File::open(&self.path)?.sync_all()?;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = Some((file.metadata()?.ino(), path));
        Ok(file)
    }

    fn append(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()?;
        let found = file.metadata()?;
        // Durable bytes are not read again. Dropping their pages lets the next lines reuse them while they are still in
        // the processor's cache. The last, partial page stays, since the next line needs it. This is only a hint; a
        // failure costs nothing else.
        if let Some(whole) = NonZeroU64::new(found.len() / PAGE * PAGE) {
            rustix::fs::fadvise(file, 0, Some(whole), Advice::DontNeed).unwrap_or_default();
        }
        // A deleted file is lost with its last descriptor, even if it was flushed.
        if found.nlink() == 0 {
            return Err(io::Error::other("the open segment was deleted"));
        }
        // Under another name no reader would find the file.
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((_, path)) = newest.as_ref().filter(|(inode, _)| *inode == found.ino()) else {
            return Ok(());
        };
        match fs::symlink_metadata(path) {
            Ok(named) if (named.ino(), named.dev()) == (found.ino(), found.dev()) => Ok(()),
            Ok(_) => Err(io::Error::other("the open segment was replaced by another file")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(io::Error::other("the open segment was moved away"))
            }
            Err(error) => Err(error),
        }
    }

    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        file.set_len(len)
    }
}
