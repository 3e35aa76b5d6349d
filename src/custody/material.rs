//! The content of credentials, checked when the operator enters it. JumpServer answers 500, not 401, to most faults of
//! a key, so the cause could not be found later.

use std::fmt;

use subtle::ConstantTimeEq as _;
use uuid::Uuid;

use crate::secret::Secret;
use crate::signature::{HmacKey, NoRsaKey, RsaKey};

/// The kinds of credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A key id and a secret that signs requests.
    AccessKey,
    /// A secret that is sent as it is.
    Value,
    /// A user name and password, in exchange for which the upstream issues a token.
    Login,
    /// The id and key of a system that signs with RSA.
    Rsa,
    /// The id and secret of an OAuth 2.0 client, in exchange for which a token is issued.
    Client,
}

impl Kind {
    /// All kinds, in order.
    pub const ALL: [Self; 5] = [Self::AccessKey, Self::Value, Self::Login, Self::Rsa, Self::Client];

    /// Returns the name of the kind in files and rows.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AccessKey => "access-key",
            Self::Value => "value",
            Self::Login => "login",
            Self::Rsa => "rsa",
            Self::Client => "client",
        }
    }

    /// Parses the name of a kind.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// The content of a credential.
pub enum Material {
    /// Key id and secret of an access key.
    AccessKey {
        /// The id of the key, sent in plaintext.
        id: String,
        /// The secret, prepared for signing.
        key: HmacKey,
    },
    /// A secret that is sent as it is: an API key, a token. Visible ASCII.
    Value(Secret),
    /// The user name and password of a login.
    Login {
        /// The user name.
        username: String,
        /// The password, in UTF-8.
        password: Secret,
    },
    /// The id and key of a system that signs with RSA.
    Rsa {
        /// The id of the key, sent in plaintext.
        id: String,
        /// The private key.
        key: RsaKey,
    },
    /// Id and secret of an OAuth 2.0 client.
    Client {
        /// The id of the client.
        id: String,
        /// The secret of the client. Visible ASCII.
        secret: Secret,
    },
}

/// The reason why material is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MaterialError {
    /// The key id is not a UUID.
    #[error("the key id is not a UUID")]
    KeyId,
    /// An id is given for a kind that has none. The value, which is sent as it is, may be the secret of a key.
    #[error("a credential of the kind `value` has no id")]
    IdOfValue,
    /// The key id has characters that a header must not contain.
    #[error("the key id holds a quote or a character that no header can carry")]
    KeyIdBytes,
    /// The secret is empty.
    #[error("the secret is empty")]
    Empty,
    /// The secret has a blank at one of its ends.
    #[error("the secret begins or ends with a blank: remove it")]
    Blank,
    /// The secret has bytes that are not printable ASCII.
    #[error("the secret holds bytes that are not printable ASCII")]
    NotAscii,
    /// The user name is empty, too long, or has control characters.
    #[error("the user name is empty, longer than 255 bytes, or holds control characters")]
    Username,
    /// The password has control characters, or is not UTF-8.
    #[error("the password holds control characters, or is not UTF-8")]
    Password,
    /// The RSA key is not usable.
    #[error(transparent)]
    Rsa(#[from] NoRsaKey),
    /// The id of the client is empty, too long, or not printable ASCII.
    #[error("the client's id is empty, longer than 255 bytes, or not printable ASCII")]
    ClientId,
}

impl Material {
    /// Parses material of this kind.
    ///
    /// `id` is the key id of an access key, RSA key or client, the user name of a login, and empty for a value. `uuid`
    /// is whether the product's key ids are UUIDs.
    ///
    /// # Errors
    /// A [`MaterialError`] that names the fault and never shows the secret.
    pub fn parse(kind: Kind, id: &str, secret: &Secret, uuid: bool) -> Result<Self, MaterialError> {
        match kind {
            Kind::AccessKey => Self::access_key(id, secret, uuid),
            Kind::Value if !id.is_empty() => Err(MaterialError::IdOfValue),
            Kind::Value => Self::value(secret),
            Kind::Login => Self::login(id, secret),
            Kind::Rsa => Self::rsa(id, secret),
            Kind::Client => Self::client(id, secret),
        }
    }

    /// Parses an access key. `uuid` is whether the product's key ids are UUIDs. One line end after the secret, which
    /// editors append, is ignored.
    ///
    /// # Errors
    /// A [`MaterialError`] that names the fault and never shows the secret.
    pub fn access_key(id: &str, secret: &Secret, uuid: bool) -> Result<Self, MaterialError> {
        if uuid && (id.len() != 36 || Uuid::try_parse(id).is_err()) {
            return Err(MaterialError::KeyId);
        }
        check_key_id(id)?;
        Ok(Self::AccessKey { id: id.to_owned(), key: HmacKey::new(header_value(secret)?) })
    }

    /// Parses a secret that is sent as it is. One line end after it is ignored.
    ///
    /// # Errors
    /// A [`MaterialError`] that names the fault and never shows the secret.
    pub fn value(secret: &Secret) -> Result<Self, MaterialError> {
        Ok(Self::Value(Secret::new(header_value(secret)?.to_vec())))
    }

    /// Parses user name and password of a login. One line end after the password is ignored.
    ///
    /// # Errors
    /// A [`MaterialError`] that names the fault and never shows the password.
    pub fn login(username: &str, password: &Secret) -> Result<Self, MaterialError> {
        if username.is_empty() || username.len() > 255 || username.chars().any(char::is_control) {
            return Err(MaterialError::Username);
        }
        let password = strip_line_end(password)?;
        let text = std::str::from_utf8(password).map_err(|_| MaterialError::Password)?;
        if text.chars().any(char::is_control) {
            return Err(MaterialError::Password);
        }
        Ok(Self::Login { username: username.to_owned(), password: Secret::new(password.to_vec()) })
    }

    /// Parses id and key of a system that signs with RSA. The key is in PEM.
    ///
    /// # Errors
    /// A [`MaterialError`] that names the fault and never shows the key.
    pub fn rsa(id: &str, pem: &Secret) -> Result<Self, MaterialError> {
        check_key_id(id)?;
        Ok(Self::Rsa { id: id.to_owned(), key: RsaKey::parse(pem.expose())? })
    }

    /// Parses id and secret of an OAuth 2.0 client. One line end after the secret is ignored.
    ///
    /// # Errors
    /// A [`MaterialError`] that names the fault and never shows the secret.
    pub fn client(id: &str, secret: &Secret) -> Result<Self, MaterialError> {
        let printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        if id.is_empty() || id.len() > 255 || !id.bytes().all(printable) {
            return Err(MaterialError::ClientId);
        }
        Ok(Self::Client { id: id.to_owned(), secret: Secret::new(header_value(secret)?.to_vec()) })
    }

    /// Returns the kind of the material.
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

    /// Returns the public part: an id or a user name. A value has none.
    #[must_use]
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::AccessKey { id, .. } | Self::Rsa { id, .. } | Self::Client { id, .. } => Some(id),
            Self::Login { username, .. } => Some(username),
            Self::Value(_) => None,
        }
    }

    /// Whether both are the same login, so that a token issued for one is valid for the other.
    #[must_use]
    pub fn is_same_login(&self, other: &Self) -> bool {
        let secrets = self.login_secret().zip(other.login_secret());
        (self.kind(), self.id()) == (other.kind(), other.id())
            && secrets.is_some_and(|(one, other)| one.expose().ct_eq(other.expose()).into())
    }

    /// The secret that claviger logs in with, if this is a login.
    pub(super) fn login_secret(&self) -> Option<&Secret> {
        match self {
            Self::Login { password: secret, .. } | Self::Client { secret, .. } => Some(secret),
            Self::AccessKey { .. } | Self::Value(_) | Self::Rsa { .. } => None,
        }
    }
}

/// Checks an id that is sent in quotes in a header.
fn check_key_id(id: &str) -> Result<(), MaterialError> {
    let quotable = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
    if id.is_empty() || id.len() > 255 || !id.bytes().all(quotable) {
        Err(MaterialError::KeyIdBytes)
    } else {
        Ok(())
    }
}

/// Strips the line end that editors append to a secret. Fails if the secret is empty.
fn strip_line_end(secret: &Secret) -> Result<&[u8], MaterialError> {
    let secret = secret.line();
    if secret.is_empty() { Err(MaterialError::Empty) } else { Ok(secret) }
}

/// Strips the line end of a secret, and checks that a header can carry it.
fn header_value(secret: &Secret) -> Result<&[u8], MaterialError> {
    let secret = strip_line_end(secret)?;
    if secret.trim_ascii_start().len() < secret.len() || matches!(secret.last(), Some(b' ' | b'\t')) {
        return Err(MaterialError::Blank);
    }
    if !secret.iter().all(u8::is_ascii_graphic) {
        return Err(MaterialError::NotAscii);
    }
    Ok(secret)
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessKey { id, .. } => write!(f, "AccessKey({id}, …)"),
            Self::Value(_) => f.write_str("Value(…)"),
            Self::Login { username, .. } => write!(f, "Login({username}, …)"),
            Self::Rsa { id, .. } => write!(f, "Rsa({id}, …)"),
            Self::Client { id, .. } => write!(f, "Client({id}, …)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_what_the_upstream_can_verify() {
        const ID: &str = "f7373851-ea61-47bb-8357-000000000001";
        let take =
            |id: &str, secret: &str| Material::access_key(id, &Secret::new(secret.into()), true).map(|_| ());
        assert_eq!(take(ID, "fake-secret\n"), Ok(()));
        assert_eq!(take(ID, "fake-secret\r\n"), Ok(()));
        assert_eq!(take("f7373851ea6147bb8357000000000001", "x"), Err(MaterialError::KeyId));
        assert_eq!(take("key", "x"), Err(MaterialError::KeyId));
        assert_eq!(take(ID, ""), Err(MaterialError::Empty));
        assert_eq!(take(ID, "\n"), Err(MaterialError::Empty));
        assert_eq!(take(ID, "a b"), Err(MaterialError::NotAscii));
        assert_eq!(take(ID, "fake-secret \n"), Err(MaterialError::Blank));
        assert_eq!(take(ID, "x\n\n"), Err(MaterialError::NotAscii));
        let odd = Material::access_key("a\"b", &Secret::new(b"x".to_vec()), false).map(|_| ());
        assert_eq!(odd, Err(MaterialError::KeyIdBytes));
    }

    #[test]
    fn takes_a_value_that_a_header_can_carry() {
        let take = |secret: &str| Material::value(&Secret::new(secret.into()));
        let Ok(Material::Value(kept)) = take("fake-key==\r\n") else { unreachable!("no value") };
        assert_eq!(kept.expose(), b"fake-key==");
        for (secret, why) in [
            ("", MaterialError::Empty),
            ("\r\n", MaterialError::Empty),
            ("Bearer abc", MaterialError::NotAscii),
            ("a\tb", MaterialError::NotAscii),
            ("a\r\nx-org-id: b", MaterialError::NotAscii),
            ("schlüssel", MaterialError::NotAscii),
            ("a\0", MaterialError::NotAscii),
        ] {
            assert_eq!(take(secret).map(|_| ()), Err(why), "{secret:?}");
        }
    }

    #[test]
    fn takes_a_login_with_any_password_that_can_be_typed() {
        let take = |name: &str, password: &[u8]| {
            Material::login(name, &Secret::new(password.to_vec())).map(|material| format!("{material:?}"))
        };
        assert_eq!(take("svc", "fake pässwörd\r\n".as_bytes()), Ok("Login(svc, …)".into()));
        for (name, password, why) in [
            ("", b"x".as_slice(), MaterialError::Username),
            ("a\nb", b"x", MaterialError::Username),
            (&*"n".repeat(256), b"x", MaterialError::Username),
            ("svc", b"", MaterialError::Empty),
            ("svc", b"\n", MaterialError::Empty),
            ("svc", b"a\nb", MaterialError::Password),
            ("svc", b"a\xff", MaterialError::Password),
        ] {
            assert_eq!(take(name, password), Err(why), "{name:?} {password:?}");
        }
    }

    #[test]
    fn tells_whether_a_login_is_the_same() {
        let login = |name: &str, password: &str| Material::login(name, &Secret::new(password.into()));
        let same = |one: &Material| login("a", "fake-x").map(|other| one.is_same_login(&other));
        assert_eq!(login("a", "fake-x").and_then(|one| same(&one)), Ok(true));
        assert_eq!(login("b", "fake-x").and_then(|one| same(&one)), Ok(false));
        assert_eq!(login("a", "fake-y").and_then(|one| same(&one)), Ok(false));
        let value = Material::value(&Secret::new(b"fake-x".to_vec()));
        assert_eq!(value.and_then(|one| same(&one)), Ok(false));
    }

    #[test]
    fn is_of_the_kind_that_was_asked_for() {
        for kind in Kind::ALL {
            assert_eq!(Kind::parse(kind.as_str()), Some(kind));
            let id = match kind {
                Kind::AccessKey | Kind::Login | Kind::Client => "an-id",
                Kind::Value => "",
                // The tests beside the RSA parser show which keys are accepted.
                Kind::Rsa => continue,
            };
            let material = Material::parse(kind, id, &Secret::new(b"fake-hunter2".to_vec()), false);
            assert_eq!(material.as_ref().map(Material::kind), Ok(kind));
            assert!(!format!("{material:?}").contains("hunter2"));
        }
        let secret = Secret::new(b"x".to_vec());
        let signing = Material::parse(Kind::Value, "an-id", &secret, false);
        assert_eq!(signing.map(|_| ()), Err(MaterialError::IdOfValue));
        assert_eq!(Kind::parse("Value"), None);
    }
}
