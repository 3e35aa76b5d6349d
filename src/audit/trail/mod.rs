//! The trail's files: lines, segments and the chain of hashes.

pub mod chain;
pub(super) mod disk;
pub(super) mod known_store;
pub(super) mod last_head;
pub(super) mod misnamed;
pub(super) mod recent_nonces;
pub(super) mod retired;
pub(super) mod segment;
pub mod summary;
