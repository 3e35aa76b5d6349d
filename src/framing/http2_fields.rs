//! Checks the head of an HTTP/2 request by the rules of HTTP/1.

use super::head::{Facts, HeadLimits, TOO_LARGE};
use crate::code::{Code, Fault};

/// The bytes that a field counts in addition to its name and value (RFC 9113 §6.5.2).
const OVERHEAD: usize = 32;

/// Checks an HTTP/2 request by its target and its fields, including `host`.
///
/// # Errors
/// [`Fault`], as for a head in HTTP/1.
pub fn request_fields<'a>(
    target: &[u8],
    fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    limits: &HeadLimits,
) -> Result<(), Fault> {
    if target.len() > limits.target {
        return Err(Fault { code: Code::TargetTooLong, reason: "target" });
    }
    let (mut facts, mut lines, mut size) = (Facts::default(), 0, 0);
    for (name, value) in fields {
        (lines, size) = (lines + 1, size + name.len() + value.len() + OVERHEAD);
        if size > limits.headers {
            return Err(TOO_LARGE);
        }
        if lines > limits.lines {
            return Err(Fault { code: Code::HeadersTooLarge, reason: "header lines" });
        }
        facts.record(name, value)?;
    }
    facts.request_body(1).map(|_| ())
}
