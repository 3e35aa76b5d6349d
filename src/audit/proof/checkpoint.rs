//! Heads of the trail in a format that standard tools read: a checkpoint (C2SP tlog-checkpoint) in a signed note (C2SP
//! signed-note), signed with Ed25519.
//!
//! ```text
//! claviger                            the origin, which is the name of the key as well
//! 12345                               how many events
//! mK2…=                               the root of their Merkle tree
//! time 2026-01-02T03:04:05.678901Z    when it was signed
//!
//! — claviger 5kg…=                    the first bytes of the key's hash, and the signature
//! ```

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::merkle::{Hash, MerkleTree};

/// The signature type of Ed25519 in a signed note.
const ALGORITHM: u8 = 1;
/// The beginning of a signature line: an em dash and a blank.
const DASH: &str = "\u{2014} ";

/// Whether a name is valid for a log and its key. It must have neither blanks nor `+`.
#[must_use]
pub fn is_origin(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 128
        && name.chars().all(|it| !it.is_whitespace() && !it.is_control() && it != '+')
}

/// Computes the id of a key: the first bytes of SHA-256 over its name, a line feed, its type and the key itself.
fn key_id(name: &str, public: &[u8]) -> [u8; 4] {
    let hash =
        Sha256::new().chain_update(name).chain_update([b'\n', ALGORITHM]).chain_update(public).finalize();
    let mut id = [0; 4];
    id.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    id
}

/// The signing key for heads, with its name.
pub struct Signer {
    name: String,
    pair: Ed25519KeyPair,
}

/// The reason why a text or seed is not a valid key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoKey(&'static str);

impl Signer {
    /// Makes a signer from the seed of its key, which must have 32 bytes. `name` must be [an origin](is_origin).
    ///
    /// # Errors
    /// [`NoKey`] if the seed has another length.
    pub fn new(name: &str, seed: &[u8]) -> Result<Self, NoKey> {
        let pair =
            Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoKey("a signing key has 32 bytes"))?;
        Ok(Self { name: name.to_owned(), pair })
    }

    /// Returns the public key that verifies this signer's signatures.
    #[must_use]
    pub fn verifier(&self) -> CheckpointKey {
        CheckpointKey { name: self.name.clone(), public: self.pair.public_key().as_ref().to_vec() }
    }

    /// Formats and signs a head as a signed note, with the final line feed.
    #[must_use]
    pub fn sign(&self, head: &Checkpoint) -> String {
        let text =
            format!("{}\n{}\n{}\ntime {}\n", self.name, head.size, STANDARD.encode(head.root), head.time);
        let signature = self.pair.sign(text.as_bytes());
        let id = key_id(&self.name, self.pair.public_key().as_ref());
        let signed = STANDARD.encode([&id, signature.as_ref()].concat());
        format!("{text}\n{DASH}{} {signed}\n", self.name)
    }
}

/// A public key that verifies heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointKey {
    name: String,
    public: Vec<u8>,
}

/// The content of a head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The number of events that the head covers.
    pub size: u64,
    /// The root of the Merkle tree over them.
    pub root: Hash,
    /// The time of signing (RFC 3339).
    pub time: String,
}

impl CheckpointKey {
    /// Parses a public key in the format of [`Self::to_text`]. Surrounding blanks are ignored.
    ///
    /// # Errors
    /// [`NoKey`] if the text is not `name+hash+key`, or its parts do not match.
    pub fn parse(text: &str) -> Result<Self, NoKey> {
        let wrong = NoKey("not a public key of a signed note: name+hash+key");
        let (name, rest) = text.trim().split_once('+').ok_or(wrong)?;
        let (id, key) = rest.split_once('+').ok_or(wrong)?;
        let key = STANDARD.decode(key).map_err(|_| wrong)?;
        let Some((&ALGORITHM, public)) = key.split_first() else { return Err(NoKey("not an Ed25519 key")) };
        let verifier = Self { name: name.to_owned(), public: public.to_vec() };
        if !is_origin(name) || public.len() != 32 || verifier.id_shown() != id {
            return Err(wrong);
        }
        Ok(verifier)
    }

    fn id_shown(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(key_id(&self.name, &self.public)))
    }

    /// Formats the key as `name+hash+key` (C2SP signed-note, "vkey").
    #[must_use]
    pub fn to_text(&self) -> String {
        let key = STANDARD.encode([&[ALGORITHM], self.public.as_slice()].concat());
        format!("{}+{}+{key}", self.name, self.id_shown())
    }

    /// Returns the content of a signed note if this key has signed it. Signatures of other keys are ignored.
    #[must_use]
    pub fn open(&self, note: &str) -> Option<Checkpoint> {
        let end = note.rfind("\n\n")?;
        let (text, signatures) = (note.get(..=end)?, note.get(end + 2..)?);
        let id = key_id(&self.name, &self.public);
        let by_us = signatures.lines().any(|line| {
            let Some((name, signed)) = line.strip_prefix(DASH).and_then(|line| line.split_once(' ')) else {
                return false;
            };
            let signed = STANDARD.decode(signed).unwrap_or_default();
            let signature = signed.strip_prefix(&id).filter(|_| name == self.name);
            let key = UnparsedPublicKey::new(&ED25519, &self.public);
            signature.is_some_and(|signature| key.verify(text.as_bytes(), signature).is_ok())
        });
        if by_us { Checkpoint::parse(text, &self.name) } else { None }
    }
}

impl Checkpoint {
    /// Parses the content of a note without a check of its signatures.
    #[must_use]
    pub fn parse_unverified(note: &str) -> Option<Self> {
        let text = note.get(..=note.rfind("\n\n")?)?;
        Self::parse(text, text.lines().next()?)
    }

    /// Rebuilds the tree that the head covers from its encoded [peaks](MerkleTree::peaks); `None` if they do not match.
    pub(in crate::audit) fn tree(&self, peaks: &[String]) -> Option<MerkleTree> {
        let peaks: Option<Vec<Hash>> = peaks.iter().map(|peak| hash(peak)).collect();
        MerkleTree::of(self.size, peaks?).filter(|tree| tree.root() == self.root)
    }

    fn parse(text: &str, origin: &str) -> Option<Self> {
        let mut lines = text.lines();
        let (named, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let known = named == origin
            && (size == "0" || !size.starts_with('0'))
            && size.bytes().all(|it| it.is_ascii_digit());
        let time = lines.find_map(|line| line.strip_prefix("time "))?;
        known.then_some(())?;
        Some(Self { size: size.parse().ok()?, root: hash(root)?, time: time.to_owned() })
    }
}

/// Decodes a hash from base64.
#[must_use]
pub(in crate::audit) fn hash(text: &str) -> Option<Hash> {
    STANDARD.decode(text).ok()?.try_into().ok()
}

/// Encodes a hash in base64.
#[must_use]
pub(in crate::audit) fn encode_hash(hash: &Hash) -> String {
    STANDARD.encode(hash)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn signer(name: &str, seed: u8) -> Signer {
        Signer::new(name, &[seed; 32]).unwrap()
    }

    fn head() -> Checkpoint {
        Checkpoint { size: 1234, root: [7; 32], time: "2026-01-02T03:04:05.000001Z".into() }
    }

    #[test]
    fn a_head_opens_by_its_key_and_by_no_other() {
        let (ours, head) = (signer("claviger", 1), head());
        let note = ours.sign(&head);
        assert_eq!(ours.verifier().open(&note), Some(head));
        for other in [signer("claviger", 2), signer("another", 1)] {
            assert_eq!(other.verifier().open(&note), None);
        }
        let cosigned = format!("{note}{DASH}witness AAAAAAAA\n");
        assert!(ours.verifier().open(&cosigned).is_some());
        for at in 0..note.len() {
            let mut flipped = note.clone().into_bytes();
            if let Some(byte) = flipped.get_mut(at) {
                *byte ^= 1;
            }
            let Ok(flipped) = String::from_utf8(flipped) else { continue };
            // Only the final line feed carries no information.
            assert!(ours.verifier().open(&flipped).is_none() || at + 1 == note.len(), "{at}: {flipped}");
        }
    }

    #[test]
    fn a_public_key_is_read_as_it_is_written() {
        let verifier = signer("claviger", 1).verifier();
        let text = verifier.to_text();
        assert_eq!(CheckpointKey::parse(&format!("{text}\n")), Ok(verifier));
        for wrong in [
            "",
            "claviger",
            "claviger+00000000+AAAA",
            &text.replace("claviger", "claviges"),
            &text.replace('=', ""),
        ] {
            assert!(CheckpointKey::parse(wrong).is_err() || *wrong == text, "{wrong}");
        }
    }
}
