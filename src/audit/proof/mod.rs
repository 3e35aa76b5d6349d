//! Proofs about the trail: the Merkle tree, signed checkpoints, inclusion and consistency.

pub(super) mod checkpoint;
pub mod merkle;
pub(super) mod prove;
mod range_roots;
pub(super) mod verify;
