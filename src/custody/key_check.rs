//! The key check of the store: a proof of its master key, made before anything else is sealed. It contains a sealed
//! value, which distinguishes a wrong key from an altered record, and the parameters that derive
//! a key from a passphrase.

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::master_key::{KEY_LEN, MasterKey, MasterKeyError};
use super::seal::{Binding, UnsealError, seal, unseal};
use crate::secret::Secret;

const SALT_LEN: usize = 16;
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
        let Some(Derivation { memory, passes, salt }) = &self.derivation else {
            return [&[1], &self.sealed[..]].concat();
        };
        [&[2], &memory.to_be_bytes()[..], &passes.to_be_bytes(), salt, &self.sealed].concat()
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
        // In UTF-8, each byte but continuation bytes begins a character.
        let is_start = |byte: &&u8| **byte & 0xc0 != 0x80;
        if passphrase.line().iter().filter(is_start).count() < MIN_CHARACTERS {
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
            Err(UnsealError::WrongKey { sealed_with, current }) => {
                Err(MasterKeyError::Another { sealed_with, current })
            }
            Ok(_) | Err(UnsealError::Form | UnsealError::Altered | UnsealError::Random) => {
                Err(MasterKeyError::Proof)
            }
        }
    }
}

/// Length of the shortest accepted passphrase in characters.
const MIN_CHARACTERS: usize = 12;
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
            .hash_password_into(passphrase.line(), &self.salt, &mut key)
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
    fn the_proof_knows_its_key_and_no_other() {
        let (key, other) = (key(1), key(2));
        let proof = KeyCheck::parse(&KeyCheck::of_key(&key).unwrap().bytes()).unwrap();
        assert_eq!(proof.holds(&key), Ok(()));
        let (sealed_with, current) = (key.shown_id(), other.shown_id());
        assert_eq!(proof.holds(&other), Err(MasterKeyError::Another { sealed_with, current }));
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
        // Eleven characters, of twelve bytes.
        for short in ["short", "größeres Wo"] {
            assert_eq!(KeyCheck::of_passphrase(&secret(short)).unwrap_err(), MasterKeyError::Short);
        }
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
