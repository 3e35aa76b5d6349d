//! What servers may read in a name, a value or a path, in any spelling.
//!
//! A denial must hold for every spelling that some server takes for the denied text. Servers fold the case of letters
//! and trim blanks, controls and trailing dots. They end a text at a NUL, cut `;…` from a segment, read `action[]` as
//! `action`, split members at `;`, and decode twice. This module covers all of these, and in doubt it favours the
//! denial. Permissions are compared exactly, and elsewhere.

use std::borrow::Cow;

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_normalizer::properties::CanonicalCombiningClassMapBorrowed;
use percent_encoding::percent_decode_str;

mod name;
mod query;
mod value;

pub use name::{Name, NamePattern, Naming, Reading as NameReading};
pub use query::{Query, QueryMember, Unclear, may_be_named};
pub use value::{Value, Wanted, is_blank};

/// How often a text is decoded again. A text that is encoded more often may be read as anything.
const MOST_DECODINGS: usize = 4;

/// Stands for bytes that are not UTF-8, which each server reads differently.
const UNREADABLE: char = char::REPLACEMENT_CHARACTER;

/// The characters that servers trim from both ends of a folded text.
const MARGINS: [char; 12] = [' ', '"', '\'', '`', '(', ')', '[', ']', '{', '}', '<', '>'];

/// The code points of the digit zero in alphabets that NFKD does not cover: Python's `int` reads them all.
const ZEROS: [u32; 61] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50,
    0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136,
    0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50,
    0x11da0, 0x11f50, 0x16a60, 0x16ac0, 0x16b50, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e950, 0x1fbf0,
];

/// Folds a text: makes equal what lenient servers do not distinguish. These are the case of letters, compatible forms
/// (`ｄ`, `ſ`, `ﬁ`), accents, digits of other alphabets, kinds of blanks and `+`. Controls and
/// invisible characters are dropped.
#[must_use]
pub fn fold(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !byte.is_ascii_uppercase() && byte != b'+';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
    }
    if text.is_ascii() {
        let visible = text.bytes().filter(|byte| !byte.is_ascii_control());
        return Cow::Owned(
            visible.map(|byte| if byte == b'+' { ' ' } else { byte.to_ascii_lowercase().into() }).collect(),
        );
    }
    let (decomposed, classes) =
        (DecomposingNormalizerBorrowed::new_nfkd(), CanonicalCombiningClassMapBorrowed::new());
    let mut folded = String::with_capacity(text.len());
    for letter in decomposed.normalize_iter(text.chars()) {
        if letter.is_ascii() {
            match letter {
                '+' => folded.push(' '),
                control if control.is_ascii_control() => {}
                other => folded.push(other.to_ascii_lowercase()),
            }
        } else if letter.is_whitespace() {
            folded.push(' ');
        } else if let Some(digit) = digit(letter) {
            folded.push(digit);
        } else if !is_invisible(letter) && classes.get_u8(letter) == 0 {
            // Folded both ways: some servers fold by upper case, where `ı` becomes `I`, and `ẞ` has none.
            let upper = letter.to_lowercase().flat_map(char::to_uppercase);
            folded.extend(upper.flat_map(char::to_lowercase));
        }
    }
    Cow::Owned(folded)
}

fn digit(letter: char) -> Option<char> {
    let code = u32::from(letter);
    let zero = ZEROS.into_iter().find(|zero| (*zero..zero + 10).contains(&code))?;
    char::from_digit(code - zero, 10)
}

/// Whether a character is invisible: controls, `Default_Ignorable_Code_Point`, enclosing marks.
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(
            u32::from(letter),
            0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
            | 0x202a..=0x202e | 0x2060..=0x206f | 0x20d0..=0x20ff | 0x2800 | 0x3164 | 0xfe00..=0xfe0f
            | 0xfeff | 0xffa0 | 0xfff0..=0xfffd | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff
        )
}

/// Removes from both ends of a folded text what servers trim.
#[must_use]
pub fn trim(folded: &str) -> &str {
    trim_end(trim_start(folded))
}

/// Removes from the beginning of a folded text what servers trim.
#[must_use]
pub fn trim_start(folded: &str) -> &str {
    folded.trim_start_matches(MARGINS)
}

/// Removes from the end of a folded text what servers trim, dots included, as on Windows.
#[must_use]
pub fn trim_end(folded: &str) -> &str {
    folded.trim_end_matches(|letter| letter == '.' || MARGINS.contains(&letter))
}

/// The text, and its readings by servers that decode again; `None` if it is encoded too often.
fn decodings(text: &str) -> Option<Vec<Cow<'_, str>>> {
    let mut all = vec![Cow::Borrowed(text)];
    while let Some(last) = all.last().filter(|last| last.contains('%')) {
        let next = percent_decode_str(last).decode_utf8_lossy().into_owned();
        if next == **last {
            break;
        }
        if all.len() > MOST_DECODINGS {
            return None;
        }
        all.push(Cow::Owned(next));
    }
    Some(all)
}

/// The text without leading trimmed characters, up to the next control, where some servers end it.
fn until_control(text: &str) -> &str {
    let trimmed = |letter: char| {
        letter.is_whitespace() || letter == '+' || is_invisible(letter) || MARGINS.contains(&letter)
    };
    text.trim_start_matches(trimmed).split(char::is_control).next().unwrap_or_default()
}

/// The text up to a NUL, where C ends it.
fn until_nul(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

/// Whether `text` consists of these parts in their order, with any text between them.
#[must_use]
pub fn match_parts(parts: &[impl AsRef<str>], text: &str) -> bool {
    let Some((first, rest)) = parts.split_first() else { return text.is_empty() };
    let Some((last, middle)) = rest.split_last() else { return text == first.as_ref() };
    let Some(mut text) = text.strip_prefix(first.as_ref()) else { return false };
    for part in middle {
        let Some((_, after)) = text.split_once(part.as_ref()) else { return false };
        text = after;
    }
    text.ends_with(last.as_ref())
}

/// The readings of a path by servers.
#[derive(Debug)]
pub enum Paths<'t> {
    /// Every server reads the path as it is written.
    Plain(&'t str),
    /// Servers may read any of these folded paths.
    Any(Vec<String>),
    /// The readings cannot be determined.
    Unknown,
}

/// The readings of a canonical path. Folded segments are separated by single slashes, with none at the end.
#[must_use]
pub fn paths(path: &str) -> Paths<'_> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if is_plain(path) {
        return Paths::Plain(path);
    }
    let Some(decodings) = decodings(path) else { return Paths::Unknown };
    let mut all = Vec::new();
    // The first form is the path as received, still encoded: it is skipped unless it is the only one.
    for path in decodings.iter().skip(1).chain(decodings.first().filter(|_| decodings.len() == 1)) {
        let path = path.replace('\\', "/");
        let cut = path.split(['?', '#', '\0']).next();
        for path in [Some(&*path), cut.filter(|cut| *cut != path)].into_iter().flatten() {
            let segments = || path.split('/');
            let joined = |segments: Vec<String>| segments.join("/");
            all.push(joined(segments().map(|segment| trim(&fold(segment)).to_owned()).collect()));
            let bare = || segments().map(|segment| segment.split(';').next().unwrap_or_default());
            all.push(joined(bare().map(|segment| trim(&fold(until_control(segment))).to_owned()).collect()));
            all.push(joined(resolve(bare())));
        }
    }
    all.dedup();
    Paths::Any(all)
}

/// The segments that remain after blank and dot segments are resolved.
fn resolve<'t>(segments: impl Iterator<Item = &'t str>) -> Vec<String> {
    let mut left = Vec::new();
    for segment in segments {
        let folded = fold(segment);
        match (trim(&folded), folded.trim_matches(MARGINS)) {
            ("", "..") => drop(left.pop()),
            ("", _) => {}
            (read, _) => left.push(read.to_owned()),
        }
    }
    left
}

/// Whether every server reads a path as it is written, which is true of almost every path.
fn is_plain(path: &str) -> bool {
    let mut before = 0;
    for byte in path.bytes() {
        let plain =
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'/' | b'-' | b'_' | b'.');
        if !plain || (before == b'.' && byte == b'/') {
            return false;
        }
        before = byte;
    }
    before != b'.'
}

#[cfg(test)]
mod tests;
