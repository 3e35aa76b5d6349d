//! The allowlist of request headers: which header fields of a consumer reach the upstream.
//!
//! A denylist would never be complete: each reverse proxy has its own headers that assert the caller's identity.

use http::header::{
    ACCEPT, CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue, IF_RANGE, RANGE, SET_COOKIE,
};

use super::cookies;
use crate::headers::connection_tokens;
use crate::inbound::CallerCredential;
use crate::policy::{Glob, PathPattern};

/// The rules for the header fields that one upstream receives.
#[derive(Debug, Clone, Default)]
pub struct RequestHeaders {
    /// The header fields that the product's clients send, in addition to the general list.
    pub of_profile: &'static [&'static str],
    /// The names that the operator allows in addition, in lower case.
    pub added: Vec<Glob>,
    /// Whether cookies are forwarded.
    pub cookies: bool,
    /// The cookies that are never forwarded in either direction: those that carry a pinned value, and
    /// the credential's own.
    pub withheld_cookies: Vec<String>,
    /// The header that carries the credential.
    pub credential: Option<HeaderName>,
    /// The paths on which `Range` is allowed; `None` allows it everywhere.
    pub range_paths: Option<Vec<PathPattern>>,
}

/// The header fields of one request that are dropped. Fields that the gateway replaces, and hop-by-hop fields,
/// are not listed.
#[derive(Debug, Default)]
pub struct Dropped {
    /// A bit for each of the first 128 header fields, set if the gateway replaces the field. Each field is
    /// therefore classified once.
    replaced: u128,
    names: Vec<HeaderName>,
    /// The fields whose name contains the consumer's own credential; shown as `*` in `names`.
    concealed: Vec<HeaderName>,
    /// The remaining cookies, if only some of them are dropped.
    cookies: Option<Vec<HeaderValue>>,
}

impl Dropped {
    /// Returns the names of the dropped fields, each once. `*` stands for a name that contains
    /// the consumer's credential.
    #[must_use]
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    fn drop_line(&mut self, name: &HeaderName) {
        if !self.has(name) {
            self.names.push(name.clone());
        }
    }

    /// Drops a field whose name itself must not be shown.
    fn conceal_line(&mut self, name: &HeaderName) {
        if !self.concealed.contains(name) {
            self.concealed.push(name.clone());
            self.drop_line(&HeaderName::from_static("*"));
        }
    }

    fn has(&self, name: &HeaderName) -> bool {
        self.names.contains(name) || self.concealed.contains(name)
    }
}

/// What the gateway does with a header field, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    /// The gateway sets the field itself, or the field concerns only the connection.
    Replaced,
    Dropped,
}

impl RequestHeaders {
    /// Selects the header fields to drop, for a call of this canonical path. `own` is the consumer's credential.
    #[must_use]
    pub fn select_dropped(
        &self,
        received: &HeaderMap,
        path: &str,
        own_credential: Option<&CallerCredential<'_>>,
    ) -> Dropped {
        let (mut dropped, mut has_connection) = (Dropped::default(), false);
        for (at, (name, value)) in received.iter().enumerate() {
            has_connection |= *name == CONNECTION;
            if own_credential.is_some_and(|own_credential| own_credential.is_in_name(name)) {
                dropped.conceal_line(name);
                continue;
            }
            let drops = match self.disposition(name) {
                Fate::Replaced => {
                    dropped.replaced |= bit(at);
                    false
                }
                // Cookies are filtered pair by pair below.
                Fate::Passes => {
                    let has_own =
                        |own_credential: &CallerCredential<'_>| own_credential.is_in(value.as_bytes());
                    name != COOKIE && (self.is_part(name, path) || own_credential.is_some_and(has_own))
                }
                Fate::Dropped => true,
            };
            if drops {
                dropped.drop_line(name);
            }
        }
        for token in has_connection.then(|| connection_tokens(received)).into_iter().flatten() {
            if let Ok(name) = HeaderName::from_bytes(token)
                && name != ACCEPT
                && received.contains_key(&name)
                && self.disposition(&name) == Fate::Passes
            {
                dropped.drop_line(&name);
            }
        }
        if self.cookies && received.contains_key(COOKIE) && !dropped.names.contains(&COOKIE) {
            let withheld = |pair: &[u8]| {
                self.withheld_cookies.iter().any(|name| cookies::may_set(pair, name))
                    || own_credential.is_some_and(|own_credential| own_credential.is_in(pair))
            };
            let lines = received.get_all(COOKIE);
            if lines.iter().any(|line| cookies::pairs(line.as_bytes()).any(withheld)) {
                dropped.names.push(COOKIE);
                dropped.cookies =
                    Some(lines.iter().filter_map(|line| cookies::remove_pairs(line, withheld)).collect());
            }
        }
        dropped
    }

    /// Returns the header fields to forward: all but those that the gateway replaces and those in `dropped`, which must
    /// belong to the same request.
    #[must_use]
    pub fn forwarded(&self, received: &HeaderMap, dropped: &Dropped) -> HeaderMap {
        let mut headers = HeaderMap::with_capacity(received.len() + 8);
        for (at, (name, value)) in received.iter().enumerate() {
            let replaced = match bit(at) {
                0 => self.disposition(name) == Fate::Replaced,
                bit => dropped.replaced & bit != 0,
            };
            if !replaced && !dropped.has(name) {
                headers.append(name.clone(), value.clone());
            }
        }
        for cookies in dropped.cookies.iter().flatten() {
            headers.append(COOKIE, cookies.clone());
        }
        headers
    }

    /// Removes `Set-Cookie` fields of a response that would set a withheld cookie.
    pub fn withhold_cookies(&self, headers: &mut HeaderMap) {
        let withheld = |line: &HeaderValue| {
            self.withheld_cookies.iter().any(|name| cookies::may_set(line.as_bytes(), name))
        };
        if !self.cookies || !headers.get_all(SET_COOKIE).iter().any(withheld) {
            return;
        }
        let retained: Vec<_> =
            headers.get_all(SET_COOKIE).iter().filter(|line| !withheld(line)).cloned().collect();
        headers.remove(SET_COOKIE);
        for line in retained {
            headers.append(SET_COOKIE, line);
        }
    }

    /// Returns whether a range request is allowed on this canonical path.
    #[must_use]
    pub fn allows_ranges(&self, path: &str) -> bool {
        self.range_paths.as_ref().is_none_or(|paths| paths.iter().any(|pattern| pattern.matches(path)))
    }

    /// Returns whether the field requests a range on a path where only whole bodies are scanned for the credential.
    fn is_part(&self, name: &HeaderName, path: &str) -> bool {
        (name == RANGE || name == IF_RANGE) && !self.allows_ranges(path)
    }

    fn disposition(&self, name: &HeaderName) -> Fate {
        let text = name.as_str();
        if self.credential.as_ref() == Some(name) && *name != COOKIE {
            return Fate::Replaced;
        }
        match of_every_upstream(text) {
            Some(fate) => fate,
            None if (*name == COOKIE && self.cookies) || self.is_added(text) => Fate::Passes,
            None => Fate::Dropped,
        }
    }

    fn is_added(&self, name: &str) -> bool {
        self.of_profile.contains(&name)
            || (self.added.iter().any(|added| added.matches(name)) && reserved(name).is_none())
    }
}

/// Returns the bit of the header field with index `at`; 0 beyond the first 128.
fn bit(at: usize) -> u128 {
    u32::try_from(at).ok().and_then(|at| 1_u128.checked_shl(at)).unwrap_or(0)
}

/// Classifies a header field for every upstream. Returns `None` if the upstream's own rules decide.
///
/// Fields that describe the message, its content, or the client's preferences pass. `content-encoding` and
/// `content-range` are among them, since without them the content would be misinterpreted. Fields that the gateway sets
/// itself, or that concern the connection, are replaced: every client sends some of them.
///
/// Matched by length first, so that a name is compared with few others. This function runs for every field
/// of every call.
fn of_every_upstream(name: &str) -> Option<Fate> {
    let (passes, replaced) = match name.len() {
        2 => (false, name == "te"),
        4 => (name == "x-tz", matches!(name, "host" | "date")),
        5 => (name == "range", false),
        6 => (matches!(name, "accept" | "digest" | "pragma" | "prefer"), name == "expect"),
        7 => (false, name == "trailer"),
        8 => (matches!(name, "if-match" | "if-range"), name == "x-org-id"),
        9 => (false, matches!(name, "x-api-key" | "x-jms-org")),
        10 => (matches!(name, "user-agent" | "tracestate"), matches!(name, "connection" | "keep-alive")),
        11 => (matches!(name, "content-md5" | "repr-digest" | "traceparent"), false),
        12 => (matches!(name, "content-type" | "x-request-id"), false),
        13 => (matches!(name, "cache-control" | "content-range" | "if-none-match"), name == "authorization"),
        14 => (name == "content-digest", matches!(name, "content-length" | "http2-settings")),
        15 => (name == "accept-language", name == "accept-encoding"),
        16 => (
            matches!(name, "content-encoding" | "content-language" | "x-requested-with"),
            name == "proxy-connection",
        ),
        17 => (name == "if-modified-since", name == "transfer-encoding"),
        19 => (matches!(name, "content-disposition" | "if-unmodified-since"), false),
        21 => (name == "if-schedule-tag-match", false),
        _ => (false, false),
    };
    if replaced {
        Some(Fate::Replaced)
    } else if passes {
        Some(Fate::Passes)
    } else {
        None
    }
}

/// Returns why no configuration can allow this header; `None` if one can.
#[must_use]
pub fn reserved(name: &str) -> Option<&'static str> {
    let of_prefix = [
        ("x-forwarded", "only the gateway may state where a call came from"),
        ("x-jms-", "JumpServer uses it internally"),
        ("proxy-", "it concerns one connection"),
        ("claviger-", "the gateway uses it internally"),
        ("sec-websocket-", "it concerns one connection"),
    ];
    if name.contains('_') {
        return Some("many servers read `_` as `-`");
    }
    if let Some((_, why)) = of_prefix.into_iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Some(why);
    }
    match name {
        "host" | "date" | "content-length" | "accept-encoding" | "x-org-id" => {
            Some("the gateway sets it itself")
        }
        "accept-charset" => Some("it requests a character set in which the credential might not be found"),
        "authorization" | "x-api-key" | "signature" | "signature-input" | "x-csrftoken" => {
            Some("it may carry a credential")
        }
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "expect"
        | "http2-settings" => Some("it concerns one connection"),
        "forwarded" | "x-real-ip" | "true-client-ip" | "via" => {
            Some("only the gateway may state where a call came from")
        }
        "x-source" => Some("JumpServer uses it internally"),
        "x-http-method-override" | "x-http-method" | "x-method-override" => Some("it overrides the method"),
        "x-original-url" | "x-rewrite-url" => Some("it overrides the target"),
        "cookie" | "set-cookie" => Some("`cookies = \"pass\"` lets cookies pass"),
        "range" | "if-range" => Some("it is allowed already; `range_paths` limits where"),
        _ => None,
    }
}

/// Checks a name in `pass_headers`: at least one header that it matches must be allowed.
///
/// # Errors
/// What is wrong with the name, as the end of a sentence.
pub fn check_added(name: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("is not a header name".into());
    }
    // A pattern is rejected if every name that it matches is reserved; the part before the first star decides.
    let lower = name.to_ascii_lowercase();
    match reserved(lower.split('*').next().unwrap_or_default()).or_else(|| reserved(&lower)) {
        Some(why) => Err(format!("never passes: {why}")),
        None => Ok(()),
    }
}
