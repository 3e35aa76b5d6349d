//! `[consumers.…]`, `[roles.…]` and `[[grants]]`: which consumer may do what.

use jiff::Timestamp;

use crate::config::decode::choice::word;
use crate::config::decode::scalar::integer;
use crate::config::decode::text::{digest, instant, line, name, role, visible};
use crate::config::decode::{Node, Read, Table};
use crate::config::problem::Problem;
use crate::config::span::Span;
use crate::config::{Spanned, did_you_mean};

/// A consumer that the file declares.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// The name of the consumer in grants and on the trail.
    pub name: Spanned<String>,
    /// The SHA-256 digests of its tokens.
    pub token_sha256: Vec<Spanned<[u8; 32]>>,
    /// The greatest number of its requests per minute, 0 for no limit; absent for the common limit.
    pub requests_per_minute: Option<u32>,
    /// The greatest number of its requests in flight, 0 for no limit; absent for the common limit.
    pub concurrency: Option<u32>,
}

impl Consumer {
    pub(super) fn read(name: Spanned<String>, node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let token_sha256 = table.optional("token_sha256", |node| node.list(digest));
        let requests_per_minute = table.optional("requests_per_minute", integer(0..=u32::MAX));
        let concurrency = table.optional("concurrency", integer(0..=u32::MAX));
        table.finish();
        let token_sha256 = token_sha256?.unwrap_or_default();
        Ok(Self { name, token_sha256, requests_per_minute: requests_per_minute?, concurrency: concurrency? })
    }
}

/// A named set of rules, as the file writes it.
#[derive(Clone, Debug)]
pub struct Role {
    /// The name of the role in grants.
    pub name: Spanned<String>,
    /// The rules that allow calls.
    pub allow: Vec<Rule>,
    /// The rules that deny calls; they override `allow`.
    pub deny: Vec<Rule>,
}

impl Role {
    pub(super) fn read(name: Spanned<String>, node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let allow = table.optional("allow", |node| node.list(Rule::read));
        let deny = table.optional("deny", |node| node.list(Rule::read));
        table.finish();
        Ok(Self { name, allow: allow?.unwrap_or_default(), deny: deny?.unwrap_or_default() })
    }
}

/// The conditions of a rule; a call must meet all of them.
#[derive(Clone, Debug)]
pub struct Rule {
    /// The place of the rule in the text.
    pub span: Span,
    /// Whether the rule is a shadow rule: the trail records what it would decide, and it is not enforced.
    pub shadow: bool,
    /// The methods, in upper case, or `*`; absent for any.
    pub methods: Option<Vec<Spanned<String>>>,
    /// The patterns of the path, one of which must match; never empty.
    pub paths: Vec<Spanned<String>>,
    /// The conditions on the query, in the order of the file.
    pub query: Vec<Condition>,
    /// The conditions on a JSON body, in the order of the file.
    pub body: Vec<Condition>,
}

/// The condition of a rule on one member of the query or the body.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The name of the member.
    pub name: Spanned<String>,
    /// The pattern that its value must match.
    pub pattern: Spanned<String>,
}

impl Rule {
    fn read(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let methods =
            table.optional("methods", |node| some(node, read_method, "leave it out for any method"));
        let paths = table.required("paths", |node| some(node, line, "write [\"/**\"] for every path"));
        let mut conditions = |key| table.optional(key, |node| Table::of(node)?.pairs(line));
        let (query, body) = (conditions("query"), conditions("body"));
        let shadow = table.or_default("mode", false, word(&[("enforce", false), ("shadow", true)]));
        let span = table.span();
        table.finish();
        let conditions = |pairs: Option<Vec<(Spanned<String>, Spanned<String>)>>| {
            let pairs = pairs.unwrap_or_default().into_iter();
            pairs.map(|(name, pattern)| Condition { name, pattern }).collect()
        };
        let (query, body) = (conditions(query?), conditions(body?));
        Ok(Self { span, shadow, methods: methods?, paths: paths?, query, body })
    }
}

/// A grant, as the file writes it: which consumer may do what at which upstream.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The place of the grant in the text.
    pub span: Span,
    /// The name of the consumer.
    pub consumer: Spanned<String>,
    /// The name of the upstream.
    pub upstream: Spanned<String>,
    /// The names of the roles: of the file, or shipped ones as `jumpserver:read-only`; never empty.
    pub roles: Vec<Spanned<String>>,
    /// The organisations of the grant; the first is used if the caller names none.
    pub orgs: Vec<Spanned<String>>,
    /// The name of the credential; absent for the upstream's default.
    pub credential: Option<Spanned<String>>,
    /// The end of the grant; absent if it never ends.
    pub expires: Option<Spanned<Timestamp>>,
}

impl Grant {
    pub(super) fn read(node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let consumer = table.required("consumer", name);
        let upstream = table.required("upstream", name);
        let roles = table.required("roles", |node| some(node, role, "name a role, or remove the grant"));
        let orgs = table.optional("orgs", |node| node.list(visible));
        let credential = table.optional("credential", name);
        let expires = table.optional("expires", instant);
        let span = table.span();
        table.finish();
        Ok(Self {
            span,
            consumer: consumer?,
            upstream: upstream?,
            roles: roles?,
            orgs: orgs?.unwrap_or_default(),
            credential: credential?,
            expires: expires?,
        })
    }
}

/// Reads a list that must not be empty.
fn some<T>(node: &Node<'_>, read: impl Fn(&Node<'_>) -> Read<T>, help: &str) -> Read<Vec<T>> {
    let items = node.list(read)?;
    if items.is_empty() {
        let title = format!("{} must not be empty", node.subject());
        return Err(node.report(Problem::error(node.span(), title).help(help)));
    }
    Ok(items)
}

fn read_method(node: &Node<'_>) -> Read<Spanned<String>> {
    let method = visible(node)?;
    if method.value == "*" || METHODS.contains(&method.value.as_str()) {
        return Ok(method);
    }
    let upper = method.value.to_ascii_uppercase();
    let title = if METHODS.contains(&upper.as_str()) {
        format!("{} must be a method in upper case, or \"*\"", node.subject())
    } else {
        format!("{} must be a method that is known, or \"*\"", node.subject())
    };
    let help = did_you_mean(&upper, METHODS).map(|nearest| format!("did you mean \"{nearest}\"?"));
    Err(node.report(Problem::error(node.span(), title).help_if(help)))
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
