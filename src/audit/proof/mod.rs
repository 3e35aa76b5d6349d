//! Proofs about the trail: the Merkle tree, signed checkpoints, inclusion and consistency.

pub(super) mod checkpoint;
pub(super) mod consistency;
pub mod merkle;
pub(super) mod prove;
pub(super) mod verify;
