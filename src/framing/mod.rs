//! Strict HTTP/1 message framing (RFC 9112): where a head ends, and how long its body is. It refuses everything that
//! two readers could understand differently. The gateway applies these rules towards consumers and upstreams before
//! hyper sees a byte.

mod chunked;
mod fast_path;
mod head;
mod http2_fields;

pub use chunked::Chunks;
pub use head::{AnswerHead, Body, HeadLimits, MAX_HEADERS, RequestHead};
pub use http2_fields::request_fields;

use std::mem::MaybeUninit;

use crate::code::{Code, Fault};
use head::{Facts, TOO_LARGE, malformed};

/// The bytes of the request line besides the target: method, two spaces, version.
const REQUEST_LINE_SLACK: usize = 48;

/// Parses a request head at the start of `bytes`.
///
/// # Errors
/// [`Fault`] as soon as the bytes cannot become an acceptable head; `Ok(None)` while they still can.
pub fn request_head(bytes: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, Fault> {
    let line_end = memchr::memchr(b'\n', bytes);
    let line = bytes.get(..line_end.unwrap_or(bytes.len())).unwrap_or_default();
    if line.len() > limits.target + REQUEST_LINE_SLACK {
        return Err(Fault { code: Code::TargetTooLong, reason: "request line" });
    }
    let Some(line_end) = line_end else { return no_control(bytes).map(|()| None) };
    if line.splitn(3, |byte| *byte == b' ').nth(1).is_some_and(|target| target.len() > limits.target) {
        return Err(Fault { code: Code::TargetTooLong, reason: "target" });
    }
    match fast_path::request(bytes, line_end, limits) {
        Some(head) => Ok(Some(head)),
        None => parse_request(bytes, line_end, limits),
    }
}

/// Parses a request head with `httparse`, and applies claviger's rules to it.
fn parse_request(bytes: &[u8], line_end: usize, limits: &HeadLimits) -> Result<Option<RequestHead>, Fault> {
    let Some(len) = head_end(bytes, line_end, limits.headers)? else { return Ok(None) };
    let head = bytes.get(..len).unwrap_or_default();
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    match httparse::ParserConfig::default().parse_request_with_uninit_headers(&mut request, head, &mut room) {
        Ok(httparse::Status::Complete(at)) if at == len => {}
        Err(httparse::Error::TooManyHeaders) => {
            return Err(Fault { code: Code::HeadersTooLarge, reason: "header lines" });
        }
        Err(httparse::Error::Version) => return Err(malformed("version")),
        Ok(_) | Err(_) => return Err(ill_formed(head)),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(malformed("request line"));
    };
    if request.headers.len() > limits.lines {
        return Err(Fault { code: Code::HeadersTooLarge, reason: "header lines" });
    }
    // `httparse` skips blanks, but exactly one space may separate the parts.
    if line_end != method.len() + target.len() + " HTTP/1.1\r".len() + 1 {
        return Err(malformed("request line"));
    }
    let body = Facts::of(request.headers)?.request_body(version)?;
    Ok(Some(RequestHead { len, target_at: method.len() + 1, target_len: target.len(), body }))
}

/// Parses an answer head at the start of `bytes`; `to_head` means that the request was `HEAD`.
///
/// # Errors
/// [`Fault`] as soon as the bytes cannot become an acceptable head; `Ok(None)` while they still can.
pub fn answer_head(bytes: &[u8], to_head: bool, limits: &HeadLimits) -> Result<Option<AnswerHead>, Fault> {
    if bytes.len() > 5 && !bytes.starts_with(b"HTTP/") {
        return Err(malformed("no HTTP answer"));
    }
    let line_end = memchr::memchr(b'\n', bytes);
    if line_end.unwrap_or(bytes.len()) > limits.headers {
        return Err(Fault { code: Code::HeadersTooLarge, reason: "status line" });
    }
    let Some(line_end) = line_end else { return Ok(None) };
    match fast_path::answer(bytes, line_end, to_head, limits) {
        Some(head) => Ok(Some(head)),
        None => parse_answer(bytes, line_end, to_head, limits),
    }
}

/// Parses an answer head with `httparse`, and applies claviger's rules to it.
fn parse_answer(
    bytes: &[u8],
    line_end: usize,
    to_head: bool,
    limits: &HeadLimits,
) -> Result<Option<AnswerHead>, Fault> {
    let Some(len) = head_end(bytes, line_end, limits.headers)? else { return Ok(None) };
    let head = bytes.get(..len).unwrap_or_default();
    let mut room = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut answer = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut answer, head, &mut room) {
        Ok(httparse::Status::Complete(at)) if at == len => {}
        Ok(_) | Err(_) => return Err(ill_formed(head)),
    }
    let status = answer.code.filter(|code| (100..600).contains(code)).ok_or(malformed("status"))?;
    if answer.headers.len() > limits.lines {
        return Err(Fault { code: Code::HeadersTooLarge, reason: "header lines" });
    }
    let body = Facts::of(answer.headers)?.answer_body(answer.version.unwrap_or(0), status, to_head)?;
    Ok(Some(AnswerHead { len, status, body }))
}

/// The end of the head whose first line ends at `line_end`, if it has arrived. A bare LF is refused at once: the
/// section never ends there for claviger, but it does for laxer readers.
fn head_end(bytes: &[u8], line_end: usize, most: usize) -> Result<Option<usize>, Fault> {
    let rest = bytes.get(line_end..).unwrap_or_default();
    let mut before = None;
    for at in memchr::memchr_iter(b'\n', rest).map(|at| line_end + at) {
        if at.checked_sub(1).and_then(|cr| bytes.get(cr)) != Some(&b'\r') {
            return Err(malformed("bare LF"));
        }
        if before.is_some_and(|before| before + 2 == at) {
            let len = at + 1;
            return if len > line_end + most + 3 { Err(TOO_LARGE) } else { Ok(Some(len)) };
        }
        before = Some(at);
    }
    if rest.len() > most + 3 { Err(TOO_LARGE) } else { Ok(None) }
}

/// Refuses control characters in a request line that has not ended yet. A client of another protocol may never end it.
fn no_control(bytes: &[u8]) -> Result<(), Fault> {
    let inner = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    match inner.iter().find(|byte| byte.is_ascii_control()) {
        None => Ok(()),
        Some(b'\r') => Err(malformed("bare CR")),
        Some(_) => Err(malformed("control byte")),
    }
}

/// The fault of a head that the parser refused.
fn ill_formed(head: &[u8]) -> Fault {
    let mut bytes = head.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\r' if bytes.peek() != Some(&b'\n') => return malformed("bare CR"),
            b'\t' | b'\r' | b'\n' | 0x20..=0x7e | 0x80.. => {}
            _ => return malformed("control byte"),
        }
    }
    malformed("head")
}

#[cfg(test)]
mod tests;
