//! Sealing: encryption that keeps a secret unreadable in the store, and bound to its place there.
//!
//! Each record has its own fresh random data key, which encrypts its content. The master key encrypts the data key.
//! Both encryptions are bound to the place of the record, so that a record moved to another row or column cannot be
//! unsealed. Both use AES-256-GCM.
//!
//! ```text
//! version 1 │ id of the master key 8 │ nonce 12 │ data key 32 + tag 16 │ nonce 12 │ content n + tag 16
//! ```

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand;
use zeroize::Zeroizing;

use super::master_key::{KEY_LEN, KeyId, MasterKey};
use crate::encoding::hex;
use crate::secret::Secret;

/// The format version of a sealed record.
const VERSION: u8 = 1;
/// Length in bytes of the format version and the master key's id.
const HEADER: usize = 1 + size_of::<KeyId>();
const TAG: usize = 16;
/// Length in bytes of a wrapped data key: its nonce, the encrypted key, its tag.
const WRAPPED: usize = NONCE_LEN + KEY_LEN + TAG;

/// The place in the store that a sealed record is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The name of the table.
    pub table: &'a str,
    /// The key of the row.
    pub row: &'a str,
    /// The name of the column.
    pub column: &'a str,
}

/// The reason why a record cannot be sealed or unsealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnsealError {
    /// The record is too short, or has a format unknown to this version.
    #[error("what is stored is no sealed record of a known form")]
    Form,
    /// The record was sealed with another master key.
    #[error("it is sealed with the master key {sealed_with}, and the current key is {current}")]
    WrongKey {
        /// The id of the key that it was sealed with.
        sealed_with: String,
        /// The id of the given key.
        current: String,
    },
    /// The record was altered, or belongs to another place, upstream or kind.
    #[error("it was altered, moved from another place, or sealed for another upstream or kind")]
    Altered,
    /// The system gives no random bytes, or encryption failed.
    #[error("the system gives no random bytes")]
    Random,
}

/// Seals `content` for `place`.
///
/// # Errors
/// [`UnsealError::Random`] if the system gives no random bytes or the encryption fails.
pub fn seal(master: &MasterKey, place: Binding<'_>, content: &[u8]) -> Result<Vec<u8>, UnsealError> {
    let mut key = Zeroizing::new([0; KEY_LEN]);
    rand::fill(key.as_mut()).map_err(|_| UnsealError::Random)?;
    let mut sealed = wrap_key(master, place, key.as_ref())?;
    sealed.extend(encrypt(key.as_ref(), &bound("content", place), content)?);
    Ok(sealed)
}

/// Unseals the content of a record at `place`.
///
/// # Errors
/// An [`UnsealError`] with the reason. It never contains any of the content.
pub fn unseal(master: &MasterKey, place: Binding<'_>, sealed: &[u8]) -> Result<Secret, UnsealError> {
    let (key, content) = open_parts(master, place, sealed)?;
    decrypt(key.expose(), &bound("content", place), content)
}

/// Wraps the data key of a sealed record for another master key. The content stays as it is.
///
/// # Errors
/// An [`UnsealError`] if the record cannot be unsealed, including its content: a broken record is not rewrapped.
pub fn rewrap(
    from: &MasterKey,
    to: &MasterKey,
    place: Binding<'_>,
    sealed: &[u8],
) -> Result<Vec<u8>, UnsealError> {
    unseal(from, place, sealed)?;
    let (key, content) = open_parts(from, place, sealed)?;
    Ok([&wrap_key(to, place, key.expose())?, content].concat())
}

/// Builds the header and the wrapped data key.
fn wrap_key(master: &MasterKey, place: Binding<'_>, key: &[u8]) -> Result<Vec<u8>, UnsealError> {
    let wrapped = encrypt(master.expose(), &bound("key", place), key)?;
    Ok([&[VERSION], &master.id()[..], &wrapped].concat())
}

/// Unwraps the data key of a sealed record. Returns it with the content, which is still encrypted.
fn open_parts<'s>(
    master: &MasterKey,
    place: Binding<'_>,
    sealed: &'s [u8],
) -> Result<(Secret, &'s [u8]), UnsealError> {
    let (header, rest) = sealed.split_at_checked(HEADER).ok_or(UnsealError::Form)?;
    let (key, content) = rest.split_at_checked(WRAPPED).ok_or(UnsealError::Form)?;
    let (version, id) = header.split_first().ok_or(UnsealError::Form)?;
    if *version != VERSION {
        return Err(UnsealError::Form);
    }
    if id != master.id() {
        let (sealed_with, current) = (hex(id), master.shown_id());
        return Err(UnsealError::WrongKey { sealed_with, current });
    }
    let key = decrypt(master.expose(), &bound("key", place), key)?;
    if key.expose().len() != KEY_LEN {
        return Err(UnsealError::Form);
    }
    Ok((key, content))
}

fn encrypt(key: &[u8], bound: &[u8], content: &[u8]) -> Result<Vec<u8>, UnsealError> {
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| UnsealError::Random)?;
    // Reserve room for the tag, so that the buffer never grows and leaves no copy of the content behind.
    let mut text = Zeroizing::new(Vec::with_capacity(content.len() + TAG));
    text.extend_from_slice(content);
    let nonce =
        cipher.seal_in_place_append_tag(Aad::from(bound), &mut *text).map_err(|_| UnsealError::Random)?;
    Ok([nonce.as_ref(), &text[..]].concat())
}

fn decrypt(key: &[u8], bound: &[u8], sealed: &[u8]) -> Result<Secret, UnsealError> {
    let (nonce, text) = sealed.split_at_checked(NONCE_LEN).ok_or(UnsealError::Form)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| UnsealError::Form)?;
    let cipher = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| UnsealError::Altered)?;
    let mut text = Zeroizing::new(text.to_vec());
    let clear = cipher.open_in_place(nonce, Aad::from(bound), &mut text).map_err(|_| UnsealError::Altered)?;
    Ok(Secret::new(clear.to_vec()))
}

/// Formats the data that an encryption is bound to: the purpose, the format version and the place. Each part follows
/// its length, so that different places have different data.
fn bound(what: &str, place: Binding<'_>) -> Vec<u8> {
    let mut bound = vec![VERSION];
    for part in [what, place.table, place.row, place.column] {
        bound.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        bound.extend_from_slice(part.as_bytes());
    }
    bound
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    const HERE: Binding<'_> = Binding { table: "versions", row: "jms/1", column: "sealed" };

    fn master(byte: u8) -> MasterKey {
        MasterKey::new(Zeroizing::new(vec![byte; KEY_LEN]))
    }

    #[test]
    fn opens_what_was_sealed_and_seals_nothing_twice_alike() {
        for content in [&b""[..], b"x", b"fake-secret", &vec![7; 70_000]] {
            let (one, other) =
                (seal(&master(1), HERE, content).unwrap(), seal(&master(1), HERE, content).unwrap());
            assert_ne!(one, other);
            assert_eq!(one.len(), HEADER + WRAPPED + NONCE_LEN + content.len() + TAG);
            assert_eq!(unseal(&master(1), HERE, &one).unwrap().expose(), content);
        }
        let sealed = seal(&master(1), HERE, b"fake-secret").unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"fake"));
    }

    #[test]
    fn a_bit_flipped_anywhere_is_noticed() {
        let sealed = seal(&master(1), HERE, b"fake-secret").unwrap();
        for at in 0..sealed.len() {
            for bit in 0..8 {
                let mut flipped = sealed.clone();
                flipped[at] ^= 1 << bit;
                assert!(unseal(&master(1), HERE, &flipped).is_err(), "bit {bit} of byte {at}");
                assert!(rewrap(&master(1), &master(2), HERE, &flipped).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn one_that_was_cut_or_lengthened_does_not_open() {
        let sealed = seal(&master(1), HERE, b"fake-secret").unwrap();
        for length in 0..sealed.len() {
            assert!(unseal(&master(1), HERE, &sealed[..length]).is_err(), "{length}");
        }
        assert!(unseal(&master(1), HERE, &[sealed.as_slice(), b"\0"].concat()).is_err());
    }

    #[test]
    fn one_that_was_moved_does_not_open() {
        let sealed = seal(&master(1), HERE, b"fake-secret").unwrap();
        for elsewhere in [
            Binding { row: "jms/2", ..HERE },
            Binding { row: "jms", ..HERE },
            Binding { table: "tokens", ..HERE },
            Binding { column: "note", ..HERE },
            Binding { table: "version", row: "sjms/1", ..HERE },
        ] {
            assert_eq!(unseal(&master(1), elsewhere, &sealed).unwrap_err(), UnsealError::Altered);
        }
        // A record whose content was put behind another record's key does not open either.
        let other = seal(&master(1), HERE, b"fake-other").unwrap();
        let spliced = [&sealed[..HEADER + WRAPPED], &other[HEADER + WRAPPED..]].concat();
        assert_eq!(unseal(&master(1), HERE, &spliced).unwrap_err(), UnsealError::Altered);
    }

    #[test]
    fn a_wrong_key_is_called_one() {
        let sealed = seal(&master(1), HERE, b"fake-secret").unwrap();
        let why = unseal(&master(2), HERE, &sealed).unwrap_err();
        let (sealed_with, current) = (master(1).shown_id(), master(2).shown_id());
        assert_eq!(why, UnsealError::WrongKey { sealed_with, current });
    }

    #[test]
    fn wrapped_anew_it_opens_with_the_new_key_alone() {
        let sealed = seal(&master(1), HERE, b"fake-secret").unwrap();
        let fresh = rewrap(&master(1), &master(2), HERE, &sealed).unwrap();
        assert_eq!(unseal(&master(2), HERE, &fresh).unwrap().expose(), b"fake-secret");
        assert!(unseal(&master(1), HERE, &fresh).is_err());
        assert!(rewrap(&master(1), &master(2), HERE, &fresh).is_err());
        assert!(rewrap(&master(1), &master(2), Binding { row: "x", ..HERE }, &sealed).is_err());
    }
}
