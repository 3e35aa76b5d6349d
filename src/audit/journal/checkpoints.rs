//! Signing heads: what the trail was at a moment, so that whoever holds a head and the public key can tell
//! whether anything before it was changed since.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::buffer::EventBuffer;
use super::writer::JournalCore;
use crate::audit::proof::checkpoint::{Checkpoint, CheckpointKey, Signer, encode_hash};
use crate::audit::proof::merkle::{Hash, MerkleTree};
use crate::audit::trail::chain::ChainHead;
use crate::audit::trail::last_head::Signed;
use crate::clock::push_rfc3339;

/// How often heads are signed: after so many events, and so long after an event.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointPolicy {
    /// Events.
    pub events: u64,
    /// The longest that an event waits for a head.
    pub interval: Duration,
}

/// What signing needs, by the journal's thread alone.
pub(in crate::audit) struct CheckpointSigner {
    signer: Signer,
    /// None where the trail does not begin at its beginning.
    tree: Option<MerkleTree>,
    /// The size with the last head in it.
    signed: u64,
    /// Since when there are events that no head is over.
    since: Option<Instant>,
    /// The last head, until all of it is on the disk.
    latest: Option<Signed>,
}

impl CheckpointSigner {
    pub(in crate::audit) fn new(signer: Signer) -> Self {
        Self { signer, tree: None, signed: 0, since: None, latest: None }
    }

    pub(in crate::audit) fn verifier(&self) -> CheckpointKey {
        self.signer.verifier()
    }

    /// A signed head of another tree than that of all: of what is let go.
    pub(in crate::audit) fn sign_now(&self, tree: &MerkleTree, now: SystemTime) -> String {
        sign_checkpoint(&self.signer, tree, now).1
    }

    /// Goes on with the tree over what a former run left, which ends at `head`.
    pub(in crate::audit) fn go_on(&mut self, tree: MerkleTree, head: Option<&ChainHead>) {
        let is_whole = head.is_some_and(|head| head.next_seq == tree.size() + 1);
        if !is_whole {
            tracing::error!("the trail does not begin with its first event: no head of it can be signed");
        }
        // What is there already waits for the next head like any other event.
        self.tree = is_whole.then_some(tree);
    }

    fn add(&mut self, leaves: impl IntoIterator<Item = Hash>) {
        if let Some(tree) = &mut self.tree {
            leaves.into_iter().for_each(|leaf| tree.push(&leaf));
        }
    }

    /// How many events no head is over.
    fn events_since(&self) -> u64 {
        self.tree.as_ref().map_or(0, |tree| tree.size().saturating_sub(self.signed))
    }

    /// Appends a head over all that was appended before it.
    pub(in crate::audit) fn sign(&mut self, tail: &mut EventBuffer, now: SystemTime) {
        if tail.head.is_none() || tail.is_full() {
            return;
        }
        self.add(tail.leaves.drain(..));
        let Some(tree) = &self.tree else { return };
        let (head, note) = sign_checkpoint(&self.signer, tree, now);
        let members = members(&note, tree);
        (self.signed, self.since, tail.head_due) = (tree.size() + 1, None, None);
        if tail.append("head", now, &[members.as_bytes()]).is_err() {
            return tracing::warn!("a head could not be recorded");
        }
        self.latest = tail.head.as_ref().map(|end| Signed {
            events: end.next_seq - 1,
            hash: String::from_utf8_lossy(&end.hash).into_owned(),
            time: head.time,
            note,
        });
    }

    /// The last head, once all before `durable` is on the disk and it is among that: each time another.
    pub(in crate::audit) fn latest_before(&mut self, durable: u64) -> Option<Signed> {
        self.latest.take_if(|latest| latest.events < durable)
    }

    /// An event of the journal's own that needs no head by itself: a segment was begun.
    pub(in crate::audit) fn pass_over(&mut self) {
        self.signed += 1;
    }
}

fn sign_checkpoint(signer: &Signer, tree: &MerkleTree, now: SystemTime) -> (Checkpoint, String) {
    let mut time = Vec::new();
    push_rfc3339(&mut time, now);
    let time = String::from_utf8_lossy(&time).into_owned();
    let head = Checkpoint { size: tree.size(), root: tree.root(), time };
    let note = signer.sign(&head);
    (head, note)
}

/// The members of a head of `tree`.
fn members(note: &str, tree: &MerkleTree) -> String {
    let note = crate::audit::call::fields::ascii_json(note);
    let peaks: Vec<String> = tree.peaks().iter().map(|peak| format!("\"{}\"", encode_hash(peak))).collect();
    format!(",\"size\":{},\"note\":{note},\"peaks\":[{}]", tree.size(), peaks.join(","))
}

impl JournalCore {
    pub(in crate::audit) fn signing(&self) -> MutexGuard<'_, CheckpointSigner> {
        self.signing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs a head where one is due, or where there is anything to sign at all.
    pub(in crate::audit) fn sign_head(&self, at_once: bool) {
        let signing = &mut *self.signing();
        // Most of the leaves without the lock that all wait for who append events.
        let leaves = std::mem::take(&mut self.tail().leaves);
        signing.add(leaves);
        let unsigned = signing.events_since();
        if unsigned == 0 {
            return;
        }
        let heads = self.settings.heads;
        let since = *signing.since.get_or_insert_with(Instant::now);
        let due = at_once || unsigned >= heads.events || since.elapsed() >= heads.interval;
        let mut tail = self.tail();
        tail.head_due = Some(since + heads.interval);
        if due {
            signing.sign(&mut tail, self.clock.now());
        }
    }
}
