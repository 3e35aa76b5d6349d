//! Reads the material of a credential, as an operator supplies it.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;

use super::session::StoreSession;
use crate::config;
use crate::config::file::Profile;
use crate::custody::{Kind, Material};
use crate::secret::Secret;
use crate::storage::CredentialRow;

/// The public part of a credential, and the place of its secret.
#[derive(Args)]
pub(super) struct SecretArgs {
    /// The id of an access key, of an RSA key (system/…), or of a client
    #[arg(long)]
    id: Option<String>,
    /// The user name of a login
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// A file that contains only the secret; `-` for standard input
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArgs {
    /// Reads the material of a credential: its id, which may be empty, and its secret. Checks that it suits the
    /// upstream. Products answer most faults of a key in ways that look alike later.
    ///
    /// The secret comes from a file, a prompt or standard input. It is never an argument, which other users can read.
    pub(super) fn read(&self, desk: &StoreSession, row: &CredentialRow) -> anyhow::Result<(String, Secret)> {
        let Some(upstream) = desk.file.upstreams.find(&row.upstream) else {
            bail!("the file declares no upstream `{}`", row.upstream.escape_debug());
        };
        let kind = upstream.scheme.value.kind();
        if row.kind != kind.as_str() {
            let (upstream, kind) = (&row.upstream, kind.as_str());
            bail!("the scheme of the upstream `{upstream}` takes a credential of the kind `{kind}`");
        }
        let id = self.id_of(kind)?;
        if self.secret_file.is_none() && kind == Kind::Rsa && std::io::stdin().is_terminal() {
            bail!("a key in PEM has many lines: give it by --secret-file, or on standard input");
        }
        let secret = read_secret(self.secret_file.as_deref())?;
        Material::parse(kind, id, &secret, upstream.profile.value == Profile::JumpServer)?;
        Ok((id.to_owned(), secret))
    }

    /// The id or user name, for a credential of this kind.
    fn id_of(&self, kind: Kind) -> anyhow::Result<&str> {
        let name = kind.as_str();
        match (kind, &self.id, &self.username) {
            (Kind::AccessKey | Kind::Rsa | Kind::Client, Some(id), None) | (Kind::Login, None, Some(id)) => {
                Ok(id)
            }
            (Kind::Value, None, None) => Ok(""),
            (Kind::AccessKey | Kind::Rsa | Kind::Client, None, None) => {
                bail!("a credential of the kind `{name}` has an id: --id")
            }
            (Kind::Login, None, None) => {
                bail!("a credential of the kind `{name}` has a user name: --username")
            }
            (Kind::AccessKey | Kind::Rsa | Kind::Client, _, Some(_)) => {
                bail!("a credential of the kind `{name}` has no user name")
            }
            (Kind::Login | Kind::Value, ..) => bail!("a credential of the kind `{name}` has no id"),
        }
    }
}

/// Reads a secret from a file or, if there is none or it is `-`, from standard input. A terminal gets a prompt.
pub(in crate::cli) fn read_secret(file: Option<&Path>) -> anyhow::Result<Secret> {
    match file {
        Some(path) if path.as_os_str() != "-" => {
            let secret = std::fs::File::open(path).and_then(config::read_secret);
            secret.with_context(|| path.display().to_string())
        }
        None if std::io::stdin().is_terminal() => {
            let typed = Secret::new(rpassword::prompt_password("secret: ")?.into_bytes());
            Ok(config::read_secret(typed.expose())?)
        }
        Some(_) | None => Ok(config::read_secret(std::io::stdin())?),
    }
}
