//! Names of configured things: consumers, upstreams, credentials, roles.

use std::fmt;
use std::sync::Arc;

/// A configured name: `[A-Za-z0-9][A-Za-z0-9._-]*`, at most 64 bytes.
///
/// Cheap to clone. Safe to print anywhere: in a log, a metric label, an audit line.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

impl Name {
    /// The longest name, in bytes.
    pub const MAX: usize = 64;

    /// Takes `text` as a name, or returns `None` where it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let first = text.bytes().next()?;
        let fits = text.len() <= Self::MAX
            && first.is_ascii_alphanumeric()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        fits.then(|| Self(text.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::Name;

    #[test]
    fn takes_what_is_safe_to_print_and_nothing_else() {
        for good in ["a", "jms-prod", "team.tool_2", "9lives", &"x".repeat(64)] {
            assert!(Name::parse(good).is_some(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a\n", "é", "a/b", &"x".repeat(65)] {
            assert!(Name::parse(bad).is_none(), "{bad:?}");
        }
    }
}
