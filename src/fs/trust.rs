//! Files and folders that are the gateway's alone: how they are made, and whether they are so still.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown};
use rustix::process::geteuid;

/// As many links are followed to a file, as the kernel does.
const MOST_LINKS: usize = 40;

/// The user that the gateway runs as. What belongs to anybody else but root is not to be trusted: its
/// owner alters it, and opens it to others, at will.
#[derive(Debug, Clone, Copy)]
pub struct TrustedOwner(u32);

/// Why a file or folder is not to be trusted.
#[derive(Debug)]
pub enum FileTrustError {
    /// It cannot be read.
    Unreadable(PathBuf, io::Error),
    /// Group or others may read or write it.
    Exposed(PathBuf, u32),
    /// Group or others may replace what is in it.
    ExposedFolder(PathBuf, u32),
    /// It belongs to neither root nor the gateway's user.
    Foreign {
        /// What does.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// The gateway's user.
        keeper: u32,
    },
}

impl TrustedOwner {
    /// The one of this state folder. Who is not root keeps it himself. Root works for the gateway, to
    /// whose user the folder belongs: `sudo claviger token issue` must judge as that gateway would,
    /// and its user could replace all that is in there anyway. Only where anybody may make a folder
    /// (/tmp), its owner may be anybody.
    #[must_use]
    pub fn of(state: &Path) -> Self {
        let own = geteuid().as_raw();
        if own != 0 {
            return Self(own);
        }
        let chosen = fs::metadata(folder(state)).is_ok_and(|parent| parent.mode() & 0o002 == 0);
        let owner = fs::metadata(state).ok().filter(|_| chosen);
        Self(owner.map_or(own, |state| state.uid()))
    }

    /// Opens a file that nobody else can read or replace.
    ///
    /// # Errors
    /// [`FileTrustError`], with the path that is at fault.
    pub fn open(self, path: &Path) -> Result<File, FileTrustError> {
        let real = self.resolve_links(path)?;
        let unreadable = |error| FileTrustError::Unreadable(path.to_owned(), error);
        let file = File::open(&real).map_err(unreadable)?;
        self.check(&real, &file.metadata().map_err(unreadable)?)?;
        Ok(file)
    }

    /// Checks a folder, and the links that lead to it.
    ///
    /// # Errors
    /// [`FileTrustError`], with the path that is at fault.
    pub fn check_folder(self, path: &Path) -> Result<(), FileTrustError> {
        let real = self.resolve_links(path)?;
        let found =
            fs::metadata(&real).map_err(|error| FileTrustError::Unreadable(path.to_owned(), error))?;
        self.check(&real, &found)
    }

    /// Where `path` leads, once the folder that a file stands in is checked, and each link on the way
    /// there with its folder: who may replace the link need not replace the file.
    fn resolve_links(self, path: &Path) -> Result<PathBuf, FileTrustError> {
        let unreadable = |error| FileTrustError::Unreadable(path.to_owned(), error);
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

    /// Judges one file, folder or link by what the system says of it.
    ///
    /// # Errors
    /// [`FileTrustError`].
    pub fn check(self, path: &Path, found: &Metadata) -> Result<(), FileTrustError> {
        let (owner, mode) = (found.uid(), found.mode() & 0o7777);
        if owner != 0 && owner != self.0 {
            return Err(FileTrustError::Foreign { path: path.to_owned(), owner, keeper: self.0 });
        }
        if found.is_symlink() {
            // It has no mode of its own.
            return Ok(());
        }
        if found.is_dir() {
            // Where only owners may replace their own files (/tmp), those of ours are in no danger.
            let open = mode & 0o022 != 0 && mode & 0o1000 == 0;
            return if open { Err(FileTrustError::ExposedFolder(path.to_owned(), mode)) } else { Ok(()) };
        }
        if is_exposed(mode, owner, self.0) {
            Err(FileTrustError::Exposed(path.to_owned(), mode))
        } else {
            Ok(())
        }
    }
}

/// Whether a file of this mode and owner is open to others than `keeper`. systemd's credentials and
/// Kubernetes' secrets are root's, and readable for the one group or list that root chose: from a
/// gateway that is not root itself, nothing less can be asked.
fn is_exposed(mode: u32, owner: u32, keeper: u32) -> bool {
    let chosen = if owner == 0 && keeper != 0 { 0o040 } else { 0 };
    mode & 0o077 & !chosen != 0
}

impl FileTrustError {
    /// What is at fault.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Unreadable(path, _)
            | Self::Exposed(path, _)
            | Self::ExposedFolder(path, _)
            | Self::Foreign { path, .. } => path,
        }
    }

    /// The command that helps, where one does.
    #[must_use]
    pub fn remedy(&self) -> Option<String> {
        let (path, of_link) = (self.path().display(), if self.path().is_symlink() { "-h " } else { "" });
        match self {
            Self::Unreadable(..) => None,
            Self::Exposed(..) => Some(format!("chmod 600 {path}")),
            Self::ExposedFolder(..) => Some(format!("chmod go-w {path}")),
            Self::Foreign { keeper: 0, .. } => Some(format!("chown {of_link}root {path}")),
            Self::Foreign { keeper, .. } => Some(format!("chown {of_link}{keeper} {path}")),
        }
    }

    /// What is wrong with it and what helps, for those who name the path themselves.
    #[must_use]
    pub fn reason(&self) -> String {
        let why = match self {
            Self::Unreadable(_, error) => error.to_string(),
            Self::Exposed(..) | Self::ExposedFolder(..) | Self::Foreign { .. } => self.message("it"),
        };
        self.remedy().map_or(why.clone(), |remedy| format!("{why}: {remedy}"))
    }

    fn message(&self, name: &str) -> String {
        match self {
            Self::Unreadable(_, error) => format!("{name}: {error}"),
            Self::Exposed(_, mode) => format!("{name} is open to others (mode {mode:o})"),
            Self::ExposedFolder(_, mode) => format!("others may replace files in {name} (mode {mode:o})"),
            Self::Foreign { owner, .. } => {
                format!("{name} belongs to another user (uid {owner}), who may alter it")
            }
        }
    }
}

impl fmt::Display for FileTrustError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message(&self.path().display().to_string()))
    }
}

impl From<FileTrustError> for io::Error {
    fn from(ill: FileTrustError) -> Self {
        let kind = match &ill {
            FileTrustError::Unreadable(_, error) => error.kind(),
            FileTrustError::Exposed(..)
            | FileTrustError::ExposedFolder(..)
            | FileTrustError::Foreign { .. } => io::ErrorKind::PermissionDenied,
        };
        Self::new(kind, format!("{}: {}", ill.path().display(), ill.reason()))
    }
}

/// Makes a file that its owner alone can read and write, where there is none. Made by root, it
/// belongs to the owner of the folder: a gateway that runs as another must be able to use what a
/// custodian makes for it.
///
/// # Errors
/// As the file system's.
pub fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    hand_over(&file, path)?;
    Ok(file)
}

/// Puts a file of ours, with these bytes, in the place of what is at `path`: durably, and whole or not at all.
///
/// # Errors
/// As the file system's.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    // No name of ours ends so: beside `a` there may be an `a.new`.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push("~");
    let fresh = PathBuf::from(fresh);
    match fs::remove_file(&fresh) {
        // One that was cut off.
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = create(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    File::open(folder(path))?.sync_all()
}

/// The same for a file that will take the place of `former`: made by root, it is open to whom that is.
///
/// # Errors
/// As the file system's.
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

/// Makes a folder that its owner alone can enter, with those that it is in, where there is none. Made
/// by root, it belongs to the owner of the folder that it is in.
///
/// # Errors
/// As the file system's.
pub fn create_folder(path: &Path) -> io::Result<()> {
    let around = folder(path);
    if path.parent().is_some() && !around.try_exists()? {
        create_folder(around)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(_) if path.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            // Whoever keeps the folder around may have put a link in its place.
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            hand_over(&File::from(rustix::fs::open(path, flags, Mode::empty())?), path)
        }
    }
}

/// Gives what root has made at `path` to the owner of the folder that it is in.
///
/// # Errors
/// As the file system's.
pub fn hand_over(made: &File, path: &Path) -> io::Result<()> {
    if geteuid().is_root() {
        give(made, &fs::metadata(folder(path))?)?;
    }
    Ok(())
}

/// Makes the owner and the group of `other` those of `made`.
fn give(made: &File, other: &Metadata) -> io::Result<()> {
    fchown(made, Some(Uid::from_raw(other.uid())), Some(Gid::from_raw(other.gid()))).map_err(io::Error::from)
}

/// The folder that a file is in.
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
        for (mode, owner, own, open) in [
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
            assert_eq!(is_exposed(mode, owner, own), open, "{mode:o} of {owner} for {own}");
        }
    }
}
