//! The trail folder. It is checked and locked before the journal reads or writes a line in it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::state_dir::StateDir;
use super::state_dir::{Amiss, lock};
use crate::audit::{Disk, Folder, LastHead};
use crate::fs::trust;

/// The locked trail folder of a running server.
#[derive(Debug)]
pub struct Trail {
    folder: Folder,
    state: PathBuf,
    /// The lock, held while the server runs.
    lock: Mutex<Option<File>>,
    /// Whether the reason for a failed lock was logged. The journal retries four times a second.
    is_logged: AtomicBool,
    /// Whether the trail must hold what the last head in the state folder names.
    is_checked: bool,
}

impl Trail {
    /// Checks and locks the folder `audit` for the server with this state folder. If the folder cannot be created now,
    /// it is checked and locked once the journal can create it. Only with `is_checked`, the trail is compared with the last
    /// head in the state folder.
    ///
    /// # Errors
    /// A message for the operator. The folder is accessible to other users or in use by another server, or the trail
    /// lacks what the last head names.
    pub fn lock(state: &Path, audit: &Path, is_checked: bool) -> io::Result<Self> {
        let exists = trust::create_folder(audit).is_ok();
        let trail = Self {
            folder: Folder::new(audit.to_owned()),
            state: state.to_owned(),
            lock: Mutex::default(),
            is_logged: AtomicBool::new(exists),
            is_checked,
        };
        if exists {
            trail.prepare()?;
        }
        Ok(trail)
    }

    /// Compares the trail with `head` and with the names of its segments.
    ///
    /// # Errors
    /// An I/O error if the trail cannot be read.
    pub fn find_damage(&self, head: Option<&LastHead>) -> io::Result<Amiss> {
        StateDir::find_damage(&self.state, self.dir(), head)
    }
}

impl Disk for Trail {
    fn dir(&self) -> &Path {
        self.folder.dir()
    }

    fn prepare(&self) -> io::Result<()> {
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            trust::create_folder(self.dir())?;
            let take = || {
                StateDir::check_trail(&self.state, self.dir())?;
                let lock = lock(self.dir())?;
                if self.is_checked {
                    StateDir::check_last_head(&self.state, self.dir())?;
                }
                Ok(lock)
            };
            *guard = Some(take().inspect_err(|why: &io::Error| {
                if !self.is_logged.swap(true, Ordering::Relaxed) {
                    tracing::error!(%why, "the trail folder cannot be used by this gateway");
                }
            })?);
        }
        Ok(())
    }

    fn create(&self, name: &str) -> io::Result<File> {
        self.folder.create(name)
    }

    fn append(&self, file: &File, bytes: &[u8]) -> io::Result<()> {
        self.folder.append(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.folder.sync(file)
    }

    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        self.folder.cut(file, len)
    }

    fn keep_head(&self, head: &LastHead) -> io::Result<()> {
        StateDir::keep_last_head(&self.state, head)
    }
}
