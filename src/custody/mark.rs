//! Salted digests that recognise a secret without storing it.

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::pbkdf2::{self, PBKDF2_HMAC_SHA256};
use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

const SALT: usize = 16;
const DIGEST: usize = 16;
/// The number of hash rounds, which make guessing a secret slow.
const ROUNDS: NonZeroU32 = NonZeroU32::MIN.saturating_add(99_999);

/// A salted digest of a secret by PBKDF2 with HMAC-SHA256 (RFC 8018 §5.2), 100,000 rounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark([u8; SALT], [u8; DIGEST]);

impl Mark {
    /// Makes the mark of a secret with a fresh salt; `None` if the system gives no random bytes. Takes milliseconds.
    #[must_use]
    pub fn new(secret: &[u8]) -> Option<Self> {
        let (mut salt, mut digest) = ([0; SALT], [0; DIGEST]);
        rand::fill(&mut salt).ok()?;
        pbkdf2::derive(PBKDF2_HMAC_SHA256, ROUNDS, &salt, secret, &mut digest);
        Some(Self(salt, digest))
    }

    /// Whether this is the mark of the given secret. Takes milliseconds.
    #[must_use]
    pub fn is_of(&self, secret: &[u8]) -> bool {
        pbkdf2::verify(PBKDF2_HMAC_SHA256, ROUNDS, &self.0, secret, &self.1).is_ok()
    }

    /// Parses a mark in the format of its `Display`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD_NO_PAD.decode(text).ok()?;
        let (salt, digest) = bytes.split_first_chunk()?;
        Some(Self(*salt, digest.try_into().ok()?))
    }
}

/// Formats the salt and the digest in base64.
impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD_NO_PAD.encode([&self.0[..], &self.1[..]].concat()))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::Mark;

    #[test]
    fn a_secret_is_recognised_and_another_is_not() {
        let mark = Mark::new(b"fake-password").unwrap();
        assert_eq!(Mark::parse(&mark.to_string()), Some(mark.clone()));
        assert!(mark.is_of(b"fake-password") && !mark.is_of(b"fake-password ") && !mark.is_of(b""));
        assert_ne!(Mark::new(b"fake-password").unwrap(), mark, "the salt is another");
        for text in ["", "AAAA", "?", &format!("{mark}AA")] {
            assert_eq!(Mark::parse(text), None, "{text}");
        }
    }
}
