//! The chunked coding (RFC 9112 §7.1), and the rules for its trailers.

use super::fast_path::token_len;
use super::head::malformed;
use crate::code::Fault;

/// The greatest lengths of a chunk extension and of the trailer section, in bytes.
const MAX_EXTENSION: usize = 256;
const MAX_TRAILERS: usize = 4096;
/// The greatest number of trailer lines; hyper accepts no more.
const MAX_TRAILER_LINES: u8 = 100;

/// The names that a trailer may not carry: they would change framing, identity or meaning afterwards.
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

/// Parses the chunked coding (RFC 9112 §7.1) as bytes pass, and detects where it ends.
#[derive(Debug, Default)]
pub struct Chunks {
    at: At,
    size: u64,
    digits: u8,
    trailers: u8,
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
    pub fn is_done(&self) -> bool {
        self.at == At::Done
    }

    /// Takes the next `bytes`, and returns how many of them belong to this body.
    ///
    /// # Errors
    /// [`Fault`] at the first byte that violates the coding.
    pub fn advance(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let mut used = 0;
        while let Some(byte) = bytes.get(used).copied() {
            if self.at == At::Done {
                break;
            }
            if self.at == At::Data {
                let here = u64::try_from(bytes.len() - used).unwrap_or(u64::MAX).min(self.size);
                self.size -= here;
                used += usize::try_from(here).unwrap_or(usize::MAX);
                if self.size == 0 {
                    self.at = At::DataCr;
                }
                continue;
            }
            self.step(byte)?;
            used += 1;
        }
        Ok(used)
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
                self.trailers += 1;
                if self.trailers > MAX_TRAILER_LINES {
                    return Err(malformed("trailer lines"));
                }
                At::Trailer
            }
            _ => return Err(malformed("chunked coding")),
        };
        Ok(())
    }
}

fn check_trailer(line: &[u8]) -> Result<(), Fault> {
    let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
    if name.is_empty() || name.len() == line.len() || token_len(name) < name.len() {
        return Err(malformed("trailer"));
    }
    if FORBIDDEN_TRAILERS.iter().any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes())) {
        return Err(malformed("trailer name"));
    }
    Ok(())
}
