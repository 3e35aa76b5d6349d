//! The state folder: made private, held by one server at a time.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::audit::{CheckpointKey, LastHead, Signer, Sorted};
use crate::fs::trust::{self, FileTrustError, TrustedOwner};
use crate::gateway::Snapshot;
use crate::secret::Secret;
use crate::signature::HmacKey;

/// The file of the key of fingerprints.
const FINGERPRINT_KEY: &str = "fingerprint.key";
/// The file of the key that signs the trail's heads, and of its public part.
const SIGNING_KEY: &str = "audit.key";
const PUBLIC_KEY: &str = "audit.pub";
/// The file of the last head of the trail.
const LAST_HEAD: &str = "trail.head";
/// The file of the logins that upstreams refused.
const REFUSED_LOGINS: &str = "logins.refused";
/// Bytes of each key.
const KEY_LEN: usize = 32;

/// In which way a trail is not what it was.
#[derive(Debug, Default)]
pub struct Amiss {
    /// What it does not hold of what the last head names, in words.
    pub missing: Option<String>,
    /// Segments that do not begin with the event that their names say, each with the number of its first.
    pub misnamed: Vec<(PathBuf, u64)>,
    /// The last segment, where the trail cannot be continued from it; only where something is missing.
    pub stray_end: Option<PathBuf>,
}

impl Amiss {
    /// In words; `None` where nothing is amiss.
    #[must_use]
    pub fn refusal_reason(&self) -> Option<String> {
        let misnamed = self.misnamed.iter().map(|(path, seq)| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            format!("{name} begins with event {seq}, which is not the one that its name says")
        });
        let all: Vec<String> = misnamed.chain(self.missing.clone()).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// The files from which the trail cannot be continued.
    pub fn strays(&self) -> impl Iterator<Item = &PathBuf> {
        self.misnamed.iter().map(|(path, _)| path).chain(&self.stray_end)
    }
}

/// The state folder of a running server.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    #[expect(dead_code, reason = "the lock is held as long as the server runs")]
    held: File,
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
        trust::create_folder(&spool).map_err(|error| with_path(&spool, &error))?;
        Ok(Self { path: path.to_owned(), held: file })
    }

    /// Makes the folder where it is missing, and checks that nobody else can reach into it.
    ///
    /// # Errors
    /// In words for the operator.
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

    /// Checks that nobody else may put or replace files in the state folder.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check(path: &Path) -> io::Result<()> {
        check(path, TrustedOwner::of(path))
    }

    /// Checks as a start would what is there already of state and trail, and makes nothing.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check_present(state: &Path, audit: &Path) -> io::Result<()> {
        if state.is_dir() {
            Self::check(state)?;
            for key in [FINGERPRINT_KEY, SIGNING_KEY] {
                match TrustedOwner::of(state).open(&state.join(key)) {
                    Err(FileTrustError::Unreadable(_, error)) if error.kind() == io::ErrorKind::NotFound => {}
                    opened => drop(opened?),
                }
            }
        }
        if audit.is_dir() {
            Self::check_trail(state, audit)?;
        }
        if state.is_dir() { Self::check_last_head(state, audit) } else { Ok(()) }
    }

    /// Where the last head of the trail is, in a state folder.
    #[must_use]
    pub fn path_of_last_head(state: &Path) -> PathBuf {
        state.join(LAST_HEAD)
    }

    /// The last head of the trail that was kept here; `None` where none was yet.
    ///
    /// # Errors
    /// Where it cannot be read, or others may read it.
    pub fn last_head(state: &Path) -> io::Result<Option<LastHead>> {
        let path = Self::path_of_last_head(state);
        let mut text = String::new();
        match TrustedOwner::of(state).open(&path) {
            Err(FileTrustError::Unreadable(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            opened => opened?.read_to_string(&mut text).map_err(|error| with_path(&path, &error))?,
        };
        LastHead::parse(&text).map(Some).map_err(|error| with_path(&path, &error))
    }

    /// Keeps the last head of the trail, in the place of the former.
    pub(crate) fn keep_last_head(state: &Path, head: &LastHead) -> io::Result<()> {
        let path = Self::path_of_last_head(state);
        trust::replace(&path, head.text().as_bytes()).map_err(|error| with_path(&path, &error))
    }

    /// Knows nothing of the trail any more.
    ///
    /// # Errors
    /// As the file system's.
    pub fn forget_last_head(state: &Path) -> io::Result<()> {
        let path = Self::path_of_last_head(state);
        fs::remove_file(&path).map_err(|error| with_path(&path, &error))
    }

    /// In which way the trail in `audit` is not what `head` and the names of its segments say.
    pub(crate) fn find_damage(state: &Path, audit: &Path, head: Option<&LastHead>) -> io::Result<Amiss> {
        let looked = || -> io::Result<Amiss> {
            let Sorted { segments, misnamed } = Sorted::of(audit)?;
            let mut amiss = Amiss { misnamed, ..Amiss::default() };
            let Some(head) = head else { return Ok(amiss) };
            // It is made by the first start, from the key that signs.
            let key =
                fs::read_to_string(public_key(state)).ok().and_then(|key| CheckpointKey::parse(&key).ok());
            amiss.missing = head.missing_in(audit, &segments, key.as_ref())?;
            if amiss.missing.is_some() {
                amiss.stray_end = head.stray_end(&segments)?;
            }
            Ok(amiss)
        };
        looked().map_err(|error| with_path(audit, &error))
    }

    /// Why nothing starts on a trail, with what can be done.
    #[must_use]
    pub fn refusal(why: &str) -> io::Error {
        let remedy = "restore the trail; or, to continue without what is missing, run `claviger audit accept`, which records it";
        io::Error::new(io::ErrorKind::InvalidData, format!("{why}: {remedy}"))
    }

    /// Checks that the trail holds what the last head names that was kept here, and that its segments are what their
    /// names say.
    ///
    /// # Errors
    /// In words for the operator.
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

    /// Whether nothing of a trail is left, neither in `audit` nor here. One that cannot be read is none of which this
    /// is known.
    #[must_use]
    pub fn has_no_trail(state: &Path, audit: &Path) -> bool {
        Self::last_head(state).is_ok_and(|head| head.is_none())
            && crate::audit::is_empty(audit).is_ok_and(|is_empty| is_empty)
    }

    /// Checks the folder of the trail, wherever it is: that nobody else may put or replace files in
    /// it, nor read or alter those of the trail.
    ///
    /// # Errors
    /// In words for the operator.
    pub fn check_trail(state: &Path, audit: &Path) -> io::Result<()> {
        let keeper = TrustedOwner::of(state);
        check(audit, keeper)?;
        for segment in crate::audit::segments(audit)? {
            let found = fs::metadata(&segment).map_err(|error| with_path(&segment, &error))?;
            keeper.check(&segment, &found)?;
        }
        Ok(())
    }

    /// The folder for request bodies that do not fit into memory.
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.path.join("spool")
    }

    /// Recalls the logins that upstreams refused before this start, and keeps those of `snapshot` from now on. Where
    /// the file cannot be used, nothing is recalled.
    pub fn recall_logins(&self, snapshot: &Snapshot) {
        let path = self.path.join(REFUSED_LOGINS);
        if let Err(error) = snapshot.recall_logins(&path, TrustedOwner::of(&self.path)) {
            let path = path.display();
            tracing::warn!(%path, %error, "logins that upstreams refused before this start are tried again");
        }
    }

    /// The key under which wrong credentials are fingerprinted; made when it is missing.
    ///
    /// # Errors
    /// Where it cannot be read or made, or others may read it.
    pub fn fingerprint_key(&self) -> io::Result<HmacKey> {
        self.key(FINGERPRINT_KEY).map(|key| HmacKey::new(key.expose()))
    }

    /// The same key, which must be there, for who does not serve from this state folder.
    ///
    /// # Errors
    /// Where it cannot be read, or others may read it.
    pub fn kept_fingerprint_key(state: &Path) -> io::Result<HmacKey> {
        let path = state.join(FINGERPRINT_KEY);
        if !path.try_exists()? {
            let none =
                format!("{}: there is no key yet; the first `claviger serve` makes it", path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, none));
        }
        let mut file = TrustedOwner::of(state).open(&path)?;
        let key = read_key(&mut file).map_err(|error| with_path(&path, &error))?;
        Ok(HmacKey::new(key.expose()))
    }

    /// Who signs the heads of a trail of this name; its key is made when it is missing, and its public part
    /// stands in a file beside it, for auditors.
    ///
    /// # Errors
    /// As [`Self::fingerprint_key`].
    pub fn signer(&self, origin: &str) -> io::Result<Signer> {
        let signer = Signer::new(origin, self.key(SIGNING_KEY)?.expose()).map_err(io::Error::other)?;
        let (path, public) = (public_key(&self.path), format!("{}\n", signer.verifier().to_text()));
        if fs::read_to_string(&path).ok().as_deref() != Some(public.as_str()) {
            let replaced = trust::replace(&path, public.as_bytes());
            replaced.map_err(|error| with_path(&path, &error))?;
        }
        Ok(signer)
    }

    /// The key in this file; made when it is missing.
    fn key(&self, name: &str) -> io::Result<Secret> {
        let path = self.path.join(name);
        let made = || -> io::Result<Secret> {
            let mut bytes = vec![0; KEY_LEN];
            aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
            let mut file = trust::create(&path)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            Ok(Secret::new(bytes))
        };
        match TrustedOwner::of(&self.path).open(&path) {
            Ok(mut file) => read_key(&mut file).map_err(|error| with_path(&path, &error)),
            Err(FileTrustError::Unreadable(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                made().map_err(|error| with_path(&path, &error))
            }
            Err(ill) => Err(ill.into()),
        }
    }
}

/// Where the public part of the key that signs heads is, in a state folder.
#[must_use]
pub fn public_key(state: &Path) -> PathBuf {
    state.join(PUBLIC_KEY)
}

/// Checks a folder in which nobody else may even put a file, as they may where only owners replace theirs.
fn check(path: &Path, keeper: TrustedOwner) -> io::Result<()> {
    let mode = fs::metadata(path).map_err(|error| with_path(path, &error))?.mode() & 0o7777;
    if mode & 0o022 != 0 {
        let remedy = format!("{} is writable by others (mode {mode:o}): chmod 700 {0}", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, remedy));
    }
    keeper.check_folder(path)?;
    Ok(())
}

/// Keeps other servers out of a folder until the file is closed.
pub(crate) fn lock(folder: &Path) -> io::Result<File> {
    let path = folder.join("lock");
    // Root must not be led to another's file by whoever keeps the folder.
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
