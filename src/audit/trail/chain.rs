//! The hash chain: every line carries the hash of the one before it.
//!
//! `hash` is the last member of a line: the SHA-256, in hexadecimal, of the line's bytes before
//! `,"hash"`. `prev` is the `hash` of the line before; 64 zeros before the first.

use sha2::{Digest as _, Sha256};

use crate::audit::proof::merkle::Hash;
use crate::encoding::hex_pair;

/// The bytes of a line before its hash.
const HASH_MEMBER: &[u8] = b",\"hash\":\"";
/// Length in bytes from `,"hash":"` to the end of a line, without its line feed.
const TAIL_LEN: usize = HASH_MEMBER.len() + 64 + 2;

/// A SHA-256 hash as hexadecimal digits.
pub type Hex = [u8; 64];

/// The `prev` of the very first line.
pub const GENESIS: Hex = [b'0'; 64];

/// The end of a chain, ready for the next line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainHead {
    /// The `seq` of the next line.
    pub next_seq: u64,
    /// The `hash` of the last line.
    pub hash: Hex,
}

impl Default for ChainHead {
    fn default() -> Self {
        Self { next_seq: 1, hash: GENESIS }
    }
}

impl ChainHead {
    /// Appends one line to `out`: `seq` and `prev`, then the JSON members that `members` writes (without braces), then
    /// `hash`. Returns the hash.
    pub fn append(&mut self, out: &mut Vec<u8>, members: impl FnOnce(&mut Vec<u8>)) -> Hash {
        let start = out.len();
        out.extend_from_slice(b"{\"seq\":");
        push_decimal(out, self.next_seq);
        out.extend_from_slice(b",\"prev\":\"");
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(b"\",");
        members(out);
        let hash: Hash = Sha256::digest(out.get(start..).unwrap_or_default()).into();
        self.hash = hex(&hash);
        self.next_seq += 1;
        out.extend_from_slice(HASH_MEMBER);
        out.extend_from_slice(&self.hash);
        out.extend_from_slice(b"\"}\n");
        hash
    }
}

/// Splits a line into the bytes that its hash covers, and the hash that it carries.
#[must_use]
pub fn split_line(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let (body, tail) = line.split_at_checked(line.len().checked_sub(TAIL_LEN)?)?;
    let hash = tail.strip_prefix(HASH_MEMBER)?.strip_suffix(b"\"}")?;
    Some((body, hash))
}

/// Computes the hash of a line's body.
#[must_use]
pub fn hash_of(body: &[u8]) -> Hash {
    Sha256::digest(body).into()
}

/// Splits a line into its body and its hash; `None` if the hash is wrong.
#[must_use]
pub fn verified_line(line: &[u8]) -> Option<(&[u8], Hash)> {
    let (body, carried) = split_line(line)?;
    let hash = hash_of(body);
    (hex(&hash) == carried).then_some((body, hash))
}

/// Formats a hash as lines carry it.
#[must_use]
pub fn hex(bytes: &Hash) -> Hex {
    let mut text = GENESIS;
    for (pair, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = hex_pair(*byte);
    }
    text
}

fn push_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn lines_link_and_split() {
        let mut head = ChainHead::default();
        let mut out = Vec::new();
        head.append(&mut out, |out| out.extend(b"\"event\":\"a\""));
        head.append(&mut out, |out| out.extend(b"\"event\":\"b\""));
        let lines: Vec<&[u8]> = out.split(|byte| *byte == b'\n').collect();
        let (first, first_hash) = split_line(lines.first().unwrap()).unwrap();
        let (second, second_hash) = split_line(lines.get(1).unwrap()).unwrap();
        assert!(first.starts_with(br#"{"seq":1,"prev":"0000"#));
        assert_eq!(hex(&hash_of(first)), first_hash);
        assert!(second.starts_with([br#"{"seq":2,"prev":""#, first_hash].concat().as_slice()));
        assert_eq!(hex(&hash_of(second)), second_hash);
        assert_eq!(head, ChainHead { next_seq: 3, hash: second_hash.try_into().unwrap() });
        assert_eq!(split_line(b"{}"), None);
    }
}
