//! The files of the trail: lines, segments and the hash chain.

pub(super) mod ascii;
pub mod chain;
pub(super) mod disk;
pub(crate) mod event;
pub(super) mod known_store;
pub(super) mod last_head;
pub(super) mod misnamed;
pub(super) mod recent_nonces;
pub(super) mod retired;
pub(super) mod segment;
pub mod summary;
