//! Signing of heads. A head states what the trail was at a moment. With a head and the public key, an auditor can check
//! that nothing before the head was changed since.

use std::time::{Instant, SystemTime};

use super::buffer::EventBuffer;
use crate::audit::proof::checkpoint::{Checkpoint, CheckpointKey, Signer, encode_hash};
use crate::audit::proof::merkle::{Hash, MerkleTree};
use crate::audit::trail::chain::ChainHead;
use crate::audit::trail::event::{EventKind, format_members};
use crate::audit::trail::last_head::LastHead;
use crate::clock::rfc3339;

/// The state of signing, behind a lock that appends do not need.
pub(super) struct CheckpointSigner {
    signer: Signer,
    /// The tree over all events; `None` if the trail lacks its beginning.
    tree: Option<MerkleTree>,
    /// The number of events up to the last head, itself included.
    signed: u64,
    /// The time since which there are events that no head covers.
    pub(super) since: Option<Instant>,
    /// The last head, until it and all events before it are on the disk.
    latest: Option<LastHead>,
}

impl CheckpointSigner {
    pub(super) fn new(signer: Signer) -> Self {
        Self { signer, tree: None, signed: 0, since: None, latest: None }
    }

    pub(super) fn verifier(&self) -> CheckpointKey {
        self.signer.verifier()
    }

    /// Signs a head of a tree other than that of the whole trail: the one over retired events.
    pub(super) fn sign_now(&self, tree: &MerkleTree, now: SystemTime) -> String {
        sign_checkpoint(&self.signer, tree, now).1
    }

    /// Continues with the tree over the events of a former run, which end at `head`.
    pub(super) fn continue_tree(&mut self, tree: MerkleTree, head: Option<&ChainHead>) {
        let is_whole = head.is_some_and(|head| head.next_seq == tree.size + 1);
        if !is_whole {
            tracing::error!("the trail does not begin with its first event: no head of it can be signed");
        }
        // Existing events wait for the next head like any others.
        self.tree = is_whole.then_some(tree);
    }

    pub(super) fn add(&mut self, leaves: impl IntoIterator<Item = Hash>) {
        if let Some(tree) = &mut self.tree {
            leaves.into_iter().for_each(|leaf| tree.push(&leaf));
        }
    }

    /// Returns the number of events that no head covers.
    pub(super) fn events_since(&self) -> u64 {
        self.tree.as_ref().map_or(0, |tree| tree.size.saturating_sub(self.signed))
    }

    /// Appends a head that covers all events before it.
    pub(super) fn sign(&mut self, tail: &mut EventBuffer, now: SystemTime) {
        if tail.head.is_none() || tail.is_full() {
            return;
        }
        self.add(tail.leaves.drain(..));
        let Some(tree) = &self.tree else { return };
        let (head, note) = sign_checkpoint(&self.signer, tree, now);
        let peaks: Vec<String> = tree.peaks.iter().map(encode_hash).collect();
        let members = [("size", tree.size.into()), ("note", note.as_str().into()), ("peaks", peaks.into())];
        (self.signed, self.since, tail.head_due) = (tree.size + 1, None, None);
        if tail.append(EventKind::Head, now, &[format_members(&members).as_bytes()]).is_err() {
            return tracing::warn!("a head could not be recorded");
        }
        self.latest = tail.head.as_ref().map(|end| LastHead {
            events: end.next_seq - 1,
            hash: String::from_utf8_lossy(&end.hash).into_owned(),
            time: head.time,
            note,
            ..LastHead::default()
        });
    }

    /// Takes the last head once its `seq` is below `durable`, so that it is on the disk. Returns each head once.
    pub(super) fn latest_before(&mut self, durable: u64) -> Option<LastHead> {
        self.latest.take_if(|latest| latest.events < durable)
    }

    /// Counts an event of the journal's own that needs no head by itself: a segment was begun.
    pub(super) fn count_own(&mut self) {
        self.signed += 1;
    }
}

fn sign_checkpoint(signer: &Signer, tree: &MerkleTree, now: SystemTime) -> (Checkpoint, String) {
    let head = Checkpoint { size: tree.size, root: tree.root(), time: rfc3339(now) };
    let note = signer.sign(&head);
    (head, note)
}
