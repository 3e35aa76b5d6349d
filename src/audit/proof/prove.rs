//! A proof that an event is on the trail, for a verifier without the trail and without trust in the gateway (C2SP
//! tlog-proof). It holds the event, its path up the tree, and the signed head that covers it.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra eyJzZX…               the event's line
//! index 41                    its place, from 0
//! mK2…=                       the way up, one hash a line
//!
//! claviger                    the head, a signed note
//! …
//! ```

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::checkpoint::{Checkpoint, CheckpointKey, encode_hash, hash};
use super::merkle::{Hash, MerkleTree};
use super::range_roots::{ProofBuilder, is_consistent, root_from_proof};
use crate::audit::trail::chain::verified_line;
use crate::audit::trail::event::{Event, EventKind};
use crate::audit::trail::retired::RetiredStub;
use crate::audit::trail::segment::each_line;

const FORM: &str = "c2sp.org/tlog-proof@v1";

/// A proof that an event is on the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    /// The line of the event, without its line feed.
    pub line: Vec<u8>,
    /// The index of the event's leaf in the tree, from 0.
    pub index: u64,
    /// The hashes on the path up the tree, from the leaf on.
    pub hashes: Vec<Hash>,
    /// The head that covers the event, a signed note.
    pub note: String,
}

/// The reason why a proof is not valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The text is not a proof.
    #[error("not a proof of the form c2sp.org/tlog-proof@v1")]
    Form,
    /// The line is not one of a trail, or was altered.
    #[error("the event's hash is not that of its content")]
    Line,
    /// The key has not signed the head.
    #[error("the head is not signed by this key")]
    Signature,
    /// The path up the tree does not lead to the root of the head.
    #[error("the event is not in the tree of this head")]
    Elsewhere,
}

impl Proof {
    /// Formats the proof as the text of a proof file.
    #[must_use]
    pub fn text(&self) -> String {
        let (extra, index) = (STANDARD.encode(&self.line), self.index);
        let hashes: String = self.hashes.iter().map(|hash| encode_hash(hash) + "\n").collect();
        format!("{FORM}\nextra {extra}\nindex {index}\n{hashes}\n{}", self.note)
    }

    /// Parses a proof in the format of [`Self::text`].
    ///
    /// # Errors
    /// [`ProofError::Form`] if the text has another format.
    pub fn parse(text: &str) -> Result<Self, ProofError> {
        let parsed = || {
            let (proof, note) = text.split_once("\n\n")?;
            let rest = proof.strip_prefix(FORM)?.strip_prefix("\nextra ")?;
            let (extra, rest) = rest.split_once("\nindex ")?;
            let mut lines = rest.lines();
            let index = lines.next()?.parse().ok()?;
            let hashes: Option<Vec<Hash>> = lines.map(hash).collect();
            Some(Self { line: STANDARD.decode(extra).ok()?, index, hashes: hashes?, note: note.to_owned() })
        };
        parsed().ok_or(ProofError::Form)
    }

    /// Verifies the proof, and returns the head that covers the event.
    ///
    /// # Errors
    /// [`ProofError::Line`], [`ProofError::Signature`] or [`ProofError::Elsewhere`] if that part is not valid.
    pub fn check(&self, key: &CheckpointKey) -> Result<Checkpoint, ProofError> {
        let (_, leaf) = verified_line(&self.line).ok_or(ProofError::Line)?;
        let head = key.open(&self.note).ok_or(ProofError::Signature)?;
        let root = root_from_proof(&leaf, (self.index, head.size), &self.hashes);
        if root == Some(head.root) { Ok(head) } else { Err(ProofError::Elsewhere) }
    }
}

/// Proves the last event of the call `request_id` by the first head in `dir` that covers it. `Ok(Err(_))` is the reason
/// why there is no proof.
///
/// # Errors
/// An I/O error if a file cannot be read.
pub fn prove(dir: &Path, request_id: &str) -> io::Result<Result<Proof, &'static str>> {
    let start = RetiredStub::latest(dir)?.and_then(|stub| stub.tree()).unwrap_or_default();
    let (mut found, mut head) = (None, None);
    each_line(dir, |line| {
        if let Some(event) = Event::parse(line) {
            if event.request_id.as_deref() == Some(request_id) {
                (found, head) = (Some((event.seq.saturating_sub(1), line.to_vec())), None);
            } else if event.event == EventKind::Head && found.is_some() && head.is_none() {
                head = event.note.map(|note| (*note).to_owned());
            }
        }
        true
    })?;
    let Some((index, line)) = found else { return Ok(Err("no event of this call is on the trail")) };
    let Some(note) = head else { return Ok(Err("no head covers it yet; wait for the next head")) };
    let head = Checkpoint::parse_unverified(&note);
    let builder = head.and_then(|head| ProofBuilder::inclusion(&start, index, head.size));
    let Some(builder) = builder else { return Ok(Err("the head after it does not cover it")) };
    let hashes = collect(dir, &start, builder)?;
    Ok(hashes
        .map(|hashes| Proof { line, index, hashes, note })
        .ok_or("the trail is not intact; run `claviger audit verify`"))
}

/// Proves that the trail in `dir` at the later head only adds to the trail at the earlier one. The proof has one hash
/// per line. `Ok(Err(_))` is the reason why there is no proof.
///
/// # Errors
/// An I/O error if a file cannot be read.
pub fn prove_consistency(
    dir: &Path,
    earlier: &Checkpoint,
    later: &Checkpoint,
) -> io::Result<Result<String, &'static str>> {
    let start = RetiredStub::latest(dir)?.and_then(|stub| stub.tree()).unwrap_or_default();
    let Some(builder) = ProofBuilder::consistency(&start, earlier.size, later.size) else {
        return Ok(Err(
            "the second head covers less than the first, or the first covers only deleted events",
        ));
    };
    let Some(hashes) = collect(dir, &start, builder)? else {
        return Ok(Err(
            "the trail is not intact, or ends before the second head; run `claviger audit verify`",
        ));
    };
    let text = hashes.iter().map(|hash| encode_hash(hash) + "\n").collect();
    Ok(if is_consistent(earlier, later, &hashes) {
        Ok(text)
    } else {
        Err("the heads are not both of this trail")
    })
}

/// Whether a proof from [`prove_consistency`] shows that the later head only adds to the earlier one.
#[must_use]
pub fn check_consistency(earlier: &Checkpoint, later: &Checkpoint, proof: &str) -> bool {
    let hashes: Option<Vec<Hash>> = proof.lines().map(hash).collect();
    hashes.is_some_and(|hashes| is_consistent(earlier, later, &hashes))
}

/// Reads the leaves of the events after those in `start` into `builder`. Returns the hashes of the proof; `None` if the
/// trail ends before, or a line is not intact.
fn collect(dir: &Path, start: &MerkleTree, mut builder: ProofBuilder) -> io::Result<Option<Vec<Hash>>> {
    let (mut is_skipping, mut is_intact) = (true, true);
    each_line(dir, |line| {
        // A retired segment may not be deleted yet.
        is_skipping = is_skipping && Event::parse(line).is_some_and(|event| event.seq <= start.size);
        if is_skipping {
            return true;
        }
        let leaf = verified_line(line).map(|(_, leaf)| leaf);
        is_intact = leaf.is_some();
        if let Some(leaf) = &leaf {
            builder.push(leaf);
        }
        is_intact && builder.hashes().is_none()
    })?;
    Ok(builder.hashes().filter(|_| is_intact))
}
