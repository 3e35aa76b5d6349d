//! Reads numbers and booleans.

use std::fmt::Display;
use std::ops::RangeInclusive;

use toml::de::DeInteger;

use super::{Node, Read};

pub(in crate::config) fn boolean(node: &Node<'_>) -> Read<bool> {
    node.value().as_bool().ok_or_else(|| node.report_type("true or false"))
}

/// Reads an integer within a range.
pub(in crate::config) fn integer<T>(range: RangeInclusive<T>) -> impl Fn(&Node<'_>) -> Read<T>
where
    T: TryFrom<i128> + PartialOrd + Display,
{
    move |node| {
        let bounds = || format!("from {} to {}", range.start(), range.end());
        let Some(written) = node.value().as_integer() else {
            return Err(node.report_type(&format!("an integer {}", bounds())));
        };
        value(written)
            .and_then(|value| T::try_from(value).ok())
            .filter(|value| range.contains(value))
            .ok_or_else(|| node.refuse(format!("{} must be {}, found {written}", node.subject(), bounds())))
    }
}

/// The value of an integer, if it fits in 128 bits.
pub(in crate::config) fn value(written: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(written.as_str(), written.radix()).ok()
}
