//! What rules read of a request body: the top-level members of a JSON object.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use crate::spelling::{Name, NamePattern, NameReading, Naming, Value};

/// The members of a JSON body, as rules judge them; cheap to clone.
#[derive(Debug, Clone)]
pub struct BodyMembers(Seen);

/// A member name as a reader may take it, and the text of each of its values; `None` for a value that is no scalar.
#[derive(Debug)]
struct Named {
    name: Name<'static>,
    values: Vec<Option<Value<'static>>>,
}

#[derive(Debug, Clone)]
enum Seen {
    Nothing,
    Members(Arc<[Named]>),
    Unread(BodyUnreadable),
}

/// The reason why rules cannot judge a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyUnreadable {
    /// The `Content-Type` of the body is not JSON.
    #[error("a rule looks at the body, and its content type is not JSON")]
    Type,
    /// The body has a content coding, for example compression.
    #[error("a rule looks at the body, and it has a content coding")]
    Coding,
    /// The body is longer than `max_judged_body`.
    #[error("a rule looks at the body, and it is too long to be judged")]
    Long,
    /// The body is not a JSON object.
    #[error("a rule looks at the body, and it is no JSON object")]
    Form,
    /// A member's name has non-ASCII characters. Some readers take other letters for the same, as `ſ` for `s`.
    #[error("a rule looks at the body, and a member's name is beyond ASCII")]
    Names,
    /// A member's name has a control character, or a blank at an end; some readers cut these off.
    #[error("a rule looks at the body, and a member's name has a control, or a blank at an end")]
    Blanks,
    /// Too many names, or too long ones, have characters other than letters, digits, `_` and `-`.
    #[error("a rule looks at the body, and too many member names have special characters")]
    Special,
}

impl BodyMembers {
    /// The members of a request without a body: none.
    #[must_use]
    pub fn none() -> Self {
        Self(Seen::Nothing)
    }

    /// A body that cannot be judged. No allowing rule with a body condition matches it, and every such
    /// denying rule does.
    #[must_use]
    pub fn unreadable(why: BodyUnreadable) -> Self {
        Self(Seen::Unread(why))
    }

    /// Parses the members of a complete body.
    #[must_use]
    pub fn read(body: &[u8]) -> Self {
        let Ok(Object(members)) = serde_json::from_slice(body) else {
            return Self::unreadable(BodyUnreadable::Form);
        };
        let blank = |name: &str| name.trim_matches(' ').len() < name.len() || name.contains(char::is_control);
        if members.iter().any(|(name, _)| !name.is_ascii()) {
            return Self::unreadable(BodyUnreadable::Names);
        }
        if members.iter().any(|(name, _)| blank(name)) {
            return Self::unreadable(BodyUnreadable::Blanks);
        }
        normalise(members)
            .map_or(Self::unreadable(BodyUnreadable::Special), |named| Self(Seen::Members(named.into())))
    }

    /// The reason why the body cannot be judged, if it cannot.
    #[must_use]
    pub fn why_unread(&self) -> Option<BodyUnreadable> {
        match self.0 {
            Seen::Unread(why) => Some(why),
            Seen::Nothing | Seen::Members(_) => None,
        }
    }

    /// Whether there is nothing to judge: the request has no body, or the body was not read.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(self.0, Seen::Nothing)
    }

    /// Whether the body was read as JSON.
    #[must_use]
    pub fn is_read(&self) -> bool {
        matches!(self.0, Seen::Members(_))
    }

    /// Whether the body certainly has no members: there is no body, or it is `{}`.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Seen::Nothing => true,
            Seen::Members(members) => members.is_empty(),
            Seen::Unread(_) => false,
        }
    }

    fn as_slice(&self) -> &[Named] {
        match &self.0 {
            Seen::Members(members) => members,
            Seen::Nothing | Seen::Unread(_) => &[],
        }
    }

    /// The text of the member called `name`, if exactly one member may be read as this name. For a string it is its
    /// value, for a number or a boolean its JSON.
    pub(super) fn single(&self, name: &NamePattern<'_>) -> Option<&str> {
        let mut named = self.as_slice().iter().filter(|named| name.naming(&named.name) != Naming::Other);
        let (Some(one), None) = (named.next(), named.next()) else { return None };
        match &*one.values {
            [value] if one.name.written() == name.as_str() => value.as_ref().map(Value::as_str),
            _ => None,
        }
    }

    /// Whether any value of a member that may be read as `name` matches; always true for a body that cannot be judged.
    pub(super) fn any_matches(&self, name: &NamePattern<'_>, matches: impl Fn(&Value<'_>) -> bool) -> bool {
        self.why_unread().is_some()
            || self.as_slice().iter().any(|named| match name.naming(&named.name) {
                Naming::Other => false,
                Naming::Same => named.values.iter().any(|value| value.as_ref().is_none_or(&matches)),
                Naming::Part => true,
            })
    }
}

/// Joins the values of members with the same name, and parses each name once; `None` if that takes too much work.
fn normalise(mut members: Vec<(String, Option<String>)>) -> Option<Vec<Named>> {
    members.sort_by(|(one, _), (other, _)| one.cmp(other));
    let (mut all, mut reading) = (Vec::<Named>::new(), NameReading::default());
    for (name, value) in members {
        let value = value.map(|value| Value::new(value.into()));
        match all.last_mut() {
            Some(named) if named.name.written() == name => named.values.push(value),
            _ => all.push(Named { name: Name::read(name.into(), &mut reading)?, values: vec![value] }),
        }
    }
    Some(all)
}

/// The members of an object in their order, with duplicates; the value is `None` if it is no scalar.
struct Object(Vec<(String, Option<String>)>);

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

/// The text of a scalar; `None` for other values.
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
        let members = BodyMembers::read(body);
        let only = |name| members.single(&NamePattern::new(name));
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
        let members = BodyMembers::read(br#"{"action":"list","Action":"delete","data":{}}"#);
        assert!(
            members.any_matches(&NamePattern::new("action"), |value| value.as_str() == "delete")
                && members.any_matches(&NamePattern::new("action"), |value| value.as_str() == "list")
        );
        assert!(
            !members.any_matches(&NamePattern::new("action"), |value| value.as_str() == "add")
                && !members.any_matches(&NamePattern::new("gone"), |_| true)
        );
        // A reader may take a value that is no scalar for anything.
        assert!(members.any_matches(&NamePattern::new("data"), |value| value.as_str() == "delete"));
        // Such a duplicate does not hide behind the member that is judged.
        assert_eq!(members.single(&NamePattern::new("action")), None);
    }

    #[test]
    fn a_name_is_looked_for_in_every_spelling_and_may_be_a_pattern() {
        let members = BodyMembers::read(
            br#"{"Org_Roles":[],"name":"a","password":null,"user[id]":1,"publicKey":2,"a%62":"c"}"#,
        );
        let present = |name| members.any_matches(&NamePattern::new(name), |_| true);
        for name in ["*role*", "*_roles", "passw*d", "*", "user", "public_key", "*key", "ab", "org-roles"] {
            assert!(present(name), "{name}");
        }
        assert!(!present("*role") && !present("id") && !present("key") && !present("gone*"));
        assert!(!members.any_matches(&NamePattern::new("na*"), |value| value.as_str() == "b"));
        // The value of a part of a member is not known.
        assert!(members.any_matches(&NamePattern::new("user"), |_| false));
        assert_eq!(members.single(&NamePattern::new("na*")), None);
        assert!(!BodyMembers::read(b"{}").any_matches(&NamePattern::new("*"), |_| true));
    }

    #[test]
    fn what_another_reader_may_trim_is_unread() {
        for name in [" a", "a ", r"a\u0000", r"a\tb", r"\u001fa", r"a\u007f", r"\u0020a"] {
            let body = format!("{{\"{name}\":1}}");
            assert_eq!(
                BodyMembers::read(body.as_bytes()).why_unread(),
                Some(BodyUnreadable::Blanks),
                "{body}"
            );
        }
        assert_eq!(BodyMembers::read(br#"{"a b":" ","":1}"#).why_unread(), None);
    }

    #[test]
    fn each_name_is_read_once_and_only_so_many_in_every_spelling() {
        let body = |count: usize, end: &str| {
            let members: Vec<_> = (0..count).map(|name| format!("\"a{name}{end}\":1")).collect();
            BodyMembers::read(format!("{{{}}}", members.join(",")).as_bytes())
        };
        for end in ["", "A", "_B", "-c"] {
            let members = body(5000, end);
            assert_eq!((members.as_slice().len(), members.why_unread()), (5000, None), "{end}");
            assert!(!members.any_matches(&NamePattern::new("*d*"), |_| true));
        }
        assert_eq!(body(256, ".x").why_unread(), None);
        let many = body(257, ".x");
        assert_eq!(many.why_unread(), Some(BodyUnreadable::Special));
        // The denying rule matches, and the allowing rule does not.
        assert!(many.any_matches(&NamePattern::new("gone"), |_| false));
        assert_eq!(many.single(&NamePattern::new("a1.x")), None);
        let same = BodyMembers::read(format!("{{{}\"B\":2}}", "\"A.\":1,".repeat(5000)).as_bytes());
        assert_eq!((same.as_slice().len(), same.why_unread()), (2, None));
        assert!(same.any_matches(&NamePattern::new("a"), |value| value.as_str() == "1"));
        let long = BodyMembers::read(format!("{{\"{}\":2}}", "A.".repeat(30_000)).as_bytes());
        assert_eq!(long.why_unread(), Some(BodyUnreadable::Special));
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
            let members = BodyMembers::read(body);
            assert_eq!(members.why_unread(), Some(BodyUnreadable::Form), "{body:?}");
            assert!(
                members.single(&NamePattern::new("a")).is_none()
                    && members.any_matches(&NamePattern::new("a"), |_| false)
            );
        }
        let members = BodyMembers::read("{\"i\u{17f}_admin\":true}".as_bytes());
        assert_eq!(members.why_unread(), Some(BodyUnreadable::Names));
        // Nothing of the value is kept, however deeply it is nested.
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        let members = BodyMembers::read(&[b"{\"a\":".to_vec(), deep, b",\"b\":1}".to_vec()].concat());
        assert_eq!(
            (members.single(&NamePattern::new("a")), members.single(&NamePattern::new("b"))),
            (None, Some("1"))
        );
        assert!(!BodyMembers::none().any_matches(&NamePattern::new("a"), |_| true));
    }
}
