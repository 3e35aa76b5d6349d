//! The organisation that a caller names, where an upstream's product has organisations. [`super::Policy`] decides which
//! one the call gets.

use http::{HeaderMap, HeaderName};

use crate::code::{Code, Fault};
use crate::query::decode_query;
use crate::spelling::{self, Query, Unclear};
use crate::target::Target;

/// How a product is given the organisation, and every other way to choose one, which must be closed.
#[derive(Debug, Clone)]
pub struct OrgPin {
    /// The header that names the organisation: `x-jms-org`. claviger sends it exactly once.
    pub header: HeaderName,
    /// The query member that would override the header: `oid`. claviger never sends it.
    pub query: Option<&'static str>,
    /// The product's aliases for some organisation ids, in lower case, with the ids.
    pub words: &'static [(&'static str, &'static str)],
    /// The names of organisations that the operator declares, with their ids.
    pub names: Vec<(String, String)>,
}

impl OrgPin {
    /// The id of the organisation called `called`: an id, an alias of the product in any case, or a declared name.
    #[must_use]
    pub fn id_of<'n>(&'n self, called: &'n str) -> &'n str {
        let word = self.words.iter().find(|(word, _)| word.eq_ignore_ascii_case(called));
        let by_name = || self.names.iter().find(|(name, _)| name == called).map(|(_, id)| &**id);
        word.map(|(_, id)| *id).or_else(by_name).unwrap_or(called)
    }
}

/// The organisation that a request names.
#[derive(Debug, Default)]
pub struct NamedOrg {
    /// The id of the organisation, if one is named.
    pub org: Option<String>,
    /// The target as received, if the query named the organisation and that member was removed.
    pub received: Option<Target>,
}

/// Finds the organisation that the request names, by header or query, and removes the query member from the target. An
/// empty header counts as absent.
///
/// # Errors
/// A [`Fault`] if the organisation is named twice, or in a way that another reader could understand differently.
pub fn take_org(pin: &OrgPin, headers: &HeaderMap, target: &mut Target) -> Result<NamedOrg, Fault> {
    let removed = pin.query.map_or(Ok(None), |name| take_member(name, target))?;
    let (queried, received) = removed.unzip();
    let queried = queried.as_deref().map(|called| pin.id_of(called).to_owned());
    let mut lines = headers.get_all(&pin.header).iter().filter(|value| !value.is_empty());
    let named = match (lines.next(), lines.next()) {
        (None, _) => return Ok(NamedOrg { org: queried, received }),
        (Some(value), None) => value.to_str().map_err(|_| refused("organisation beyond ASCII"))?,
        (Some(_), Some(_)) => return Err(refused("organisation named twice")),
    };
    let named = pin.id_of(named);
    match queried {
        Some(queried) if queried != named => {
            Err(refused("another organisation named by query than by header"))
        }
        Some(_) | None => Ok(NamedOrg { org: Some(named.to_owned()), received }),
    }
}

/// The failure of a caller that tries to bypass the pin.
const fn refused(reason: &'static str) -> Fault {
    Fault { code: Code::OrgOverride, reason }
}

/// Removes the only member called `name` from the target; returns its decoded value and the former target.
fn take_member(name: &str, target: &mut Target) -> Result<Option<(String, Target)>, Fault> {
    let query = target.query();
    if has_none_at_a_glance(query, name) || !spelling::may_be_named(query, name) {
        return Ok(None);
    }
    let named_twice = "organisation named twice by query, or in another spelling";
    let doubt = || refused(Query::read(query).why_unclear().map_or(named_twice, Unclear::as_str));
    let value = {
        let mut values = target.query_members().filter(|(written, _)| *written == name);
        let (Some((_, value)), None) = (values.next(), values.next()) else { return Err(doubt()) };
        decode_query(value).into_owned()
    };
    let rest = target.without_member(name);
    if spelling::may_be_named(rest.query(), name) {
        return Err(doubt());
    }
    if value.is_empty() {
        return Err(refused("organisation named by query, without a value"));
    }
    Ok(Some((value, std::mem::replace(target, rest))))
}

/// Whether the query certainly has no member that may be read as `name`: it has plain letters only, and none of its
/// names begins with the letters of `name`, which has no separators. This fast check runs on every call.
fn has_none_at_a_glance(query: &str, name: &str) -> bool {
    let is_plain = |byte: &u8| {
        let is_mark = matches!(byte, b'=' | b'&' | b':' | b',' | b'/' | b'@' | b'_' | b'-');
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || is_mark
    };
    // Separators in a name are ignored.
    let begins = |member: &[u8]| {
        let mut letters = member.iter().filter(|byte| !matches!(byte, b'_' | b'-'));
        name.bytes().all(|letter| letters.next() == Some(&letter))
    };
    let query = query.as_bytes();
    query.iter().all(is_plain) && !query.split(|byte| *byte == b'&').any(begins)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pin() -> OrgPin {
        let names = vec![("Sales & Co".to_owned(), "7".to_owned())];
        let words = &[("default", "2"), ("root", "0")];
        OrgPin { header: HeaderName::from_static("x-jms-org"), query: Some("oid"), words, names }
    }

    fn removed(target: &str, lines: &[&str]) -> Result<(Option<String>, String), &'static str> {
        let mut target = Target::canonical(target.as_bytes()).unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-jms-org", line.parse().unwrap());
        }
        let named = take_org(&pin(), &headers, &mut target).map_err(|fault| fault.reason)?;
        Ok((named.org, target.to_string()))
    }

    #[test]
    fn the_member_goes_and_the_others_stay_as_they_are() {
        for (target, left) in [
            ("/x/?oid=7", "/x/"),
            ("/x/?oid=7&", "/x/?"),
            ("/x/?a=1&oid=7", "/x/?a=1"),
            ("/x/?oid=7&a=%41+b&c", "/x/?a=%41+b&c"),
            ("/x/?a&&oid=7&b=;", "/x/?a&&b=;"),
        ] {
            let left = left.trim_end_matches('?').to_owned();
            assert_eq!(removed(target, &[]), Ok((Some("7".into()), left)), "{target}");
        }
        assert_eq!(removed("/x/?void=1&oids=2", &[]), Ok((None, "/x/?void=1&oids=2".into())));
        assert!(has_none_at_a_glance("offset=0&limit=100", "oid"), "most queries");
    }

    #[test]
    fn a_word_and_a_declared_name_stand_for_an_id() {
        for called in ["2", "default", "Default", "DEFAULT"] {
            assert_eq!(removed(&format!("/x/?oid={called}"), &[]).unwrap().0.unwrap(), "2");
            assert_eq!(removed("/x/", &[called]).unwrap().0.unwrap(), "2");
            assert_eq!(removed("/x/?oid=2", &[called]).unwrap(), (Some("2".into()), "/x/".into()));
        }
        assert_eq!(removed("/x/?oid=Sales+%26%20Co", &["Sales & Co"]).unwrap().0.unwrap(), "7");
        assert_eq!(removed("/x/", &["sales & co"]).unwrap().0.unwrap(), "sales & co", "a name has its case");
    }

    #[test]
    fn two_that_differ_and_spellings_of_the_name_are_refused() {
        let doubt = "organisation named twice by query, or in another spelling";
        for target in [
            "oid=7&oid=7",
            "OID=7",
            "Oid=7",
            "o%69d=7",
            "oid[]=7",
            "oid[0]=7",
            "%20oid=7",
            "+oid=7",
            "oid%00=7",
            "oid%20=7",
            "a=1;oid=7",
            "oid=7&a;oid=8",
            "oid=7&OID=7",
            "oid=7&oid",
            "a%26oid=7",
            "oid%5B%5D=7",
            "oid.=7",
            "%256fid=7",
        ] {
            assert_eq!(removed(&format!("/x/?{target}"), &[]), Err(doubt), "{target}");
        }
        let many: Vec<_> = (0..257).map(|name| format!("a{name}.x")).collect();
        for many in [many.join("&"), format!("oid=7&{}", many.join("&"))] {
            assert_eq!(
                removed(&format!("/x/?{many}"), &[]),
                Err("the query has too many members to be judged")
            );
        }
        let deep = (0..6).fold("%6fid".to_owned(), |deep, _| deep.replace('%', "%25"));
        assert_eq!(
            removed(&format!("/x/?{deep}=7"), &[]),
            Err("the query is encoded too often to be judged")
        );
        for target in ["oid", "oid=", "a&oid&b"] {
            assert_eq!(
                removed(&format!("/x/?{target}"), &[]),
                Err("organisation named by query, without a value")
            );
        }
        assert_eq!(removed("/x/?oid=7", &["2"]), Err("another organisation named by query than by header"));
        assert_eq!(removed("/x/", &["2", "2"]), Err("organisation named twice"));
        assert_eq!(removed("/x/?oid=7", &[""]).unwrap().0.unwrap(), "7");
    }

    proptest! {
        /// The fast check never misses what the full check finds.
        #[test]
        fn what_is_free_at_a_glance_is_free(query in "([&=:,/@_-]|oid|o|i|d|a|7){0,12}") {
            prop_assert!(
                !has_none_at_a_glance(&query, "oid") || !spelling::may_be_named(&query, "oid"),
                "{query}"
            );
        }

        /// No reader finds the member in anything that is sent upstream.
        #[test]
        fn what_is_left_names_no_organisation(query in "([&;=%+.]|oid|OID|%6f|%69|a|7|\\[\\]|%00){0,12}") {
            if let Ok((_, left)) = Target::canonical(format!("/x/?{query}").as_bytes()).map_err(|_| "").and_then(|target| removed(target.as_str(), &[])) {
                let query = left.split_once('?').map_or("", |(_, query)| query);
                prop_assert!(!spelling::may_be_named(query, "oid"), "{query}");
            }
        }
    }
}
