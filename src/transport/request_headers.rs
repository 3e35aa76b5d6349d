//! Which header lines of a consumer reach the upstream: those on a list, and no other.
//!
//! A list of what may not pass is never complete: each front proxy has headers of its own by which it says who calls.

use http::header::{
    ACCEPT, CONNECTION, COOKIE, HeaderMap, HeaderName, HeaderValue, IF_RANGE, RANGE, SET_COOKIE,
};

use super::cookies;
use crate::inbound::Own;
use crate::policy::{Glob, PathPattern};

/// What of a consumer's header lines an upstream receives.
#[derive(Debug, Clone, Default)]
pub struct RequestHeaders {
    /// What the clients of the upstream's product send beside the usual.
    pub of_profile: &'static [&'static str],
    /// The names that the operator adds, in lower case.
    pub added: Vec<Glob>,
    /// Whether cookies pass.
    pub cookies: bool,
    /// The cookies that never do, either way: those that say what is pinned, and the credential's own.
    pub withheld_cookies: Vec<String>,
    /// The header that carries the credential.
    pub credential: Option<HeaderName>,
    /// Where a part of a body may be asked for; everywhere, if absent.
    pub range_paths: Option<Vec<PathPattern>>,
}

/// What of one request does not pass, beside what is replaced by the gateway's own and what concerns the connection.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Which of the first header lines are the gateway's to say, a bit for each, so that they are judged once.
    replaced: u128,
    names: Vec<HeaderName>,
    /// Those that the consumer's own credential stands in: among the names as `*`.
    concealed: Vec<HeaderName>,
    /// Some of the cookies, while others pass.
    cookies: Option<Vec<HeaderValue>>,
}

impl Dropped {
    /// The names of the header lines, each once; `*` for those that have the consumer's credential in them.
    #[must_use]
    pub fn names(&self) -> &[HeaderName] {
        &self.names
    }

    fn drop_line(&mut self, name: &HeaderName) {
        if !self.has(name) {
            self.names.push(name.clone());
        }
    }

    /// Drops a line whose name itself must not be shown.
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

/// What becomes of a header line by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Passes,
    /// The gateway says it itself, or it concerns the connection alone.
    Replaced,
    Dropped,
}

impl RequestHeaders {
    /// What of these header lines does not pass, on a call of this canonical path; `own` is the consumer's credential.
    #[must_use]
    pub fn dropped(&self, received: &HeaderMap, path: &str, own: Option<&Own<'_>>) -> Dropped {
        let (mut dropped, mut has_connection) = (Dropped::default(), false);
        for (at, (name, value)) in received.iter().enumerate() {
            has_connection |= *name == CONNECTION;
            if own.is_some_and(|own| own.is_in_name(name)) {
                dropped.conceal_line(name);
                continue;
            }
            let drops = match self.disposition(name) {
                Fate::Replaced => {
                    dropped.replaced |= bit(at);
                    false
                }
                // Cookies pair by pair, below.
                Fate::Passes => {
                    let has_own = |own: &Own<'_>| own.is_in(value.as_bytes());
                    name != COOKIE && (self.is_part(name, path) || own.is_some_and(has_own))
                }
                Fate::Dropped => true,
            };
            if drops {
                dropped.drop_line(name);
            }
        }
        let lists = has_connection.then(|| received.get_all(CONNECTION));
        for list in lists.into_iter().flatten() {
            for named in list.as_bytes().split(|byte| *byte == b',') {
                if let Ok(name) = HeaderName::from_bytes(named.trim_ascii())
                    && name != ACCEPT
                    && received.contains_key(&name)
                    && self.disposition(&name) == Fate::Passes
                {
                    dropped.drop_line(&name);
                }
            }
        }
        if self.cookies && received.contains_key(COOKIE) && !dropped.names.contains(&COOKIE) {
            let withheld = |pair: &[u8]| {
                self.withheld_cookies.iter().any(|name| cookies::may_set(pair, name))
                    || own.is_some_and(|own| own.is_in(pair))
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

    /// The header lines that pass: all but those that the gateway says itself and those `dropped`, which is of the same
    /// request.
    #[must_use]
    pub fn passed(&self, received: &HeaderMap, dropped: &Dropped) -> HeaderMap {
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

    /// Takes off what of an answer would set a cookie that is withheld.
    pub fn withhold_cookies(&self, headers: &mut HeaderMap) {
        let withheld = |line: &HeaderValue| {
            self.withheld_cookies.iter().any(|name| cookies::may_set(line.as_bytes(), name))
        };
        if !self.cookies || !headers.get_all(SET_COOKIE).iter().any(withheld) {
            return;
        }
        let kept: Vec<_> =
            headers.get_all(SET_COOKIE).iter().filter(|line| !withheld(line)).cloned().collect();
        headers.remove(SET_COOKIE);
        for line in kept {
            headers.append(SET_COOKIE, line);
        }
    }

    /// Whether a part of a body of this canonical path may be asked for.
    #[must_use]
    pub fn lets_parts(&self, path: &str) -> bool {
        self.range_paths.as_ref().is_none_or(|paths| paths.iter().any(|pattern| pattern.matches(path)))
    }

    /// Whether it asks for a part of a body where only the whole is scanned for the credential.
    fn is_part(&self, name: &HeaderName, path: &str) -> bool {
        (name == RANGE || name == IF_RANGE) && !self.lets_parts(path)
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

/// The bit that stands for the header line of this number; none for those beyond.
fn bit(at: usize) -> u128 {
    u32::try_from(at).ok().and_then(|at| 1_u128.checked_shl(at)).unwrap_or(0)
}

/// What becomes of a header line whatever the upstream is; none where the upstream decides.
///
/// Those pass that say something of the message, of its content, or of what the client would like. `content-encoding`
/// and `content-range` are among them, since without them a content would be taken for another. Those are replaced that
/// the gateway says itself, or that concern the connection: every client sends some of them.
///
/// By length, so that a name is compared with few others: it is asked for every line of every call.
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

/// Why no configuration can let a header of this name pass; none where one can.
#[must_use]
pub fn reserved(name: &str) -> Option<&'static str> {
    let of_prefix = [
        ("x-forwarded", "it says where a call came from, which is the gateway's to say"),
        ("x-jms-", "it is JumpServer's own"),
        ("proxy-", "it concerns one connection"),
        ("claviger-", "it is the gateway's own"),
        ("sec-websocket-", "it concerns one connection"),
    ];
    if name.contains('_') {
        return Some("many servers take `_` for `-`");
    }
    if let Some((_, why)) = of_prefix.into_iter().find(|(prefix, _)| name.starts_with(prefix)) {
        return Some(why);
    }
    match name {
        "host" | "date" | "content-length" | "accept-encoding" | "x-org-id" => {
            Some("the gateway says it itself")
        }
        "accept-charset" => Some("it asks for letters in which the credential might not be recognised"),
        "authorization" | "x-api-key" | "signature" | "signature-input" | "x-csrftoken" => {
            Some("it may carry a credential")
        }
        "connection" | "keep-alive" | "te" | "trailer" | "transfer-encoding" | "upgrade" | "expect"
        | "http2-settings" => Some("it concerns one connection"),
        "forwarded" | "x-real-ip" | "true-client-ip" | "via" => {
            Some("it says where a call came from, which is the gateway's to say")
        }
        "x-source" => Some("it is JumpServer's own"),
        "x-http-method-override" | "x-http-method" | "x-method-override" => Some("it says another method"),
        "x-original-url" | "x-rewrite-url" => Some("it says another target"),
        "cookie" | "set-cookie" => Some("`cookies = \"pass\"` lets cookies pass"),
        "range" | "if-range" => Some("it is on the list already; `range_paths` says where it passes"),
        _ => None,
    }
}

/// What a name in `pass_headers` must not be: nothing that it stands for could pass.
///
/// # Errors
/// What is wrong with it, as the end of a sentence.
pub fn check_added(name: &str) -> Result<(), String> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err("is no header name".into());
    }
    // A pattern is refused where all that it stands for is: by what is before its first star.
    let lower = name.to_ascii_lowercase();
    match reserved(lower.split('*').next().unwrap_or_default()).or_else(|| reserved(&lower)) {
        Some(why) => Err(format!("never passes: {why}")),
        None => Ok(()),
    }
}
