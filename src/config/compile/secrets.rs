//! Reads secrets from the places that the file names, if owner and mode of those files are safe.

use std::io::{self, Read};
use std::path::Path;

use super::inputs::Scope;
use crate::config::file::Reference;
use crate::config::{Problem, Span, Spanned};
use crate::fs::trust::{FileTrustError, TrustedOwner};
use crate::secret::Secret;

/// The length of the longest secret, in bytes.
const LONGEST: usize = 64 * 1024;

/// The help for a file that cannot be read.
pub(super) const UNREADABLE: &str =
    "relative paths start in the folder of this file, and the gateway must be able to read what they name";

/// The problem with a file of secrets, with its remedy; `what` names the file: "the secret".
pub(super) fn problem(fault: &FileTrustError, span: Span, what: &str) -> Problem {
    let problem = Problem::error(span, format!("{what} cannot be used: {fault}"));
    problem.help(fault.remedy().unwrap_or_else(|| UNREADABLE.into()))
}

/// Reads the secret that a reference names.
pub(super) fn read(scope: &mut Scope<'_>, reference: &Spanned<Reference>) -> Option<Secret> {
    let secret = match &reference.value {
        Reference::Env(name) => {
            let value = (scope.inputs.environment)(name).map(|value| Secret::new(value.into_bytes()));
            value.ok_or_else(|| {
                let title = format!("the environment has no variable `{name}`");
                Problem::error(reference.span, title).help("set it where the gateway is started")
            })
        }
        Reference::File(path) => read_secret_file(path, TrustedOwner::of(&scope.file.state_dir.value))
            .map_err(|fault| problem(&fault, reference.span, "the secret")),
    };
    secret.map_err(|problem| scope.problems.push(problem)).ok()
}

/// Reads a file of secrets, if its owner and mode are safe.
///
/// # Errors
/// [`FileTrustError`], if the file cannot be read or trusted, or is too long.
pub fn read_secret_file(path: &Path, keeper: TrustedOwner) -> Result<Secret, FileTrustError> {
    let file = keeper.open(path)?;
    read_secret(file).map_err(|error| FileTrustError::unreadable(path, error))
}

/// Reads a whole secret.
///
/// # Errors
/// An I/O error if the secret cannot be read or is too long.
pub fn read_secret(source: impl Read) -> io::Result<Secret> {
    // The capacity suffices for the longest secret, so that growth leaves no copy in memory.
    let mut bytes = Vec::with_capacity(LONGEST + 1);
    source.take(LONGEST as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST {
        let reason = format!("it is longer than any secret: at most {LONGEST} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(Secret::new(bytes))
}
