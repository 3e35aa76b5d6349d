//! The files under the journal, as a trait, so that a test can fail any operation.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::Advice;

use super::last_head::LastHead;
use crate::fs::trust;

/// What the kernel keeps of a file in memory is a multiple of this, in bytes.
const PAGE: u64 = 4096;

/// What the journal asks of a disk. Every operation may fail; the journal then says so, and
/// nothing leaves the gateway.
pub trait Disk: Send + Sync {
    /// The folder of the segments.
    fn dir(&self) -> &Path;

    /// Makes the folder where it is missing. The first that is asked, and again after each failure of it.
    ///
    /// # Errors
    /// As the file system's, or where the folder is not for this journal.
    fn prepare(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(self.dir())
    }

    /// Makes an empty segment that nobody else can read and makes its name durable.
    ///
    /// # Errors
    /// As the file system's.
    fn create(&self, name: &str) -> io::Result<File>;

    /// Appends all of `bytes`, or fails having appended any part of them.
    ///
    /// # Errors
    /// As the file system's.
    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// As the file system's; what was appended may then be lost.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// Cuts the segment to `len` bytes.
    ///
    /// # Errors
    /// As the file system's.
    fn cut(&self, file: &File, len: u64) -> io::Result<()>;

    /// Keeps the last head that is on the disk apart from the trail, where there is a place for it.
    ///
    /// # Errors
    /// As the file system's.
    fn keep_head(&self, _head: &LastHead) -> io::Result<()> {
        Ok(())
    }
}

/// A folder of the real file system.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    /// The segment that was made last: its inode, and where it belongs.
    newest: Mutex<Option<(u64, PathBuf)>>,
}

impl Folder {
    /// Segments will stand in `dir`.
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
        // Made by root on the command line, it is the gateway's all the same.
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
        // What is on the disk is not read again: its pages are soon filled with the next lines, while the processor's
        // cache still holds them. But for the last one, which the next line would have to wait for. A hint, whose
        // failure costs nothing else.
        if let Some(whole) = NonZeroU64::new(found.len() / PAGE * PAGE) {
            rustix::fs::fadvise(file, 0, Some(whole), Advice::DontNeed).unwrap_or_default();
        }
        // Without a name it is lost with its last descriptor, however well it is written.
        if found.nlink() == 0 {
            return Err(io::Error::other("the open segment was deleted"));
        }
        // Under another name nobody finds it.
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
