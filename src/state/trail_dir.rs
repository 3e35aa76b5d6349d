//! The folder of the trail: checked, and one server's at a time, before a line is read or written there.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use super::state_dir::StateDir;
use super::state_dir::{Amiss, lock};
use crate::audit::{Disk, Folder, LastHead};
use crate::fs::trust;

/// The folder of the trail of a running server.
#[derive(Debug)]
pub struct Trail {
    folder: Folder,
    state: PathBuf,
    /// Held as long as the server runs.
    held: Mutex<Option<File>>,
    /// Why it is not held was said: the journal asks again four times a second.
    told: AtomicBool,
    /// Whether it must hold what the state folder knows of.
    is_checked: bool,
}

impl Trail {
    /// Guards the folder `audit` of the server with this state folder. One that cannot be made now is
    /// guarded once the journal can make it.
    ///
    /// # Errors
    /// In words for the operator, where others may reach into it, another server writes there, or it does not hold
    /// what it held.
    pub fn guard(state: &Path, audit: &Path) -> io::Result<Self> {
        Self::lock(state, audit, true)
    }

    /// The same, whatever it holds.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn take(state: &Path, audit: &Path) -> io::Result<Self> {
        Self::lock(state, audit, false)
    }

    /// In which way the trail is not what `head` and the names of its segments say.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn find_damage(&self, head: Option<&LastHead>) -> io::Result<Amiss> {
        StateDir::find_damage(&self.state, self.dir(), head)
    }

    fn lock(state: &Path, audit: &Path, is_checked: bool) -> io::Result<Self> {
        let made = trust::create_folder(audit).is_ok();
        let trail = Self {
            folder: Folder::new(audit.to_owned()),
            state: state.to_owned(),
            held: Mutex::default(),
            told: AtomicBool::new(made),
            is_checked,
        };
        if made {
            trail.prepare()?;
        }
        Ok(trail)
    }
}

impl Disk for Trail {
    fn dir(&self) -> &Path {
        self.folder.dir()
    }

    fn prepare(&self) -> io::Result<()> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            trust::create_folder(self.dir())?;
            let locked = || {
                StateDir::check_trail(&self.state, self.dir())?;
                let locked = lock(self.dir())?;
                if self.is_checked {
                    StateDir::check_last_head(&self.state, self.dir())?;
                }
                Ok(locked)
            };
            *held = Some(locked().inspect_err(|why: &io::Error| {
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::error!(%why, "the trail is not for this gateway");
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
