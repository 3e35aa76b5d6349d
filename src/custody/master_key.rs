//! The master key, which wraps the data key of every sealed record. It is kept apart from the store, or derived from a
//! passphrase.
//!
//! The store holds a proof of the master key, made before anything else is sealed. The proof contains a sealed value,
//! which distinguishes a wrong key from an altered record, and the parameters that derive a key from a passphrase.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::{hmac, rand};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize as _, Zeroizing};

use super::seal::{Binding, UnsealError, seal, unseal};
use crate::secret::Secret;

/// Length of a key in bytes.
pub(super) const KEY_LEN: usize = 32;
const SALT_LEN: usize = 16;

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
    #[error("the store was sealed with the master key {sealed_with}, and this is {held}")]
    Another {
        /// The id of the key that the store was sealed with.
        sealed_with: String,
        /// The id of the given key.
        held: String,
    },
    /// The passphrase is not the one that the store was sealed with.
    #[error("the passphrase is not the one that the store was sealed with")]
    Passphrase,
    /// The passphrase has fewer than 12 bytes.
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
        let text = line(text);
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
        let mut line = Vec::with_capacity(text.len() + 1);
        line.extend_from_slice(text.as_bytes());
        line.push(b'\n');
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
        to_hex(&self.id)
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

/// Formats a key's id as hexadecimal text.
pub(super) fn to_hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Strips the line end that an editor appends.
fn line(text: &Secret) -> &[u8] {
    let text = text.expose();
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    text.strip_suffix(b"\r").unwrap_or(text)
}

/// The place of the proof in the store.
const PROOF: Binding<'_> = Binding { table: "store", row: "1", column: "proof" };
/// The plaintext of the sealed value in the proof.
const PROVEN: &[u8] = b"claviger";

/// The proof of the store's master key: how the key is obtained, and a sealed value that only this key opens.
///
/// ```text
/// 1 │ sealed                                    a key
/// 2 │ memory 4 │ passes 4 │ salt 16 │ sealed    a passphrase
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyCheck {
    derivation: Option<Derivation>,
    sealed: Vec<u8>,
}

/// The parameters that derive a key from a passphrase, by argon2id with one lane.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Derivation {
    /// Memory in KiB.
    memory: u32,
    passes: u32,
    salt: [u8; SALT_LEN],
}

impl KeyCheck {
    /// Parses the proof of a store.
    ///
    /// # Errors
    /// [`MasterKeyError::Proof`] if the format is not known.
    pub fn parse(bytes: &[u8]) -> Result<Self, MasterKeyError> {
        let (form, rest) = bytes.split_first().ok_or(MasterKeyError::Proof)?;
        match form {
            1 => Ok(Self { derivation: None, sealed: rest.to_vec() }),
            2 => {
                let (memory, rest) = rest.split_first_chunk().ok_or(MasterKeyError::Proof)?;
                let (passes, rest) = rest.split_first_chunk().ok_or(MasterKeyError::Proof)?;
                let (salt, rest) = rest.split_first_chunk().ok_or(MasterKeyError::Proof)?;
                let (memory, passes) = (u32::from_be_bytes(*memory), u32::from_be_bytes(*passes));
                let derivation = Some(Derivation { memory, passes, salt: *salt });
                Ok(Self { derivation, sealed: rest.to_vec() })
            }
            _ => Err(MasterKeyError::Proof),
        }
    }

    /// Formats the proof as the store holds it.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match &self.derivation {
            None => bytes.push(1),
            Some(Derivation { memory, passes, salt }) => {
                bytes.push(2);
                bytes.extend_from_slice(&memory.to_be_bytes());
                bytes.extend_from_slice(&passes.to_be_bytes());
                bytes.extend_from_slice(salt);
            }
        }
        bytes.extend_from_slice(&self.sealed);
        bytes
    }

    /// Makes the proof of a key.
    ///
    /// # Errors
    /// [`MasterKeyError::System`] if the encryption fails.
    pub fn of_key(key: &MasterKey) -> Result<Self, MasterKeyError> {
        let sealed = seal(key, PROOF, PROVEN).map_err(|_| MasterKeyError::System)?;
        Ok(Self { derivation: None, sealed })
    }

    /// Derives a key from a passphrase with a fresh salt. Returns it with its proof.
    ///
    /// # Errors
    /// [`MasterKeyError::Short`] if the passphrase is too short, [`MasterKeyError::System`] if the system lacks random
    /// bytes or memory.
    pub fn of_passphrase(passphrase: &Secret) -> Result<(MasterKey, Self), MasterKeyError> {
        if line(passphrase).len() < SHORTEST {
            return Err(MasterKeyError::Short);
        }
        let mut salt = [0; SALT_LEN];
        rand::fill(&mut salt).map_err(|_| MasterKeyError::System)?;
        let derivation = Derivation { memory: MEMORY, passes: PASSES, salt };
        let key = derivation.derive(passphrase)?;
        let sealed = seal(&key, PROOF, PROVEN).map_err(|_| MasterKeyError::System)?;
        Ok((key, Self { derivation: Some(derivation), sealed }))
    }

    /// Derives the key from a passphrase, and checks it against this proof.
    ///
    /// # Errors
    /// [`MasterKeyError::Passphrase`] if the passphrase is wrong, [`MasterKeyError::Kind`] if the store was sealed with
    /// a key, or another [`MasterKeyError`] if the derivation or the proof fails.
    pub fn derive(&self, passphrase: &Secret) -> Result<MasterKey, MasterKeyError> {
        let derivation = self.derivation.as_ref().ok_or(MasterKeyError::Kind("a key"))?;
        let key = derivation.derive(passphrase)?;
        match self.opens(&key) {
            Err(MasterKeyError::Another { .. }) => Err(MasterKeyError::Passphrase),
            proven => proven.map(|()| key),
        }
    }

    /// Checks that the store was sealed with this key.
    ///
    /// # Errors
    /// [`MasterKeyError::Another`] if the key is wrong, [`MasterKeyError::Kind`] if the store was sealed with a
    /// passphrase, [`MasterKeyError::Proof`] if the proof was altered.
    pub fn holds(&self, key: &MasterKey) -> Result<(), MasterKeyError> {
        match self.derivation {
            Some(_) => Err(MasterKeyError::Kind("a passphrase")),
            None => self.opens(key),
        }
    }

    /// Whether this is the store's master key, given as a key or derived from a passphrase.
    #[must_use]
    pub fn is_of(&self, key: &MasterKey) -> bool {
        self.opens(key).is_ok()
    }

    fn opens(&self, key: &MasterKey) -> Result<(), MasterKeyError> {
        match unseal(key, PROOF, &self.sealed) {
            Ok(proven) if proven.expose() == PROVEN => Ok(()),
            Err(UnsealError::WrongKey { sealed_with, held }) => {
                Err(MasterKeyError::Another { sealed_with, held })
            }
            Ok(_) | Err(UnsealError::Form | UnsealError::Altered | UnsealError::Random) => {
                Err(MasterKeyError::Proof)
            }
        }
    }
}

/// Length of the shortest accepted passphrase in bytes.
const SHORTEST: usize = 12;
/// Cost of the key derivation: memory in KiB, and passes over it. It exceeds the minimum that OWASP recommends (19 MiB,
/// 2 passes), since a start derives the key only once.
const MEMORY: u32 = 64 * 1024;
const PASSES: u32 = 3;
/// The highest cost that a proof may require. An altered proof must not exhaust the machine.
const MOST_MEMORY: u32 = 1024 * 1024;
const MOST_PASSES: u32 = 16;

impl Derivation {
    fn derive(&self, passphrase: &Secret) -> Result<MasterKey, MasterKeyError> {
        if self.memory > MOST_MEMORY || self.passes > MOST_PASSES {
            return Err(MasterKeyError::Proof);
        }
        let params =
            Params::new(self.memory, self.passes, 1, Some(KEY_LEN)).map_err(|_| MasterKeyError::Proof)?;
        let mut key = Zeroizing::new(vec![0; KEY_LEN]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(line(passphrase), &self.salt, &mut key)
            .map_err(|_| MasterKeyError::System)?;
        Ok(MasterKey::new(key))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.into())
    }

    fn key(byte: u8) -> MasterKey {
        MasterKey::new(Zeroizing::new(vec![byte; KEY_LEN]))
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

    #[test]
    fn the_proof_knows_its_key_and_no_other() {
        let (key, other) = (key(1), key(2));
        let proof = KeyCheck::parse(&KeyCheck::of_key(&key).unwrap().bytes()).unwrap();
        assert_eq!(proof.holds(&key), Ok(()));
        let (sealed_with, held) = (key.shown_id(), other.shown_id());
        assert_eq!(proof.holds(&other), Err(MasterKeyError::Another { sealed_with, held }));
        assert_eq!(proof.derive(&secret("any passphrase")).unwrap_err(), MasterKeyError::Kind("a key"));
    }

    #[test]
    fn a_passphrase_becomes_the_same_key_each_time() {
        let phrase = secret("correct horse battery\n");
        let (key, proof) = KeyCheck::of_passphrase(&phrase).unwrap();
        let proof = KeyCheck::parse(&proof.bytes()).unwrap();
        assert_eq!(proof.derive(&secret("correct horse battery")).unwrap().id(), key.id());
        assert_eq!(proof.derive(&secret("correct horse batterY")).unwrap_err(), MasterKeyError::Passphrase);
        assert_eq!(proof.holds(&key), Err(MasterKeyError::Kind("a passphrase")));
        assert_eq!(KeyCheck::of_passphrase(&secret("short")).unwrap_err(), MasterKeyError::Short);
        // A precomputed table of passphrases does not help, since each salt is fresh.
        assert_ne!(KeyCheck::of_passphrase(&phrase).unwrap().0.id(), key.id());
    }

    #[test]
    fn a_proof_that_was_altered_is_refused_cheaply() {
        let key = key(1);
        let bytes = KeyCheck::of_key(&key).unwrap().bytes();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x80;
            assert!(KeyCheck::parse(&flipped).and_then(|proof| proof.holds(&key)).is_err(), "{at}");
            assert!(KeyCheck::parse(&bytes[..at]).and_then(|proof| proof.holds(&key)).is_err(), "{at}");
        }
        let greedy = [&[2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1][..], &[0; SALT_LEN], &bytes[1..]].concat();
        let why = KeyCheck::parse(&greedy).unwrap().derive(&secret("any passphrase")).unwrap_err();
        assert_eq!(why, MasterKeyError::Proof);
    }
}
