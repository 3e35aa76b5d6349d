//! A fast parser of typical heads in one pass: the request or status line, then `name: value` lines. Each line ends
//! with CRLF and consists of visible ASCII and spaces. Any other head, and every head to be refused, is left to
//! the full parser.

use super::head::{AnswerHead, Facts, HeadLimits, RequestHead};
use crate::target::letters_digits_and;

/// Parses a complete plain request head whose first line ends at `line_end`.
pub(super) fn request(bytes: &[u8], line_end: usize, limits: &HeadLimits) -> Option<RequestHead> {
    let line = bytes.get(..line_end)?;
    let (method, rest) = line.split_at_checked(token_len(line))?;
    let (target, version) = rest.split_at_checked(rest.len().checked_sub(b" HTTP/1.1\r".len())?)?;
    let target = target.strip_prefix(b" ").filter(|target| target.iter().all(u8::is_ascii_graphic))?;
    let version = minor(version.strip_prefix(b" ")?.strip_suffix(b"\r")?)?;
    if method.is_empty() || target.is_empty() || target.len() > limits.target {
        return None;
    }
    let (len, facts) = lines(bytes, line_end + 1, limits)?;
    let body = facts.request_body(version).ok()?;
    Some(RequestHead { len, target_at: method.len() + 1, target_len: target.len(), body })
}

/// Parses a complete plain answer head whose first line ends at `line_end`.
pub(super) fn answer(
    bytes: &[u8],
    line_end: usize,
    to_head: bool,
    limits: &HeadLimits,
) -> Option<AnswerHead> {
    let line = bytes.get(..line_end)?.strip_suffix(b"\r")?;
    let (version, rest) = line.split_at_checked(b"HTTP/1.1".len())?;
    let version = minor(version)?;
    let (code, reason) = rest.strip_prefix(b" ")?.split_at_checked(3)?;
    if !code.iter().all(u8::is_ascii_digit) || !reason.starts_with(b" ") || visible_len(reason) < reason.len()
    {
        return None;
    }
    let status = code.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    if !(100..600).contains(&status) {
        return None;
    }
    let (len, facts) = lines(bytes, line_end + 1, limits)?;
    let body = facts.answer_body(version, status, to_head).ok()?;
    Some(AnswerHead { len, status, body })
}

/// Parses the header lines from `at` on: returns the end of the head, and what the lines say.
fn lines(bytes: &[u8], mut at: usize, limits: &HeadLimits) -> Option<(usize, Facts)> {
    let most = at + limits.headers + 2;
    let mut facts = Facts::default();
    let mut left = limits.lines;
    loop {
        let rest = bytes.get(at..)?;
        if rest.starts_with(b"\r\n") {
            return (at + 2 <= most).then_some((at + 2, facts));
        }
        left = left.checked_sub(1)?;
        let (name, rest) = rest.split_at_checked(token_len(rest))?;
        let rest = rest.strip_prefix(b":").filter(|_| !name.is_empty())?;
        let (value, end) = rest.split_at_checked(visible_len(rest))?;
        if !end.starts_with(b"\r\n") {
            return None;
        }
        facts.record(name, value).ok()?;
        at += name.len() + 1 + value.len() + 2;
    }
}

/// The number of bytes at the start of `bytes` that make a token (RFC 9110 §5.6.2).
pub(super) fn token_len(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| !TOKEN.get(usize::from(*byte)).is_some_and(|token| *token))
        .unwrap_or(bytes.len())
}

/// The number of bytes at the start of `bytes` that are visible ASCII or spaces. It checks sixteen bytes together,
/// which the compiler can vectorise.
fn visible_len(bytes: &[u8]) -> usize {
    let visible = |byte: &u8| (0x20..=0x7e).contains(byte);
    let all = |chunk: &&[u8; 16]| chunk.iter().fold(true, |all, byte| all & visible(byte));
    let len = 16 * bytes.as_chunks().0.iter().take_while(all).count();
    let rest = bytes.get(len..).unwrap_or_default();
    len + rest.iter().position(|byte| !visible(byte)).unwrap_or(rest.len())
}

/// The digit `x` of a version `HTTP/1.x`.
fn minor(version: &[u8]) -> Option<u8> {
    match version {
        b"HTTP/1.1" => Some(1),
        b"HTTP/1.0" => Some(0),
        _ => None,
    }
}

/// Marks the bytes that a token may contain (RFC 9110 §5.6.2).
const TOKEN: [bool; 256] = letters_digits_and(b"!#$%&'*+-.^_`|~");
