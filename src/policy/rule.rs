//! One rule of a role, and the request as rules see it.

use std::cell::OnceCell;
use std::sync::Arc;

use http::Method;

use super::body::BodyMembers;
use super::pattern::{Glob, PathPattern};
use crate::query::same_query_name;
use crate::spelling::{self, NamePattern, Naming, Paths, Query, QueryMember, Unclear};
use crate::target::Target;

/// The parts of a request that rules judge.
#[derive(Debug)]
pub struct JudgedRequest<'a> {
    method: &'a Method,
    target: &'a Target,
    body: &'a BodyMembers,
    /// The path as deny rules see it; computed once, if there are any.
    paths: OnceCell<Paths<'a>>,
    /// The query as conditions see it; computed once, if there are any.
    query: OnceCell<Query<'a>>,
}

impl<'a> JudgedRequest<'a> {
    /// Takes the method, the target, and what is known of the body of a request.
    #[must_use]
    pub fn new(method: &'a Method, target: &'a Target, body: &'a BodyMembers) -> Self {
        Self { method, target, body, paths: OnceCell::new(), query: OnceCell::new() }
    }

    fn paths(&self) -> &Paths<'a> {
        self.paths.get_or_init(|| spelling::paths(self.target.path()))
    }

    fn query(&self) -> &Query<'a> {
        self.query.get_or_init(|| Query::read(self.target.query()))
    }

    /// The reason why the members of the query cannot be determined, if they cannot.
    pub(super) fn why_query_unknown(&self) -> Option<&'static str> {
        self.query().why_unclear().map(Unclear::as_str)
    }

    /// Whether the request only reads, by its method in any case: GET, HEAD, OPTIONS.
    fn is_read(&self) -> bool {
        [Method::GET, Method::HEAD, Method::OPTIONS].iter().any(|read| same_in_any_case(read, self.method))
    }

    /// Whether the request only reads, and has members in its body. Some servers look at them, and most do not.
    pub(super) fn is_read_with_body(&self) -> bool {
        self.is_read() && !self.body.is_empty()
    }

    /// Whether a query condition of an allow rule holds. Its member must be there exactly once, spelled exactly, not
    /// blank, and match. This must hold for every delimiter that some server uses.
    fn has(&self, (name, glob): &Condition) -> bool {
        let Query::Members(members) = self.query() else { return false };
        let named = || members.iter().filter(|member| name.naming(&member.name) != Naming::Other);
        let good = |member: &QueryMember<'_>| {
            let is = |value: &str| glob.matches(value) && !spelling::is_blank(value);
            same_query_name(member.name.written(), name.as_str())
                && member.values.iter().all(|value| is(value.as_str()))
        };
        named().map(|member| member.count).sum::<usize>() == 1 && named().all(good)
    }

    /// Whether a query condition of a deny rule holds: some server may read such a member with such a value.
    fn may_have(&self, (name, glob): &Condition) -> bool {
        let Query::Members(members) = self.query() else { return true };
        members.iter().any(|member| match name.naming(&member.name) {
            Naming::Other => false,
            Naming::Same => member.values.iter().any(|value| glob.may_match(value)),
            Naming::Part => true,
        })
    }
}

/// A condition: the name of a member, and the pattern that its value must match.
pub type Condition = (NamePattern<'static>, Glob);

/// One rule: methods, paths, and conditions on query and body.
#[derive(Debug, Clone)]
pub struct Rule {
    /// The name of the rule on the trail: `users-admin.allow[0]`.
    pub name: Arc<str>,
    /// Whether the rule is a shadow rule: the trail records what it would decide, and it is not enforced.
    pub shadow: bool,
    /// The methods that the rule applies to; empty for any.
    pub methods: Vec<Method>,
    /// The paths that the rule applies to; one of them must match.
    pub paths: Vec<PathPattern>,
    /// Query members that must be there exactly once, not blank, and match.
    pub query: Vec<Condition>,
    /// Members of the JSON body that must be there exactly once, not blank, and match. In a deny rule, `*` in a name
    /// is any text.
    pub body: Vec<Condition>,
}

impl Rule {
    /// Whether the rule, as an allow rule, matches this request. A condition holds if its member is there exactly once,
    /// is not blank, and matches; an absent member allows nothing.
    #[must_use]
    pub fn allows(&self, request: &JudgedRequest<'_>) -> bool {
        let holds = |(name, glob): &Condition| {
            request.body.single(name).is_some_and(|value| !spelling::is_blank(value) && glob.matches(value))
        };
        self.may_allow(request) && self.body.iter().all(holds) && !self.is_doubled(request)
    }

    /// Whether [`Self::allows`] may hold, judged by everything but the body.
    pub(super) fn may_allow(&self, request: &JudgedRequest<'_>) -> bool {
        (self.methods.is_empty() || self.methods.contains(request.method))
            && self.paths.iter().any(|pattern| pattern.matches(request.target.path()))
            && self.query.iter().all(|condition| request.has(condition))
    }

    /// Whether the rule, as a deny rule, matches this request as some server may read it. Path, names and values match
    /// in every spelling that [`spelling`] knows, and the method in any case. If a member is there twice, one match
    /// suffices. A query member with the name of a body condition suffices too, because some servers read both.
    #[must_use]
    pub fn denies(&self, request: &JudgedRequest<'_>) -> bool {
        let holds = |(name, glob): &Condition| request.body.any_matches(name, |value| glob.may_match(value));
        self.may_deny(request) && (self.body.iter().all(holds) || self.is_doubled(request))
    }

    /// Whether [`Self::denies`] may hold, judged by everything but the body.
    pub(super) fn may_deny(&self, request: &JudgedRequest<'_>) -> bool {
        self.has_method(request)
            && self.may_be_for(request)
            && self.query.iter().all(|condition| request.may_have(condition))
    }

    /// Whether some server may read a path that the rule applies to.
    fn may_be_for(&self, request: &JudgedRequest<'_>) -> bool {
        self.paths.iter().any(|pattern| pattern.may_match(request.paths()))
    }

    /// Whether the query has a member with the name of a body condition. A rule that denies all members names none.
    fn is_doubled(&self, request: &JudgedRequest<'_>) -> bool {
        self.body.iter().any(|(name, _)| !name.is_any() && request.query().has(name))
    }

    /// Whether the rule reads the body of such a path, by any method, and the request only reads.
    pub(super) fn reads_body_of_read(&self, request: &JudgedRequest<'_>) -> bool {
        request.is_read() && !self.body.is_empty() && self.may_be_for(request)
    }

    /// Whether the rule is meant for bodies of methods that only read: it has body conditions and names methods.
    pub(super) fn is_for_bodies_of_reads(&self) -> bool {
        !self.body.is_empty() && !self.methods.is_empty()
    }

    /// Whether the rule's result rests on a name that is both in the query and in a body condition.
    pub(super) fn is_in_conflict(&self, request: &JudgedRequest<'_>) -> bool {
        self.has_method(request) && self.is_doubled(request) && self.may_be_for(request)
    }

    /// Whether the rule reads the query of such a call.
    pub(super) fn reads_query(&self, request: &JudgedRequest<'_>) -> bool {
        !self.query.is_empty() && self.has_method(request) && self.may_be_for(request)
    }

    /// Whether the rule applies to the method, in any case.
    fn has_method(&self, request: &JudgedRequest<'_>) -> bool {
        self.methods.is_empty() || self.methods.iter().any(|method| same_in_any_case(method, request.method))
    }
}

#[inline]
fn same_in_any_case(one: &Method, other: &Method) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::super::pattern::PathPattern;
    use super::*;
    use crate::query::decode_query;

    fn rule() -> Rule {
        Rule {
            name: "r".into(),
            shadow: false,
            methods: vec![Method::POST],
            paths: vec![PathPattern::parse("/api/users/*/keys").unwrap()],
            query: vec![(NamePattern::new("action"), Glob::new("delete"))],
            body: Vec::new(),
        }
    }

    const ALL: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC.add(b'a');

    /// One letter in some spelling, percent-encoded up to three times.
    fn letter(letter: char) -> impl Strategy<Value = String> {
        let wide = char::from_u32(u32::from(letter) + 0xfee0).filter(|_| letter.is_ascii_alphabetic());
        let forms = [
            letter.to_string(),
            letter.to_ascii_uppercase().to_string(),
            wide.unwrap_or(letter).to_string(),
            format!("{letter}\u{301}"),
            format!("\u{200b}{letter}"),
        ];
        (select(forms.to_vec()), 0..4_usize, any::<bool>()).prop_map(|(form, times, all)| {
            let escape = |text: &str| percent_encoding::percent_encode(text.as_bytes(), ALL).to_string();
            let once = if all || !form.is_ascii() { escape(&form) } else { form };
            (1..times).fold(once, |text, _| text.replace('%', "%25"))
        })
    }

    fn word(text: &str) -> impl Strategy<Value = String> + use<> {
        text.chars().map(letter).collect::<Vec<_>>().prop_map(|letters| letters.concat())
    }

    /// A word with what servers cut from its ends; `after` is cut from its end only.
    fn framed(text: &str, before: &'static [&str], after: &'static [&str]) -> impl Strategy<Value = String> {
        let some = |of: &'static [&str]| prop::collection::vec(select(of), 0..3).prop_map(|all| all.concat());
        (some(before), word(text), some(after)).prop_map(|(before, word, after)| before + &word + &after)
    }

    fn segment(text: &str) -> impl Strategy<Value = String> {
        framed(text, &["%20", "%C2%A0", "%22"], &[".", "%20", "%E3%80%80", ";x", "%3Ba.b", "%2500", "%2520"])
    }

    fn target() -> impl Strategy<Value = String> {
        let blanks: &[&str] = &["+", "%20", "%09", "%EF%BB%BF"];
        let name = framed("action", blanks, &["+", "%00", "%0Ax", ".", "[]", "[0]", "%5b7%5D"]);
        let value = framed("delete", blanks, &["+", "%00x", "%0d", ".", ";y", ",list", "%2500"]);
        let path = (segment("api"), segment("users"), "[a-z0-9]{1,4}", segment("keys"));
        let lead = select(&["", "x=1&", "x;", "action=list&", "y=%41;"][..]);
        (path, lead, name, value, any::<bool>()).prop_map(|((a, b, id, c), lead, name, value, slash)| {
            format!("/{a}/{b}/{id}/{c}{}?{lead}{name}={value}", if slash { "/" } else { "" })
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]
        #[test]
        fn no_spelling_avoids_a_denial(raw in target(), method in select(&["POST", "post", "Post"][..])) {
            let (method, none) = (Method::from_bytes(method.as_bytes()).unwrap(), BodyMembers::none());
            if let Ok(target) = Target::canonical(raw.as_bytes()) {
                prop_assert!(rule().denies(&JudgedRequest::new(&method, &target, &none)), "{}", target);
            }
        }

        #[test]
        fn no_other_spelling_is_allowed(raw in target()) {
            let none = BodyMembers::none();
            if let Ok(target) = Target::canonical(raw.as_bytes())
                && rule().allows(&JudgedRequest::new(&Method::POST, &target, &none))
            {
                let path: Vec<&str> = target.path().trim_end_matches('/').split('/').collect();
                prop_assert!(matches!(path[..], ["", "api", "users", _, "keys"]), "{}", target);
                let Query::Members(members) = Query::read(target.query()) else { unreachable!("{target}") };
                let actions = members.iter().filter(|member| NamePattern::new("action").naming(&member.name) != Naming::Other);
                let actions: Vec<_> = actions.flat_map(|member| member.values.iter().map(|value| (decode_query(member.name.written()).into_owned(), value.as_str().to_owned()))).collect();
                prop_assert_eq!(actions, [("action".to_owned(), "delete".to_owned())], "{}", target);
            }
        }
    }
}
