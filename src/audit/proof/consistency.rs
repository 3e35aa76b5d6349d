//! Consistency proofs (RFC 6962, section 2.1.2): the tree of a later head only adds to that of an earlier one.

use std::ops::Range;

use super::merkle::{Hash, MerkleTree, RangeRoots, hash_node, left_of};

/// Builds a consistency proof. Leaves are added in order.
#[derive(Debug)]
pub(in crate::audit) struct Consistency {
    later: u64,
    parts: RangeRoots,
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

impl Consistency {
    /// Begins a proof between trees of these sizes. The caller adds only the leaves that follow `start`. Returns `None`
    /// if the earlier tree is empty, ends before `start` does, or is larger than the later one.
    pub(in crate::audit) fn after(start: &MerkleTree, earlier: u64, later: u64) -> Option<Self> {
        let good = earlier > 0 && (start.size()..=later).contains(&earlier);
        good.then(|| Self { later, parts: RangeRoots::after(start, ranges(earlier, 0..later, true)) })
    }

    /// Adds the next leaf.
    pub(in crate::audit) fn push(&mut self, leaf: &Hash) {
        self.parts.push(leaf);
    }

    /// Returns the proof; `None` until all leaves were added.
    pub(in crate::audit) fn hashes(&self) -> Option<Vec<Hash>> {
        self.parts.roots(self.later)
    }
}

/// Whether `proof` shows that the later tree begins with the earlier one (RFC 9162, section 2.1.4.2). Each tree is
/// given by its size and root.
#[must_use]
pub(in crate::audit) fn is_consistent(
    (earlier, earlier_root): (u64, &Hash),
    (later, later_root): (u64, &Hash),
    proof: &[Hash],
) -> bool {
    if earlier == 0 || earlier >= later {
        return earlier == later && proof.is_empty() && earlier_root == later_root;
    }
    let own = earlier.is_power_of_two().then_some(earlier_root);
    let mut path = own.into_iter().chain(proof);
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

    fn tree(leaves: &[Hash]) -> MerkleTree {
        leaves.iter().collect()
    }

    #[test]
    fn every_tree_is_shown_to_begin_with_each_smaller_one_and_with_no_other() {
        let leaves: Vec<Hash> =
            (0..34_u64).map(|number| Sha256::digest(number.to_be_bytes()).into()).collect();
        for later in 1..=leaves.len() {
            let whole = tree(&leaves[..later]);
            for earlier in 1..=later {
                let part = tree(&leaves[..earlier]);
                let sizes = (u64::try_from(earlier).unwrap(), u64::try_from(later).unwrap());
                for start in [0, earlier / 2, earlier] {
                    let mut gathered = Consistency::after(&tree(&leaves[..start]), sizes.0, sizes.1).unwrap();
                    leaves[start..later].iter().for_each(|leaf| gathered.push(leaf));
                    let proof = gathered.hashes().unwrap();
                    let (old, new) = ((sizes.0, &part.root()), (sizes.1, &whole.root()));
                    assert!(is_consistent(old, new, &proof), "{earlier} of {later} from {start}");
                    let other = tree(&leaves[1..=earlier.min(33)]).root();
                    assert!(!is_consistent((sizes.0, &other), new, &proof), "{earlier} of {later}");
                    assert!(
                        !is_consistent(old, (sizes.1, &other), &proof)
                            || earlier == later && other == part.root()
                    );
                    assert!(!is_consistent(old, new, &[proof.as_slice(), &[other]].concat()));
                    if let [_, rest @ ..] = proof.as_slice() {
                        assert!(!is_consistent(old, new, rest), "{earlier} of {later}");
                    }
                }
            }
            let size = u64::try_from(later).unwrap();
            assert!(Consistency::after(&whole, size + 1, size).is_none());
            assert!(Consistency::after(&whole, 0, size).is_none());
        }
    }
}
