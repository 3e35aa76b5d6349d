//! Private files and folders of the gateway: their creation, and the checks that they are still private.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown};
use rustix::process::geteuid;

/// The largest number of links that are followed to a file: as many as the kernel follows.
const MOST_LINKS: usize = 40;

/// The user that the gateway runs as. Files of any other user but root are not trusted, since their owner can alter
/// them, and open them to others, at will.
#[derive(Debug, Clone, Copy)]
pub struct TrustedOwner(u32);

/// A file or folder that is not trusted.
#[derive(Debug)]
pub struct FileTrustError {
    /// The file or folder at fault.
    pub path: PathBuf,
    fault: Fault,
}

/// The reason why a file or folder is not trusted.
#[derive(Debug)]
enum Fault {
    /// The file or its metadata cannot be read.
    Unreadable(io::Error),
    /// Group or others may read or write the file, which has this mode.
    Exposed(u32),
    /// Group or others may replace files in the folder, which has this mode.
    ExposedFolder(u32),
    /// The file belongs to neither root nor the gateway's user: the user ids of its owner and of the gateway.
    Foreign { owner: u32, gateway: u32 },
}

impl TrustedOwner {
    /// Returns the trusted owner of files for this state folder.
    ///
    /// A non-root process must own the files itself. Root acts for the gateway, whose user owns the state folder.
    /// `sudo claviger token issue` must check files as that gateway would, and that user could replace everything in
    /// the folder anyway. If any user may create folders at that place (/tmp), root trusts only its own files, since
    /// the folder's owner may be any user.
    #[must_use]
    pub fn of(state: &Path) -> Self {
        let user = geteuid().as_raw();
        if user != 0 {
            return Self(user);
        }
        let is_chosen = fs::metadata(folder(state)).is_ok_and(|parent| parent.mode() & 0o002 == 0);
        let owner = fs::metadata(state).ok().filter(|_| is_chosen);
        Self(owner.map_or(user, |state| state.uid()))
    }

    /// Opens a file that nobody else can read or replace.
    ///
    /// # Errors
    /// A [`FileTrustError`] with the path at fault.
    pub fn open(self, path: &Path) -> Result<File, FileTrustError> {
        let real = self.resolve_links(path)?;
        let unreadable = |error| FileTrustError::unreadable(path, error);
        let file = File::open(&real).map_err(unreadable)?;
        self.check(&real, &file.metadata().map_err(unreadable)?)?;
        Ok(file)
    }

    /// Opens a file like [`open`](Self::open); `None` if there is no such file.
    ///
    /// # Errors
    /// A [`FileTrustError`] with the path at fault.
    pub fn open_if_present(self, path: &Path) -> Result<Option<File>, FileTrustError> {
        match self.open(path) {
            Err(FileTrustError { fault: Fault::Unreadable(error), .. })
                if error.kind() == io::ErrorKind::NotFound =>
            {
                Ok(None)
            }
            opened => opened.map(Some),
        }
    }

    /// Checks a folder, and the links that lead to it.
    ///
    /// # Errors
    /// A [`FileTrustError`] with the path at fault.
    pub fn check_folder(self, path: &Path) -> Result<(), FileTrustError> {
        let real = self.resolve_links(path)?;
        let found = fs::metadata(&real).map_err(|error| FileTrustError::unreadable(path, error))?;
        self.check(&real, &found)
    }

    /// Resolves the links of `path`, and checks the folder of the file and each link with its folder. A user who may
    /// replace a link need not have access to the file.
    fn resolve_links(self, path: &Path) -> Result<PathBuf, FileTrustError> {
        let unreadable = |error| FileTrustError::unreadable(path, error);
        let mut step = path.to_owned();
        for _ in 0..MOST_LINKS {
            let found = fs::symlink_metadata(&step).map_err(unreadable)?;
            if found.is_dir() {
                return Ok(step);
            }
            let around = folder(&step);
            self.check(around, &fs::metadata(around).map_err(unreadable)?)?;
            if !found.is_symlink() {
                return Ok(step);
            }
            self.check(&step, &found)?;
            step = around.join(fs::read_link(&step).map_err(unreadable)?);
        }
        Err(unreadable(rustix::io::Errno::LOOP.into()))
    }

    /// Checks one file, folder or link by its metadata.
    ///
    /// # Errors
    /// A [`FileTrustError`] if other users own the file, may read or write it, or may replace files in the folder.
    pub fn check(self, path: &Path, found: &Metadata) -> Result<(), FileTrustError> {
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        let fault = if owner != 0 && owner != self.0 {
            Fault::Foreign { owner, gateway: self.0 }
        } else if found.is_symlink() {
            // A link has no mode of its own.
            return Ok(());
        } else if found.is_dir() && mode & 0o022 != 0 && mode & 0o1000 == 0 {
            // With the sticky bit (/tmp), only owners may replace their own files, so the gateway's files are safe.
            Fault::ExposedFolder(mode)
        } else if !found.is_dir() && is_exposed(mode, owner, self.0) {
            Fault::Exposed(mode)
        } else {
            return Ok(());
        };
        Err(FileTrustError { path: path.to_owned(), fault })
    }
}

/// Whether a file with this mode and owner is accessible to users other than the gateway's.
///
/// systemd's credentials and Kubernetes' secrets belong to root and are readable for the one group or ACL that root
/// chose. A gateway that does not run as root must accept that.
fn is_exposed(mode: u32, owner: u32, gateway: u32) -> bool {
    let chosen = if owner == 0 && gateway != 0 { 0o040 } else { 0 };
    mode & 0o077 & !chosen != 0
}

impl FileTrustError {
    /// Makes the error for a file that cannot be read.
    #[must_use]
    pub fn unreadable(path: &Path, error: io::Error) -> Self {
        Self { path: path.to_owned(), fault: Fault::Unreadable(error) }
    }

    /// Returns the shell command that corrects the fault, if there is one.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let (path, of_link) = (self.path.display(), if self.path.is_symlink() { "-h " } else { "" });
        match &self.fault {
            Fault::Unreadable(_) => None,
            Fault::Exposed(_) => Some(format!("chmod 600 {path}")),
            Fault::ExposedFolder(_) => Some(format!("chmod go-w {path}")),
            Fault::Foreign { gateway: 0, .. } => Some(format!("chown {of_link}root {path}")),
            Fault::Foreign { gateway, .. } => Some(format!("chown {of_link}{gateway} {path}")),
        }
    }

    /// Describes the fault and its remedy without the path, for callers that name the path themselves.
    #[must_use]
    pub fn reason(&self) -> String {
        let why = match &self.fault {
            Fault::Unreadable(error) => error.to_string(),
            Fault::Exposed(_) | Fault::ExposedFolder(_) | Fault::Foreign { .. } => self.message("it"),
        };
        self.remedy().map_or(why.clone(), |remedy| format!("{why}: {remedy}"))
    }

    fn message(&self, name: &str) -> String {
        match &self.fault {
            Fault::Unreadable(error) => format!("{name}: {error}"),
            Fault::Exposed(mode) => format!("{name} is open to others (mode {mode:o})"),
            Fault::ExposedFolder(mode) => format!("others may replace files in {name} (mode {mode:o})"),
            Fault::Foreign { owner, .. } => {
                format!("{name} belongs to another user (uid {owner}), who may alter it")
            }
        }
    }
}

impl fmt::Display for FileTrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(&self.path.display().to_string()))
    }
}

impl From<FileTrustError> for io::Error {
    fn from(error: FileTrustError) -> Self {
        let kind = match &error.fault {
            Fault::Unreadable(error) => error.kind(),
            Fault::Exposed(_) | Fault::ExposedFolder(_) | Fault::Foreign { .. } => {
                io::ErrorKind::PermissionDenied
            }
        };
        Self::new(kind, format!("{}: {}", error.path.display(), error.reason()))
    }
}

/// Creates a file that only its owner can read and write. Fails if the file exists.
///
/// A file that root creates is given to the owner of the folder, so that a gateway under another user can use it.
///
/// # Errors
/// An I/O error if the file exists, cannot be created, or cannot be given to the folder's owner.
pub fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    hand_over(&file, path)?;
    Ok(file)
}

/// Creates a private file with these bytes, as [`create`] does, and flushes it.
///
/// # Errors
/// An I/O error if the file exists, or cannot be created, written or flushed.
pub fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fill(create(path)?, bytes)
}

/// Durably and atomically replaces the file at `path` by a private file with these bytes.
///
/// # Errors
/// An I/O error if the new file cannot be written, flushed or renamed.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace_with(path, bytes, create)
}

/// Like [`replace`], with a file that `create` makes.
///
/// # Errors
/// An I/O error if the new file cannot be created, written, flushed or renamed.
pub fn replace_with(
    path: &Path,
    bytes: &[u8],
    create: impl FnOnce(&Path) -> io::Result<File>,
) -> io::Result<()> {
    // No file of claviger's ends in `~`; a file `a.new` may exist beside `a`.
    let new = beside(path, "~");
    remove_if_present(&new)?;
    fill(create(&new)?, bytes)?;
    fs::rename(&new, path)?;
    sync_folder(path)
}

fn fill(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

/// Flushes the folder that contains `path`, so that a rename in it survives a power failure.
///
/// # Errors
/// An I/O error if the folder cannot be opened or flushed.
pub fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Returns `None` in place of the error that a file or folder does not exist.
///
/// # Errors
/// Every other error of `result`.
pub fn if_found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Removes a file, for example the remains of an interrupted replacement. Does nothing if there is none.
///
/// # Errors
/// An I/O error if the file cannot be removed.
pub fn remove_if_present(path: &Path) -> io::Result<()> {
    if_found(fs::remove_file(path)).map(|_| ())
}

/// Returns `path` with `end` appended to the file's name.
#[must_use]
pub fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// Creates a private file that will replace `former`. If root creates it, it gets owner, group and mode of `former`.
///
/// # Errors
/// An I/O error if the file exists or cannot be created, or if its owner or mode cannot be set.
pub fn create_for(path: &Path, former: &Path) -> io::Result<File> {
    let file = create(path)?;
    if geteuid().is_root()
        && let Ok(former) = fs::metadata(former)
    {
        give(&file, &former)?;
        file.set_permissions(fs::Permissions::from_mode(former.mode() & 0o777))?;
    }
    Ok(file)
}

/// Creates a folder that only its owner can enter, and its missing parent folders. Does nothing if the folder exists.
/// A folder that root creates is given to the owner of its parent folder.
///
/// # Errors
/// An I/O error if the folder cannot be created, or cannot be given to that owner.
pub fn create_folder(path: &Path) -> io::Result<()> {
    let around = folder(path);
    if path.parent().is_some() && !around.try_exists()? {
        create_folder(around)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            // The owner of the parent folder may have replaced the new folder by a link.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            hand_over(&File::from(rustix::fs::open(path, flags, Mode::empty())?), path)
        }
    }
}

/// Gives a file or folder that root created at `path` to the owner of its parent folder.
///
/// # Errors
/// An I/O error if the parent folder's metadata cannot be read, or the owner cannot be set.
pub fn hand_over(created: &File, path: &Path) -> io::Result<()> {
    if geteuid().is_root() {
        give(created, &fs::metadata(folder(path))?)?;
    }
    Ok(())
}

/// Sets owner and group of `file` to those of `other`.
fn give(file: &File, other: &Metadata) -> io::Result<()> {
    fchown(file, Some(Uid::from_raw(other.uid())), Some(Gid::from_raw(other.gid()))).map_err(io::Error::from)
}

/// Returns the folder that contains a file.
#[must_use]
pub fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::{is_exposed, replace};

    #[test]
    fn a_file_is_replaced_and_its_neighbours_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let (path, neighbour) = (dir.path().join("siem"), dir.path().join("siem.new"));
        for (path, bytes) in [(&neighbour, "of another"), (&path, "first"), (&path, "second")] {
            replace(path, bytes.as_bytes()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(std::fs::read_to_string(&neighbour).unwrap(), "of another");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_group_may_read_only_what_root_hands_over() {
        let (root, gateway, other) = (0, 65532, 1000);
        for (mode, owner, user, is_open) in [
            (0o600, gateway, gateway, false),
            (0o440, root, gateway, false),
            (0o640, root, gateway, false),
            (0o440, root, root, true),
            (0o440, gateway, gateway, true),
            (0o440, other, gateway, true),
            (0o460, root, gateway, true),
            (0o450, root, gateway, true),
            (0o444, root, gateway, true),
            (0o442, root, gateway, true),
        ] {
            assert_eq!(is_exposed(mode, owner, user), is_open, "{mode:o} of {owner} for {user}");
        }
    }
}
