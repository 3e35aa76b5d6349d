//! `[custody]` and `[credentials.…]`: where the secrets are.

use std::path::PathBuf;
use std::time::Duration;

use super::reference::{Reference, source};
use crate::config::Spanned;
use crate::config::decode::{
    Absent, Reader, Section, duration, line, one_of, or_default, or_from, path, required, section, variable,
    visible,
};
use crate::custody::Kind;
use crate::name::Name;

section! {
    /// The settings of the store's custody.
    pub struct Custody {
        /// The source of the master key: `{ file }`, `{ env }`, or `{ passphrase = { file } }` (or `env`). The default
        /// file is made when it is first needed.
        master_key: Spanned<MasterKey> = or_from(
            Absent::Words("`{ file = \"master.key\" }` in `state_dir`"),
            // Its place tells the default, whose file may be made, from a key that the file names.
            |context| Spanned::synthetic(MasterKey::File(context.state_dir.join("master.key"))),
            MasterKey::reader()
        ),
        /// The time for which the store may be unreadable before calls that depend on it are answered 503
        /// `store_unavailable`; `"0s"`: never.
        store_max_staleness: Duration = or_default(
            Duration::from_mins(1), duration(Duration::ZERO..=Duration::from_hours(24)).check(|read| {
                // The store is polled four times a second, and a poll may take some time.
                let is_short = !read.is_zero() && *read < Duration::from_secs(1);
                is_short.then_some("must be at least 1s, or 0s for never")
            })
        ),
    }
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

impl MasterKey {
    fn reader() -> Reader<Spanned<Self>> {
        let passphrase = Reference::reader().map(|place| Self::Passphrase(place.value));
        source(vec![
            ("file", "The file that holds the master key.", path().map(|path| Self::File(path.value))),
            (
                "env",
                "The environment variable that holds the master key.",
                variable().map(|name| Self::Env(name.value)),
            ),
            ("passphrase", "The passphrase from which the master key is derived.", passphrase),
        ])
    }
}

/// A credential that the file refers to.
#[derive(Clone, Debug, PartialEq)]
pub struct Credential {
    /// The name of the credential in grants and upstreams.
    pub name: Spanned<Name>,
    /// The kind of the credential.
    pub kind: Kind,
    /// The id or user name, which is public; `None` for a [`Kind::Value`].
    pub id: Option<Spanned<String>>,
    /// Where the secret is.
    pub secret: Spanned<Reference>,
}

section! {
    /// A credential of a public id and a secret.
    struct Pair {
        /// The id of the key, as the upstream shows it.
        id: Spanned<String> = required(visible()),
        /// The place of the secret half.
        secret: Spanned<Reference> = required(Reference::reader()),
    }
}

section! {
    /// A user name and a password.
    struct Account {
        /// The user name of the login.
        username: Spanned<String> = required(line()),
        /// The place of the password.
        password: Spanned<Reference> = required(Reference::reader()),
    }
}

section! {
    /// A key for RSA signatures.
    struct RsaKey {
        /// The id of the key, as in `system/…`.
        id: Spanned<String> = required(visible()),
        /// The place of the key, in PEM (PKCS#1 or PKCS#8).
        key: Spanned<Reference> = required(Reference::reader()),
    }
}

section! {
    /// An OAuth 2.0 client.
    struct Client {
        /// The id of the client.
        id: Spanned<String> = required(line()),
        /// The place of the client's secret.
        secret: Spanned<Reference> = required(Reference::reader()),
    }
}

/// Reads a credential, whose only key is its kind.
pub(super) fn credential() -> Reader<Credential> {
    let kinds = vec![
        (
            "access-key",
            "`{ id = \"…\", secret = { file } }`: a key that signs; for the scheme `access-key`.",
            Pair::reader().map(|key| (Kind::AccessKey, Some(key.id), key.secret)),
        ),
        (
            "value",
            "`{ file }` or `{ env }`: a secret that is sent as it is; for the schemes `header`, `bearer` and `token`.",
            Reference::reader().map(|secret| (Kind::Value, None, secret)),
        ),
        (
            "login",
            "`{ username = \"…\", password = { file } }`: for the scheme `login`.",
            Account::reader().map(|login| (Kind::Login, Some(login.username), login.password)),
        ),
        (
            "rsa",
            "`{ id = \"system/…\", key = { file } }`: a key that signs by RSA; for the scheme `rsa`.",
            RsaKey::reader().map(|rsa| (Kind::Rsa, Some(rsa.id), rsa.key)),
        ),
        (
            "client",
            "`{ id = \"…\", secret = { file } }`: an OAuth 2.0 client; for the scheme `client-credentials`.",
            Client::reader().map(|client| (Kind::Client, Some(client.id), client.secret)),
        ),
    ];
    one_of("credential kind", kinds)
        .then(|node, (kind, id, secret)| Ok(Credential { name: node.name()?, kind, id, secret }))
}
