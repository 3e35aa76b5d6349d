//! The state folder: made private, held by one server at a time.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::secret::Secret;
use crate::signature::HmacKey;

/// Bytes of the key of fingerprints.
const KEY_LEN: usize = 32;

/// The state folder of a running server.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Held as long as the server runs.
    locks: Vec<File>,
}

impl StateDir {
    /// Makes what is missing of the folder, checks that nobody else can reach into it, and locks it.
    ///
    /// # Errors
    /// Where that fails, in words for the operator; also where another server holds it.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::prepare(path)?;
        let file = lock(path)?;
        let spool = path.join("spool");
        DirBuilder::new().recursive(true).mode(0o700).create(&spool).map_err(|error| told(&spool, &error))?;
        Ok(Self { path: path.to_owned(), locks: vec![file] })
    }

    /// Makes the folder where it is missing, and checks that nobody else can reach into it.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn prepare(path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| told(path, &error))?;
        Self::check(path)
    }

    /// Checks that nobody else may put or replace files in a folder.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check(path: &Path) -> io::Result<()> {
        let mode = fs::metadata(path).map_err(|error| told(path, &error))?.mode() & 0o7777;
        if mode & 0o022 != 0 {
            let remedy = format!("{} is writable by others (mode {mode:o}): chmod 700 {0}", path.display());
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, remedy));
        }
        Ok(())
    }

    /// Guards the folder of the trail, wherever it is: that nobody else may put or replace files in
    /// it, nor read them, and that no other server writes there. One that cannot be made now is made
    /// by the journal, once it can.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn guard(&mut self, audit: &Path) -> io::Result<()> {
        // Where that fails, `is_dir` tells.
        DirBuilder::new().recursive(true).mode(0o700).create(audit).unwrap_or_default();
        if !audit.is_dir() {
            return Ok(());
        }
        Self::check(audit)?;
        for segment in crate::audit::segments(audit)? {
            let mode = fs::metadata(&segment).map_err(|error| told(&segment, &error))?.mode() & 0o777;
            if mode & 0o077 != 0 {
                let remedy = format!("{} is open to others (mode {mode:o}): chmod 600", segment.display());
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, remedy));
            }
        }
        self.locks.push(lock(audit)?);
        Ok(())
    }

    /// The folder for request bodies that do not fit into memory.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// The key under which wrong credentials are fingerprinted; made when it is missing.
    ///
    /// # Errors
    /// Where it cannot be read or made, or others may read it.
    pub fn fingerprint_key(&self) -> io::Result<HmacKey> {
        let path = self.path.join("fingerprint.key");
        let made = || -> io::Result<Secret> {
            let mut bytes = vec![0; KEY_LEN];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
            let mut file = private().create_new(true).open(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            Ok(Secret::new(bytes))
        };
        let read = match File::open(&path) {
            Ok(mut file) => read_key(&mut file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => made(),
            Err(error) => Err(error),
        };
        read.map(|key| HmacKey::new(key.expose())).map_err(|error| told(&path, &error))
    }
}

fn lock(folder: &Path) -> io::Result<File> {
    let path = folder.join("lock");
    let file = private().create(true).truncate(false).open(&path).map_err(|error| told(&path, &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let who = format!("{} is in use by another claviger", folder.display());
        io::Error::new(io::ErrorKind::ResourceBusy, who)
    })?;
    Ok(file)
}

fn read_key(file: &mut File) -> io::Result<Secret> {
    let mode = file.metadata()?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("open to others (mode {mode:o}): chmod 600"),
        ));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if bytes.len() != KEY_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a key of 32 bytes"));
    }
    Ok(Secret::new(bytes))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

fn told(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
