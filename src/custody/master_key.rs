//! The master key, which wraps the data key of every sealed record. It is kept apart from the store, or derived
//! from a passphrase.

use std::fmt;

use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize as _, Zeroizing};

use crate::encoding::hex;
use crate::secret::Secret;

/// Length of a key in bytes.
pub(super) const KEY_LEN: usize = 32;

/// The public id of a key, which distinguishes keys.
pub type KeyId = [u8; 8];

/// A master key. Its `Debug` output shows only the id.
pub struct MasterKey {
    /// Not an array, since every move of an array leaves a copy of its bytes behind.
    key: Zeroizing<Vec<u8>>,
    id: KeyId,
}

/// The reason why there is no master key, or a wrong one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MasterKeyError {
    /// The text does not have the format of a master key.
    #[error("it is no master key: 32 bytes in base64 are one")]
    Form,
    /// The store was sealed with another key.
    #[error("the store was sealed with the master key {sealed_with}, and this is {current}")]
    Another {
        /// The id of the key that the store was sealed with.
        sealed_with: String,
        /// The id of the given key.
        current: String,
    },
    /// The passphrase is not the one that the store was sealed with.
    #[error("the passphrase is not the one that the store was sealed with")]
    Passphrase,
    /// The passphrase has fewer than 12 characters.
    #[error("a passphrase has at least 12 characters")]
    Short,
    /// The proof in the store was altered, or has a format unknown to this version.
    #[error("the store's proof of the master key was altered, or is of an unknown form")]
    Proof,
    /// The store was sealed with a passphrase and a key is given, or the reverse.
    #[error("the store was sealed with {0}, and the configuration names the other")]
    Kind(&'static str),
    /// The system gives no random bytes, or not enough memory to derive a key.
    #[error("the system gives no random bytes, or too little memory")]
    System,
}

impl MasterKey {
    /// Makes a master key of `key`, which has [`KEY_LEN`] bytes.
    pub(super) fn new(key: Zeroizing<Vec<u8>>) -> Self {
        // A one-way function, so that the id reveals nothing of the key.
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), b"claviger master key id 1");
        let mut id = KeyId::default();
        for (byte, of_tag) in id.iter_mut().zip(tag.as_ref()) {
            *byte = *of_tag;
        }
        Self { key, id }
    }

    /// Generates a new random key.
    ///
    /// # Errors
    /// [`MasterKeyError::System`] if the system gives no random bytes.
    pub fn generate() -> Result<Self, MasterKeyError> {
        let mut key = Zeroizing::new(vec![0; KEY_LEN]);
        rand::fill(&mut key).map_err(|_| MasterKeyError::System)?;
        Ok(Self::new(key))
    }

    /// Parses a key as a file or a variable holds it: base64, with at most one line end.
    ///
    /// # Errors
    /// [`MasterKeyError::Form`] if the text is not 32 bytes in base64.
    pub fn parse(text: &Secret) -> Result<Self, MasterKeyError> {
        let text = text.line();
        // Reserve room for the whole text, so that the buffer never grows and leaves no copy behind.
        let mut key = Zeroizing::new(Vec::with_capacity(text.len()));
        STANDARD.decode_vec(text, &mut key).map_err(|_| MasterKeyError::Form)?;
        if key.len() != KEY_LEN {
            return Err(MasterKeyError::Form);
        }
        Ok(Self::new(key))
    }

    /// Formats the key as a file holds it.
    #[must_use]
    pub fn text(&self) -> Secret {
        let mut text = STANDARD.encode(&*self.key);
        // The room for the whole line is reserved at once, so that no copy of the key stays behind.
        let line = [text.as_bytes(), b"\n"].concat();
        text.zeroize();
        Secret::new(line)
    }

    /// Returns the public id of the key.
    #[must_use]
    pub fn id(&self) -> &KeyId {
        &self.id
    }

    /// Returns the id as hexadecimal text.
    #[must_use]
    pub fn shown_id(&self) -> String {
        hex(&self.id)
    }

    pub(super) fn expose(&self) -> &[u8] {
        &self.key
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.shown_id())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    #[test]
    fn a_key_that_is_moved_leaves_nothing_behind() {
        let key = MasterKey::generate().unwrap();
        let place = key.expose().as_ptr();
        let moved = std::hint::black_box(Some(key)).unwrap();
        assert_eq!(moved.expose().as_ptr(), place);
    }

    #[test]
    fn a_key_is_read_as_it_is_written_and_nothing_else_is() {
        let key = MasterKey::generate().unwrap();
        let text = key.text();
        assert_eq!(MasterKey::parse(&text).unwrap().expose(), key.expose());
        let text = std::str::from_utf8(text.expose()).unwrap().trim_end();
        assert_eq!(MasterKey::parse(&secret(text)).unwrap().id(), key.id());
        assert_eq!(MasterKey::parse(&secret(&format!("{text}\r\n"))).unwrap().id(), key.id());
        let torn = text.trim_end_matches('=').to_owned();
        for bad in ["", "\n", &torn, &format!("{text}A"), &format!(" {text}"), &format!("{text}\n\n"), "AAAA"]
        {
            assert_eq!(MasterKey::parse(&secret(bad)).unwrap_err(), MasterKeyError::Form, "{bad:?}");
        }
        assert_ne!(key.id(), MasterKey::generate().unwrap().id());
        assert!(!format!("{key:?}").contains(text));
    }
}
