//! Finds a secret in text, however its bytes are spelled there.
//!
//! Known spellings of a byte: as it is, percent-encoded (RFC 3986, once or twice), escaped as in JSON or JavaScript
//! (RFC 8259, `\u`, `\x`), and as an HTML character reference; mixed at will. The secret may also stand within
//! base64 (RFC 4648, either alphabet, at any offset, with line breaks) or in hexadecimal digits. Escapes of JSON may
//! themselves be escaped, as may the `&` of a reference. All of it is found in UTF-16 and UTF-32 as well.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;
use zeroize::Zeroizing;

/// The shortest secret that is looked for, in bytes: a shorter one would be found in innocent text.
pub const SHORTEST: usize = 8;

/// The longest name of an HTML character reference that is read, without `&` and `;`.
const LONGEST_REFERENCE: usize = 8;
/// How many unchanged bytes at its beginning a spelling is looked for by.
const ANCHOR: usize = 4;
/// What may stand between two characters of base64: a line break, as it is or as JSON writes it, once or twice.
const LINE_BREAKS: [&[u8]; 6] = [b"\r\n", b"\n", b"\\r\\n", b"\\n", b"\\\\r\\\\n", b"\\\\n"];
/// How many backslashes stand before a character that was escaped three times, at most.
const MOST_BACKSLASHES: usize = 7;
/// How many NUL bytes stand between two ASCII characters of a wide encoding, at most: three of UTF-32.
const MOST_NULS: usize = 3;

/// Secrets, prepared to be found in much text.
pub struct Scanner {
    patterns: Vec<Pattern>,
    /// The beginnings of what may be found, without repetition.
    anchors: Vec<[u8; ANCHOR]>,
    shortest: usize,
}

/// One way in which a secret may stand in text.
struct Pattern {
    bytes: Zeroizing<Vec<u8>>,
    form: Form,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Byte by byte.
    Plain,
    /// As hexadecimal digits, of either case.
    Hex,
    /// As base64, of either alphabet.
    Base64,
}

/// What the beginning of a text is, beside one byte or a whole pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// It, in so many bytes.
    Whole(usize),
    /// What may become it with more text.
    Part,
    /// Something else.
    Other,
}

/// What was found in a text.
struct Found {
    /// Beginning and end of each place, in order, without overlaps.
    places: Vec<(usize, usize)>,
    /// Where begins what more text may complete.
    open: usize,
}

/// Replaces secrets in a text that comes in pieces.
pub struct Stream {
    scanner: Scanner,
    /// The end of the text so far, which may be the beginning of a secret.
    held: Bytes,
    /// How many bytes of that were given already.
    given: usize,
}

impl Scanner {
    /// Prepares to look for these secrets. Those shorter than [`SHORTEST`] are left out.
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

    /// Whether there is nothing to look for.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Whether a secret stands in `text`.
    #[must_use]
    pub fn is_in(&self, text: &[u8]) -> bool {
        text.len() >= self.shortest && !self.find(text, true).places.is_empty()
    }

    /// Replaces each secret in `text` by `*`, at its length; how many there were.
    pub fn replace(&self, text: &mut [u8]) -> u32 {
        if text.len() < self.shortest {
            return 0;
        }
        fill(text, &self.find(text, true).places)
    }

    /// Looks through `text`; `whole` says that no more of it is to come.
    fn find(&self, text: &[u8], whole: bool) -> Found {
        if memchr::memchr(0, text).is_none() {
            return self.find_narrow(text, whole);
        }
        // No spelling has a NUL in it. Without those of a wide encoding the text is one of single bytes.
        let narrow = Narrow::of(text);
        let mut found = self.find_narrow(&narrow.text, whole);
        for (begin, end) in &mut found.places {
            *begin = narrow.origin(*begin);
            *end = narrow.origin(end.saturating_sub(1)) + 1;
        }
        found.open = if found.open < narrow.text.len() { narrow.origin(found.open) } else { text.len() };
        found
    }

    /// Looks through what has no wide characters.
    fn find_narrow(&self, text: &[u8], whole: bool) -> Found {
        let mut found = Found { places: Vec::new(), open: text.len() };
        for anchor in &self.anchors {
            for at in Finder::new(anchor).find_iter(text) {
                self.look(text, at, whole, &mut found);
            }
        }
        // Where one of the first bytes is spelled otherwise, the secret begins a few bytes before that, at most.
        let mut looked = 0;
        for escape in memchr::memchr3_iter(b'%', b'\\', b'&', text) {
            for at in escape.saturating_sub(ANCHOR - 1).max(looked)..=escape {
                self.look(text, at, whole, &mut found);
            }
            looked = escape + 1;
        }
        self.look_before_breaks(text, whole, &mut found);
        if !whole {
            // What is not yet an anchor, perhaps with a line break in it.
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

    /// Looks where a line ends within the first bytes of what may be base64.
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

    /// Looks for each pattern at one place.
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
    /// Where in it a run of NUL bytes was left out, and how many bytes were left out until after that.
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
                // So many end a text, and are not waited through.
                let length = narrow.text.len() + nuls;
                narrow.text.resize(length, 0);
            }
            at += characters + nuls;
        }
        narrow
    }

    /// Where in the wide text a byte of this one stands.
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
    /// Prepares to replace what `scanner` finds.
    #[must_use]
    pub fn new(scanner: Scanner) -> Self {
        Self { scanner, held: Bytes::new(), given: 0 }
    }

    /// How many bytes were taken and not given.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len() - self.given
    }

    /// Takes the next piece of the text, `last` where no other follows. Gives what can be passed on, each secret
    /// replaced by `*` at its length, and how many there were. What may be the beginning of a secret is held back.
    pub fn take(&mut self, piece: Bytes, last: bool) -> (Bytes, u32) {
        let mut text = match (self.held.is_empty(), piece.is_empty()) {
            (true, _) => piece,
            (false, true) => std::mem::take(&mut self.held),
            (false, false) => {
                let mut joined = BytesMut::with_capacity(self.held.len() + piece.len());
                joined.extend_from_slice(&std::mem::take(&mut self.held));
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
        let held = text.slice(found.open..);
        // A few characters of base64 at the end of a line are given at once: most lines that end so are nothing of it,
        // and a log that is followed would stop there. Kept in mind, they betray less than the first bytes.
        let end = if !last && is_short_line(&held) { text.len() } else { found.open };
        let given = std::mem::take(&mut self.given);
        self.given = given.max(end).saturating_sub(found.open);
        self.held = held;
        (text.slice(given.min(end)..end), count)
    }
}

impl Pattern {
    /// The ways in which `secret` may stand in text.
    fn all(secret: &[u8]) -> impl Iterator<Item = Self> {
        let hex: Vec<u8> = secret.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        let base64 = (0..3).map(|before| Self::new(encode(secret, before), Form::Base64));
        [Self::new(secret.to_vec(), Form::Plain), Self::new(hex, Form::Hex)].into_iter().chain(base64)
    }

    fn new(bytes: Vec<u8>, form: Form) -> Self {
        Self { bytes: Zeroizing::new(bytes), form }
    }

    /// What it may begin with, where no byte is spelled otherwise.
    fn anchors(&self) -> impl Iterator<Item = [u8; ANCHOR]> {
        let first = self.bytes.first_chunk::<ANCHOR>().copied();
        let other = first.map(|first| match self.form {
            Form::Plain => first,
            Form::Hex => first.map(|byte| byte.to_ascii_uppercase()),
            Form::Base64 => first.map(url_safe),
        });
        first.into_iter().chain(other)
    }

    /// Whether `text` begins with it.
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
            // What nearly every look ends with.
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

    /// Whether `text` begins with one byte of it; `within` says that others stand before.
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

    /// Whether `text` begins with an escape that stands for `byte`.
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
            // Encoded twice.
            [b'%', b'2', b'5', b'2', b'5', ..] if is_it(Some(u32::from(b'%'))) => Seen::Whole(5),
            [b'%', b'2', b'5', b'2'] | [b'%', b'2', b'5'] => Seen::Part,
            [b'%', b'2', b'5', ..] if !is_it(Some(u32::from(b'%'))) => of_digits(3, 2),
            [b'%', ..] => of_digits(1, 2),
            [b'\\', b'\\', ..] if is_it(Some(u32::from(b'\\'))) => Seen::Whole(2),
            [b'\\', ..] => {
                // Of what is escaped again, each backslash is.
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

    /// Whether `text` begins with the rest of a reference, after its `&`, that stands for `byte`; `again` says that the
    /// `&` of another may be spelled by it.
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
    /// The same, so many bytes on.
    const fn after(self, before: usize) -> Self {
        match self {
            Self::Whole(length) => Self::Whole(before + length),
            Self::Part => Self::Part,
            Self::Other => Self::Other,
        }
    }
}

/// The characters of the base64 of a text that has `secret` in it, `before` bytes (modulo 3) after its beginning, as
/// far as they depend on the secret alone.
fn encode(secret: &[u8], before: usize) -> Vec<u8> {
    let mut text = Zeroizing::new(vec![0; before]);
    text.extend_from_slice(secret);
    let coded = Zeroizing::new(STANDARD_NO_PAD.encode(&*text));
    let (begin, end) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
    coded.as_bytes().get(begin..end).unwrap_or_default().to_vec()
}

/// Whether a text is a line of fewer characters than a spelling is looked for by.
fn is_short_line(text: &[u8]) -> bool {
    let characters = text.iter().filter(|byte| !matches!(byte, b'\r' | b'\n')).count();
    text.ends_with(b"\n") && characters < ANCHOR
}

/// Replaces these places. The NUL bytes of a wide encoding stay, so that each character becomes one.
fn fill(text: &mut [u8], places: &[(usize, usize)]) -> u32 {
    for (begin, end) in places {
        if let Some(shown) = text.get_mut(*begin..*end) {
            shown.iter_mut().filter(|byte| **byte != 0).for_each(|byte| *byte = b'*');
        }
    }
    u32::try_from(places.len()).unwrap_or(u32::MAX)
}

/// Whether a byte begins what stands for another.
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

/// What these hexadecimal digits say.
fn hexadecimal(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |sum, digit| Some(sum << 4 | char::from(*digit).to_digit(16)?))
}

/// The character of an HTML reference, without `&` and `;`.
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
