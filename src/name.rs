//! Names of configured things: consumers, upstreams, credentials, roles.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;

/// A configured name: `[A-Za-z0-9][A-Za-z0-9._-]*`, at most 64 bytes.
///
/// It is safe to print anywhere: in a log, a metric label, an audit line. It is stored inline, without a pointer or a
/// reference count. Copying one of a hundred thousand needs no second memory access, and no counter that threads share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name(
    /// The name, followed by zeros, which no name contains. So the order of the bytes is the order of the names.
    [u8; Self::MAX],
);

impl Name {
    /// The length of the longest name, in bytes.
    pub const MAX: usize = 64;

    /// Parses `text` as a name; `None` if it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let first = text.bytes().next()?;
        let fits = first.is_ascii_alphanumeric()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let mut bytes = [0; Self::MAX];
        bytes.get_mut(..text.len()).filter(|_| fits)?.copy_from_slice(text.as_bytes());
        Some(Self(bytes))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let length = memchr::memchr(0, &self.0).unwrap_or(Self::MAX);
        str::from_utf8(self.0.get(..length).unwrap_or_default()).unwrap_or_default()
    }
}

impl Deref for Name {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::HashSet;

    use super::Name;

    #[test]
    fn takes_what_is_safe_to_print_and_nothing_else() {
        for good in ["a", "jms-prod", "team.tool_2", "9lives", &"x".repeat(64)] {
            assert_eq!(Name::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "-a", ".a", "a b", "a\n", "é", "a/b", &"x".repeat(65)] {
            assert!(Name::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn is_ordered_and_found_as_its_text_is() {
        let texts = ["a", "a-b", "a.b", "aa", "b", "B", "a0"];
        let mut names: Vec<Name> = texts.iter().map(|text| Name::parse(text).unwrap()).collect();
        names.sort_unstable();
        let mut sorted = texts;
        sorted.sort_unstable();
        assert!(names.iter().map(Name::as_str).eq(sorted));
        let names: HashSet<Name> = names.into_iter().collect();
        assert!(texts.iter().all(|text| names.contains(*text)) && !names.contains("ab"));
    }
}
