//! Finds a secret in text, however its bytes are spelled there.
//!
//! Known spellings of a byte: as it is, percent-encoded (RFC 3986, once or twice), escaped as in JSON or JavaScript
//! (RFC 8259, `\u`, `\x`), and as an HTML character reference; mixed at will. The secret may also stand within
//! base64 (RFC 4648, either alphabet, at any offset, with line breaks) or in hexadecimal digits.

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
/// What may stand between two characters of base64: a line break, as it is or as JSON writes it.
const LINE_BREAKS: [&[u8]; 4] = [b"\r\n", b"\n", b"\\r\\n", b"\\n"];

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
        Self { scanner, held: Bytes::new() }
    }

    /// How many bytes were taken and not given.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held.len()
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
        self.held = text.split_off(found.open);
        (text, count)
    }
}

impl Pattern {
    /// The ways in which `secret` may stand in text.
    fn all(secret: &[u8]) -> impl Iterator<Item = Self> {
        let hex: Vec<u8> = secret.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        let base64 = (0..3).map(|before| Self::new(encoded(secret, before), Form::Base64));
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
            [b'%', b'2', b'5', b'2'] | [b'%', b'2', b'5'] | [b'\\'] => Seen::Part,
            [b'%', b'2', b'5', ..] if !is_it(Some(u32::from(b'%'))) => of_digits(3, 2),
            [b'%', ..] => of_digits(1, 2),
            [b'\\', b'u' | b'U', ..] => of_digits(2, 4),
            [b'\\', b'x' | b'X', ..] => of_digits(2, 2),
            [b'\\', escaped @ (b'/' | b'"' | b'\'' | b'\\'), ..] if is_it(Some(u32::from(*escaped))) => {
                Seen::Whole(2)
            }
            [b'&', rest @ ..] => match rest.iter().take(LONGEST_REFERENCE + 1).position(|byte| *byte == b';')
            {
                Some(end) if is_it(reference(rest.get(..end).unwrap_or_default())) => Seen::Whole(end + 2),
                None if rest.len() <= LONGEST_REFERENCE && rest.iter().copied().all(is_of_reference) => {
                    Seen::Part
                }
                Some(_) | None => Seen::Other,
            },
            _ => Seen::Other,
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

/// The characters of the base64 of a text that has `secret` in it, `before` bytes (modulo 3) after its beginning, as
/// far as they depend on the secret alone.
fn encoded(secret: &[u8], before: usize) -> Vec<u8> {
    let mut text = Zeroizing::new(vec![0; before]);
    text.extend_from_slice(secret);
    let coded = Zeroizing::new(STANDARD_NO_PAD.encode(&*text));
    let (begin, end) = ((before * 8).div_ceil(6), text.len() * 8 / 6);
    coded.as_bytes().get(begin..end).unwrap_or_default().to_vec()
}

/// Replaces these places.
fn fill(text: &mut [u8], places: &[(usize, usize)]) -> u32 {
    for (begin, end) in places {
        if let Some(shown) = text.get_mut(*begin..*end) {
            shown.fill(b'*');
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
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const SECRET: &str = "ab+c/d=efgh0123456789%x";

    fn scanner(secret: &str) -> Scanner {
        Scanner::new(&[Cow::Borrowed(secret.as_bytes())])
    }

    fn replaced(secret: &str, text: &str) -> (String, u32) {
        let mut text = text.as_bytes().to_vec();
        let count = scanner(secret).replace(&mut text);
        (String::from_utf8(text).unwrap(), count)
    }

    /// Ways in which a text has the secret in it.
    fn spellings() -> Vec<String> {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
        let mut all: Vec<String> = [
            SECRET,
            "ab%2Bc%2Fd%3Defgh0123456789%25x",
            "ab%2bc%2fd%3defgh0123456789%25x",
            "ab%2Bc/d%3Defgh0123456789%x",
            "ab%252Bc%252fd%253Defgh0123456789%2525x",
            "ab+c\\/d=efgh0123456789%x",
            "ab+c/d\\u003defgh0123456789%x",
            "ab\\u002Bc/d\\x3Defgh0123456789%x",
            "ab+c&#x2F;d&#61;efgh0123456789%x",
            "ab&plus;c&sol;d&equals;efgh0123456789&percnt;x",
            "%61b+c/d=efg&#104;0123456789%x",
            "&#97;%62+c/d=efgh012345678\\u0039%x",
        ]
        .map(String::from)
        .into();
        let hex = SECRET.bytes().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]);
        let hex: String = hex.map(char::from).collect();
        all.extend([hex.to_uppercase(), hex]);
        for before in ["", "u", "us", "key-id:", "user@x.io:"] {
            let text = format!("{before}{SECRET}");
            all.extend([STANDARD.encode(&text), URL_SAFE.encode(&text), URL_SAFE_NO_PAD.encode(&text)]);
            let coded = STANDARD.encode(format!("{text} and more"));
            all.push(coded.replace('+', "%2B").replace('/', "\\/"));
            for cut in [1, 2, 3, 4, 9, 18] {
                let (first, second) = coded.split_at(cut);
                all.extend([format!("{first}\r\n{second}"), format!("{first}\\r\\n{second}")]);
            }
        }
        all
    }

    #[test]
    fn every_spelling_is_replaced_at_its_length() {
        for shown in spellings() {
            let text = format!("<{shown}> {shown}");
            let (clean, count) = replaced(SECRET, &text);
            assert_eq!((count, clean.len()), (2, text.len()), "{shown}: {clean}");
            assert!(clean.matches('*').count() >= 2 * SECRET.len(), "{shown}: {clean}");
            assert_eq!(replaced(SECRET, &clean), (clean.clone(), 0), "{shown}");
        }
    }

    /// Of base64 the characters at the ends, of which a neighbour is a part, may stay: a few bits of one byte each.
    #[test]
    fn no_byte_of_it_can_be_decoded() {
        use base64::engine::general_purpose::STANDARD;
        for before in 0..6 {
            let coded = STANDARD.encode(format!("{}{SECRET}{}", "<".repeat(before), ">".repeat(5)));
            let (clean, count) = replaced(SECRET, &coded);
            let kept: String = clean.replace('*', "A");
            let decoded = STANDARD.decode(kept).unwrap();
            let same = decoded.iter().skip(before).zip(SECRET.bytes()).filter(|(one, other)| **one == *other);
            assert_eq!((count, same.count()), (1, 0), "{clean}");
        }
    }

    #[test]
    fn what_is_only_like_it_is_left() {
        for near in [
            "ab+c/d=efgh0123456789%",
            "ab%2c/d=efgh0123456789%xi",
            "ab\\u00",
            "ab&#x2Bc/d=efgh0123456789%xij",
            "%%%%%%%%%%%%%%%%%%%%%%%%%%%%%",
            "&&&&&&&&&&&&&&&&&&&&&&&&&&&&&",
            "\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\",
        ] {
            assert_eq!(replaced(SECRET, near), (near.to_owned(), 0));
        }
        assert_eq!(replaced("short", "short is short").1, 0);
        assert!(scanner("short").is_empty());
    }

    #[test]
    fn quotes_are_read_and_what_repeats_itself_ends() {
        let quoted = "ab\"c\\d<e>f&g'h";
        let text = r#""ab\"c\\d<e>f&g'h" ab&quot;c\d&lt;e&gt;f&amp;g&apos;h"#;
        assert_eq!(replaced(quoted, text).1, 2);
        assert!(replaced("**********", "***********").1 > 0);
        assert_eq!(replaced("aaaaaaaa", "aaaaaaaaaaaaaaaaa"), ("****************a".to_owned(), 2));
    }

    /// In pieces of any size the text is the same, and nothing but what may be the secret is held back.
    #[test]
    fn pieces_of_any_size_make_no_difference() {
        for shown in spellings() {
            let text = format!("a\\ud83d b {shown}%2 ab+c &amp; {shown} & ab+c/d");
            let (whole, count) = replaced(SECRET, &text);
            for size in [1, 2, 3, 5, 7, 16, 64, 1000] {
                let mut stream = Stream::new(scanner(SECRET));
                let (mut out, mut found) = (Vec::new(), 0);
                for piece in text.as_bytes().chunks(size) {
                    let (clean, here) = stream.take(Bytes::copy_from_slice(piece), false);
                    out.extend_from_slice(&clean);
                    found += here;
                }
                let (rest, here) = stream.take(Bytes::new(), true);
                out.extend_from_slice(&rest);
                assert_eq!((String::from_utf8(out).unwrap(), found + here), (whole.clone(), count), "{size}");
            }
        }
        let mut stream = Stream::new(scanner(SECRET));
        let piece = Bytes::from_static(b"{\"event\": 1, \"detail\": \"nothing of it\"}\n");
        let (same, count) = stream.take(piece.clone(), false);
        assert_eq!((same.as_ptr(), same.len(), count), (piece.as_ptr(), piece.len(), 0), "it is not copied");
    }
}
