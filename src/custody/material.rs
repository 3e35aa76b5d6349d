//! What a credential is made of, checked when it is taken in: JumpServer answers 500, not 401, to
//! most of what is wrong with a key, so that nobody could tell later.

use std::fmt;

use uuid::Uuid;

use crate::secret::Secret;
use crate::signature::HmacKey;

/// The content of a credential.
pub enum Material {
    /// Key id and secret of an access key.
    AccessKey {
        /// The key's id, sent in clear.
        id: String,
        /// The secret, ready to sign.
        key: HmacKey,
    },
}

/// Why material cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// This version knows no such kind.
    #[error("this version knows no credential of this kind")]
    Kind,
    /// The key id is no UUID.
    #[error("the key id is not a UUID")]
    KeyId,
    /// The key id holds characters that no header may carry.
    #[error("the key id holds a quote or a character that no header can carry")]
    KeyIdBytes,
    /// The secret is empty.
    #[error("the secret is empty")]
    Empty,
    /// The secret holds bytes that are not printable ASCII.
    #[error("the secret holds bytes that are not printable ASCII")]
    NotAscii,
}

impl Material {
    /// Takes material of a kind as the file and the store name it: `access-key`. `uuid` says that the
    /// product's key ids are UUIDs.
    ///
    /// # Errors
    /// [`Unusable`], which never shows the secret.
    pub fn of_kind(kind: &str, id: &str, secret: &Secret, uuid: bool) -> Result<Self, Unusable> {
        match kind {
            "access-key" => Self::access_key(id, secret, uuid),
            _ => Err(Unusable::Kind),
        }
    }

    /// Takes an access key. `uuid` says that the product's key ids are UUIDs. One line end after
    /// the secret, as editors leave it, is not part of it.
    ///
    /// # Errors
    /// [`Unusable`], which never shows the secret.
    pub fn access_key(id: &str, secret: &Secret, uuid: bool) -> Result<Self, Unusable> {
        if uuid && (id.len() != 36 || Uuid::try_parse(id).is_err()) {
            return Err(Unusable::KeyId);
        }
        if id.is_empty() || !id.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\')) {
            return Err(Unusable::KeyIdBytes);
        }
        let secret = secret.expose();
        let secret = secret.strip_suffix(b"\n").unwrap_or(secret);
        let secret = secret.strip_suffix(b"\r").unwrap_or(secret);
        if secret.is_empty() {
            return Err(Unusable::Empty);
        }
        if !secret.iter().all(u8::is_ascii_graphic) {
            return Err(Unusable::NotAscii);
        }
        Ok(Self::AccessKey { id: id.to_owned(), key: HmacKey::new(secret) })
    }
}

impl fmt::Debug for Material {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AccessKey { id, .. } => write!(f, "AccessKey({id}, …)"),
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
        assert_eq!(take("f7373851ea6147bb8357000000000001", "x"), Err(Unusable::KeyId));
        assert_eq!(take("key", "x"), Err(Unusable::KeyId));
        assert_eq!(take(ID, ""), Err(Unusable::Empty));
        assert_eq!(take(ID, "\n"), Err(Unusable::Empty));
        assert_eq!(take(ID, "a b"), Err(Unusable::NotAscii));
        assert_eq!(take(ID, "x\n\n"), Err(Unusable::NotAscii));
        let odd = Material::access_key("a\"b", &Secret::new(b"x".to_vec()), false).map(|_| ());
        assert_eq!(odd, Err(Unusable::KeyIdBytes));
    }
}
