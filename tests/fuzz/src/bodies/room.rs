//! A folder of each thread's own, in memory where the machine has such a place.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

thread_local! {
    static ROOM: TempDir = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
}

/// Calls `inside` with the folder.
pub(super) fn with<T>(inside: impl FnOnce(&Path) -> T) -> T {
    ROOM.with(|room| inside(room.path()))
}

/// Makes or overwrites a file that only its owner reads.
pub(super) fn write(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
