//! The JSON members of an audit line, except those of the chain.

use std::borrow::Cow;
use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use uuid::Uuid;

use crate::clock::push_rfc3339;
use crate::code::Code;
use crate::inbound::{Nonce, Proven};
use crate::metrics::CachedSeries;
use crate::name::Name;
use crate::query::mask_secrets;
use crate::target::Target;

/// The longest recorded values in bytes, so that no event exceeds 64 KiB.
const MAX_TARGET: usize = 16 * 1024;
const MAX_TEXT: usize = 512;
/// The longest values in bytes, as escaped, for calls without a known consumer. Callers without a credential must not
/// be able to fill the disk.
const STRANGERS_TARGET: usize = 512;
const STRANGERS_AGENT: usize = 256;
const STRANGERS_METHOD: usize = 32;
/// The largest number of dropped header names that are recorded, and the recorded bytes of each.
const MAX_NAMES: usize = 32;
const MAX_NAME: usize = 64;

/// The way in which a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer was handed to the consumer.
    Answered,
    /// The gateway refused the call.
    Refused,
    /// The upstream or the gateway failed.
    Failed,
    /// The consumer left before the end of the answer.
    Abandoned,
    /// The gateway ended during the call. The next start records this.
    Lost,
}

impl Outcome {
    /// Returns the word for this outcome on the trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Abandoned => "abandoned",
            Self::Lost => "lost",
        }
    }
}

/// The two ends of a connection, formatted once for all its calls.
#[derive(Debug)]
pub struct Peer {
    /// The consumer's address.
    pub peer: SocketAddr,
    /// The consumer's address as text.
    pub peer_text: String,
    /// The listener's address as text.
    pub listener: Arc<str>,
    /// Whether the listener speaks TLS.
    pub tls: bool,
    /// The metric series that the connection's last call was counted in.
    pub recent: CachedSeries,
    /// Whether a request on it was authenticated.
    pub authenticated: Cell<bool>,
}

/// The facts found out about a call before it was refused. Unknown ones are absent.
#[derive(Debug, Default)]
pub struct RefusalFields {
    /// The consumer that called.
    pub consumer: Option<Name>,
    /// The way in which the consumer authenticated.
    pub via: Option<&'static str>,
    /// The upstream that the call was meant for.
    pub upstream: Option<Name>,
    /// The prefix of the route.
    pub route: Option<Arc<str>>,
    /// The canonical target of the request.
    pub target: Option<Target>,
    /// The organisation of the call.
    pub org: Option<String>,
    /// The rule that decided.
    pub rule: Option<Arc<str>>,
    /// The shadow rule that would have changed the decision if it were in effect.
    pub shadow: Option<Arc<str>>,
    /// The reason for the refusal, in more detail than the code.
    pub reason: Option<&'static str>,
    /// The reason with details of this call.
    pub detail: Option<String>,
    /// The keyed fingerprint of a rejected credential.
    pub fingerprint: Option<String>,
}

/// Bytes of a line that the members common to all events take: number, hashes, time and kind.
pub(in crate::audit) const CHAINED: usize = 256;

/// Formats a member's key, with the opening quote of its value (`key`) or without (`bare`).
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":\"")
    };
}
macro_rules! bare {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// The members that both events of a call have.
pub(in crate::audit) struct CallFields<'a> {
    pub(in crate::audit) request_id: Uuid,
    pub(in crate::audit) consumer: Option<&'a Name>,
    pub(in crate::audit) via: Option<&'a str>,
    /// The facts that a signature proved in addition to the consumer.
    pub(in crate::audit) proven: Option<&'a Proven>,
    pub(in crate::audit) arrival: &'a Peer,
    pub(in crate::audit) upstream: Option<&'a Name>,
    pub(in crate::audit) method: &'a str,
    pub(in crate::audit) target: &'a str,
    /// Length of the target as received, in bytes.
    pub(in crate::audit) received: usize,
    pub(in crate::audit) org: Option<&'a str>,
    pub(in crate::audit) credential: Option<(&'a Name, u32)>,
    pub(in crate::audit) rule: Option<&'a str>,
    pub(in crate::audit) shadow: Option<&'a str>,
    pub(in crate::audit) decision: &'static str,
    pub(in crate::audit) user_agent: Option<&'a HeaderValue>,
    /// The names of the headers that are not forwarded to the upstream.
    pub(in crate::audit) dropped: &'a [HeaderName],
}

impl CallFields<'_> {
    pub(in crate::audit) fn members(&self) -> Vec<u8> {
        let mut id = Uuid::encode_buffer();
        let stranger = self.consumer.is_none();
        let shown = mask_secrets(self.target);
        let (target, cut) =
            if stranger { truncate_to_fit(&shown, STRANGERS_TARGET) } else { truncate(&shown, MAX_TARGET) };
        let method = truncate(self.method, if stranger { STRANGERS_METHOD } else { MAX_TEXT }).0;
        // Leaves room for the members that the outcome adds.
        let mut members = Members(Vec::with_capacity(768));
        members.word(key!("request_id"), Some(self.request_id.hyphenated().encode_lower(&mut id)));
        members.word(key!("consumer"), self.consumer.map(Name::as_str));
        members.word(key!("via"), self.via);
        if let Some(Proven { key, once }) = self.proven {
            let mut id = Uuid::encode_buffer();
            members.word(key!("access_key"), Some(key.hyphenated().encode_lower(&mut id)));
            members.word(key!("nonce"), once.as_ref().map(Nonce::to_text).as_deref());
        }
        members.word(key!("peer"), Some(&self.arrival.peer_text));
        members.word(key!("listener"), Some(&self.arrival.listener));
        members.word(key!("upstream"), self.upstream.map(Name::as_str));
        members.text(key!("method"), Some(method).filter(|method| !method.is_empty()));
        members.text(key!("target"), Some(target).filter(|target| !target.is_empty()));
        let whole = u64::try_from(self.received).ok().filter(|_| cut && stranger);
        members.number(bare!("target_bytes"), whole);
        members.text(key!("org"), self.org.map(|org| truncate(org, MAX_TEXT).0));
        members.word(key!("credential"), self.credential.map(|(name, _)| name.as_str()));
        members.number(bare!("credential_version"), self.credential.map(|(_, version)| u64::from(version)));
        members.text(key!("rule"), self.rule);
        members.text(key!("shadow"), self.shadow);
        members.word(key!("decision"), Some(self.decision));
        if let Some(agent) = self.user_agent {
            let agent = agent.as_bytes();
            let agent = escape(agent.get(..MAX_TEXT).unwrap_or(agent));
            let shown = if stranger { truncate_to_fit(&agent, STRANGERS_AGENT).0 } else { &agent };
            members.text(key!("user_agent"), Some(shown));
        }
        members.names(bare!("dropped"), self.dropped);
        members.number(bare!("cut"), cut.then_some(1));
        members.0
    }
}

/// The members that only an outcome has.
pub(in crate::audit) struct OutcomeFields<'a> {
    pub(in crate::audit) code: Option<Code>,
    pub(in crate::audit) reason: Option<&'a str>,
    pub(in crate::audit) fingerprint: Option<&'a str>,
    pub(in crate::audit) status: Option<u16>,
    pub(in crate::audit) upstream_status: Option<u16>,
    pub(in crate::audit) bytes_in: u64,
    pub(in crate::audit) bytes_out: u64,
    pub(in crate::audit) duration: Duration,
    pub(in crate::audit) upstream: Option<Duration>,
    pub(in crate::audit) attempts: u32,
    pub(in crate::audit) logins: u32,
    pub(in crate::audit) scrubbed: u32,
    pub(in crate::audit) link_kept: Option<&'static str>,
    pub(in crate::audit) ended: Outcome,
}

impl<'a> OutcomeFields<'a> {
    /// Builds the outcome of a call that was refused or abandoned before anything was sent.
    pub(in crate::audit) fn early(
        ended: Outcome,
        code: Option<Code>,
        duration: Duration,
        known: &'a RefusalFields,
    ) -> Self {
        Self {
            code,
            reason: known.detail.as_deref().or(known.reason),
            fingerprint: known.fingerprint.as_deref(),
            status: code.map(|code| code.status().as_u16()),
            upstream_status: None,
            bytes_in: 0,
            bytes_out: 0,
            duration,
            upstream: None,
            attempts: 0,
            logins: 0,
            scrubbed: 0,
            link_kept: None,
            ended,
        }
    }

    /// Appends these members to those of the call's facts.
    pub(in crate::audit) fn after(&self, facts: Vec<u8>) -> Vec<u8> {
        let mut members = Members(facts);
        members.word(key!("code"), self.code.map(Code::as_str));
        members.text(key!("reason"), self.reason.map(|reason| truncate_to_fit(reason, MAX_TEXT).0));
        members.text(key!("fingerprint"), self.fingerprint);
        members.number(bare!("status"), self.status.map(u64::from));
        members.number(bare!("upstream_status"), self.upstream_status.map(u64::from));
        members.number(bare!("bytes_in"), Some(self.bytes_in));
        members.number(bare!("bytes_out"), Some(self.bytes_out));
        members.number(bare!("duration_us"), Some(micros(self.duration)));
        members.number(bare!("upstream_us"), self.upstream.map(micros));
        members.number(bare!("attempts"), Some(u64::from(self.attempts)));
        members.number(bare!("logins"), (self.logins > 0).then_some(u64::from(self.logins)));
        members.number(bare!("scrubbed"), (self.scrubbed > 0).then_some(u64::from(self.scrubbed)));
        members.text(key!("link_kept"), self.link_kept);
        members.word(key!("ended"), Some(self.ended.as_str()));
        members.0
    }
}

/// JSON members, each preceded by a comma, without enclosing braces.
struct Members(Vec<u8>);

impl Members {
    /// Appends a member whose value needs no escaping: a name, a number as text, or a fixed word.
    #[inline]
    fn word(&mut self, key: &'static str, value: Option<&str>) {
        let Some(value) = value else { return };
        debug_assert!(is_plain(value.as_bytes()) && !value.contains(' '), "{value}");
        self.push_string(key, value);
    }

    #[inline]
    fn text(&mut self, key: &'static str, value: Option<&str>) {
        let Some(value) = value else { return };
        if is_plain(value.as_bytes()) {
            self.push_string(key, value);
        } else {
            self.0.extend_from_slice(key.strip_suffix('"').unwrap_or(key).as_bytes());
            self.0.extend_from_slice(ascii_json(value).as_bytes());
        }
    }

    /// Appends a string member. Inlined, so that the compiler knows the length of the key.
    #[inline]
    fn push_string(&mut self, key: &'static str, value: &str) {
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'"');
    }

    /// Appends a list of header names, which need no escaping. A long list is cut, and ends with the number of the
    /// rest.
    fn names(&mut self, key: &'static str, names: &[HeaderName]) {
        if names.is_empty() {
            return;
        }
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'[');
        for (at, name) in names.iter().take(MAX_NAMES).enumerate() {
            let name = name.as_str().get(..MAX_NAME).unwrap_or(name.as_str());
            self.0.extend_from_slice(if at == 0 { b"\"" } else { b",\"" });
            self.0.extend_from_slice(name.as_bytes());
            self.0.push(b'"');
        }
        if let Some(more) = names.len().checked_sub(MAX_NAMES).filter(|more| *more > 0) {
            self.0.extend_from_slice(format!(",\"+{more}\"").as_bytes());
        }
        self.0.push(b']');
    }

    #[inline]
    fn number(&mut self, key: &'static str, value: Option<u64>) {
        let Some(value) = value else { return };
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    }
}

/// Whether every byte may appear in a JSON string unescaped. Tests all bytes without an early exit, which the compiler
/// can vectorise.
fn is_plain(bytes: &[u8]) -> bool {
    let plain = |byte: u8| matches!(byte, b' ' | b'!' | b'#'..=b'[' | b']'..=b'~');
    bytes.iter().fold(true, |all, byte| all & plain(*byte))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Appends `"time":"…","event":"…"`, with which every line begins after the chain's members.
pub(in crate::audit) fn push_opening(out: &mut Vec<u8>, time: SystemTime, event: &str) {
    out.extend_from_slice(b"\"time\":\"");
    push_rfc3339(out, time);
    out.extend_from_slice(b"\",\"event\":\"");
    out.extend_from_slice(event.as_bytes());
    out.push(b'"');
}

/// Makes a request id (UUID version 7, RFC 9562).
pub(in crate::audit) fn request_id(time: SystemTime) -> Uuid {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, since.as_secs(), since.subsec_nanos());
    Uuid::new_v7(stamp)
}

/// Converts bytes from outside to text. Printable ASCII stays; other bytes and `\` become `\xNN`.
#[must_use]
pub fn escape(bytes: &[u8]) -> Cow<'_, str> {
    use std::fmt::Write as _;
    if is_plain(bytes)
        && let Ok(text) = std::str::from_utf8(bytes)
    {
        return Cow::Borrowed(text);
    }
    let mut text = String::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' '..=b'[' | b']'..=b'~' => text.push(char::from(*byte)),
            // Writing into a string cannot fail.
            _ => write!(text, "\\x{byte:02x}").unwrap_or_default(),
        }
    }
    Cow::Owned(text)
}

/// Formats a text as a JSON string in ASCII, so that no character of a line can deceive its reader.
pub(in crate::audit) fn ascii_json(text: &str) -> String {
    escape_non_ascii(&serde_json::Value::from(text).to_string())
}

/// Escapes all characters beyond ASCII in JSON.
pub(in crate::audit) fn escape_non_ascii(json: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::with_capacity(json.len() + 32);
    let mut units = [0; 2];
    for character in json.chars() {
        if character.is_ascii() && character != '\x7f' {
            out.push(character);
        } else {
            for unit in character.encode_utf16(&mut units) {
                // Writing into a string cannot fail.
                write!(out, "\\u{unit:04x}").unwrap_or_default();
            }
        }
    }
    out
}

fn truncate(text: &str, most: usize) -> (&str, bool) {
    if text.len() <= most {
        return (text, false);
    }
    let end = text.floor_char_boundary(most);
    (text.split_at_checked(end).map_or("", |(kept, _)| kept), true)
}

/// Returns the longest prefix of `text` that takes at most `most` bytes in a line, and whether anything was cut.
fn truncate_to_fit(text: &str, most: usize) -> (&str, bool) {
    if text.len() <= most && is_plain(text.as_bytes()) {
        return (text, false);
    }
    let mut left = most;
    for (at, character) in text.char_indices() {
        let taken = match character {
            '"' | '\\' | '\n' | '\r' | '\t' | '\x08' | '\x0c' => 2,
            ' '..='~' => 1,
            '\0'..='\u{ffff}' => 6,
            '\u{10000}'.. => 12,
        };
        let Some(rest) = left.checked_sub(taken) else {
            return (text.get(..at).unwrap_or_default(), true);
        };
        left = rest;
    }
    (text, false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_into_a_line_is_measured_as_it_stands_there() {
        for text in ["a".repeat(40), "\\".repeat(40), "\u{1}\n\"é\u{1F600}\u{7f}x".repeat(8), String::new()]
        {
            for most in 0..300 {
                let (shown, cut) = truncate_to_fit(&text, most);
                let written = |text: &str| ascii_json(text).len() - 2;
                assert!(text.starts_with(shown) && written(shown) <= most, "{text:?} {most}");
                assert_eq!(cut, shown.len() < text.len(), "{text:?} {most}");
                let next = text.chars().nth(shown.chars().count());
                let more = next.map(|next| format!("{shown}{next}"));
                assert!(more.is_none_or(|more| written(&more) > most), "{text:?} {most}: more would fit");
            }
        }
    }

    #[test]
    fn text_from_outside_shows_nothing_but_what_it_is() {
        assert_eq!(escape(b"a\x1b[31m\\\xff"), r"a\x1b[31m\x5c\xff");
        assert_eq!(ascii_json("a\"\u{2028}\u{7f}\u{1F600}\n"), r#""a\"\u2028\u007f\ud83d\ude00\n""#);
    }
}
