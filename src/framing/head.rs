//! A message head: its limits, and what its header lines say of framing and host.

use crate::code::{Code, Fault};

/// The greatest configurable number of header lines; the parser needs stack space for all of them.
pub const MAX_HEADERS: usize = 256;

pub(super) const TOO_LARGE: Fault = Fault { code: Code::HeadersTooLarge, reason: "header section" };

pub(super) const fn malformed(reason: &'static str) -> Fault {
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

/// What the header lines say of framing and host.
#[derive(Default)]
pub(super) struct Facts {
    length: Option<u64>,
    chunked: bool,
    hosts: usize,
    host_ok: bool,
}

impl Facts {
    pub(super) fn of(headers: &[httparse::Header<'_>]) -> Result<Self, Fault> {
        let mut facts = Self::default();
        for header in headers {
            facts.record(header.name.as_bytes(), header.value)?;
        }
        Ok(facts)
    }

    /// Records one header line.
    #[inline]
    pub(super) fn record(&mut self, name: &[u8], value: &[u8]) -> Result<(), Fault> {
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
    pub(super) fn request_body(&self, version: u8) -> Result<Body, Fault> {
        self.check_host(version)?;
        Ok(self.body(version)?.unwrap_or(Body::Length(0)))
    }

    /// How the body of an answer with these headers ends; `to_head` means that the request was `HEAD`.
    pub(super) fn answer_body(&self, version: u8, status: u16, to_head: bool) -> Result<Body, Fault> {
        let framed = self.body(version)?.unwrap_or(Body::UntilClose);
        let none = to_head || status < 200 || status == 204 || status == 304;
        Ok(if none { Body::Length(0) } else { framed })
    }

    /// How the headers frame the body, if they do. `version` is 0 for HTTP/1.0.
    pub(super) fn body(&self, version: u8) -> Result<Option<Body>, Fault> {
        match (self.chunked, self.length) {
            (true, Some(_)) => Err(malformed("content-length with transfer-encoding")),
            (true, None) if version == 0 => Err(malformed("transfer-encoding in HTTP/1.0")),
            (true, None) => Ok(Some(Body::Chunked)),
            (false, length) => Ok(length.map(Body::Length)),
        }
    }

    pub(super) fn check_host(&self, version: u8) -> Result<(), Fault> {
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
