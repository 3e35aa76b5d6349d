//! Reads a spanned TOML document key by key, reports the problems of each, and continues.
//!
//! A section declares its keys as a table ([`section!`](section!)). Every reader gives a value or [`node::Reported`]: the proof
//! that the problem was reported.

mod choice;
mod node;
mod objects;
mod reader;
mod scalar;
mod section;
mod shape;
mod table;
mod text;
mod units;

pub(super) use choice::{Tag, one_of, word};
pub(super) use node::{Context, Node, Read};
pub(super) use objects::{each, named, named_by};
pub(super) use reader::{Reader, text_or};
pub(super) use scalar::{boolean, integer, scalar};
pub(super) use section::{
    Key, Section, declared_name, optional, or, or_default, or_from, place, required, section,
    section_or_default,
};
pub use shape::{Absent, Row, Shape};
pub(super) use table::Table;
pub(super) use text::{
    address, digest, host, instant, line, name, network, origin, path, pointer, role, url, variable, visible,
};
pub(super) use units::{duration, size};
