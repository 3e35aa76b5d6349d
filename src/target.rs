//! The canonical request target: claviger judges, signs and sends it in this form only.
//!
//! The form is the one that JumpServer's verifier rebuilds (Django's `get_full_path`). The path is decoded once and
//! quoted again; in the query, only illegal raw bytes are quoted. A target without such a form, or one that another
//! reader would take for another path, is refused.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The bytes to quote in a path: all but letters, digits and `/:@&+$,-_.!~*'()`.
const PATH_QUOTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'+')
    .remove(b'$')
    .remove(b',')
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'!')
    .remove(b'~')
    .remove(b'*')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')');

/// The bytes to quote in a query: all but letters, digits, `-._` and `/%[]=:;$&()+,!?*@'~`.
const QUERY_QUOTED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'%')
    .remove(b'[')
    .remove(b']')
    .remove(b'=')
    .remove(b':')
    .remove(b';')
    .remove(b'$')
    .remove(b'&')
    .remove(b'(')
    .remove(b')')
    .remove(b'+')
    .remove(b',')
    .remove(b'!')
    .remove(b'?')
    .remove(b'*')
    .remove(b'@')
    .remove(b'\'')
    .remove(b'~')
    .remove(b'-')
    .remove(b'.')
    .remove(b'_');

/// The bytes that a path may contain unquoted.
const PLAIN_IN_PATH: [bool; 256] = letters_digits_and(b"/:@&+$,-_.!~*'()");
/// The bytes that a query may contain unquoted, except `%`, which needs a check.
const PLAIN_IN_QUERY: [bool; 256] = letters_digits_and(b"/[]=:;$&()+,!?*@'~-._");

/// A table that marks letters, digits and `others`.
#[expect(clippy::indexing_slicing, reason = "evaluated when compiled: out of bounds would not build")]
pub(crate) const fn letters_digits_and(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = true;
        at += 1;
    }
    table
}

/// The reason why a target has no canonical form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NonCanonical {
    /// The target does not begin with `/`: absolute-form, authority-form, `*`.
    NotOriginForm,
    /// The target has a raw byte that is not allowed: a control, a space, `#`, `\` or non-ASCII.
    RawByte,
    /// The target has a `%` without two hexadecimal digits.
    BadEscape,
    /// The path has an encoded slash or backslash.
    EncodedSlash,
    /// The path has an encoded control character.
    EncodedControl,
    /// The bytes of the path are not UTF-8.
    NotUtf8,
    /// The path has a segment `.` or `..`, in any spelling.
    DotSegment,
    /// The path has two slashes in a row.
    EmptySegment,
}

impl NonCanonical {
    /// The reason as the trail records it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotOriginForm => "not-origin-form",
            Self::RawByte => "raw-byte",
            Self::BadEscape => "bad-escape",
            Self::EncodedSlash => "encoded-slash",
            Self::EncodedControl => "encoded-control",
            Self::NotUtf8 => "not-utf8",
            Self::DotSegment => "dot-segment",
            Self::EmptySegment => "empty-segment",
        }
    }
}

/// A canonical path and query: printable ASCII, never empty, beginning with `/`.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    text: String,
    path_end: usize,
}

impl Target {
    /// Brings the bytes of a request line's target into the canonical form.
    ///
    /// # Errors
    /// [`NonCanonical`] if the target has no canonical form.
    ///
    /// # Examples
    ///
    /// ```
    /// use claviger::target::Target;
    ///
    /// let target = Target::canonical(b"/api/v1/%75sers/?search=a").unwrap();
    /// assert_eq!(target.as_str(), "/api/v1/users/?search=a");
    /// assert!(Target::canonical(b"/api/v1/../admin/").is_err());
    /// ```
    pub fn canonical(raw: &[u8]) -> Result<Self, NonCanonical> {
        Self::parse_canonical(raw).map_or_else(|| Self::canonicalize(raw), Ok)
    }

    fn canonicalize(raw: &[u8]) -> Result<Self, NonCanonical> {
        let raw = std::str::from_utf8(raw).map_err(|_| NonCanonical::RawByte)?;
        if !raw.starts_with('/') {
            return Err(NonCanonical::NotOriginForm);
        }
        if raw.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'#' | b'\\')) {
            return Err(NonCanonical::RawByte);
        }
        check_escapes(raw.as_bytes())?;
        let (path, query) = raw.split_once('?').unwrap_or((raw, ""));
        let decoded = decode(path)?;
        check_path(&decoded)?;
        let mut text = String::with_capacity(raw.len() + 16);
        text.extend(utf8_percent_encode(&decoded, PATH_QUOTED));
        let path_end = text.len();
        if !query.is_empty() {
            text.push('?');
            text.extend(utf8_percent_encode(query, QUERY_QUOTED));
        }
        Ok(Self { text, path_end })
    }

    /// The fast path for targets that are canonical as received, which almost all are. It checks each byte once; any
    /// other target goes to the full rules.
    fn parse_canonical(raw: &[u8]) -> Option<Self> {
        let end = memchr::memchr(b'?', raw).unwrap_or(raw.len());
        let (path, query) = raw.split_at_checked(end)?;
        let mut before = 0;
        for byte in path {
            let begins = before == b'/' && matches!(byte, b'/' | b'.');
            if begins || !PLAIN_IN_PATH.get(usize::from(*byte)).is_some_and(|plain| *plain) {
                return None;
            }
            before = *byte;
        }
        let plain = |byte: &u8| PLAIN_IN_QUERY.get(usize::from(*byte)).is_some_and(|plain| *plain);
        if path.first() != Some(&b'/') || query.len() == 1 || !query.iter().all(plain) {
            return None;
        }
        let text = String::from_utf8(raw.to_vec()).ok()?;
        Some(Self { text, path_end: end })
    }

    /// The path and query, as on the request line.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The path of the target.
    #[must_use]
    pub fn path(&self) -> &str {
        self.text.split_at_checked(self.path_end).map_or("", |(path, _)| path)
    }

    /// The query without its `?`; empty if there is none.
    #[must_use]
    pub fn query(&self) -> &str {
        self.text.split_at_checked(self.path_end + 1).map_or("", |(_, query)| query)
    }

    /// The name and value of each query member, as written (percent-encoded).
    pub fn query_members(&self) -> impl Iterator<Item = (&str, &str)> {
        self.query()
            .split('&')
            .filter(|member| !member.is_empty())
            .map(|m| m.split_once('=').unwrap_or((m, "")))
    }

    /// Removes `prefix`, which is whole leading segments (`/jumpserver`); `None` if the path does not begin with it.
    #[must_use]
    pub fn strip_prefix(&self, prefix: &str) -> Option<Self> {
        let prefix = prefix.trim_end_matches('/');
        let rest = self.text.strip_prefix(prefix)?;
        let path_end = self.path_end.checked_sub(prefix.len())?;
        if rest.starts_with('/') {
            return Some(Self { text: rest.to_owned(), path_end });
        }
        (path_end == 0).then(|| Self { text: format!("/{rest}"), path_end: 1 })
    }

    /// Puts `base` (`/jms`), which may be empty, before the path.
    #[must_use]
    pub fn with_base(&self, base: &str) -> Cow<'_, Self> {
        let base = base.trim_end_matches('/');
        if base.is_empty() {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self { text: format!("{base}{}", self.text), path_end: self.path_end + base.len() })
    }

    /// Removes the query members with exactly this name; the others stay unchanged.
    #[must_use]
    pub fn without_member(&self, name: &str) -> Self {
        let is_other = |member: &&str| member.split_once('=').map_or(*member, |(written, _)| written) != name;
        let left: Vec<&str> = self.query().split('&').filter(is_other).collect();
        let (query, mut text) = (left.join("&"), self.path().to_owned());
        if !query.is_empty() {
            text.push('?');
            text.push_str(&query);
        }
        Self { text, path_end: self.path_end }
    }

    /// Adds a slash at the end of the path, if there is none.
    #[must_use]
    pub fn with_trailing_slash(mut self) -> Self {
        if !self.path().ends_with('/') {
            self.text.insert(self.path_end, '/');
            self.path_end += 1;
        }
        self
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

fn check_escapes(raw: &[u8]) -> Result<(), NonCanonical> {
    let mut rest = raw;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => {}
            _ => return Err(NonCanonical::BadEscape),
        }
        rest = rest.get(at + 3..).unwrap_or_default();
    }
    Ok(())
}

fn decode(path: &str) -> Result<Cow<'_, str>, NonCanonical> {
    if !path.contains('%') {
        return Ok(Cow::Borrowed(path));
    }
    let slashes = path.bytes().filter(|byte| *byte == b'/').count();
    let decoded =
        percent_encoding::percent_decode_str(path).decode_utf8().map_err(|_| NonCanonical::NotUtf8)?;
    if decoded.contains('\\') || decoded.bytes().filter(|byte| *byte == b'/').count() != slashes {
        return Err(NonCanonical::EncodedSlash);
    }
    if decoded.bytes().any(|byte| byte.is_ascii_control()) {
        return Err(NonCanonical::EncodedControl);
    }
    Ok(decoded)
}

fn check_path(decoded: &str) -> Result<(), NonCanonical> {
    let mut segments = decoded.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        if segment.is_empty() && segments.peek().is_some() {
            return Err(NonCanonical::EmptySegment);
        }
        // Readers with path parameters read `..;x` as `..`.
        let plain = segment.split(';').next().unwrap_or_default();
        if matches!(plain, "." | "..") {
            return Err(NonCanonical::DotSegment);
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn canonical(raw: &str) -> String {
        Target::canonical(raw.as_bytes()).unwrap().to_string()
    }

    #[test]
    fn rewrites_as_the_verifier_does() {
        for (wire, sent) in [
            ("/u/a%2Bb/", "/u/a+b/"),
            ("/u/%e4%b8%ad/", "/u/%E4%B8%AD/"),
            ("/u/a%7Eb/", "/u/a~b/"),
            ("/u/a%40b.com/", "/u/a@b.com/"),
            ("/u/a%3Ab/", "/u/a:b/"),
            ("/u/;v=1/", "/u/%3Bv%3D1/"),
            ("/u/[a]/", "/u/%5Ba%5D/"),
            ("/u/%61%2525/", "/u/a%2525/"),
            ("/u?search=a|b", "/u?search=a%7Cb"),
            ("/u?search={x}", "/u?search=%7Bx%7D"),
            ("/u?search=\"x\"<>^`", "/u?search=%22x%22%3C%3E%5E%60"),
            ("/u/?", "/u/"),
            ("/u/?a=1&a=2", "/u/?a=1&a=2"),
            ("/u/?q=%2B+[]'%20%0a%zz".trim_end_matches("%zz"), "/u/?q=%2B+[]'%20%0a"),
            ("/u/%20@%E4%B8%AD", "/u/%20@%E4%B8%AD"),
            ("/", "/"),
        ] {
            assert_eq!(canonical(wire), sent, "{wire}");
        }
    }

    #[test]
    fn refuses_what_another_reader_may_read_otherwise() {
        use NonCanonical::{
            BadEscape, DotSegment, EmptySegment, EncodedControl, EncodedSlash, NotOriginForm, NotUtf8,
            RawByte,
        };
        for (wire, reason) in [
            ("", NotOriginForm),
            ("*", NotOriginForm),
            ("http://h/x", NotOriginForm),
            ("@host/x", NotOriginForm),
            ("//host/x", EmptySegment),
            ("/a//", EmptySegment),
            ("/a/./b", DotSegment),
            ("/a/..", DotSegment),
            ("/a/%2e%2E/b", DotSegment),
            ("/a/..;x/b", DotSegment),
            ("/a%2fb", EncodedSlash),
            ("/a%5Cb", EncodedSlash),
            ("/a\\b", RawByte),
            ("/a#b", RawByte),
            ("/a?b#c", RawByte),
            ("/é", RawByte),
            ("/a b", RawByte),
            ("/a%00", EncodedControl),
            ("/a%0d%0ab", EncodedControl),
            ("/a%7f", EncodedControl),
            ("/a%ff", NotUtf8),
            ("/a%c0%ae", NotUtf8),
            ("/a%", BadEscape),
            ("/a%4", BadEscape),
            ("/a%zz", BadEscape),
            ("/a?q=%zz", BadEscape),
        ] {
            assert_eq!(Target::canonical(wire.as_bytes()), Err(reason), "{wire}");
        }
    }

    #[test]
    fn takes_prefixes_and_bases_by_whole_segments() {
        let target = Target::canonical(b"/jump/api?x=1").unwrap();
        assert_eq!(target.strip_prefix("/jump").unwrap().as_str(), "/api?x=1");
        assert_eq!(target.strip_prefix("/").unwrap().as_str(), "/jump/api?x=1");
        assert!(target.strip_prefix("/ju").is_none());
        let bare = Target::canonical(b"/jump?x=1").unwrap().strip_prefix("/jump").unwrap();
        assert_eq!((bare.path(), bare.query()), ("/", "x=1"));
        assert_eq!(bare.with_base("/jms/").as_str(), "/jms/?x=1");
        let members = Target::canonical(b"/api?x=1&y&x&&%78=2").unwrap();
        assert_eq!(members.without_member("x").as_str(), "/api?y&&%78=2");
        assert_eq!(Target::canonical(b"/api?x=1").unwrap().without_member("x").as_str(), "/api");
        let slashed = Target::canonical(b"/api?x=1").unwrap().with_trailing_slash();
        assert_eq!((slashed.as_str(), slashed.path(), slashed.query()), ("/api/?x=1", "/api/", "x=1"));
    }

    proptest! {
        #[test]
        fn what_is_plainly_canonical_is_what_the_rules_make(raw in "/[a-zA-Z0-9/.;=%?&@:~+#-]{0,40}") {
            if let Some(already) = Target::parse_canonical(raw.as_bytes()) {
                prop_assert_eq!(Target::canonicalize(raw.as_bytes()), Ok(already));
            }
        }

        #[test]
        fn canonicalising_twice_changes_nothing(raw in "/([!-~&&[^%#\\\\]]|%[2-7][0-9a-fA-F]|%25|%[eE]4%b8%[aA]d){0,20}") {
            if let Ok(once) = Target::canonical(raw.as_bytes()) {
                let twice = Target::canonical(once.as_str().as_bytes());
                prop_assert_eq!(Ok(once), twice);
            }
        }

        #[test]
        fn no_bytes_panic(raw in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(target) = Target::canonical(&raw) {
                prop_assert!(target.as_str().bytes().all(|byte| byte.is_ascii_graphic()));
                prop_assert!(target.path().starts_with('/'));
            }
        }
    }
}
