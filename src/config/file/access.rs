//! `[consumers.…]`, `[roles.…]` and `[[grants]]`: which consumer may do what.

use jiff::Timestamp;

use crate::config::decode::{
    Reader, Shape, declared_name, digest, instant, integer, line, name, optional, or, or_default, place,
    required, role, section, visible, word,
};
use crate::config::span::Span;
use crate::config::{Spanned, did_you_mean};
use crate::name::Name;

section! {
    /// A consumer that the file declares.
    pub struct Consumer {
        /// The name of the consumer in grants and on the trail.
        name: Spanned<Name> = declared_name(),
        /// The SHA-256 digests of the consumer's tokens, in hex; several while one replaces another.
        token_sha256: Vec<Spanned<[u8; 32]>> = or(Vec::new(), digest().list()),
        /// The consumer's own limit of requests in a minute; 0: no limit.
        requests_per_minute: Option<u32> = optional(integer(0..=u32::MAX)).by("`limits.requests_per_minute`"),
        /// The consumer's own limit of calls at a time; 0: no limit.
        concurrency: Option<u32> = optional(integer(0..=u32::MAX)).by("`limits.concurrency`"),
    }
}

section! {
    /// A named set of rules.
    pub struct Role {
        /// The name of the role in grants.
        name: Spanned<Name> = declared_name(),
        /// The rules of what may be done.
        allow: Vec<Rule> = or(Vec::new(), Rule::reader().list()),
        /// The rules of what may not be done, whatever allows it.
        deny: Vec<Rule> = or(Vec::new(), Rule::reader().list()),
    }
}

section! {
    /// The conditions of a rule; a call must meet all of them.
    pub struct Rule {
        /// The place of the rule in the text.
        span: Span = place(),
        /// The methods, in upper case, or `"*"`; by default any.
        methods: Option<Vec<Spanned<String>>> = optional(method().some("leave it out for any method")),
        /// The patterns of the path, one of which must match: `*` is one segment or a part of one, `**`
        /// any number of segments.
        paths: Vec<Spanned<String>> = required(line().some("write [\"/**\"] for every path")),
        /// The members of the query, each with a pattern; a member must be there exactly once, not blank, and match.
        query: Vec<Condition> = or(Vec::new(), conditions()),
        /// The top-level members of a JSON body, each with a pattern, as for `query`. In a denial one matching value of
        /// any suffices, and a name may hold `*` for any text.
        body: Vec<Condition> = or(Vec::new(), conditions()),
        /// Whether the rule is enforced; `shadow`: the trail records what it would decide, and nothing else.
        shadow: bool = or_default(false, word(&[("enforce", false), ("shadow", true)])).called("mode"),
    }
}

/// The condition of a rule on one member of the query or the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// The name of the member.
    pub name: Spanned<String>,
    /// The pattern that its value must match.
    pub pattern: Spanned<String>,
}

section! {
    /// A grant: which consumer may do what at which upstream.
    pub struct Grant {
        /// The place of the grant in the text.
        span: Span = place(),
        /// The name of the consumer.
        consumer: Spanned<Name> = required(name()),
        /// The name of the upstream.
        upstream: Spanned<Name> = required(name()),
        /// The roles: of the file, and shipped ones such as `jumpserver:read-only`.
        roles: Vec<Spanned<String>> = required(role().some("name a role, or remove the grant")),
        /// The organisations; the first one unless the call names another of them.
        orgs: Vec<Spanned<String>> = or(Vec::new(), visible().list()).by("the upstream's `org`"),
        /// The name of the credential.
        credential: Option<Spanned<Name>> = optional(name()).by("the upstream's"),
        /// The time (RFC 3339) from which the grant allows nothing.
        expires: Option<Spanned<Timestamp>> = optional(instant()),
    }
}

fn conditions() -> Reader<Vec<Condition>> {
    let condition = |(name, pattern)| Condition { name, pattern };
    line().pairs().map(move |pairs| pairs.into_iter().map(condition).collect())
}

fn method() -> Reader<Spanned<String>> {
    let shape = Shape::Words(std::iter::once("*").chain(METHODS).collect());
    visible().of_shape(shape).then(|node, method| {
        if method.value == "*" || is_known_method(&method.value) {
            return Ok(method);
        }
        let upper = method.value.to_ascii_uppercase();
        let fault = if is_known_method(&upper) { "in upper case" } else { "that is known" };
        let help = did_you_mean(&upper, METHODS).map(|nearest| format!("did you mean \"{nearest}\"?"));
        Err(node.report(node.problem(&format!("must be a method {fault}, or \"*\"")).help_if(help)))
    })
}

/// Whether a rule may name this method.
#[must_use]
pub fn is_known_method(method: &str) -> bool {
    METHODS.contains(&method)
}

/// The methods that a rule may name: a misspelt one would match no call, and a denial of it would deny nothing.
/// Source: the HTTP Method Registry of IANA, without `PRI` and `*`, and `PURGE`, which caches take. `CONNECT` and
/// `TRACE` are never forwarded; a rule may deny them.
#[rustfmt::skip]
const METHODS: [&str; 40] = [
    "ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "CONNECT", "COPY", "DELETE", "GET", "HEAD", "LABEL",
    "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE",
    "OPTIONS", "ORDERPATCH", "PATCH", "POST", "PROPFIND", "PROPPATCH", "PURGE", "PUT", "QUERY", "REBIND", "REPORT",
    "SEARCH", "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UNLOCK", "UPDATE", "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
];
