//! Finds a secret in text, in any known spelling of its bytes.
//!
//! A byte may be spelled as it is, or percent-encoded (RFC 3986, once or twice). It may also be escaped as in JSON or
//! JavaScript (RFC 8259, `\u`, `\x`), or be an HTML character reference; these mix freely. The secret may be part of
//! base64 (RFC 4648, either alphabet, at any offset, with line breaks) or of hexadecimal digits. Escapes of JSON may be
//! escaped again, as may the `&` of a reference. The scanner finds all of these in UTF-16 and UTF-32 as well.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use zeroize::Zeroizing;

/// The length of the shortest secret to search for, in bytes: a shorter one would be found in innocent text.
pub const SHORTEST: usize = 8;

/// The length of the longest name of an HTML character reference that is read, without `&` and `;`.
const LONGEST_REFERENCE: usize = 8;
/// The number of plain bytes at its beginning by which a spelling is found.
const ANCHOR: usize = 4;
/// The line breaks that may stand between two characters of base64: plain, or escaped by JSON once or twice.
const LINE_BREAKS: [&[u8]; 6] = [b"\r\n", b"\n", b"\\r\\n", b"\\n", b"\\\\r\\\\n", b"\\\\n"];
/// The greatest number of backslashes before a character that was escaped three times.
const MOST_BACKSLASHES: usize = 7;
/// The greatest number of NUL bytes between two ASCII characters of a wide encoding: three in UTF-32.
const MOST_NULS: usize = 3;

/// A set of secrets, prepared for the search in much text.
pub struct Scanner {
    patterns: Vec<Pattern>,
    /// The first bytes of all patterns, without duplicates.
    anchors: Vec<[u8; ANCHOR]>,
    shortest: usize,
}

/// One spelling of a secret as a whole.
struct Pattern {
    bytes: Zeroizing<Vec<u8>>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Byte by byte, each in any spelling.
    Plain,
    /// As hexadecimal digits of either case.
    Hex,
    /// As base64 of either alphabet.
    Base64,
}

/// The result of comparing the beginning of a text with one byte or a whole pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// The text begins with it; it takes this number of bytes.
    Whole(usize),
    /// The text may begin with it, but ends too early.
    Part,
    /// The text does not begin with it.
    Other,
}

/// The matches in a text.
struct Found {
    /// The beginning and end of each match, in order, without overlaps.
    places: Vec<(usize, usize)>,
    /// The offset from which more text may complete a match.
    open: usize,
}

/// Replaces secrets in a text that arrives in pieces.
pub struct Stream {
    scanner: Scanner,
    /// The end of the text so far, which may be the beginning of a secret.
    tail: Bytes,
    /// The number of bytes of the tail that were passed on already.
    passed: usize,
}

impl Scanner {
    /// Prepares the search for these secrets. Those shorter than [`SHORTEST`] are left out.
    #[must_use]
    pub fn new(secrets: &[Cow<'_, [u8]>]) -> Self {
        let secrets = secrets.iter().filter(|secret| secret.len() >= SHORTEST);
        let patterns: Vec<Pattern> = secrets.flat_map(|secret| Pattern::all(secret)).collect();
        let mut anchors: Vec<_> = patterns.iter().flat_map(Pattern::anchors).collect();
        anchors.sort_unstable();
        anchors.dedup();
        let shortest = patterns.iter().map(|pattern| pattern.bytes.len()).min().unwrap_or(usize::MAX);
        Self { patterns, anchors, shortest }
    }

    /// Whether there is no secret to search for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether `text` contains a secret.
    #[must_use]
    pub fn is_in(&self, text: &[u8]) -> bool {
        text.len() >= self.shortest && !self.find(text, true).places.is_empty()
    }

    /// Replaces each secret in `text` with `*` of the same length; returns the number of matches.
    pub fn replace(&self, text: &mut [u8]) -> u32 {
        if text.len() < self.shortest {
            return 0;
        }
        fill(text, &self.find(text, true).places)
    }

    /// Searches `text`; `whole` means that no more text follows.
    fn find(&self, text: &[u8], whole: bool) -> Found {
        if memchr::memchr(0, text).is_none() {
            return self.find_narrow(text, whole);
        }
        // No spelling contains a NUL. Without the NUL bytes of a wide encoding, the text consists of single bytes.
        let narrow = Narrow::of(text);
        let mut found = self.find_narrow(&narrow.text, whole);
        for (begin, end) in &mut found.places {
            *begin = narrow.origin(*begin);
            *end = narrow.origin(end.saturating_sub(1)) + 1;
        }
        found.open = if found.open < narrow.text.len() { narrow.origin(found.open) } else { text.len() };
        found
    }

    /// Searches a text without wide characters.
    fn find_narrow(&self, text: &[u8], whole: bool) -> Found {
        let mut found = Found { places: Vec::new(), open: text.len() };
        for anchor in &self.anchors {
            for at in Finder::new(anchor).find_iter(text) {
                self.look(text, at, whole, &mut found);
            }
        }
        // If one of the first bytes is escaped, the secret begins at most a few bytes before that.
        let mut looked = 0;
        for escape in memchr::memchr3_iter(b'%', b'\\', b'&', text) {
            for at in escape.saturating_sub(ANCHOR - 1).max(looked)..=escape {
                self.look(text, at, whole, &mut found);
            }
            looked = escape + 1;
        }
        self.look_before_breaks(text, whole, &mut found);
        if !whole {
            // The end of the text may be a part of an anchor, perhaps with a line break in it.
            for at in text.len().saturating_sub(ANCHOR + 1)..text.len() {
                self.look(text, at, whole, &mut found);
            }
        }
        found.places.sort_unstable();
        let mut end = 0;
        found.places.retain(|(begin, next)| {
            *begin >= end && {
                end = *next;
                true
            }
        });
        found
    }

    /// Searches the places where a line ends within the first bytes of possible base64.
    fn look_before_breaks(&self, text: &[u8], whole: bool, found: &mut Found) {
        for feed in memchr::memchr_iter(b'\n', text) {
            let line = text.get(..feed).unwrap_or_default();
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let Some(last) = line.last() else { continue };
            for pattern in self.patterns.iter().filter(|pattern| pattern.form == Form::Base64) {
                for (before, byte) in pattern.bytes.iter().enumerate().take(ANCHOR - 1) {
                    if pattern.is_same(u32::from(*last), *byte)
                        && let Some(at) = line.len().checked_sub(before + 1)
                    {
                        found.note(at, pattern.at_beginning(text.get(at..).unwrap_or_default(), whole));
                    }
                }
            }
        }
    }

    /// Compares each pattern with the text at one offset.
    fn look(&self, text: &[u8], at: usize, whole: bool, found: &mut Found) {
        let rest = text.get(at..).unwrap_or_default();
        for pattern in &self.patterns {
            found.note(at, pattern.at_beginning(rest, whole));
        }
    }
}

/// A text without the NUL bytes of a wide encoding.
struct Narrow {
    text: Zeroizing<Vec<u8>>,
    /// For each removed run of NUL bytes: its offset in this text, and the number of bytes removed up
    /// to and including it.
    gaps: Vec<(usize, usize)>,
}

impl Narrow {
    fn of(text: &[u8]) -> Self {
        let mut narrow = Self { text: Zeroizing::new(Vec::with_capacity(text.len())), gaps: Vec::new() };
        let (mut at, mut left_out) = (0, 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let characters = memchr::memchr(0, rest).unwrap_or(rest.len());
            narrow.text.extend_from_slice(rest.get(..characters).unwrap_or_default());
            let nuls = rest.iter().skip(characters).take_while(|byte| **byte == 0).count();
            if nuls <= MOST_NULS {
                left_out += nuls;
                narrow.gaps.push((narrow.text.len(), left_out));
            } else {
                // A run of so many NUL bytes is no wide character; it ends a match and stays in the text.
                let length = narrow.text.len() + nuls;
                narrow.text.resize(length, 0);
            }
            at += characters + nuls;
        }
        narrow
    }

    /// The offset in the wide text of a byte of this text.
    fn origin(&self, at: usize) -> usize {
        let before = self.gaps.partition_point(|(begin, _)| *begin <= at);
        at + before.checked_sub(1).and_then(|last| self.gaps.get(last)).map_or(0, |(_, left_out)| *left_out)
    }
}

impl Found {
    fn note(&mut self, at: usize, seen: Seen) {
        match seen {
            Seen::Whole(length) => self.places.push((at, at + length)),
            Seen::Part => self.open = self.open.min(at),
            Seen::Other => {}
        }
    }
}

impl Stream {
    /// Prepares the replacement of what `scanner` finds.
    #[must_use]
    pub fn new(scanner: Scanner) -> Self {
        Self { scanner, tail: Bytes::new(), passed: 0 }
    }

    /// The number of bytes taken but not yet passed on.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.tail.len() - self.passed
    }

    /// Takes the next piece of the text; `last` means that no other follows. Returns the text that can be passed on,
    /// with each secret replaced by `*` of the same length, and the number of matches. A possible beginning of a secret
    /// is held back.
    pub fn take(&mut self, piece: Bytes, last: bool) -> (Bytes, u32) {
        let mut text = match (self.tail.is_empty(), piece.is_empty()) {
            (true, _) => piece,
            (false, true) => std::mem::take(&mut self.tail),
            (false, false) => {
                let mut joined = BytesMut::with_capacity(self.tail.len() + piece.len());
                joined.extend_from_slice(&std::mem::take(&mut self.tail));
                joined.extend_from_slice(&piece);
                joined.freeze()
            }
        };
        let found = self.scanner.find(&text, last);
        let count = u32::try_from(found.places.len()).unwrap_or(u32::MAX);
        if count > 0 {
            let mut clean = BytesMut::from(text);
            fill(&mut clean, &found.places);
            text = clean.freeze();
        }
        let tail = text.slice(found.open..);
        // A few characters of base64 at the end of a line are passed on at once. Most lines that end so are harmless,
        // and a log that is followed would stop there. They stay in the buffer for the search, and reveal less than the
        // first bytes.
        let end = if !last && is_short_line(&tail) { text.len() } else { found.open };
        let passed = std::mem::take(&mut self.passed);
        self.passed = passed.max(end).saturating_sub(found.open);
        self.tail = tail;
        (text.slice(passed.min(end)..end), count)
    }
}

impl Pattern {
    /// All spellings of `secret` as a whole.
    fn all(secret: &[u8]) -> impl Iterator<Item = Self> {
        let hex: Vec<u8> = secret.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        let base64 = (0..3).map(|before| Self::new(encode(secret, before), Form::Base64));
        [Self::new(secret.to_vec(), Form::Plain), Self::new(hex, Form::Hex)].into_iter().chain(base64)
    }

    fn new(bytes: Vec<u8>, form: Form) -> Self {
        Self { bytes: Zeroizing::new(bytes), form }
    }

    /// The possible first bytes, if no byte is escaped.
    fn anchors(&self) -> impl Iterator<Item = [u8; ANCHOR]> {
        let first = self.bytes.first_chunk::<ANCHOR>().copied();
        let other = first.map(|first| match self.form {
            Form::Plain => first,
            Form::Hex => first.map(|byte| byte.to_ascii_uppercase()),
            Form::Base64 => first.map(url_safe),
        });
        first.into_iter().chain(other)
    }

    /// Compares the beginning of `text` with the pattern.
    fn at_beginning(&self, text: &[u8], whole: bool) -> Seen {
        if text.starts_with(&self.bytes) {
            return Seen::Whole(self.bytes.len());
        }
        if !whole && self.bytes.starts_with(text) {
            return Seen::Part;
        }
        let mut at = 0;
        for byte in self.bytes.iter() {
            let rest = text.get(at..).unwrap_or_default();
            // Nearly every comparison ends here.
            if let Some(first) = rest.first()
                && first != byte
                && self.form == Form::Plain
                && !is_special(*first)
            {
                return Seen::Other;
            }
            match self.byte(*byte, rest, at > 0, whole) {
                Seen::Whole(length) => at += length,
                seen @ (Seen::Part | Seen::Other) => return seen,
            }
        }
        Seen::Whole(at)
    }

    /// Compares the beginning of `text` with one byte of the pattern; `within` means that others precede it.
    fn byte(&self, byte: u8, text: &[u8], within: bool, whole: bool) -> Seen {
        let mut skipped = 0;
        if within && self.form == Form::Base64 {
            skipped = LINE_BREAKS.into_iter().find(|end| text.starts_with(end)).map_or(0, <[u8]>::len);
            if !whole && skipped == 0 && LINE_BREAKS.into_iter().any(|end| end.starts_with(text)) {
                return Seen::Part;
            }
        }
        let text = text.get(skipped..).unwrap_or_default();
        let Some(first) = text.first() else { return if whole { Seen::Other } else { Seen::Part } };
        if is_special(*first) {
            match self.escaped(byte, text) {
                Seen::Whole(length) => return Seen::Whole(skipped + length),
                Seen::Part if !whole => return Seen::Part,
                Seen::Part if text.starts_with(b"%25") && byte == b'%' => return Seen::Whole(skipped + 3),
                Seen::Part | Seen::Other => {}
            }
        }
        if self.is_same(u32::from(*first), byte) { Seen::Whole(skipped + 1) } else { Seen::Other }
    }

    /// Whether `text` begins with an escape for `byte`.
    fn escaped(&self, byte: u8, text: &[u8]) -> Seen {
        let is_it = |code: Option<u32>| code.is_some_and(|code| self.is_same(code, byte));
        let of_digits = |introducer: usize, count: usize| {
            let digits = text.get(introducer..).unwrap_or_default();
            let digits = digits.get(..count).unwrap_or(digits);
            match hexadecimal(digits) {
                Some(_) if digits.len() < count => Seen::Part,
                code if is_it(code) => Seen::Whole(introducer + count),
                _ => Seen::Other,
            }
        };
        match text {
            // The byte is percent-encoded twice.
            [b'%', b'2', b'5', b'2', b'5', ..] if is_it(Some(u32::from(b'%'))) => Seen::Whole(5),
            [b'%', b'2', b'5', b'2'] | [b'%', b'2', b'5'] => Seen::Part,
            [b'%', b'2', b'5', ..] if !is_it(Some(u32::from(b'%'))) => of_digits(3, 2),
            [b'%', ..] => of_digits(1, 2),
            [b'\\', b'\\', ..] if is_it(Some(u32::from(b'\\'))) => Seen::Whole(2),
            [b'\\', ..] => {
                // If a text is escaped again, each of its backslashes is.
                let run = text.iter().take(MOST_BACKSLASHES + 1).take_while(|byte| **byte == b'\\').count();
                match text.get(run..).unwrap_or_default() {
                    _ if run > MOST_BACKSLASHES => Seen::Other,
                    [] => Seen::Part,
                    [b'u' | b'U', b'0', b'0', b'2', b'6', name @ ..] if !is_it(Some(u32::from(b'&'))) => {
                        self.referred(byte, name, true).after(run + 5)
                    }
                    [b'u' | b'U', ..] => of_digits(run + 1, 4),
                    [b'x' | b'X', ..] => of_digits(run + 1, 2),
                    [escaped @ (b'/' | b'"' | b'\''), ..] if is_it(Some(u32::from(*escaped))) => {
                        Seen::Whole(run + 1)
                    }
                    _ => Seen::Other,
                }
            }
            [b'&', name @ ..] => self.referred(byte, name, true).after(1),
            _ => Seen::Other,
        }
    }

    /// Whether `text` begins with the rest of a character reference for `byte`, after its `&`. `again` means that the
    /// reference may stand for the `&` of another one.
    fn referred(&self, byte: u8, text: &[u8], again: bool) -> Seen {
        let Some(end) = text.iter().take(LONGEST_REFERENCE + 1).position(|byte| *byte == b';') else {
            let is_begun = text.len() <= LONGEST_REFERENCE && text.iter().copied().all(is_of_reference);
            return if is_begun { Seen::Part } else { Seen::Other };
        };
        match reference(text.get(..end).unwrap_or_default()) {
            Some(code) if self.is_same(code, byte) => Seen::Whole(end + 1),
            Some(0x26) if again => {
                self.referred(byte, text.get(end + 1..).unwrap_or_default(), false).after(end + 1)
            }
            Some(_) | None => Seen::Other,
        }
    }

    fn is_same(&self, code: u32, byte: u8) -> bool {
        let Ok(code) = u8::try_from(code) else { return false };
        match self.form {
            Form::Plain => code == byte,
            Form::Hex => code.to_ascii_lowercase() == byte,
            Form::Base64 => code == byte || (code == url_safe(byte)),
        }
    }
}

impl Seen {
    /// The same result with `before` more bytes at the beginning.
    const fn after(self, before: usize) -> Self {
        match self {
            Self::Whole(length) => Self::Whole(before + length),
            Self::Part => Self::Part,
            Self::Other => Self::Other,
        }
    }
}

/// The base64 characters of a text that contains `secret` at the offset `before` (modulo 3), as far as they depend only
/// on the secret.
fn encode(secret: &[u8], before: usize) -> Vec<u8> {
    let mut text = Zeroizing::new(vec![0; before]);
    text.extend_from_slice(secret);
    let coded = Zeroizing::new(STANDARD_NO_PAD.encode(&*text));
    let (begin, end) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
    coded.as_bytes().get(begin..end).unwrap_or_default().to_vec()
}

/// Whether a text is a line with fewer characters than an anchor has.
fn is_short_line(text: &[u8]) -> bool {
    let characters = text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).count();
    text.ends_with(b"\n") && characters < ANCHOR
}

/// Replaces these ranges with `*`; returns their number. The NUL bytes of a wide encoding stay, so that each character
/// becomes one `*`.
fn fill(text: &mut [u8], places: &[(usize, usize)]) -> u32 {
    for (begin, end) in places {
        if let Some(secret) = text.get_mut(*begin..*end) {
            secret.iter_mut().filter(|byte| **byte != 0).for_each(|byte| *byte = b'*');
        }
    }
    u32::try_from(places.len()).unwrap_or(u32::MAX)
}

/// Whether a byte begins an escape.
const fn is_special(byte: u8) -> bool {
    matches!(byte, b'%' | b'\\' | b'&')
}

const fn is_of_reference(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'#'
}

/// The lower-case hexadecimal digit of a value below 16.
const fn digit(value: u8) -> u8 {
    if value < 10 { b'0' + value } else { b'a' + value - 10 }
}

const fn url_safe(byte: u8) -> u8 {
    match byte {
        b'+' => b'-',
        b'/' => b'_',
        other => other,
    }
}

/// The value of these hexadecimal digits.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

/// The code point of an HTML character reference, given without `&` and `;`.
fn reference(name: &[u8]) -> Option<u32> {
    Some(match name {
        b"amp" => u32::from(b'&'),
        b"lt" => u32::from(b'<'),
        b"gt" => u32::from(b'>'),
        b"quot" => u32::from(b'"'),
        b"apos" => u32::from(b'\''),
        b"plus" => u32::from(b'+'),
        b"equals" => u32::from(b'='),
        b"sol" => u32::from(b'/'),
        b"lowbar" => u32::from(b'_'),
        b"period" => u32::from(b'.'),
        b"percnt" => u32::from(b'%'),
        [b'#', b'x' | b'X', digits @ ..] => hexadecimal(digits)?,
        [b'#', digits @ ..] => std::str::from_utf8(digits).ok()?.parse().ok()?,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
