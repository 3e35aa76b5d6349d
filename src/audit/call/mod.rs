//! The two events of one call, from the permit to the last byte of the answer.

pub(super) mod audited_body;
pub(super) mod draft;
pub(super) mod entry;
pub(super) mod fields;
