//! Reads the material of a credential, as an operator supplies it.

use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::session::StoreSession;
use crate::config::file::Profile;
use crate::custody::{Kind, Material};
use crate::secret::Secret;
use crate::storage::CredentialRow;

/// Material as it is given.
#[derive(Args)]
pub(in crate::cli) struct SecretArgs {
    /// The id of an access key, of an RSA key (system/…), or of a client
    #[arg(long)]
    id: Option<String>,
    /// The name of a login
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// A file that holds the secret alone; `-` for standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// Reads material, and checks that it suits the upstream. Products answer most faults of a key in ways that cannot be
/// told apart later.
pub(crate) fn material(
    desk: &StoreSession,
    row: &CredentialRow,
    given: &SecretArgs,
) -> anyhow::Result<(String, Secret)> {
    let Some(upstream) = desk.file.upstreams.find(&row.upstream) else {
        bail!("the file declares no upstream `{}`", row.upstream.escape_debug());
    };
    let kind = upstream.scheme.value.kind();
    let fits = kind.as_str();
    if row.kind != fits {
        bail!("the scheme of the upstream `{}` takes a credential of the kind `{fits}`", row.upstream);
    }
    let flag = match kind {
        Kind::AccessKey | Kind::Rsa | Kind::Client => "--id",
        Kind::Login => "--username",
        Kind::Value => "",
    };
    let id = match (flag, &given.id, &given.username) {
        ("--id", Some(id), None) | ("--username", None, Some(id)) => id.clone(),
        ("", None, None) => String::new(),
        ("--id", None, None) => bail!("a credential of the kind `{fits}` has an id: --id"),
        ("--username", None, None) => bail!("a credential of the kind `{fits}` has a user name: --username"),
        ("--id", _, Some(_)) => bail!("a credential of the kind `{fits}` has no user name"),
        (_, _, _) => bail!("a credential of the kind `{fits}` has no id"),
    };
    let secret = secret(given, kind)?;
    let uuid = upstream.profile.value == Profile::JumpServer;
    Material::parse(&row.kind, &id, &secret, uuid)?;
    Ok((id, secret))
}

/// Reads the secret from a file, a prompt or standard input. It is never an argument, which other users can read.
fn secret(given: &SecretArgs, kind: Kind) -> anyhow::Result<Secret> {
    if given.secret_file.is_none() && kind == Kind::Rsa && std::io::stdin().is_terminal() {
        bail!("a key in PEM has many lines: give it by --secret-file, or on standard input");
    }
    read_secret(given.secret_file.as_deref())
}

/// Reads a secret from a file or, if there is none or it is `-`, from standard input. A terminal gets a prompt.
pub(in crate::cli) fn read_secret(file: Option<&Path>) -> anyhow::Result<Secret> {
    /// The longest secret, in bytes.
    const LONGEST: usize = 64 * 1024;
    // The capacity suffices for the longest secret, so that growth leaves no copy in memory.
    let mut bytes = Vec::with_capacity(LONGEST + 1);
    let most = u64::try_from(LONGEST)? + 1;
    match file {
        Some(path) if path.as_os_str() != "-" => {
            let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
            file.take(most).read_to_end(&mut bytes).with_context(|| path.display().to_string())?;
        }
        None if std::io::stdin().is_terminal() => {
            bytes = rpassword::prompt_password("secret: ")?.into_bytes();
        }
        Some(_) | None => {
            std::io::stdin().take(most).read_to_end(&mut bytes)?;
        }
    }
    let secret = Secret::new(bytes);
    if secret.expose().len() > LONGEST {
        bail!("it is longer than any secret: at most {LONGEST} bytes");
    }
    Ok(secret)
}
