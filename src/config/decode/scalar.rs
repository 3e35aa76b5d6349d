//! Reads numbers and booleans.

use std::fmt::Display;
use std::ops::RangeInclusive;

use serde_json::Value;
use toml::de::DeInteger;

use super::node::Node;
use super::reader::Reader;
use super::shape::Shape;

pub(in crate::config) fn boolean() -> Reader<bool> {
    let read = |node: &Node<'_>| node.value().as_bool().ok_or_else(|| node.report_type("true or false"));
    Reader::new(Shape::Boolean, read).written(ToString::to_string)
}

/// Reads an integer within a range.
pub(in crate::config) fn integer<T>(range: RangeInclusive<T>) -> Reader<T>
where
    T: TryFrom<i128> + PartialOrd + Display + 'static,
{
    let (least, most) = (range.start().to_string(), range.end().to_string());
    let bounds = format!("from {least} to {most}");
    Reader::new(Shape::Integer(least, most), move |node| {
        let Some(written) = node.value().as_integer() else {
            return Err(node.report_type(&format!("an integer {bounds}")));
        };
        value(written)
            .and_then(|value| T::try_from(value).ok())
            .filter(|value| range.contains(value))
            .ok_or_else(|| node.refuse(&format!("must be {bounds}, found {written}")))
    })
    .written(ToString::to_string)
}

/// Reads a value that JSON has too: a string, a whole number, true or false.
pub(in crate::config) fn scalar() -> Reader<Value> {
    Reader::new(Shape::Scalar, |node| {
        let found = node.value();
        let number =
            || value(found.as_integer()?).and_then(|number| i64::try_from(number).ok()).map(Value::from);
        let text = || found.as_str().map(Value::from);
        let read = found.as_bool().map(Value::from).or_else(number).or_else(text);
        read.ok_or_else(|| node.report_type("a string, a whole number, true or false"))
    })
}

/// The value of an integer, if it fits in 128 bits.
pub(super) fn value(written: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(written.as_str(), written.radix()).ok()
}
