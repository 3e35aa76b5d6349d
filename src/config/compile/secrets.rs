//! Reads secrets from the places that the file names, if owner and mode of those files are safe.

use std::fs::File as Opened;
use std::io::{self, Read as _};
use std::path::Path;
use std::time::SystemTime;

use super::CompileInputs;
use super::upstreams::Upstreams;
use crate::config::file::{File, Profile, Reference};
use crate::config::{Problem, Problems, Span, Spanned};
use crate::custody::{self, Credential};
use crate::fs::trust::{FileTrustError, TrustedOwner};
use crate::ids::CredentialId;
use crate::secret::Secret;

/// The length of the longest secret, in bytes.
const LONGEST: u64 = 64 * 1024;

/// The help for a file that cannot be read.
pub(super) const UNREADABLE: &str =
    "relative paths start in the folder of this file, and the gateway must be able to read what they name";

/// The problem with a file of secrets, with its remedy; `what` names the file: "the secret".
pub(super) fn problem(ill: &FileTrustError, span: Span, what: &str) -> Problem {
    let problem = Problem::error(span, format!("{what} cannot be used: {ill}"));
    problem.help(ill.remedy().unwrap_or_else(|| UNREADABLE.into()))
}

/// The credentials of the file that grants use, each with its index.
pub(super) fn credentials(
    file: &File,
    problems: &mut Problems,
    upstreams: &Upstreams,
    around: &CompileInputs<'_>,
) -> Vec<(CredentialId, Credential)> {
    let mut found: Vec<(CredentialId, Credential)> = Vec::new();
    let keeper = TrustedOwner::of(&file.state_dir.value);
    for (name, credential) in file.credentials.iter() {
        let used = upstreams.credentials.get(name).copied();
        // The grant that uses it may be one that could not be read.
        if used.is_none() && !problems.has_errors() {
            let title = format!("no grant uses the credential `{name}`");
            problems.push(Problem::warning(credential.name.span, title));
        }
        if let Some(kept) = around.kept() {
            let held = used.and_then(|(place, _)| Some((place, kept.custody.find(name, 1, None)?.clone())));
            found.extend(held);
            continue;
        }
        let bound = used.and_then(|(_, upstream)| upstreams.get(upstream));
        let uuid = bound.is_some_and(|upstream| {
            file.upstreams
                .find(upstream.name.as_str())
                .is_some_and(|declared| declared.profile.value == Profile::JumpServer)
        });
        let (id, secret) = (credential.id.as_ref(), &credential.secret);
        let Some(read) = read(secret, problems, (around, keeper)) else { continue };
        let (kind, key_id) = (credential.kind, id.map_or("", |id| id.value.as_str()));
        let material = match custody::Material::parse(kind, key_id, &read, uuid) {
            Ok(material) => material,
            Err(why) => {
                let (of_id, help) = remedy(why);
                let id = id.map_or(credential.name.span, |id| id.span);
                let span = if of_id { id } else { secret.span };
                problems.push(Problem::error(span, format!("the credential cannot work: {why}")).help(help));
                continue;
            }
        };
        if let (Some((place, _)), Some(upstream)) = (used, bound) {
            let origins = upstream.credential_origins();
            let credential = Credential::new(credential.name.value, 1, origins, material);
            found.push((place, credential.with_start(modified_at(secret))));
        }
    }
    found
}

/// Whether the id is at fault, and the remedy.
const fn remedy(why: custody::MaterialError) -> (bool, &'static str) {
    match why {
        custody::MaterialError::KeyId
        | custody::MaterialError::IdOfValue
        | custody::MaterialError::KeyIdBytes => (true, "JumpServer shows it beside the secret"),
        custody::MaterialError::ClientId => {
            (true, "it is shown beside the secret, where the client was made")
        }
        custody::MaterialError::Username => (true, "write the name that is typed at a login"),
        custody::MaterialError::Empty | custody::MaterialError::Blank | custody::MaterialError::NotAscii => {
            (false, "write the secret alone into it")
        }
        custody::MaterialError::Rsa(_) => (false, "openssl genrsa 2048 makes one"),
        custody::MaterialError::Password => (false, "write the password alone into it, in UTF-8"),
    }
}

/// When the file that a reference names was last modified.
fn modified_at(reference: &Spanned<Reference>) -> Option<SystemTime> {
    match &reference.value {
        Reference::File(path) => std::fs::metadata(path).and_then(|file| file.modified()).ok(),
        Reference::Env(_) => None,
    }
}

/// Reads the secret that a reference names.
pub(super) fn read(
    reference: &Spanned<Reference>,
    problems: &mut Problems,
    (around, keeper): (&CompileInputs<'_>, TrustedOwner),
) -> Option<Secret> {
    match &reference.value {
        Reference::Env(name) => {
            let value = (around.environment)(name).map(|value| Secret::new(value.into_bytes()));
            if value.is_none() {
                let title = format!("the environment has no variable `{name}`");
                problems
                    .push(Problem::error(reference.span, title).help("set it where the gateway is started"));
            }
            value
        }
        Reference::File(path) => {
            let report = |ill| problems.push(problem(&ill, reference.span, "the secret"));
            read_secret_file(path, keeper).map_err(report).ok()
        }
    }
}

/// Reads a file of secrets, if its owner and mode are safe.
///
/// # Errors
/// [`FileTrustError`], if the file cannot be read or trusted, or is too long.
pub fn read_secret_file(path: &Path, keeper: TrustedOwner) -> Result<Secret, FileTrustError> {
    let file = keeper.open(path)?;
    read_whole(file).map_err(|error| FileTrustError::unreadable(path, error))
}

fn read_whole(file: Opened) -> io::Result<Secret> {
    // The capacity suffices for most secrets, so that growth leaves no copy in memory.
    let mut bytes = Vec::with_capacity(4096);
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LONGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than any secret"));
    }
    Ok(Secret::new(bytes))
}
