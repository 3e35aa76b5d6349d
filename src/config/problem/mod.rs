//! The problems of a configuration file: all of them, each with its place.

mod list;
mod one;
pub(super) mod redact;
mod render;
mod suggest;

pub use list::Problems;
pub use one::{Level, Problem};
pub use suggest::did_you_mean;
