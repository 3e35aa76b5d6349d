//! The Merkle tree over the trail (RFC 6962, section 2.1). With its root, an auditor can check a proof that an event is
//! in the tree. Another proof shows that a later trail only adds to an earlier one.
//!
//! The leaf of an event is the hash that its line carries, 32 bytes. A line's hash covers everything before it in the
//! line, so the leaf binds the line.

use sha2::{Digest as _, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Hashes a leaf for the tree.
pub(super) fn hash_leaf(leaf: &Hash) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// Hashes an inner node of the tree from its two halves.
pub(super) fn hash_node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree, stored as the roots of its complete subtrees from the largest on, one for each bit set in the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MerkleTree {
    /// The number of leaves.
    pub size: u64,
    /// The roots of the complete subtrees, the largest first.
    pub(in crate::audit) peaks: Vec<Hash>,
}

impl MerkleTree {
    /// Builds a tree from its `peaks`; `None` if their number does not match the size.
    #[must_use]
    pub fn of(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (u64::from(size.count_ones()) == u64::try_from(peaks.len()).ok()?).then_some(Self { size, peaks })
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
            let again = MerkleTree::of(tree.size, tree.peaks.clone()).unwrap();
            assert_eq!((again.size, again.root()), (tree.size, tree.root()));
            assert_eq!(
                MerkleTree::of(tree.size + 1, tree.peaks.clone()).is_some(),
                (size + 1).count_ones() == size.count_ones()
            );
        }
    }
}
