//! Timers and writes that the standard library and tokio do not have.

pub mod timer;
pub mod vectored;
