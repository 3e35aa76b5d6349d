//! The state folder. claviger keeps it private, and only one server may use it at a time.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::audit::{CheckpointKey, LastHead, Signer, Sorted};
use crate::fs::trust::{self, TrustedOwner};
use crate::gateway::Snapshot;
use crate::secret::Secret;
use crate::signature::HmacKey;

/// Name of the file with the key of fingerprints.
const FINGERPRINT_KEY: &str = "fingerprint.key";
/// Names of the files with the key that signs the trail's heads, and with its public part.
const SIGNING_KEY: &str = "audit.key";
const PUBLIC_KEY: &str = "audit.pub";
/// Name of the file with the last head of the trail.
const LAST_HEAD: &str = "trail.head";
/// Name of the file with the logins that upstreams rejected.
const REFUSED_LOGINS: &str = "logins.refused";
/// Length of each key in bytes.
const KEY_LEN: usize = 32;

/// The ways in which a trail differs from what claviger recorded about it.
#[derive(Debug, Default)]
pub struct Amiss {
    /// A description of what the trail lacks of what the last head names.
    pub missing: Option<String>,
    /// Segments whose first event is not the one in their name, each with the `seq` of its first event.
    pub misnamed: Vec<(PathBuf, u64)>,
    /// The last segment, if the chain cannot be continued from it. Set only if something is missing.
    pub stray_end: Option<PathBuf>,
}

impl Amiss {
    /// Describes the damage; `None` if there is none.
    #[must_use]
    pub fn refusal_reason(&self) -> Option<String> {
        let misnamed = self.misnamed.iter().map(|(path, seq)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name} begins with event {seq}, which is not the one that its name says")
        });
        let all: Vec<String> = misnamed.chain(self.missing.clone()).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// Lists the files from which the chain cannot be continued.
    pub fn strays(&self) -> impl Iterator<Item = &PathBuf> {
        self.misnamed.iter().map(|(path, _)| path).chain(&self.stray_end)
    }
}

/// The state folder of a running server.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    #[expect(dead_code, reason = "the lock is held as long as the server runs")]
    lock: File,
}

impl StateDir {
    /// Creates missing parts of the folder, checks that no other user can access it, and locks it.
    ///
    /// # Errors
    /// A message for the operator if that fails or if another server holds the lock.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::prepare(path)?;
        let lock = lock(path)?;
        let spool = path.join("spool");
        trust::create_folder(&spool).map_err(|error| with_path(&spool, &error))?;
        Ok(Self { path: path.to_owned(), lock })
    }

    /// Creates the folder if it is missing, and checks that no other user can access it.
    ///
    /// # Errors
    /// A message for the operator if the folder cannot be created, or is not private.
    pub fn prepare(path: &Path) -> io::Result<()> {
        trust::create_folder(path).map_err(|error| {
            let remedy = "make it, or name another as `state_dir`";
            io::Error::new(
                error.kind(),
                format!("{}: the folder cannot be made: {error}; {remedy}", path.display()),
            )
        })?;
        Self::check(path)
    }

    /// Checks that no other user may add or replace files in the state folder.
    ///
    /// # Errors
    /// A message for the operator if another user may.
    pub fn check(path: &Path) -> io::Result<()> {
        check(path, TrustedOwner::of(path))
    }

    /// Checks the existing parts of state and trail as a start would, and creates nothing.
    ///
    /// # Errors
    /// A message for the operator that names the first check that failed.
    pub fn check_present(state: &Path, audit: &Path) -> io::Result<()> {
        if state.is_dir() {
            Self::check(state)?;
            for key in [FINGERPRINT_KEY, SIGNING_KEY] {
                TrustedOwner::of(state).open_if_present(&state.join(key))?;
            }
        }
        if audit.is_dir() {
            Self::check_trail(state, audit)?;
        }
        if state.is_dir() { Self::check_last_head(state, audit) } else { Ok(()) }
    }

    /// Returns the path of the last head of the trail in a state folder.
    #[must_use]
    pub fn path_of_last_head(state: &Path) -> PathBuf {
        state.join(LAST_HEAD)
    }

    /// Reads the last head of the trail that was stored here; `None` if there is none yet.
    ///
    /// # Errors
    /// An I/O error if the file cannot be read, is damaged, or may be read by other users.
    pub fn last_head(state: &Path) -> io::Result<Option<LastHead>> {
        let path = Self::path_of_last_head(state);
        let Some(file) = TrustedOwner::of(state).open_if_present(&path)? else { return Ok(None) };
        let text = io::read_to_string(file).map_err(|error| with_path(&path, &error))?;
        LastHead::parse(&text).map(Some).map_err(|error| with_path(&path, &error))
    }

    /// Stores the last head of the trail, and replaces the former one.
    pub(crate) fn keep_last_head(state: &Path, head: &LastHead) -> io::Result<()> {
        let path = Self::path_of_last_head(state);
        trust::replace(&path, head.text().as_bytes()).map_err(|error| with_path(&path, &error))
    }

    /// Deletes the last head, so that the state folder no longer expects anything of the trail.
    ///
    /// # Errors
    /// An I/O error if the file cannot be removed.
    pub fn forget_last_head(state: &Path) -> io::Result<()> {
        let path = Self::path_of_last_head(state);
        fs::remove_file(&path).map_err(|error| with_path(&path, &error))
    }

    /// Compares the trail in `audit` with `head` and with the names of its segments.
    pub(crate) fn find_damage(state: &Path, audit: &Path, head: Option<&LastHead>) -> io::Result<Amiss> {
        let find = || -> io::Result<Amiss> {
            let Sorted { segments, misnamed } = Sorted::of(audit)?;
            let mut amiss = Amiss { misnamed, ..Amiss::default() };
            let Some(head) = head else { return Ok(amiss) };
            // The first start creates this file from the signing key.
            let key =
                fs::read_to_string(public_key(state)).ok().and_then(|key| CheckpointKey::parse(&key).ok());
            amiss.missing = head.missing_in(audit, &segments, key.as_ref())?;
            if amiss.missing.is_some() {
                amiss.stray_end = head.stray_end(&segments)?;
            }
            Ok(amiss)
        };
        find().map_err(|error| with_path(audit, &error))
    }

    /// Builds the error with which a start refuses a damaged trail: the reason and the remedy.
    #[must_use]
    pub fn refusal(why: &str) -> io::Error {
        let remedy = "restore the trail; or, to continue without what is missing, run `claviger audit accept`, which records it";
        io::Error::new(io::ErrorKind::InvalidData, format!("{why}: {remedy}"))
    }

    /// Checks that the trail holds what the stored last head names, and that each segment begins with the event
    /// that its name gives.
    ///
    /// # Errors
    /// A message for the operator if the trail does not pass, or cannot be read.
    pub fn check_last_head(state: &Path, audit: &Path) -> io::Result<()> {
        let head = match Self::last_head(state) {
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Self::refusal(&error.to_string()));
            }
            found => found?,
        };
        let amiss = Self::find_damage(state, audit, head.as_ref())?;
        let Some(why) = amiss.refusal_reason() else { return Ok(()) };
        let whose = match &amiss.missing {
            Some(_) => format!("{} knows more of the trail in", Self::path_of_last_head(state).display()),
            None => "the trail was changed in".into(),
        };
        Err(Self::refusal(&format!("{whose} {}: {why}", audit.display())))
    }

    /// Whether neither `audit` nor the state folder holds anything of a trail. False if that cannot be read.
    #[must_use]
    pub fn has_no_trail(state: &Path, audit: &Path) -> bool {
        Self::last_head(state).is_ok_and(|head| head.is_none())
            && crate::audit::is_empty(audit).is_ok_and(|is_empty| is_empty)
    }

    /// Checks the folder of the trail: no other user may add or replace files in it, or read or
    /// alter its files.
    ///
    /// # Errors
    /// A message for the operator if another user may.
    pub fn check_trail(state: &Path, audit: &Path) -> io::Result<()> {
        let owner = TrustedOwner::of(state);
        check(audit, owner)?;
        for segment in crate::audit::segments(audit)? {
            let found = fs::metadata(&segment).map_err(|error| with_path(&segment, &error))?;
            owner.check(&segment, &found)?;
        }
        Ok(())
    }

    /// Returns the folder for request bodies that do not fit into memory.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// Loads the logins that upstreams rejected before this start, and stores those of `snapshot` from now on. If the
    /// file cannot be used, nothing is loaded.
    pub fn recall_logins(&self, snapshot: &Snapshot) {
        let path = self.path.join(REFUSED_LOGINS);
        if let Err(error) = snapshot.recall_logins(&path, TrustedOwner::of(&self.path)) {
            let path = path.display();
            tracing::warn!(%path, %error, "logins that upstreams refused before this start are tried again");
        }
    }

    /// Returns the key for fingerprints of wrong credentials, and creates it if it is missing.
    ///
    /// # Errors
    /// An I/O error if the file cannot be read or created, or if other users may read it.
    pub fn fingerprint_key(&self) -> io::Result<HmacKey> {
        self.key(FINGERPRINT_KEY).map(|key| HmacKey::new(key.expose()))
    }

    /// Returns the existing key for fingerprints, for a process that does not serve from this state folder.
    ///
    /// # Errors
    /// An I/O error if the file is missing, cannot be read, or may be read by other users.
    pub fn kept_fingerprint_key(state: &Path) -> io::Result<HmacKey> {
        let path = state.join(FINGERPRINT_KEY);
        let Some(mut file) = TrustedOwner::of(state).open_if_present(&path)? else {
            let none =
                format!("{}: there is no key yet; the first `claviger serve` makes it", path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, none));
        };
        let key = read_key(&mut file).map_err(|error| with_path(&path, &error))?;
        Ok(HmacKey::new(key.expose()))
    }

    /// Returns the signer for the heads of the trail with this name. Creates its key if it is missing, and writes the
    /// public part to a file beside it for auditors.
    ///
    /// # Errors
    /// The errors of [`Self::fingerprint_key`], and an I/O error if the public key cannot be written.
    pub fn signer(&self, origin: &str) -> io::Result<Signer> {
        let signer = Signer::new(origin, self.key(SIGNING_KEY)?.expose()).map_err(io::Error::other)?;
        let (path, public) = (public_key(&self.path), format!("{}\n", signer.verifier().to_text()));
        if fs::read_to_string(&path).ok().as_deref() != Some(public.as_str()) {
            trust::replace(&path, public.as_bytes()).map_err(|error| with_path(&path, &error))?;
        }
        Ok(signer)
    }

    /// Reads the key in this file, and creates it if it is missing.
    fn key(&self, name: &str) -> io::Result<Secret> {
        let path = self.path.join(name);
        let key = match TrustedOwner::of(&self.path).open_if_present(&path)? {
            Some(mut file) => read_key(&mut file),
            None => create_key(&path),
        };
        key.map_err(|error| with_path(&path, &error))
    }
}

/// Returns the path of the public part of the signing key in a state folder.
#[must_use]
pub fn public_key(state: &Path) -> PathBuf {
    state.join(PUBLIC_KEY)
}

/// Checks that no other user may even add a file to the folder. The sticky bit alone is not enough.
fn check(path: &Path, owner: TrustedOwner) -> io::Result<()> {
    let mode = fs::metadata(path).map_err(|error| with_path(path, &error))?.mode() & 0o7777;
    if mode & 0o022 != 0 {
        let remedy = format!("{} is writable by others (mode {mode:o}): chmod 700 {0}", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, remedy));
    }
    owner.check_folder(path)?;
    Ok(())
}

/// Locks a folder against other servers until the returned file is closed.
pub(crate) fn lock(folder: &Path) -> io::Result<File> {
    let path = folder.join("lock");
    // The folder's owner must not be able to direct root to another file through a link.
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file =
        rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR).map_err(io::Error::from).map(File::from);
    let file = file.and_then(|file| trust::hand_over(&file, &path).map(|()| file));
    let file = file.map_err(|error| with_path(&path, &error))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        let who = format!("{} is in use by another claviger", folder.display());
        io::Error::new(io::ErrorKind::ResourceBusy, who)
    })?;
    Ok(file)
}

fn create_key(path: &Path) -> io::Result<Secret> {
    let mut bytes = vec![0; KEY_LEN];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
    trust::write_new(path, &bytes)?;
    Ok(Secret::new(bytes))
}

fn read_key(file: &mut File) -> io::Result<Secret> {
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    if bytes.len() != KEY_LEN {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a key of 32 bytes"));
    }
    Ok(Secret::new(bytes))
}

fn with_path(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
