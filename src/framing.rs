//! HTTP/1 message framing (RFC 9112), strictly: where a head ends, how long its body is, and
//! nothing that two readers could take differently. Both the consumers' side and the upstreams'
//! side of the gateway read by these rules before hyper sees a byte.

use std::mem::MaybeUninit;

use crate::code::Code;

/// The most header lines that can be configured; parsing needs room for them on the stack.
pub const MAX_HEADERS: usize = 256;
/// The longest chunk-size line's extension and the longest trailer section, in bytes.
const MAX_EXTENSION: usize = 256;
const MAX_TRAILERS: usize = 4096;
/// Room on the request line beside the target: method, two spaces, version.
const REQUEST_LINE_SLACK: usize = 48;

/// Names that a trailer may not carry: they would change framing, identity or meaning after the fact.
const FORBIDDEN_TRAILERS: [&str; 12] = [
    "content-length",
    "transfer-encoding",
    "host",
    "authorization",
    "proxy-authorization",
    "x-api-key",
    "cookie",
    "content-type",
    "connection",
    "date",
    "x-jms-org",
    "x-org-id",
];

/// Why a message is refused: the code for the caller, the reason for the trail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// What the caller is told.
    pub code: Code,
    /// What the trail is told.
    pub reason: &'static str,
}

const fn malformed(reason: &'static str) -> Fault {
    Fault { code: Code::Malformed, reason }
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// So many bytes; zero where there is none.
    Length(u64),
    /// The chunked coding.
    Chunked,
    /// Until the connection closes: answers only.
    UntilClose,
}

/// Limits of a head, in bytes and lines.
#[derive(Debug, Clone, Copy)]
pub struct HeadLimits {
    /// The longest target.
    pub target: usize,
    /// The longest header section, and the longest status line of an answer.
    pub headers: usize,
    /// The most header lines; at most [`MAX_HEADERS`].
    pub lines: usize,
}

/// A whole, well-formed request head. Offsets are into the bytes it was read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestHead {
    /// The head's length with its closing empty line.
    pub len: usize,
    /// Where the target begins; the method and one space stand before it.
    pub target_at: usize,
    /// The target's length.
    pub target_len: usize,
    /// How the body ends.
    pub body: Body,
}

/// A whole, well-formed answer head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerHead {
    /// The head's length with its closing empty line.
    pub len: usize,
    /// The status, 100 to 599.
    pub status: u16,
    /// How the body ends.
    pub body: Body,
}

/// Looks for a request head at the start of `bytes`.
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
    // `httparse` skips blanks; exactly one space belongs between the parts.
    if line.len() != method.len() + target.len() + " HTTP/1.1\r".len() + 1 {
        return Err(malformed("request line"));
    }
    let facts = Facts::of(request.headers)?;
    facts.check_host(version)?;
    let body = facts.body(version)?.unwrap_or(Body::Length(0));
    Ok(Some(RequestHead { len, target_at: method.len() + 1, target_len: target.len(), body }))
}

/// Looks for an answer head at the start of `bytes`; `to_head` says that the request was `HEAD`.
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
    let facts = Facts::of(answer.headers)?;
    let framed = facts.body(answer.version.unwrap_or(0))?.unwrap_or(Body::UntilClose);
    let none = to_head || status < 200 || status == 204 || status == 304;
    Ok(Some(AnswerHead { len, status, body: if none { Body::Length(0) } else { framed } }))
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
            let value = header.value.trim_ascii();
            if header.name.eq_ignore_ascii_case("content-length") {
                if facts.length.replace(content_length(value)?).is_some() {
                    return Err(malformed("two content-length"));
                }
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked_alone(value)?;
                if std::mem::replace(&mut facts.chunked, true) {
                    return Err(malformed("two transfer-encoding"));
                }
            } else if header.name.eq_ignore_ascii_case("host") {
                facts.hosts += 1;
                facts.host_ok = !value.is_empty() && value.iter().all(|byte| is_host_byte(*byte));
            }
        }
        Ok(facts)
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

/// The end of the head whose first line ends at `line_end`, once it is there. A bare LF is refused
/// at once: it would never end the section for us, and ends it for laxer readers.
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

/// Of a request line that has no end yet. What speaks another protocol may never send one.
fn no_control(bytes: &[u8]) -> Result<(), Fault> {
    let inner = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    match inner.iter().find(|byte| byte.is_ascii_control()) {
        None => Ok(()),
        Some(b'\r') => Err(malformed("bare CR")),
        Some(_) => Err(malformed("control byte")),
    }
}

/// What is wrong with a head that the parser refused.
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

/// Walks the chunked coding (RFC 9112 §7.1) as bytes pass, and knows where it ends.
#[derive(Debug, Default)]
pub struct Chunks {
    at: At,
    size: u64,
    digits: u8,
    seen: usize,
    line: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Size,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailer,
    TrailerLf,
    Done,
}

impl Chunks {
    /// Whether the last chunk and the trailers have passed.
    #[must_use]
    pub fn done(&self) -> bool {
        self.at == At::Done
    }

    /// Takes the next `bytes` and tells how many of them belong to this body.
    ///
    /// # Errors
    /// [`Fault`] at the first byte that breaks the coding.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut taken = 0;
        while let Some(byte) = bytes.get(taken).copied() {
            if self.at == At::Done {
                break;
            }
            if self.at == At::Data {
                let here = u64::try_from(bytes.len() - taken).unwrap_or(u64::MAX).min(self.size);
                self.size -= here;
                taken += usize::try_from(here).unwrap_or(usize::MAX);
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            self.step(byte)?;
            taken += 1;
        }
        Ok(taken)
    }

    fn step(&mut self, byte: u8) -> Result<(), Fault> {
        self.at = match (self.at, byte) {
            (At::Size, _) if byte.is_ascii_hexdigit() => {
                self.digits += 1;
                if self.digits > 15 {
                    return Err(malformed("chunk size"));
                }
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                self.size = self.size * 16 + u64::from(digit);
                At::Size
            }
            (At::Size, b';') if self.digits > 0 => At::Extension,
            (At::Size | At::Extension, b'\r') if self.digits > 0 => At::SizeLf,
            (At::Extension, 0x20..=0x7e | b'\t') if self.seen < MAX_EXTENSION => {
                self.seen += 1;
                At::Extension
            }
            (At::SizeLf, b'\n') => {
                (self.digits, self.seen) = (0, 0);
                if self.size == 0 { At::Trailer } else { At::Data }
            }
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size,
            (At::Trailer, b'\r') => At::TrailerLf,
            (At::Trailer, b'\t' | 0x20..=0x7e | 0x80..) if self.seen < MAX_TRAILERS => {
                self.seen += 1;
                self.line.push(byte);
                At::Trailer
            }
            (At::TrailerLf, b'\n') if self.line.is_empty() => At::Done,
            (At::TrailerLf, b'\n') => {
                check_trailer(&self.line)?;
                self.line.clear();
                At::Trailer
            }
            _ => return Err(malformed("chunked coding")),
        };
        Ok(())
    }
}

fn check_trailer(line: &[u8]) -> Result<(), Fault> {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    let token = name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!#$%&'*+^`|~".contains(byte));
    if name.is_empty() || name.len() == line.len() || !token {
        return Err(malformed("trailer"));
    }
    if FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes())) {
        return Err(malformed("trailer name"));
    }
    Ok(())
}
