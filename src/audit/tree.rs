//! The Merkle tree over the trail (RFC 6962, section 2.1): who holds its root can be shown that an event
//! is in, and that a later trail only adds to an earlier one.
//!
//! The leaf of an event is the hash that its line carries, 32 bytes. A line's hash is over all that comes
//! before it in the line, so the leaf binds the line.

use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub type Hash = [u8; 32];

/// What a leaf is in the tree.
fn of_leaf(leaf: &Hash) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf).finalize().into()
}

/// What two halves are in the tree.
pub(super) fn of_node(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// A tree as its whole subtrees: their roots from the largest on, one for each bit of the size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tree {
    size: u64,
    peaks: Vec<Hash>,
}

impl Tree {
    /// A tree by what [`peaks`](Self::peaks) gave; `None` where so many are not of that size.
    #[must_use]
    pub fn of(size: u64, peaks: Vec<Hash>) -> Option<Self> {
        (u64::from(size.count_ones()) == u64::try_from(peaks.len()).ok()?).then_some(Self { size, peaks })
    }

    /// How many leaves it has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of its whole subtrees, the largest first.
    #[must_use]
    pub fn peaks(&self) -> &[Hash] {
        &self.peaks
    }

    /// Adds the root of a whole subtree of so many leaves, which is no larger than the last one.
    pub(super) fn push_whole(&mut self, root: Hash, len: u64) {
        self.peaks.push(root);
        self.size += len;
    }

    /// Adds a leaf.
    pub fn push(&mut self, leaf: &Hash) {
        let mut node = of_leaf(leaf);
        // As many subtrees are whole now as the size ends in ones.
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                node = of_node(&left, &node);
            }
        }
        self.peaks.push(node);
        self.size += 1;
    }

    /// The root; of no leaves the SHA-256 of nothing.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else { return Sha256::digest([]).into() };
        peaks.fold(*last, |right, left| of_node(left, &right))
    }
}

/// The size of the left half of a tree: the largest power of two below its size, which is above one.
pub(super) fn left_of(size: u64) -> u64 {
    1 << (size - 1).ilog2()
}

/// Where in a tree of `size` leaves a proof of the leaf at `index` has which part: for each step from the
/// root down, the range whose root it is, and whether that is on the right.
fn steps(index: u64, size: u64) -> Vec<(std::ops::Range<u64>, bool)> {
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

/// Gathers the proof that a leaf is in a tree, from the leaves in their order.
#[derive(Debug)]
pub struct Inclusion {
    index: u64,
    size: u64,
    seen: u64,
    /// The parts of the proof, from the root down.
    parts: Vec<(std::ops::Range<u64>, Tree)>,
    leaf: Option<Hash>,
}

impl Inclusion {
    /// For the leaf at `index`, from 0, of a tree of `size`; `None` where it is not in.
    #[must_use]
    pub fn of(index: u64, size: u64) -> Option<Self> {
        let parts = || steps(index, size).into_iter().map(|(range, _)| (range, Tree::default())).collect();
        (index < size).then(|| Self { index, size, seen: 0, parts: parts(), leaf: None })
    }

    /// The same for who has not the first leaves but the tree over them, which the wanted one is not in.
    #[must_use]
    pub fn after(start: &Tree, index: u64, size: u64) -> Option<Self> {
        let mut inclusion = Self::of(index, size).filter(|_| index >= start.size)?;
        for peak in &start.peaks {
            // On the way down to a later leaf each peak is a part of its own, or begins one.
            let len = 1 << (start.size - inclusion.seen).ilog2();
            let seen = inclusion.seen;
            let (_, part) = inclusion.parts.iter_mut().find(|(range, _)| range.contains(&seen))?;
            part.push_whole(*peak, len);
            inclusion.seen += len;
        }
        Some(inclusion)
    }

    /// Takes the next leaf.
    pub fn push(&mut self, leaf: &Hash) {
        if self.seen == self.index {
            self.leaf = Some(*leaf);
        } else if let Some((_, part)) = self.parts.iter_mut().find(|(range, _)| range.contains(&self.seen)) {
            part.push(leaf);
        }
        self.seen += 1;
    }

    /// The hashes from the leaf up, as RFC 6962 orders them; `None` before all leaves came.
    #[must_use]
    pub fn hashes(&self) -> Option<Vec<Hash>> {
        (self.seen >= self.size).then(|| self.parts.iter().rev().map(|(_, part)| part.root()).collect())
    }
}

/// The root that a proof leads to from the leaf at `index` of `size`; `None` where it is of another length.
#[must_use]
pub fn led_to(leaf: &Hash, (index, size): (u64, u64), proof: &[Hash]) -> Option<Hash> {
    let steps = steps(index, size);
    (index < size && steps.len() == proof.len()).then(|| {
        let ways = steps.iter().rev().zip(proof);
        ways.fold(
            of_leaf(leaf),
            |node, ((_, right), part)| {
                if *right { of_node(&node, part) } else { of_node(part, &node) }
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

    /// The definition of RFC 6962, word for word.
    fn defined(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => Sha256::digest([]).into(),
            [leaf] => of_leaf(leaf),
            _ => {
                let (left, right) = leaves.split_at(leaves.len().next_power_of_two() / 2);
                of_node(&defined(left), &defined(right))
            }
        }
    }

    fn tree(leaves: &[Hash]) -> Tree {
        let mut tree = Tree::default();
        for leaf in leaves {
            tree.push(leaf);
        }
        tree
    }

    #[test]
    fn the_root_is_as_defined_for_every_size() {
        let leaves = leaves(130);
        for size in 0..=leaves.len() {
            let tree = tree(&leaves[..size]);
            assert_eq!(tree.root(), defined(&leaves[..size]), "{size}");
            let again = Tree::of(tree.size(), tree.peaks().to_vec()).unwrap();
            assert_eq!((again.size(), again.root()), (tree.size(), tree.root()));
            assert_eq!(
                Tree::of(tree.size() + 1, tree.peaks().to_vec()).is_some(),
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
                let mut inclusion = Inclusion::of(index, size).unwrap();
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
                assert_eq!(led_to(leaf, (index, size), &proof), Some(root), "{index} of {size}");
                for other in (0..size).filter(|other| *other != index) {
                    assert_ne!(
                        led_to(leaf, (other, size), &proof),
                        Some(root),
                        "{index} as {other} of {size}"
                    );
                }
                assert_ne!(led_to(&root, (index, size), &proof), Some(root));
                assert_eq!(led_to(leaf, (index, size), &[proof.as_slice(), &[root]].concat()), None);
            }
            assert!(Inclusion::of(size, size).is_none());
        }
    }
}
