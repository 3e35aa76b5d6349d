//! What servers may read in a name, a value or a path, however it is spelt.
//!
//! A denial must hold for every spelling that some server takes for what is denied. Servers fold the case of letters,
//! trim blanks, controls and trailing dots, end a text at a NUL, cut `;…` from a segment, read `action[]` as `action`,
//! split members at `;`, decode twice. One notion of them all stands here, and it errs on the side of the denial.
//! What is allowed is compared exactly, and elsewhere.

use std::borrow::Cow;

use icu_normalizer::DecomposingNormalizerBorrowed;
use icu_normalizer::properties::CanonicalCombiningClassMapBorrowed;
use percent_encoding::percent_decode_str;

use crate::query::decode_query;

/// How often a text is decoded again. What is encoded deeper may be read as anything.
const MOST_DECODINGS: usize = 4;

/// What stands for bytes that are not UTF-8, of which each server makes something else.
const UNREADABLE: char = char::REPLACEMENT_CHARACTER;

/// What servers trim from both ends of a text, once it is folded.
const MARGINS: [char; 12] = [' ', '"', '\'', '`', '(', ')', '[', ']', '{', '}', '<', '>'];

/// The first digit of each alphabet's ten, beyond those that NFKD knows: Python's `int` reads them all.
const ZEROS: [u32; 61] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50,
    0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0x104a0, 0x10d30, 0x11066, 0x110f0, 0x11136,
    0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50, 0x11d50,
    0x11da0, 0x11f50, 0x16a60, 0x16ac0, 0x16b50, 0x1e140, 0x1e2f0, 0x1e4f0, 0x1e950, 0x1fbf0,
];

/// A text with what lenient servers do not tell apart made equal: the case of letters, compatible forms (`ｄ`, `ſ`, `ﬁ`),
/// accents, digits of other alphabets, kinds of blanks and `+`. Controls and invisible characters are dropped.
#[must_use]
pub fn fold(text: &str) -> Cow<'_, str> {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && !byte.is_ascii_uppercase() && byte != b'+';
    if text.bytes().all(plain) {
        return Cow::Borrowed(text);
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
            // Both ways: some fold by upper case, to which `ı` is `I`, and `ẞ` has none.
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

/// Whether nothing is seen of a character: controls, `Default_Ignorable_Code_Point`, enclosing marks.
fn is_invisible(letter: char) -> bool {
    letter.is_control()
        || matches!(
            u32::from(letter),
            0xad | 0x34f | 0x61c | 0x115f..=0x1160 | 0x17b4..=0x17b5 | 0x180b..=0x180f | 0x200b..=0x200f
            | 0x202a..=0x202e | 0x2060..=0x206f | 0x20d0..=0x20ff | 0x2800 | 0x3164 | 0xfe00..=0xfe0f
            | 0xfeff | 0xffa0 | 0xfff0..=0xfffd | 0x1bca0..=0x1bca3 | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff
        )
}

/// A folded text without what servers trim from its ends.
#[must_use]
pub fn trim(folded: &str) -> &str {
    trim_end(trim_start(folded))
}

/// The same of its beginning alone.
#[must_use]
pub fn trim_start(folded: &str) -> &str {
    folded.trim_start_matches(MARGINS)
}

/// The same of its end alone, where dots go as well, as on Windows.
#[must_use]
pub fn trim_end(folded: &str) -> &str {
    folded.trim_end_matches(|letter| letter == '.' || MARGINS.contains(&letter))
}

/// A text, and what it is to servers that decode again; `None` where it is encoded too often.
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

/// A text without what is trimmed from its beginning, up to the next control: to some servers it ends there.
fn until_control(text: &str) -> &str {
    let trimmed = |letter: char| {
        letter.is_whitespace() || letter == '+' || is_invisible(letter) || MARGINS.contains(&letter)
    };
    text.trim_start_matches(trimmed).split(char::is_control).next().unwrap_or_default()
}

/// A text up to a NUL, at which C ends it.
fn until_nul(text: &str) -> &str {
    text.split('\0').next().unwrap_or_default()
}

/// What a name may be read as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Naming {
    /// As no spelling of the wanted one.
    Other,
    /// As the wanted one, with the value that is written.
    Same,
    /// As a part of the wanted one (`action[x]`), or as anything: its value is unknown.
    Part,
}

/// What a query member's name, as written in the query, may be read as, where `name` is wanted.
#[must_use]
pub fn query_naming(written: &str, name: &str) -> Naming {
    NamePattern::literal(name).query_naming(written)
}

/// A name that is wanted; in a pattern `*` is any text.
#[derive(Debug, Clone)]
pub struct NamePattern<'t> {
    text: Cow<'t, str>,
    /// Folded, between the stars.
    parts: Vec<Cow<'t, str>>,
}

impl<'t> NamePattern<'t> {
    /// The pattern in `text`.
    #[must_use]
    pub fn new(text: &str) -> NamePattern<'static> {
        let parts = text.split('*').map(|part| Cow::Owned(fold(part).into_owned())).collect();
        NamePattern { text: Cow::Owned(text.to_owned()), parts }
    }

    fn literal(text: &'t str) -> Self {
        Self { text: Cow::Borrowed(text), parts: vec![fold(text)] }
    }

    /// The name or pattern as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether any name at all is wanted.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.parts.len() > 1 && self.parts.iter().all(|part| part.is_empty())
    }

    /// What a query member's name, as written in the query, may be read as.
    #[must_use]
    pub fn query_naming(&self, written: &str) -> Naming {
        if is_plain_name(written) { self.naming(written) } else { self.naming(&decode_query(written)) }
    }

    /// What a name may be read as.
    #[must_use]
    pub fn naming(&self, read: &str) -> Naming {
        // What almost every name is.
        if is_plain_name(read) {
            return if self.is(read) { Naming::Same } else { Naming::Other };
        }
        let Some(decodings) = decodings(read) else { return Naming::Part };
        let whole = decodings.iter().map(Cow::as_ref);
        let cut = whole.clone().map(until_control);
        whole.chain(cut).map(|read| self.naming_once(read)).max().unwrap_or(Naming::Other)
    }

    /// What a name may be read as by servers that decode it no more.
    fn naming_once(&self, read: &str) -> Naming {
        if read.contains(UNREADABLE) {
            return Naming::Part;
        }
        let folded = fold(read);
        let read = folded.trim_start_matches(|letter| letter == '?' || MARGINS.contains(&letter));
        if self.is(trim(read)) {
            return Naming::Same;
        }
        // `action[]`, `action[0]`, `[action]`, `action.0` and what is no list: `action[$ne]`, `action.x`.
        for borders in [&['[', ']'][..], &['.']] {
            let mut parts = read.split(borders).map(trim).filter(|part| !part.is_empty());
            if parts.next().is_some_and(|first| self.is(first)) {
                let counts = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
                return if parts.all(counts) { Naming::Same } else { Naming::Part };
            }
        }
        // PHP makes `_` of `[`, too.
        if self.is(&read.replace(['[', ']'], "_")) { Naming::Same } else { Naming::Other }
    }

    /// Whether some server may read a member of `query` as one of this name.
    #[must_use]
    pub fn may_be_in(&self, query: &str) -> bool {
        query_members(query).any(|(written, _)| self.query_naming(&written) != Naming::Other)
    }

    /// Whether a folded name is the wanted one.
    fn is(&self, folded: &str) -> bool {
        match &*self.parts {
            [name] => is_same_name(folded, trim(name)),
            parts => match_parts(parts, folded) || match_parts(parts, &folded.replace(['-', '.', ' '], "_")),
        }
    }
}

/// Whether a name is folded, without margins, and of one part.
fn is_plain_name(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// Whether `text` is these parts in their order, with any text between them.
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

/// Whether two folded names are one: `user_id`, `user-id`, `user.id` and `userId` are to some frameworks.
fn is_same_name(one: &str, other: &str) -> bool {
    fn letters(name: &str) -> impl Iterator<Item = char> {
        const SEPARATORS: [char; 4] = ['_', '-', '.', ' '];
        let from_first = name.trim_start_matches(SEPARATORS);
        let before = name.strip_suffix(from_first).unwrap_or_default();
        let inner = from_first.trim_end_matches(SEPARATORS);
        let after = from_first.strip_prefix(inner).unwrap_or_default();
        let inner = inner.chars().filter(|letter| !SEPARATORS.contains(letter));
        before.chars().chain(inner).chain(after.chars())
    }
    letters(one).eq(letters(other))
}

/// The members of a query by each border that some server takes for one: name and value as written.
pub fn query_members(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    // Few hide a border from servers that decode once.
    let hides = |at: usize| query.as_bytes().get(at + 1..at + 3).is_some_and(is_border);
    let hidden = memchr::memchr_iter(b'%', query.as_bytes()).any(hides);
    let unknown = || vec![Cow::Borrowed(query), Cow::Owned(UNREADABLE.into())];
    let decoded = if hidden { decodings(query).unwrap_or_else(unknown) } else { Vec::new() };
    let again = decoded.into_iter().skip(1).flat_map(|query| {
        let owned = |(name, value): (&str, &str)| (name.to_owned().into(), value.to_owned().into());
        split_members(&query).map(owned).collect::<Vec<(Cow<'_, str>, Cow<'_, str>)>>()
    });
    split_members(query).map(|(name, value)| (Cow::Borrowed(name), Cow::Borrowed(value))).chain(again)
}

/// Whether `&`, `;`, `?`, `%` is encoded by these digits.
fn is_border(digits: &[u8]) -> bool {
    [b"26", b"3b", b"3f", b"25"].iter().any(|border| digits.eq_ignore_ascii_case(*border))
}

fn split_members(query: &str) -> impl Iterator<Item = (&str, &str)> {
    let members = query.split(['&', ';', '?']).filter(|member| !member.is_empty());
    members.map(|member| member.split_once('=').unwrap_or((member, "")))
}

/// Whether some server may read a member of `query` as one called `name`.
#[must_use]
pub fn may_be_named(query: &str, name: &str) -> bool {
    NamePattern::literal(name).may_be_in(query)
}

/// The texts that a decoded value may be read as, folded and trimmed; `None` where it may be any.
///
/// A list (`list,delete`) is each of its elements, a number (`5.0`) each way to write it, and what forms write for true
/// and false are `true` and `false`.
#[must_use]
pub fn values(value: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    for value in decodings(value)? {
        if value.contains(UNREADABLE) {
            return None;
        }
        let elements = value.split(|letter: char| matches!(letter, ',' | ';') || letter.is_control());
        for one in elements.chain([&*value]) {
            let read = trim(&fold(one)).to_owned();
            all.extend(equivalents(&read).into_iter().flatten());
            all.push(read);
        }
    }
    Some(all)
}

/// What a folded text is as a number, and as true or false.
#[must_use]
pub fn equivalents(read: &str) -> [Option<String>; 3] {
    let number = number(read);
    let (truth, digit) = match read {
        "true" | "t" | "yes" | "y" | "on" => (Some("true"), Some("1")),
        "false" | "f" | "no" | "n" | "off" | "null" | "none" | "nil" => (Some("false"), Some("0")),
        // A flag: `?force`.
        "" => (Some("true"), Some("false")),
        _ => (number.map(|number| if number == 0.0 { "false" } else { "true" }), None),
    };
    [number.map(|number| number.to_string()), truth.map(str::to_owned), digit.map(str::to_owned)]
}

/// The number that some language reads: `5.0`, `05`, `5e0`, `5_0`, `0x5`.
#[expect(clippy::cast_precision_loss, reason = "numbers that are near each other may be taken for equal")]
fn number(read: &str) -> Option<f64> {
    let digits = read.replace('_', "");
    let (negative, plain) = digits.strip_prefix('-').map_or((false, &*digits), |plain| (true, plain));
    let of = |prefix, radix| u64::from_str_radix(plain.strip_prefix(prefix)?, radix).ok();
    let coded = of("0x", 16).or_else(|| of("0o", 8)).or_else(|| of("0b", 2));
    let number = match coded {
        Some(coded) if negative => -(coded as f64),
        Some(coded) => coded as f64,
        None => digits.parse().ok()?,
    };
    // No minus before nothing.
    number.is_finite().then_some(number + 0.0)
}

/// Whether some server may find nothing in a decoded value, and so take it for absent.
#[must_use]
pub fn is_blank(value: &str) -> bool {
    let nothing = |text: &str| {
        text.chars().all(|letter| matches!(letter, ',' | ';' | '.') || MARGINS.contains(&letter))
    };
    decodings(value)
        .is_none_or(|all| all.iter().any(|value| nothing(&fold(value)) || nothing(&fold(until_nul(value)))))
}

/// A path as servers may read it.
#[derive(Debug)]
pub enum Paths<'t> {
    /// In no other way.
    Plain(&'t str),
    /// In any of these, folded.
    Any(Vec<String>),
    /// In ways that nobody can tell.
    Unknown,
}

/// What a canonical path may be read as. Folded segments stand between single slashes, none at the end.
#[must_use]
pub fn paths(path: &str) -> Paths<'_> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let path = path.strip_suffix('/').unwrap_or(path);
    if is_plain(path) {
        return Paths::Plain(path);
    }
    let Some(decodings) = decodings(path) else { return Paths::Unknown };
    let mut all = Vec::new();
    // As it came, it is encoded.
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

/// The segments that are left where blank ones and dots are resolved.
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

/// Whether every server reads a path as it stands: what almost every path is.
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
