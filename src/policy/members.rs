//! What a rule sees of a request's body: the top-level members of JSON.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::pattern::Glob;
use crate::spelling::{Naming, naming};

/// The members of a JSON body, as rules judge them; cheap to clone.
#[derive(Debug, Clone)]
pub struct Members(Seen);

/// Names and the text of their values, `None` for what is no scalar.
type Named = (String, Option<String>);

#[derive(Debug, Clone)]
enum Seen {
    Nothing,
    Members(Arc<[Named]>),
    Unread(Unread),
}

/// Why a body cannot be judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// Its `Content-Type` is another.
    #[error("a rule looks at the body, and its content type is not JSON")]
    Type,
    /// It is compressed.
    #[error("a rule looks at the body, and it has a content coding")]
    Coding,
    /// It is longer than `max_judged_body`.
    #[error("a rule looks at the body, and it is too long to be judged")]
    Long,
    /// It is no JSON object.
    #[error("a rule looks at the body, and it is no JSON object")]
    Form,
    /// A member's name is beyond ASCII: some readers take other letters for the same, as `ſ` for `s`.
    #[error("a rule looks at the body, and a member's name is beyond ASCII")]
    Names,
}

impl Members {
    /// No body, and so no members.
    #[must_use]
    pub fn none() -> Self {
        Self(Seen::Nothing)
    }

    /// A body that cannot be judged: no allowing rule that looks at it holds, and every denying one does.
    #[must_use]
    pub fn unread(why: Unread) -> Self {
        Self(Seen::Unread(why))
    }

    /// Reads the members of a whole body.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        match serde_json::from_slice::<Object>(body) {
            Ok(Object(members)) if members.iter().all(|(name, _)| name.is_ascii()) => {
                Self(Seen::Members(members.into()))
            }
            Ok(_) => Self::unread(Unread::Names),
            Err(_) => Self::unread(Unread::Form),
        }
    }

    /// Why it cannot be judged.
    #[must_use]
    pub fn why_unread(&self) -> Option<Unread> {
        match self.0 {
            Seen::Unread(why) => Some(why),
            Seen::Nothing | Seen::Members(_) => None,
        }
    }

    /// Whether there is nothing that could be judged, as where nobody looked.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self.0, Seen::Nothing)
    }

    fn named(&self) -> &[Named] {
        match &self.0 {
            Seen::Members(members) => members,
            Seen::Nothing | Seen::Unread(_) => &[],
        }
    }

    /// The text of the member called `name` where it is there exactly once, in whatever spelling: of a
    /// string itself, of a number or a boolean its JSON.
    pub(super) fn only(&self, name: &str) -> Option<&str> {
        let mut named = self.named().iter().filter(|(written, _)| naming(written, name) != Naming::Other);
        match (named.next(), named.next()) {
            (Some((written, value)), None) if written == name => value.as_deref(),
            _ => None,
        }
    }

    /// Whether any value of a member that may be read as this one matches; where the body cannot be judged, it might.
    /// In `name`, `*` is any text.
    pub(super) fn any(&self, name: &str, mut matches: impl FnMut(&str) -> bool) -> bool {
        let pattern = name.contains('*').then(|| Glob::new(name));
        let naming = |written: &str| match &pattern {
            Some(pattern) if pattern.may_match(written) => Naming::Same,
            Some(_) => Naming::Other,
            None => naming(written, name),
        };
        self.why_unread().is_some()
            || self.named().iter().any(|(written, value)| match naming(written) {
                Naming::Other => false,
                Naming::Same => value.as_deref().is_none_or(&mut matches),
                Naming::Part => true,
            })
    }
}

/// An object's members in their order, those of the same name too; `None` for what is no scalar.
struct Object(Vec<Named>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct All;
        impl<'de> Visitor<'de> for All {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = Vec::new();
                while let Some((name, Scalar(value))) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(All)
    }
}

/// The text of a scalar.
struct Scalar(Option<String>);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;
        impl<'de> Visitor<'de> for One {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(Some(value.to_string())))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(Some(value.to_string())))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(Some(value.to_string())))
            }

            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Scalar, E> {
                let number = serde_json::Number::from_f64(value).ok_or_else(|| E::custom("no number"))?;
                Ok(Scalar(Some(number.to_string())))
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(Some(value.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Scalar, E> {
                Ok(Scalar(None))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Scalar(None))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Scalar, A::Error> {
                while map.next_entry::<String, IgnoredAny>()?.is_some() {}
                Ok(Scalar(None))
            }
        }
        deserializer.deserialize_any(One)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_counts_that_is_there_once_and_is_a_scalar() {
        let body = br#" {"action":"add","n":1,"f":1.5,"b":true,"x":null,"l":["add"],"o":{"action":"no"},"d":1,"d":2,"\u0061\u0064":"q"} "#;
        let members = Members::read(body);
        let only = |name| members.only(name);
        assert_eq!(
            (only("action"), only("n"), only("f"), only("b")),
            (Some("add"), Some("1"), Some("1.5"), Some("true"))
        );
        assert_eq!(
            (only("x"), only("l"), only("o"), only("d"), only("gone")),
            (None, None, None, None, None)
        );
        assert_eq!(only("ad"), Some("q"));
        assert_eq!(members.why_unread(), None);
    }

    #[test]
    fn any_value_of_a_name_in_any_case_may_be_the_one_that_is_read() {
        let members = Members::read(br#"{"action":"list","Action":"delete","data":{}}"#);
        assert!(
            members.any("action", |value| value == "delete")
                && members.any("action", |value| value == "list")
        );
        assert!(!members.any("action", |value| value == "add") && !members.any("gone", |_| true));
        // What is no scalar may be read as anything.
        assert!(members.any("data", |value| value == "delete"));
        // Nor does such a twin hide behind the one that is judged.
        assert_eq!(members.only("action"), None);
    }

    #[test]
    fn a_name_may_be_a_pattern_where_any_value_counts() {
        let members = Members::read(br#"{"Org_Roles":[],"name":"a","password":null}"#);
        let present = |name| members.any(name, |_| true);
        assert!(present("*role*") && present("*_roles") && present("passw*d") && present("*"));
        assert!(!present("*key*") && !present("role*") && !members.any("na*", |value| value == "b"));
        assert_eq!(members.only("na*"), None);
        assert!(!Members::read(b"{}").any("*", |_| true) && !Members::none().any("*", |_| true));
    }

    #[test]
    fn what_is_no_object_cannot_be_judged() {
        for body in [
            &b"[]"[..],
            b"\"add\"",
            b"1",
            b"",
            b"{",
            b"{\"a\":1}x",
            b"{'a':1}",
            b"{\"a\":NaN}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\0\"\0a\0\"\0:\0t\0}\0",
        ] {
            let members = Members::read(body);
            assert_eq!(members.why_unread(), Some(Unread::Form), "{body:?}");
            assert!(members.only("a").is_none() && members.any("a", |_| false));
        }
        let members = Members::read("{\"i\u{17f}_admin\":true}".as_bytes());
        assert_eq!(members.why_unread(), Some(Unread::Names));
        // However deep it is, nothing of it is kept.
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let members = Members::read(&[b"{\"a\":".to_vec(), deep, b",\"b\":1}".to_vec()].concat());
        assert_eq!((members.only("a"), members.only("b")), (None, Some("1")));
        assert!(!Members::none().any("a", |_| true));
    }
}
