//! Patterns of paths and of single values, as rules use them.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::spelling::{self, Paths, Value, Wanted};
use crate::target::Target;

/// A path pattern: `*` is one segment or a part of one, `**` any number of segments, including none. A slash at the end
/// is ignored on both sides.
#[derive(Debug, Clone)]
pub struct PathPattern {
    text: String,
    segments: Vec<Segment>,
}

#[derive(Debug, Clone)]
enum Segment {
    Any,
    Like(Glob),
}

/// A pattern for one value: `*` stands for any text, including none.
#[derive(Debug, Clone)]
pub struct Glob {
    parts: Vec<String>,
    /// The same parts folded, for deny rules.
    folded: Vec<String>,
    /// What else the pattern equals as a whole, if it has no `*`.
    whole: Wanted,
}

impl PathPattern {
    /// Parses a pattern. Its literal parts are brought into the canonical form, because they are compared
    /// with canonical paths.
    ///
    /// # Errors
    /// What is wrong with the pattern, as a sentence.
    ///
    /// # Examples
    ///
    /// ```
    /// use claviger::policy::PathPattern;
    ///
    /// let users = PathPattern::parse("/api/v1/users/*/").unwrap();
    /// assert!(users.matches("/api/v1/users/7/"));
    /// assert!(!users.matches("/api/v1/users/7/groups/"));
    /// ```
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix('/') else { return Err("a path pattern begins with `/`".into()) };
        if text.contains(['?', '#', '\\']) {
            return Err("a path pattern is a path alone; conditions on the query go into `query`".into());
        }
        let escaped = escape_beyond_ascii(text);
        let canonical = Target::canonical(escaped.as_bytes())
            .map_err(|reason| format!("no request path can have this form ({})", reason.as_str()))?;
        let segments =
            canonical.path().trim_matches('/').split('/').filter(|_| !rest.trim_matches('/').is_empty());
        let segments = segments
            .map(|segment| match segment {
                "**" => Ok(Segment::Any),
                mixed if mixed.contains("**") => {
                    Err("`**` stands for whole segments, alone between slashes".into())
                }
                like => Ok(Segment::Like(Glob::of_segment(like))),
            })
            .collect::<Result<_, String>>()?;
        Ok(Self { text: text.to_owned(), segments })
    }

    /// The pattern as configured.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether the pattern matches a canonical path.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        let path = path.strip_prefix('/').unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        match_segments(&self.segments, path, Glob::matches)
    }

    /// Whether some server may read a path that the pattern matches.
    #[must_use]
    pub fn may_match(&self, paths: &Paths<'_>) -> bool {
        let matches = |path: &str| match_segments(&self.segments, path, Glob::matches_folded);
        match paths {
            Paths::Plain(path) => matches(path),
            Paths::Any(paths) => paths.iter().any(|path| matches(path)),
            Paths::Unknown => true,
        }
    }

    /// The pattern as an `SQLite` GLOB for a path without slashes at its ends, and the number of slashes in such a
    /// path. If the number is `None`, the GLOB may match more paths than the pattern.
    #[must_use]
    pub fn as_glob(&self) -> (String, Option<usize>) {
        let mut glob = String::new();
        let mut exact = true;
        for (number, segment) in self.segments.iter().enumerate() {
            match segment {
                // Includes the slash before it, which is absent if it stands for nothing.
                Segment::Any => {
                    glob.push('*');
                    exact = false;
                }
                Segment::Like(Glob { parts, .. }) => {
                    if number > 0 && exact {
                        glob.push('/');
                    }
                    let escaped = parts.iter().map(|part| part.replace('[', "[[]").replace('?', "[?]"));
                    glob.push_str(&escaped.collect::<Vec<_>>().join("*"));
                }
            }
        }
        (glob, exact.then(|| self.segments.len().saturating_sub(1)))
    }
}

impl Glob {
    /// Parses the pattern in `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self::of(text, |part| Cow::Borrowed(part))
    }

    /// Parses the pattern of one segment of a canonical path.
    fn of_segment(text: &str) -> Self {
        Self::of(text, |part| percent_decode_str(part).decode_utf8_lossy())
    }

    fn of(text: &str, decode: impl Fn(&str) -> Cow<'_, str>) -> Self {
        let parts: Vec<String> = text.split('*').map(String::from).collect();
        let mut folded: Vec<String> =
            parts.iter().map(|part| spelling::fold(&decode(part)).into_owned()).collect();
        if let Some(first) = folded.first_mut() {
            *first = spelling::trim_start(first).to_owned();
        }
        if let Some(last) = folded.last_mut() {
            *last = spelling::trim_end(last).to_owned();
        }
        let whole = match &*folded {
            [whole] => Wanted::new(whole),
            _ => Wanted::default(),
        };
        Self { parts, folded, whole }
    }

    /// Whether the pattern matches the whole of `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        spelling::match_parts(&self.parts, text)
    }

    /// Whether the pattern matches the whole of a text that is folded and trimmed.
    fn matches_folded(&self, text: &str) -> bool {
        spelling::match_parts(&self.folded, text)
    }

    /// Whether some server may read a matching value in this one.
    #[must_use]
    pub fn may_match(&self, value: &Value<'_>) -> bool {
        value.may_be(&self.whole, |text| self.matches_folded(text))
    }
}

/// Two-pointer matching with one backtracking point: `**` only ever needs the latest one.
fn match_segments(pattern: &[Segment], path: &str, matches: impl Fn(&Glob, &str) -> bool) -> bool {
    let (mut pattern, mut rest) = (pattern, (!path.is_empty()).then_some(path));
    let mut back: Option<(&[Segment], &str)> = None;
    loop {
        match (pattern.split_first(), rest) {
            (None, None) | (Some((Segment::Any, [])), _) => return true,
            (Some((Segment::Any, after)), Some(path)) => {
                back = Some((after, path));
                pattern = after;
                continue;
            }
            (Some((Segment::Any, after)), None) => {
                pattern = after;
                continue;
            }
            (Some((Segment::Like(glob), after)), Some(path)) => {
                let (segment, left) = next_segment(path);
                if matches(glob, segment) {
                    (pattern, rest) = (after, left);
                    continue;
                }
            }
            (Some((Segment::Like(_), _)), None) | (None, Some(_)) => {}
        }
        let Some((after, path)) = back.take() else { return false };
        let (_, left) = next_segment(path);
        let Some(left) = left else {
            (pattern, rest) = (after, None);
            continue;
        };
        back = Some((after, left));
        (pattern, rest) = (after, Some(left));
    }
}

fn next_segment(path: &str) -> (&str, Option<&str>) {
    let slash = memchr::memchr(b'/', path.as_bytes());
    let parts = slash.and_then(|at| Some((path.get(..at)?, path.get(at + 1..)?)));
    parts.map_or((path, None), |(segment, left)| (segment, Some(left)))
}

fn escape_beyond_ascii(text: &str) -> String {
    const BEYOND: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS.add(b' ');
    percent_encoding::utf8_percent_encode(text, BEYOND).to_string()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn matches_by_segment() {
        for (pattern, path, whole) in [
            ("/**", "/", true),
            ("/**", "/a/b/", true),
            ("/", "/", true),
            ("/", "/a", false),
            ("/a/*", "/a/b/", true),
            ("/a/*", "/a/", false),
            ("/a/*", "/a/b/c", false),
            ("/a/**", "/a", true),
            ("/a/**", "/ab", false),
            ("/a/**/z", "/a/z/", true),
            ("/a/**/z", "/a/b/c/z", true),
            ("/a/**/z", "/a/z/b", false),
            ("/a/**/b/**/c", "/a/x/b/y/b/c", true),
            ("/a/**/b/**/c", "/a/x/c/y/b", false),
            ("/a/us*s", "/a/users", true),
            ("/a/us*s", "/a/us", false),
            ("/u/*@x.io", "/u/bob@x.io", true),
            ("/u/中", "/u/%E4%B8%AD/", true),
            ("/u/a%7eb", "/u/a~b", true),
        ] {
            assert_eq!(PathPattern::parse(pattern).unwrap().matches(path), whole, "{pattern} {path}");
        }
    }

    #[test]
    fn as_a_glob_it_takes_at_least_what_it_matches() {
        for (pattern, glob, slashes) in [
            ("/", "", Some(0)),
            ("/a/*/c/", "a/*/c", Some(2)),
            ("/a/us*s", "a/us*s", Some(1)),
            ("/**", "*", None),
            ("/a/**", "a*", None),
            ("/a/**/b/*", "a*b*", None),
        ] {
            let made = PathPattern::parse(pattern).unwrap().as_glob();
            assert_eq!(made, (glob.to_owned(), slashes), "{pattern}");
        }
    }

    #[test]
    fn a_denial_sees_through_path_parameters() {
        let pattern = PathPattern::parse("/a/*/password").unwrap();
        assert!(!pattern.matches("/a/1/password%3Bx/"));
        assert!(pattern.may_match(&spelling::paths("/a/1/password%3Bx/")));
        assert!(pattern.may_match(&spelling::paths("/a%3Bb/1/password")));
        // This holds if the pattern names them, too.
        assert!(PathPattern::parse("/a/b;c").unwrap().may_match(&spelling::paths("/A/b%3Bc")));
    }

    #[test]
    fn refuses_patterns_that_could_never_match() {
        for bad in ["a/b", "", "/a//b", "/a/../b", "/a?x=1", "/a%2fb", "/a**/b"] {
            assert!(PathPattern::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn globs_match_the_whole_text() {
        for (glob, text, whole) in [
            ("*", "", true),
            ("*", "x", true),
            ("a*c", "abc", true),
            ("a*c", "ab", false),
            ("a", "a", true),
            ("a*a", "a", false),
            ("*b*", "abc", true),
            ("", "", true),
            ("", "x", false),
            ("a*b*c", "aXbYbc", true),
        ] {
            assert_eq!(Glob::new(glob).matches(text), whole, "{glob} {text}");
        }
    }
}
