//! Proofs over the Merkle tree: that a leaf is in it, and that a later tree only adds to an earlier one (RFC 6962,
//! sections 2.1.1 and 2.1.2). Both kinds consist of the roots of ranges of leaves.

use std::ops::Range;

use super::checkpoint::Checkpoint;
use super::merkle::{Hash, MerkleTree, hash_leaf, hash_node};

/// Returns the size of a tree's left half: the largest power of two below `size`, which must be above one.
fn left_of(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Lists the parts of a proof for the leaf at `index` in a tree of `size` leaves. For each step from the root down, it
/// has the range of leaves whose root is needed, and whether that range is on the right.
fn steps(index: u64, size: u64) -> Vec<(Range<u64>, bool)> {
    let (mut steps, mut from, mut to) = (Vec::new(), 0, size);
    while to - from > 1 {
        let middle = from + left_of(to - from);
        if index < middle {
            steps.push((middle..to, true));
            to = middle;
        } else {
            steps.push((from..middle, false));
            from = middle;
        }
    }
    steps
}

/// Lists the ranges of a proof for the first `size` leaves of those in `all`. `known` is whether the verifier has the
/// root of these leaves.
fn ranges(size: u64, all: Range<u64>, known: bool) -> Vec<Range<u64>> {
    let len = all.end - all.start;
    if size == len {
        return if known { Vec::new() } else { vec![all] };
    }
    let middle = all.start + left_of(len);
    let (mut parts, sibling) = if size <= middle - all.start {
        (ranges(size, all.start..middle, known), middle..all.end)
    } else {
        (ranges(size - (middle - all.start), middle..all.end, false), all.start..middle)
    };
    parts.push(sibling);
    parts
}

/// Builds a proof: the roots of ranges of leaves. Leaves are added in order.
#[derive(Debug)]
pub(super) struct ProofBuilder {
    /// Number of leaves of the tree.
    size: u64,
    /// Number of leaves that were added.
    seen: u64,
    parts: Vec<(Range<u64>, MerkleTree)>,
}

impl ProofBuilder {
    /// Begins a proof that the leaf at `index`, from 0, is in a tree of `size` leaves. The caller adds only the leaves
    /// that follow `start`. Returns `None` if the leaf is not among them.
    pub(super) fn inclusion(start: &MerkleTree, index: u64, size: u64) -> Option<Self> {
        // On the path to a later leaf, each peak of `start` is a part of its own, or begins one. Order: from the leaf
        // up.
        let ranges = || steps(index, size).into_iter().rev().map(|(range, _)| range);
        (start.size..size).contains(&index).then(|| Self::new(start, size, ranges()))
    }

    /// Begins a proof that the tree of `later` leaves begins with that of `earlier` leaves. The caller adds only the
    /// leaves that follow `start`. Returns `None` if the earlier tree is empty, ends before `start` does, or is larger
    /// than the later one.
    pub(super) fn consistency(start: &MerkleTree, earlier: u64, later: u64) -> Option<Self> {
        let is_possible = earlier > 0 && (start.size..=later).contains(&earlier);
        is_possible.then(|| Self::new(start, later, ranges(earlier, 0..later, true)))
    }

    /// Begins with the leaves that follow `start`. Each complete subtree of `start` must lie within one of the ranges,
    /// or outside all of them.
    fn new(start: &MerkleTree, size: u64, ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let parts = ranges.into_iter().map(|range| (range, MerkleTree::default())).collect();
        let mut builder = Self { size, seen: 0, parts };
        for peak in &start.peaks {
            let len = 1 << (start.size - builder.seen).ilog2();
            if let Some(part) = builder.next() {
                part.peaks.push(*peak);
                part.size += len;
            }
            builder.seen += len;
        }
        builder
    }

    /// Returns the part that contains the next leaf.
    fn next(&mut self) -> Option<&mut MerkleTree> {
        let seen = self.seen;
        self.parts.iter_mut().find(|(range, _)| range.contains(&seen)).map(|(_, part)| part)
    }

    /// Adds the next leaf.
    pub(super) fn push(&mut self, leaf: &Hash) {
        if let Some(part) = self.next() {
            part.push(leaf);
        }
        self.seen += 1;
    }

    /// Returns the hashes of the proof, in the order of RFC 6962; `None` until all leaves were added.
    pub(super) fn hashes(&self) -> Option<Vec<Hash>> {
        (self.seen >= self.size).then(|| self.parts.iter().map(|(_, part)| part.root()).collect())
    }
}

/// Computes the root from a leaf at `index` of `size` leaves and its proof; `None` if the proof has a wrong length.
pub(super) fn root_from_proof(leaf: &Hash, (index, size): (u64, u64), proof: &[Hash]) -> Option<Hash> {
    let steps = steps(index, size);
    (index < size && steps.len() == proof.len()).then(|| {
        let path = steps.iter().rev().zip(proof);
        path.fold(
            hash_leaf(leaf),
            |node, ((_, right), part)| {
                if *right { hash_node(&node, part) } else { hash_node(part, &node) }
            },
        )
    })
}

/// Whether `proof` shows that the later head's tree begins with the earlier one's (RFC 9162, section 2.1.4.2).
pub(super) fn is_consistent(earlier: &Checkpoint, later: &Checkpoint, proof: &[Hash]) -> bool {
    let (earlier_root, later_root) = (&earlier.root, &later.root);
    let (earlier, later) = (earlier.size, later.size);
    if earlier == 0 || earlier >= later {
        return earlier == later && proof.is_empty() && earlier_root == later_root;
    }
    let first = earlier.is_power_of_two().then_some(earlier_root);
    let mut path = first.into_iter().chain(proof);
    let Some(first) = path.next() else { return false };
    let shift = (earlier - 1).trailing_ones();
    let (mut at, mut last) = ((earlier - 1) >> shift, (later - 1) >> shift);
    let (mut old, mut new) = (*first, *first);
    for node in path {
        if last == 0 {
            return false;
        }
        if at & 1 == 1 || at == last {
            (old, new) = (hash_node(node, &old), hash_node(node, &new));
            while at & 1 == 0 && at != 0 {
                (at, last) = (at >> 1, last >> 1);
            }
        } else {
            new = hash_node(&new, node);
        }
        (at, last) = (at >> 1, last >> 1);
    }
    last == 0 && old == *earlier_root && new == *later_root
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|number| Sha256::digest(number.to_be_bytes()).into()).collect()
    }

    fn tree(leaves: &[Hash]) -> MerkleTree {
        leaves.iter().collect()
    }

    #[test]
    fn every_leaf_is_proven_and_no_other_by_the_same() {
        for size in 1..=40 {
            let leaves = leaves(size);
            let root = tree(&leaves).root();
            for index in 0..size {
                let mut inclusion = ProofBuilder::inclusion(&MerkleTree::default(), index, size).unwrap();
                for leaf in &leaves {
                    inclusion.push(leaf);
                }
                let proof = inclusion.hashes().unwrap();
                for start in (0..=index).filter(|_| size < 20) {
                    let at = usize::try_from(start).unwrap();
                    let mut later = ProofBuilder::inclusion(&tree(&leaves[..at]), index, size).unwrap();
                    leaves[at..].iter().for_each(|leaf| later.push(leaf));
                    assert_eq!(later.hashes().as_ref(), Some(&proof), "{index} of {size}, from {start} on");
                }
                let leaf = &leaves[usize::try_from(index).unwrap()];
                assert_eq!(root_from_proof(leaf, (index, size), &proof), Some(root), "{index} of {size}");
                for other in (0..size).filter(|other| *other != index) {
                    assert_ne!(
                        root_from_proof(leaf, (other, size), &proof),
                        Some(root),
                        "{index} as {other} of {size}"
                    );
                }
                assert_ne!(root_from_proof(&root, (index, size), &proof), Some(root));
                assert_eq!(root_from_proof(leaf, (index, size), &[proof.as_slice(), &[root]].concat()), None);
            }
            assert!(ProofBuilder::inclusion(&MerkleTree::default(), size, size).is_none());
        }
    }

    #[test]
    fn every_tree_is_shown_to_begin_with_each_smaller_one_and_with_no_other() {
        let leaves = leaves(34);
        for later in 1..=leaves.len() {
            let whole = tree(&leaves[..later]);
            for earlier in 1..=later {
                let part = tree(&leaves[..earlier]);
                let sizes = (u64::try_from(earlier).unwrap(), u64::try_from(later).unwrap());
                for start in [0, earlier / 2, earlier] {
                    let mut builder =
                        ProofBuilder::consistency(&tree(&leaves[..start]), sizes.0, sizes.1).unwrap();
                    leaves[start..later].iter().for_each(|leaf| builder.push(leaf));
                    let proof = builder.hashes().unwrap();
                    let head = |size, root| Checkpoint { size, root, time: String::new() };
                    let (old, new) = (&head(sizes.0, part.root()), &head(sizes.1, whole.root()));
                    assert!(is_consistent(old, new, &proof), "{earlier} of {later} from {start}");
                    let other = tree(&leaves[1..=earlier.min(33)]).root();
                    assert!(!is_consistent(&head(sizes.0, other), new, &proof), "{earlier} of {later}");
                    assert!(
                        !is_consistent(old, &head(sizes.1, other), &proof)
                            || earlier == later && other == part.root()
                    );
                    assert!(!is_consistent(old, new, &[proof.as_slice(), &[other]].concat()));
                    if let [_, rest @ ..] = proof.as_slice() {
                        assert!(!is_consistent(old, new, rest), "{earlier} of {later}");
                    }
                }
            }
            let size = u64::try_from(later).unwrap();
            assert!(ProofBuilder::consistency(&whole, size + 1, size).is_none());
            assert!(ProofBuilder::consistency(&whole, 0, size).is_none());
        }
    }
}
