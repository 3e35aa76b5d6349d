//! Reading secrets where the file says they are, if they are well kept there.

use std::fmt;
use std::fs::{self, File as Opened};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::geteuid;

use super::Surroundings;
use super::upstreams::Upstreams;
use crate::config::file::{File, Profile, Reference};
use crate::config::{At, Problem, Problems, Span};
use crate::custody::{self, Credential};
use crate::secret::Secret;

/// The longest secret, in bytes.
const LONGEST: u64 = 64 * 1024;

/// What to do about a file that cannot be read.
pub(super) const UNREADABLE: &str =
    "relative paths start in the folder of this file, and the gateway must be able to read what they name";

/// Why a file of secrets cannot be used.
#[derive(Debug)]
pub enum Ill {
    /// It cannot be read.
    Unreadable(PathBuf, io::Error),
    /// Group or others may read or write it.
    Exposed(PathBuf, u32),
    /// Group or others may replace it.
    ExposedFolder(PathBuf, u32),
}

impl Ill {
    /// The problem with its remedy; `what` is the file: "the secret".
    pub(super) fn problem(&self, span: Span, what: &str) -> Problem {
        let problem = Problem::error(span, format!("{what} cannot be used: {self}"));
        match self {
            Self::Unreadable(..) => problem.help(UNREADABLE),
            Self::Exposed(path, _) => problem.help(format!("chmod 600 {}", path.display())),
            Self::ExposedFolder(path, _) => problem.help(format!("chmod go-w {}", path.display())),
        }
    }
}

impl fmt::Display for Ill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Exposed(path, mode) => write!(f, "{} is open to others (mode {mode:o})", path.display()),
            Self::ExposedFolder(path, mode) => {
                write!(f, "others may replace files in {} (mode {mode:o})", path.display())
            }
        }
    }
}

/// Whether the file is kept so that only its owner reads it and only its owner replaces it.
///
/// # Errors
/// [`Ill`], with the path that is at fault.
pub(super) fn guarded(path: &Path) -> Result<(), Ill> {
    let unreadable = |error| Ill::Unreadable(path.to_owned(), error);
    let real = fs::canonicalize(path).map_err(unreadable)?;
    let kept = fs::metadata(&real).map_err(unreadable)?;
    let mode = kept.mode() & 0o7777;
    if exposed(mode, kept.uid(), geteuid().as_raw()) {
        return Err(Ill::Exposed(path.to_owned(), mode));
    }
    // A folder in which only owners may replace their own files (/tmp) is no danger to a file of ours.
    let folder = real.parent().unwrap_or(Path::new("/"));
    let kept = fs::metadata(folder).map_err(unreadable)?;
    let mode = kept.mode() & 0o7777;
    if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        return Err(Ill::ExposedFolder(folder.to_owned(), mode));
    }
    Ok(())
}

/// Whether a file of this mode and owner is open to others than `own`, the user that the gateway runs as.
/// systemd's credentials and Kubernetes' secrets are root's, and readable for the one group or list
/// that root chose: from a gateway that is not root itself, nothing less can be asked.
fn exposed(mode: u32, owner: u32, own: u32) -> bool {
    let chosen = if owner == 0 && own != 0 { 0o040 } else { 0 };
    mode & 0o077 & !chosen != 0
}

/// The credentials of the file that grants use, each with its place.
pub(super) fn credentials(
    file: &File,
    problems: &mut Problems,
    upstreams: &Upstreams,
    around: &Surroundings<'_>,
) -> Vec<(usize, Credential)> {
    let mut found: Vec<(usize, Credential)> = Vec::new();
    for (name, credential) in file.credentials.iter() {
        let used = upstreams.credentials.get(name).copied();
        // What uses it may be what could not be read.
        if used.is_none() && !problems.has_errors() {
            let title = format!("no grant uses the credential `{name}`");
            problems.push(Problem::warning(credential.name.span, title));
        }
        if let Some(kept) = around.kept() {
            let held = used.and_then(|(place, _)| Some((place, kept.custody.find(name, 1, None)?.again())));
            found.extend(held);
            continue;
        }
        let bound = used.and_then(|(_, upstream)| upstreams.compiled.get(upstream));
        let uuid = bound.is_some_and(|upstream| {
            file.upstreams
                .find(upstream.name.as_str())
                .is_some_and(|declared| declared.profile.value == Profile::JumpServer)
        });
        let (id, secret) = credential.material.parts();
        let Some(read) = read(secret, problems, around.environment) else { continue };
        let (kind, key_id) = (credential.material.kind().as_str(), id.map_or("", |id| id.value.as_str()));
        let material = match custody::Material::of_kind(kind, key_id, &read, uuid) {
            Ok(material) => material,
            Err(why) => {
                let (of_id, help) = remedy(why);
                let id = id.map_or(credential.name.span, |id| id.span);
                let span = if of_id { id } else { secret.span };
                problems.push(Problem::error(span, format!("the credential cannot work: {why}")).help(help));
                continue;
            }
        };
        if let (Some((place, _)), Some(upstream), Some(called)) = (used, bound, super::name(name)) {
            let origin = upstream.credential_origin().clone();
            let credential = Credential::new(called, 1, origin, material);
            found.push((place, credential.known_since(written(secret))));
        }
    }
    found
}

/// Whether it is the id that is at fault, and what to do about it.
const fn remedy(why: custody::Unusable) -> (bool, &'static str) {
    match why {
        custody::Unusable::Kind
        | custody::Unusable::KeyId
        | custody::Unusable::IdOfValue
        | custody::Unusable::KeyIdBytes => (true, "JumpServer shows it beside the secret"),
        custody::Unusable::ClientId => (true, "it is shown beside the secret, where the client was made"),
        custody::Unusable::Username => (true, "write the name that is typed at a login"),
        custody::Unusable::Empty | custody::Unusable::NotAscii => (false, "write the secret alone into it"),
        custody::Unusable::Rsa(_) => (false, "openssl genrsa 2048 makes one"),
        custody::Unusable::Password => (false, "write the password alone into it, in UTF-8"),
    }
}

/// When the file that a reference names was last written.
fn written(reference: &At<Reference>) -> Option<SystemTime> {
    match &reference.value {
        Reference::File(path) => std::fs::metadata(path).and_then(|file| file.modified()).ok(),
        Reference::Env(_) => None,
    }
}

fn read(
    reference: &At<Reference>,
    problems: &mut Problems,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Option<Secret> {
    match &reference.value {
        Reference::Env(name) => {
            let value = environment(name).map(|value| Secret::new(value.into_bytes()));
            if value.is_none() {
                let title = format!("the environment has no variable `{name}`");
                problems
                    .push(Problem::error(reference.span, title).help("set it where the gateway is started"));
            }
            value
        }
        Reference::File(path) => {
            kept(path).map_err(|why| problems.push(why.problem(reference.span, "the secret"))).ok()
        }
    }
}

/// What a file of secrets holds, if it is well kept.
///
/// # Errors
/// [`Ill`].
pub fn kept(path: &Path) -> Result<Secret, Ill> {
    guarded(path)?;
    read_file(path).map_err(|error| Ill::Unreadable(path.to_owned(), error))
}

fn read_file(path: &Path) -> io::Result<Secret> {
    // With room for most secrets, so that growing leaves no copy behind.
    let mut bytes = Vec::with_capacity(4096);
    Opened::open(path)?.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LONGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than any secret"));
    }
    Ok(Secret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::exposed;

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
            assert_eq!(exposed(mode, owner, own), open, "{mode:o} of {owner} for {own}");
        }
    }
}
