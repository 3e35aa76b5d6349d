//! Signing of heads. A head states what the trail was at a moment. With a head and the public key, an auditor can check
//! that nothing before the head was changed since.

use std::sync::{MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::buffer::EventBuffer;
use super::writer::JournalCore;
use crate::audit::proof::checkpoint::{Checkpoint, CheckpointKey, Signer, encode_hash};
use crate::audit::proof::merkle::{Hash, MerkleTree};
use crate::audit::trail::chain::ChainHead;
use crate::audit::trail::last_head::Signed;
use crate::clock::push_rfc3339;

/// How often heads are signed: after a number of events, and after an interval.
#[derive(Debug, Clone, Copy)]
pub struct CheckpointPolicy {
    /// The number of events after which a head is signed.
    pub events: u64,
    /// The longest time that an event waits for a head.
    pub interval: Duration,
}

/// The state of signing, behind a lock that appends do not need.
pub(in crate::audit) struct CheckpointSigner {
    signer: Signer,
    /// The tree over all events; `None` if the trail lacks its beginning.
    tree: Option<MerkleTree>,
    /// The number of events up to the last head, itself included.
    signed: u64,
    /// The time since which there are events that no head covers.
    since: Option<Instant>,
    /// The last head, until it and all events before it are on the disk.
    latest: Option<Signed>,
}

impl CheckpointSigner {
    pub(in crate::audit) fn new(signer: Signer) -> Self {
        Self { signer, tree: None, signed: 0, since: None, latest: None }
    }

    pub(in crate::audit) fn verifier(&self) -> CheckpointKey {
        self.signer.verifier()
    }

    /// Signs a head of a tree other than that of the whole trail: the one over retired events.
    pub(in crate::audit) fn sign_now(&self, tree: &MerkleTree, now: SystemTime) -> String {
        sign_checkpoint(&self.signer, tree, now).1
    }

    /// Continues with the tree over the events of a former run, which end at `head`.
    pub(in crate::audit) fn go_on(&mut self, tree: MerkleTree, head: Option<&ChainHead>) {
        let is_whole = head.is_some_and(|head| head.next_seq == tree.size() + 1);
        if !is_whole {
            tracing::error!("the trail does not begin with its first event: no head of it can be signed");
        }
        // Existing events wait for the next head like any others.
        self.tree = is_whole.then_some(tree);
    }

    fn add(&mut self, leaves: impl IntoIterator<Item = Hash>) {
        if let Some(tree) = &mut self.tree {
            leaves.into_iter().for_each(|leaf| tree.push(&leaf));
        }
    }

    /// Returns the number of events that no head covers.
    fn events_since(&self) -> u64 {
        self.tree.as_ref().map_or(0, |tree| tree.size().saturating_sub(self.signed))
    }

    /// Appends a head that covers all events before it.
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

    /// Takes the last head once its `seq` is below `durable`, so that it is on the disk. Returns each head once.
    pub(in crate::audit) fn latest_before(&mut self, durable: u64) -> Option<Signed> {
        self.latest.take_if(|latest| latest.events < durable)
    }

    /// Counts an event of the journal's own that needs no head by itself: a segment was begun.
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

/// Formats the members of a head's event: the size and peaks of `tree`, and the signed note.
fn members(note: &str, tree: &MerkleTree) -> String {
    let note = crate::audit::call::fields::ascii_json(note);
    let peaks: Vec<String> = tree.peaks().iter().map(|peak| format!("\"{}\"", encode_hash(peak))).collect();
    format!(",\"size\":{},\"note\":{note},\"peaks\":[{}]", tree.size(), peaks.join(","))
}

impl JournalCore {
    pub(in crate::audit) fn signing(&self) -> MutexGuard<'_, CheckpointSigner> {
        self.signing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Signs a head if one is due. With `at_once`, signs one as soon as any event has none.
    pub(in crate::audit) fn sign_head(&self, at_once: bool) {
        let signing = &mut *self.signing();
        // Add most leaves without the lock that every append needs.
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
