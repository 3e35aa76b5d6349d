//! Reads sizes (`"16MiB"`) and durations (`"1.5s"`).

use std::ops::RangeInclusive;
use std::time::Duration;

use super::node::{Node, Read};
use super::reader::Reader;
use super::scalar::value;
use super::shape::Shape;
use crate::units::{format_duration, format_size, parse_duration, parse_size};

/// Reads a size in bytes: a plain integer, or a whole number with `B`, `KiB`, `MiB`, `GiB` or `TiB`.
pub(in crate::config) fn size(range: RangeInclusive<u64>) -> Reader<u64> {
    Reader::new(Shape::Size, move |node| {
        let read = match (node.value().as_integer(), node.value().as_str()) {
            (Some(plain), _) => value(plain).and_then(|plain| u64::try_from(plain).ok()),
            (_, Some(text)) => parse_size(text),
            (None, None) => return Err(node.report_type("a size, as in \"16MiB\"")),
        };
        let read = read.ok_or_else(|| {
            let help = "write a whole number and B, KiB, MiB or GiB, as in \"16MiB\"";
            node.report(node.problem("is not a size").help(help))
        })?;
        within(node, &range, read, format_size)
    })
    .written(|size| format!("\"{}\"", format_size(*size)))
}

/// Reads a duration: a number with `ms`, `s`, `m`, `h` or `d` (24 hours).
pub(in crate::config) fn duration(range: RangeInclusive<Duration>) -> Reader<Duration> {
    Reader::new(Shape::Text(r"^[0-9]+(\.[0-9]{1,9})?(ms|s|m|h|d)$"), move |node| {
        if let Some(plain) = node.value().as_integer() {
            let problem = node.problem("must be a duration, as in \"10s\", found an integer");
            return Err(node.report(problem.help(format!("say which unit: \"{plain}s\" or \"{plain}ms\""))));
        }
        let Some(text) = node.value().as_str() else {
            return Err(node.report_type("a duration, as in \"10s\""));
        };
        let read = parse_duration(text).ok_or_else(|| {
            let help = "write a number and ms, s, m, h or d, as in \"250ms\" or \"1.5s\"";
            node.report(node.problem("is not a duration").help(help))
        })?;
        within(node, &range, read, format_duration)
    })
    .written(|duration| format!("\"{}\"", format_duration(*duration)))
}

/// Refuses a value outside of the range.
fn within<T: PartialOrd + Copy>(
    node: &Node<'_>,
    range: &RangeInclusive<T>,
    value: T,
    format: fn(T) -> String,
) -> Read<T> {
    if range.contains(&value) {
        return Ok(value);
    }
    let [least, most, found] = [*range.start(), *range.end(), value].map(format);
    Err(node.refuse(&format!("must be from {least} to {most}, found {found}")))
}
