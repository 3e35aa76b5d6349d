//! Files that are their owner's alone.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::{Gid, Uid, fchown};

/// Makes a file that its owner alone can read and write, where there is none. Made by root, it
/// belongs to the owner of the folder: a gateway that runs as another must be able to use what a
/// custodian makes for it.
///
/// # Errors
/// As the file system's.
pub fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    if rustix::process::geteuid().is_root() {
        let folder = fs::metadata(folder(path))?;
        fchown(&file, Some(Uid::from_raw(folder.uid())), Some(Gid::from_raw(folder.gid())))?;
    }
    Ok(file)
}

/// The folder that a file is in.
#[must_use]
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
