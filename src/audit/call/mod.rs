//! The two events of one call: the intent with its permit, and the outcome with the last byte of the answer.

pub(super) mod draft;
pub(super) mod entry;
pub(super) mod fields;
pub(super) mod meter;
