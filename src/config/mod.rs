//! The configuration file: parses its text into a [`File`], and compiles that. All problems are reported at once.
//!
//! Parsing checks only the shape. Checks that need several places, or anything outside the text, run when the file is
//! compiled. They report to the same [`Problems`].

mod compile;
mod declared;
mod decode;
pub mod file;
mod load;
mod parse;
mod problem;
mod span;
mod syntax;

pub use compile::{
    Admin, Base, CompileInputs, Compiled, Listener, Pack, allowing_rule, denying_rules, read_secret,
    read_secret_file,
};
pub use declared::Declared;
pub use decode::{Absent, Row, Shape};
pub use file::{File, keys};
pub use load::{Loaded, load};
pub use parse::{LONGEST, parse};
pub use problem::{Level, Problem, Problems, did_you_mean};
pub use span::{Span, Spanned};

#[cfg(test)]
mod tests;
