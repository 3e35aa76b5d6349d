//! The file of the master key. A key is written to a temporary file, flushed, and then renamed, so that the file always
//! holds a complete key.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::master_key::MasterKey;
use crate::fs::trust;

/// An exclusive lock on the keys of a folder, held until it is dropped. Its holder may create, rotate and rename them.
#[derive(Debug)]
pub struct KeyLock(#[expect(dead_code, reason = "the lock ends with it")] File);

/// Returns the path of a rotation's next key, which is there until the store is sealed with it.
#[must_use]
pub fn next(path: &Path) -> PathBuf {
    trust::beside(path, ".next")
}

/// Creates a new private key file at `path`, unless another process has created one there meanwhile.
///
/// # Errors
/// An I/O error if the file cannot be written, or the system gives no random bytes.
pub fn create(path: &Path) -> io::Result<()> {
    let _alone = lock(path)?;
    if path.try_exists()? {
        return Ok(());
    }
    let key = MasterKey::generate().map_err(io::Error::other)?;
    trust::replace(path, key.text().expose())
}

/// Writes the next key beside the one at `path`, and replaces one that an earlier rotation left behind. Users who can
/// read the current key can read the next one.
///
/// # Errors
/// An I/O error if the file cannot be written or flushed.
pub fn stage(path: &Path, key: &MasterKey, _: &KeyLock) -> io::Result<()> {
    trust::replace_with(&next(path), key.text().expose(), |new| trust::create_for(new, path))
}

/// Renames the next key to `path`. The lock ensures that the file is still the one that the caller has read. Otherwise
/// another process's next key could replace the one in use, which would be lost.
///
/// # Errors
/// An I/O error if the file cannot be renamed, or the folder cannot be flushed.
pub fn promote(path: &Path, _: &KeyLock) -> io::Result<()> {
    fs::rename(next(path), path)?;
    trust::sync_folder(path)
}

/// Locks the folder of `path` against other processes that create or rotate keys. Waits for a current holder.
///
/// # Errors
/// An I/O error if the folder cannot be opened or locked.
pub fn lock(path: &Path) -> io::Result<KeyLock> {
    let folder = File::open(trust::folder(path))?;
    flock(&folder, FlockOperation::LockExclusive)?;
    Ok(KeyLock(folder))
}

/// Locks the folder like [`lock`], without waiting; `None` if another process holds the lock.
///
/// # Errors
/// An I/O error if the folder cannot be opened or locked.
pub fn try_lock(path: &Path) -> io::Result<Option<KeyLock>> {
    let folder = File::open(trust::folder(path))?;
    match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(KeyLock(folder))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::secret::Secret;

    fn id(path: &Path) -> String {
        MasterKey::parse(&Secret::new(fs::read(path).unwrap())).unwrap().shown_id()
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        fs::write(trust::beside(&path, "~"), "torn").unwrap();
        create(&path).unwrap();
        let first = id(&path);
        create(&path).unwrap();
        assert_eq!(id(&path), first);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn the_next_key_takes_the_place_of_the_former() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        create(&path).unwrap();
        fs::write(next(&path), "left behind").unwrap();
        let key = MasterKey::generate().unwrap();
        let alone = lock(&path).unwrap();
        stage(&path, &key, &alone).unwrap();
        assert_eq!((id(&next(&path)), id(&path) == key.shown_id()), (key.shown_id(), false));
        promote(&path, &alone).unwrap();
        assert_eq!((id(&path), next(&path).exists()), (key.shown_id(), false));
        promote(&path, &alone).unwrap_err();
        assert_eq!(id(&path), key.shown_id());
    }

    #[test]
    fn one_is_alone_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        let first = lock(&path).unwrap();
        assert!(try_lock(&path).unwrap().is_none());
        drop(first);
        assert!(try_lock(&path).unwrap().is_some());
    }
}
