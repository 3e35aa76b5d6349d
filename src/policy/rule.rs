//! One rule of a role.

use std::borrow::Cow;
use std::sync::Arc;

use http::Method;

use super::members::Members;
use super::pattern::{Glob, PARAMETERS, PathPattern};
use crate::query::{decode_query, same_query_name};
use crate::target::Target;

/// One rule: which methods, which paths, under which conditions on query and body.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its name in trails: `users-admin.allow[0]`.
    pub name: Arc<str>,
    /// Whether it is only told on the trail what it would decide.
    pub shadow: bool,
    /// The methods it is for; empty for any.
    pub methods: Vec<Method>,
    /// The paths it is for; one of them must match.
    pub paths: Vec<PathPattern>,
    /// Query members that must be there exactly once, not blank, and match.
    pub query: Vec<(String, Glob)>,
    /// Members of the JSON body that must be there exactly once, not blank, and match.
    pub body: Vec<(String, Glob)>,
}

impl Rule {
    /// Whether the rule, as an allowing one, is for this request. A condition holds where its
    /// member is there exactly once, not blank, and matches: what is absent allows nothing.
    #[must_use]
    pub fn allows(&self, method: &Method, target: &Target, body: &Members) -> bool {
        let holds = |(name, glob): &(String, Glob)| {
            body.only(name).is_some_and(|value| !is_blank(value) && glob.matches(value))
        };
        self.may_allow(method, target) && self.body.iter().all(holds)
    }

    /// The same by all but the body.
    pub(super) fn may_allow(&self, method: &Method, target: &Target) -> bool {
        (self.methods.is_empty() || self.methods.contains(method))
            && self.paths.iter().any(|pattern| pattern.matches(target.path()))
            && self.query.iter().all(|(name, glob)| {
                let mut values = values(target, name);
                match (values.next(), values.next()) {
                    (Some(value), None) => !is_blank(&value) && glob.matches(&value),
                    _ => false,
                }
            })
    }

    /// Whether the rule, as a denying one, is for this request, also as servers read the path
    /// that cut parameters off its segments. Of a member that is there twice, one match suffices:
    /// nobody gets around a denial by repeating himself. Nor by the case of the method: some servers
    /// read `delete` as `DELETE`, and the signature is the same for both. Nor by a value of the body that is
    /// only spelt differently: blanks around it, its case, `5.0` for `5`.
    #[must_use]
    pub fn denies(&self, method: &Method, target: &Target, body: &Members) -> bool {
        let holds = |(name, glob): &(String, Glob)| body.any(name, |value| glob.matches_any_spelling(value));
        self.may_deny(method, target) && self.body.iter().all(holds)
    }

    /// The same by all but the body.
    pub(super) fn may_deny(&self, method: &Method, target: &Target) -> bool {
        let path = target.path();
        (self.methods.is_empty() || self.methods.iter().any(|denied| same_in_any_case(denied, method)))
            && {
                // Few have any.
                let parameters = path.contains(PARAMETERS);
                let cut = |pattern: &PathPattern| parameters && pattern.matches_without_parameters(path);
                self.paths.iter().any(|pattern| pattern.matches(path) || cut(pattern))
            }
            && self.query.iter().all(|(name, glob)| {
                values(target, name).any(|value| !value.is_empty() && glob.matches(&value))
            })
    }
}

/// Whether nothing is left of the value once blanks are cut off: servers that do so take it for
/// absent, and a filter that is absent selects everything. Controls count, as Python cuts some.
fn is_blank(value: &str) -> bool {
    value.chars().all(|letter| letter.is_whitespace() || letter.is_control())
}

fn same_in_any_case(one: &Method, other: &Method) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

/// The decoded values of the query members called `name`.
fn values<'t>(target: &'t Target, name: &'t str) -> impl Iterator<Item = Cow<'t, str>> {
    target
        .query_members()
        .filter(move |(written, _)| same_query_name(written, name))
        .map(|(_, value)| decode_query(value))
}
