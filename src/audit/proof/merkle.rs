//! The Merkle tree over the trail (RFC 6962, section 2.1). With its root, an auditor can check a proof that an event is
//! in the tree. Another proof shows that a later trail only adds to an earlier one.
//!
//! The leaf of an event is the hash that its line carries, 32 bytes. A line's hash covers everything before it in the
//! line, so the leaf binds the line.

use std::ops::Range;

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Hashes a leaf for the tree.
fn hash_leaf(leaf: &Hash) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// Hashes an inner node of the tree from its two halves.
pub(in crate::audit) fn hash_node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree, stored as the roots of its complete subtrees from the largest on, one for each bit set in the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MerkleTree {
    size: u64,
    peaks: Vec<Hash>,
}

impl MerkleTree {
    /// Builds a tree from its [`peaks`](Self::peaks); `None` if their number does not match the size.
    #[must_use]
    pub fn of(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (u64::from(size.count_ones()) == u64::try_from(peaks.len()).ok()?).then_some(Self { size, peaks })
    }

    /// Returns the number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the roots of the complete subtrees, the largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: &Hash) {
        let mut node = hash_leaf(leaf);
        // The trailing ones of the size count the subtrees that this leaf completes.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = hash_node(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// Returns the root. The root of an empty tree is the SHA-256 hash of no bytes.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Sha256::digest([]).into() };
        peaks.fold(*last, |right, left| hash_node(left, &right))
    }
}

impl<'h> FromIterator<&'h Hash> for MerkleTree {
    fn from_iter<I: IntoIterator<Item = &'h Hash>>(leaves: I) -> Self {
        let mut tree = Self::default();
        leaves.into_iter().for_each(|leaf| tree.push(leaf));
        tree
    }
}

/// Returns the size of a tree's left half: the largest power of two below `size`, which must be above one.
pub(in crate::audit) fn left_of(size: u64) -> u64 {
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

/// The roots of ranges of leaves, which are the parts of a proof. Leaves are added in order.
#[derive(Debug)]
pub(in crate::audit) struct RangeRoots {
    seen: u64,
    parts: Vec<(Range<u64>, MerkleTree)>,
}

impl RangeRoots {
    /// Begins with the leaves that follow `start`. Each complete subtree of `start` must lie within one of the ranges,
    /// or outside all of them.
    pub(in crate::audit) fn after(start: &MerkleTree, ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let parts = ranges.into_iter().map(|range| (range, MerkleTree::default())).collect();
        let mut gathered = Self { seen: 0, parts };
        for peak in &start.peaks {
            let len = 1 << (start.size - gathered.seen).ilog2();
            if let Some(part) = gathered.next() {
                part.peaks.push(*peak);
                part.size += len;
            }
            gathered.seen += len;
        }
        gathered
    }

    /// Returns the part that contains the next leaf.
    fn next(&mut self) -> Option<&mut MerkleTree> {
        let seen = self.seen;
        self.parts.iter_mut().find(|(range, _)| range.contains(&seen)).map(|(_, part)| part)
    }

    /// Adds the next leaf.
    pub(in crate::audit) fn push(&mut self, leaf: &Hash) {
        if let Some(part) = self.next() {
            part.push(leaf);
        }
        self.seen += 1;
    }

    /// Returns the roots in the order of the ranges; `None` until `size` leaves were added.
    pub(in crate::audit) fn roots(&self, size: u64) -> Option<Vec<Hash>> {
        (self.seen >= size).then(|| self.parts.iter().map(|(_, part)| part.root()).collect())
    }
}

/// Builds the proof that a leaf is in a tree. Leaves are added in order.
#[derive(Debug)]
pub struct Inclusion {
    size: u64,
    parts: RangeRoots,
}

impl Inclusion {
    /// Begins a proof for the leaf at `index`, from 0, in a tree of `size` leaves. The caller adds only the leaves that
    /// follow `start`. Returns `None` if the leaf is not among them.
    #[must_use]
    pub fn after(start: &MerkleTree, index: u64, size: u64) -> Option<Self> {
        // On the path to a later leaf, each peak of `start` is a part of its own, or begins one. Order: from the leaf
        // up.
        let ranges = || steps(index, size).into_iter().rev().map(|(range, _)| range);
        (start.size..size).contains(&index).then(|| Self { size, parts: RangeRoots::after(start, ranges()) })
    }

    /// Adds the next leaf.
    pub fn push(&mut self, leaf: &Hash) {
        self.parts.push(leaf);
    }

    /// Returns the hashes from the leaf up, in the order of RFC 6962; `None` until all leaves were added.
    #[must_use]
    pub fn hashes(&self) -> Option<Vec<Hash>> {
        self.parts.roots(self.size)
    }
}

/// Computes the root from a leaf at `index` of `size` leaves and its proof; `None` if the proof has a wrong length.
#[must_use]
pub fn root_from_proof(leaf: &Hash, (index, size): (u64, u64), proof: &[Hash]) -> Option<Hash> {
    let steps = steps(index, size);
    (index < size && steps.len() == proof.len()).then(|| {
        let ways = steps.iter().rev().zip(proof);
        ways.fold(
            hash_leaf(leaf),
            |node, ((_, right), part)| {
                if *right { hash_node(&node, part) } else { hash_node(part, &node) }
            },
        )
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|number| Sha256::digest(number.to_be_bytes()).into()).collect()
    }

    /// The definition of RFC 6962, taken literally.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => hash_leaf(leaf),
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                hash_node(&defined(left), &defined(right))
            }
        }
    }

    fn tree(leaves: &[Hash]) -> MerkleTree {
        leaves.iter().collect()
    }

    #[test]
    fn the_root_is_as_defined_for_every_size() {
        let leaves = leaves(130);
        for size in 0..=leaves.len() {
            let tree = tree(&leaves[..size]);
            assert_eq!(tree.root(), defined(&leaves[..size]), "{size}");
            let again = MerkleTree::of(tree.size(), tree.peaks().to_vec()).unwrap();
            assert_eq!((again.size(), again.root()), (tree.size(), tree.root()));
            assert_eq!(
                MerkleTree::of(tree.size() + 1, tree.peaks().to_vec()).is_some(),
                (size + 1).count_ones() == size.count_ones()
            );
        }
    }

    #[test]
    fn every_leaf_is_proven_and_no_other_by_the_same() {
        for size in 1..=40 {
            let leaves = leaves(size);
            let root = defined(&leaves);
            for index in 0..size {
                let mut inclusion = Inclusion::after(&MerkleTree::default(), index, size).unwrap();
                for leaf in &leaves {
                    inclusion.push(leaf);
                }
                let proof = inclusion.hashes().unwrap();
                for start in (0..=index).filter(|_| size < 20) {
                    let at = usize::try_from(start).unwrap();
                    let mut later = Inclusion::after(&tree(&leaves[..at]), index, size).unwrap();
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
            assert!(Inclusion::after(&MerkleTree::default(), size, size).is_none());
        }
    }
}
