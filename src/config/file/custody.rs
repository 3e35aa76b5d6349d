//! `[custody]` and `[credentials.…]`: where the secrets are; the file never contains a secret.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::Spanned;
use crate::config::decode::choice::Tags;
use crate::config::decode::text::{line, path, variable, visible};
use crate::config::decode::units::duration;
use crate::config::decode::{Node, Read, Table};
use crate::config::problem::Problem;
use crate::custody::Kind;

/// The kinds of credential that the file format knows.
const AVAILABLE_KINDS: &[&str] = &["access-key", "value", "login", "rsa", "client"];

/// The settings of the store's custody.
#[derive(Clone, Debug)]
pub struct Custody {
    /// The source of the master key. Its span tells a default (whose key may be created) from an explicit setting.
    pub master_key: Spanned<MasterKey>,
    /// How long store data stays in use after the last successful read of the store; for ever if it is zero.
    pub store_max_staleness: Duration,
}

/// The source of the master key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MasterKey {
    /// The content of the file at this path.
    File(PathBuf),
    /// The value of the environment variable of this name.
    Env(String),
    /// A key derived from the passphrase at this reference.
    Passphrase(Reference),
}

impl Custody {
    pub(super) fn new(state_dir: &Path) -> Self {
        let master_key = Spanned::synthetic(MasterKey::File(state_dir.join("master.key")));
        Self { master_key, store_max_staleness: Duration::from_mins(1) }
    }

    pub(super) fn read(node: &Node<'_>, state_dir: &Path) -> Read<Self> {
        let mut table = Table::of(node)?;
        let own = Self::new(state_dir);
        let master_key = table.or_default("master_key", own.master_key, MasterKey::read);
        let store_max_staleness = table.or_default("store_max_staleness", own.store_max_staleness, bound);
        table.finish();
        Ok(Self { master_key, store_max_staleness })
    }
}

/// Reads `store_max_staleness`. The store is polled four times a second, and a poll may take some time.
fn bound(node: &Node<'_>) -> Read<Duration> {
    let read = duration(Duration::ZERO..=Duration::from_hours(24))(node)?;
    if read.is_zero() || read >= Duration::from_secs(1) {
        return Ok(read);
    }
    let title = format!("{} must be at least 1s, or 0s for never", node.subject());
    Err(node.refuse(title))
}

impl MasterKey {
    fn read(node: &Node<'_>) -> Read<Spanned<Self>> {
        const PLACES: &[&str] = &["file", "env", "passphrase"];
        refuse_literal(node)?;
        let (tag, inner) = Tags { noun: "source", known: PLACES, available: PLACES }.read(node)?;
        let key = match tag {
            "passphrase" => Self::Passphrase(Reference::read(&inner)?.value),
            "env" => Self::Env(variable(&inner)?.value),
            _ => Self::File(path(&inner)?.value),
        };
        Ok(node.at(key))
    }
}

/// The place where a secret is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// The path of a file.
    File(PathBuf),
    /// The name of an environment variable.
    Env(String),
}

impl Reference {
    pub(super) fn read(node: &Node<'_>) -> Read<Spanned<Self>> {
        const PLACES: &[&str] = &["file", "env"];
        refuse_literal(node)?;
        let (tag, inner) = Tags { noun: "source", known: PLACES, available: PLACES }.read(node)?;
        let reference = match tag {
            "env" => Self::Env(variable(&inner)?.value),
            _ => Self::File(path(&inner)?.value),
        };
        Ok(node.at(reference))
    }
}

/// A credential that the file refers to.
#[derive(Clone, Debug)]
pub struct Credential {
    /// The name of the credential in grants and upstreams.
    pub name: Spanned<String>,
    /// The parts of the credential.
    pub material: Material,
}

/// The parts of a credential, by its kind.
#[derive(Clone, Debug)]
pub enum Material {
    /// A key that signs requests.
    AccessKey {
        /// The id of the key, which is public.
        id: Spanned<String>,
        /// Where the secret half is.
        secret: Spanned<Reference>,
    },
    /// A secret that is sent as it is.
    Value(Spanned<Reference>),
    /// A user name and a password.
    Login {
        /// The user name.
        username: Spanned<String>,
        /// Where the password is.
        password: Spanned<Reference>,
    },
    /// A key for RSA signatures.
    Rsa {
        /// The id of the key.
        id: Spanned<String>,
        /// Where the key is, in PEM format.
        key: Spanned<Reference>,
    },
    /// An OAuth 2.0 client.
    Client {
        /// The id of the client.
        id: Spanned<String>,
        /// Where the client's secret is.
        secret: Spanned<Reference>,
    },
}

impl Credential {
    pub(super) fn read(name: Spanned<String>, node: &Node<'_>) -> Read<Self> {
        let kinds = Tags { noun: "credential kind", known: AVAILABLE_KINDS, available: AVAILABLE_KINDS };
        let (kind, inner) = kinds.read(node)?;
        let material = match kind {
            "value" => Material::Value(Reference::read(&inner)?),
            "login" => Material::login(&inner)?,
            "rsa" => Material::rsa(&inner)?,
            "client" => Material::client(&inner)?,
            _ => Material::access_key(&inner)?,
        };
        Ok(Self { name, material })
    }
}

impl Material {
    /// The kind of the credential.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::AccessKey { .. } => Kind::AccessKey,
            Self::Value(_) => Kind::Value,
            Self::Login { .. } => Kind::Login,
            Self::Rsa { .. } => Kind::Rsa,
            Self::Client { .. } => Kind::Client,
        }
    }

    /// The public part, if any, and the reference to the secret.
    #[must_use]
    pub const fn parts(&self) -> (Option<&Spanned<String>>, &Spanned<Reference>) {
        match self {
            Self::AccessKey { id, secret } | Self::Client { id, secret } => (Some(id), secret),
            Self::Rsa { id, key } => (Some(id), key),
            Self::Login { username, password } => (Some(username), password),
            Self::Value(secret) => (None, secret),
        }
    }

    fn login(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let username = table.required("username", line);
        let password = table.required("password", Reference::read);
        table.finish();
        Ok(Self::Login { username: username?, password: password? })
    }

    fn rsa(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let id = table.required("id", visible);
        let key = table.required("key", Reference::read);
        table.finish();
        Ok(Self::Rsa { id: id?, key: key? })
    }

    fn client(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let id = table.required("id", line);
        let secret = table.required("secret", Reference::read);
        table.finish();
        Ok(Self::Client { id: id?, secret: secret? })
    }

    fn access_key(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let id = table.required("id", visible);
        let secret = table.required("secret", Reference::read);
        table.finish();
        Ok(Self::AccessKey { id: id?, secret: secret? })
    }
}

fn refuse_literal(node: &Node<'_>) -> Read<()> {
    if node.value().is_table() {
        return Ok(());
    }
    node.hide();
    let title = format!("{} must say where the secret is: a literal secret is not accepted", node.subject());
    let help = "write `{ file = \"…\" }` or `{ env = \"…\" }`; if it was ever committed or shared, replace the secret";
    Err(node.report(Problem::error(node.span(), title).label("not shown").help(help)))
}
