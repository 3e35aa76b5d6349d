//! Strict HTTP/1 message framing (RFC 9112): where a head ends, and how long its body is. It refuses everything that
//! two readers could understand differently. The gateway applies these rules towards consumers and upstreams before
//! hyper sees a byte.

mod chunked;
mod fast_path;
mod http2_fields;

pub use chunked::Chunks;
pub use http2_fields::request_fields;

use std::mem::MaybeUninit;

use crate::code::{Code, Fault};

/// The greatest configurable number of header lines; the parser needs stack space for all of them.
pub const MAX_HEADERS: usize = 256;
/// The bytes of the request line besides the target: method, two spaces, version.
const REQUEST_LINE_SLACK: usize = 48;

const fn malformed(reason: &'static str) -> Fault {
    Fault { code: Code::Malformed, reason }
}

/// How the end of a body is determined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// The body has this number of bytes; zero if there is none.
    Length(u64),
    /// The body uses the chunked coding.
    Chunked,
    /// The body ends when the connection closes; only for answers.
    UntilClose,
}

/// Limits of a head, in bytes and lines.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// The length of the longest target, in bytes.
    pub target: usize,
    /// The length of the longest header section, and of the longest status line of an answer, in bytes.
    pub headers: usize,
    /// The greatest number of header lines; at most [`MAX_HEADERS`].
    pub lines: usize,
}

/// A complete, well-formed request head. Offsets are into the bytes that it was parsed from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// The length of the head in bytes, including its closing empty line.
    pub len: usize,
    /// The offset of the target; the method and one space precede it.
    pub target_at: usize,
    /// The length of the target in bytes.
    pub target_len: usize,
    /// How the end of the body is determined.
    pub body: Body,
}

/// A complete, well-formed answer head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerHead {
    /// The length of the head in bytes, including its closing empty line.
    pub len: usize,
    /// The status code, 100 to 599.
    pub status: u16,
    /// How the end of the body is determined.
    pub body: Body,
}

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

/// What the header lines say of framing and host.
#[derive(Default)]
struct Facts {
    length: Option<u64>,
    chunked: bool,
    hosts: usize,
    host_ok: bool,
}

impl Facts {
    fn of(headers: &[httparse::Header<'_>]) -> Result<Self, Fault> {
        let mut facts = Self::default();
        for header in headers {
            facts.record(header.name.as_bytes(), header.value)?;
        }
        Ok(facts)
    }

    /// Records one header line.
    #[inline]
    fn record(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
        if name.eq_ignore_ascii_case(b"content-length") {
            if self.length.replace(content_length(value.trim_ascii())?).is_some() {
                return Err(malformed("two content-length"));
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            chunked_alone(value.trim_ascii())?;
            if std::mem::replace(&mut self.chunked, true) {
                return Err(malformed("two transfer-encoding"));
            }
        } else if name.eq_ignore_ascii_case(b"host") {
            let value = value.trim_ascii();
            self.hosts += 1;
            self.host_ok = !value.is_empty() && value.iter().all(|byte| is_host_byte(*byte));
        }
        Ok(())
    }

    /// How the body of a request with these headers ends.
    fn request_body(&self, version: u8) -> Result<Body, Fault> {
        self.check_host(version)?;
        Ok(self.body(version)?.unwrap_or(Body::Length(0)))
    }

    /// How the body of an answer with these headers ends; `to_head` means that the request was `HEAD`.
    fn answer_body(&self, version: u8, status: u16, to_head: bool) -> Result<Body, Fault> {
        let framed = self.body(version)?.unwrap_or(Body::UntilClose);
        let none = to_head || status < 200 || status == 204 || status == 304;
        Ok(if none { Body::Length(0) } else { framed })
    }

    /// How the headers frame the body, if they do. `version` is 0 for HTTP/1.0.
    fn body(&self, version: u8) -> Result<Option<Body>, Fault> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(malformed("content-length with transfer-encoding")),
            (true, None) if version == 0 => Err(malformed("transfer-encoding in HTTP/1.0")),
            (true, None) => Ok(Some(Body::Chunked)),
            (false, length) => Ok(length.map(Body::Length)),
        }
    }

    fn check_host(&self, version: u8) -> Result<(), Fault> {
        match self.hosts {
            0 if version == 0 => Ok(()),
            0 => Err(malformed("no host")),
            1 if self.host_ok => Ok(()),
            1 => Err(malformed("host")),
            _ => Err(malformed("two hosts")),
        }
    }
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']' | b'~')
}

fn content_length(value: &[u8]) -> Result<u64, Fault> {
    let digits = value.iter().all(u8::is_ascii_digit) && (1..=19).contains(&value.len());
    let text = std::str::from_utf8(value).ok().filter(|_| digits);
    text.and_then(|text| text.parse().ok()).ok_or(malformed("content-length"))
}

fn chunked_alone(value: &[u8]) -> Result<(), Fault> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let mut codings = value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let unknown = codings.all(|coding| {
        !coding.is_empty() && coding.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    }) && value
        .split(|byte| *byte == b',')
        .any(|coding| !coding.trim_ascii().eq_ignore_ascii_case(b"chunked"));
    Err(if unknown {
        Fault { code: Code::UnknownCoding, reason: "transfer-encoding" }
    } else {
        malformed("transfer-encoding")
    })
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

const TOO_LARGE: Fault = Fault { code: Code::HeadersTooLarge, reason: "header section" };

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
