//! The JSON members of an audit line, except those of the chain.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{HeaderName, HeaderValue};
use uuid::Uuid;

use super::meter::Progress;
use crate::audit::trail::ascii::{ascii_json, escape, is_plain};
use crate::audit::trail::event::Outcome;
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
    pub org: Option<Arc<str>>,
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

/// The names that the trail records for a permit.
#[derive(Debug)]
pub struct CallNames<'a> {
    /// The name of the upstream.
    pub upstream: &'a Name,
    /// The name of the credential.
    pub credential: &'a Name,
    /// The version of the credential.
    pub credential_version: u32,
    /// The prefix of the route.
    pub route: &'a Arc<str>,
    /// The names of the consumer's headers that are not forwarded to the upstream.
    pub dropped: &'a [HeaderName],
}

/// Bytes of a line that the members common to all events take: number, hashes, time and kind.
pub(super) const CHAINED: usize = 256;

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
pub(super) struct CallFields<'a> {
    pub(super) request_id: Uuid,
    pub(super) consumer: Option<&'a Name>,
    pub(super) via: Option<&'a str>,
    /// The facts that a signature proved in addition to the consumer.
    pub(super) proven: Option<&'a Proven>,
    pub(super) peer: &'a Peer,
    pub(super) upstream: Option<&'a Name>,
    pub(super) method: &'a str,
    pub(super) target: &'a str,
    /// Length of the target as received, in bytes.
    pub(super) received: usize,
    pub(super) org: Option<&'a str>,
    pub(super) credential: Option<(&'a Name, u32)>,
    pub(super) rule: Option<&'a str>,
    pub(super) shadow: Option<&'a str>,
    pub(super) decision: &'static str,
    pub(super) user_agent: Option<&'a HeaderValue>,
    /// The names of the headers that are not forwarded to the upstream.
    pub(super) dropped: &'a [HeaderName],
}

impl CallFields<'_> {
    pub(super) fn members(&self) -> Vec<u8> {
        let mut id = Uuid::encode_buffer();
        let stranger = self.consumer.is_none();
        let masked = mask_secrets(self.target);
        let (target, cut) =
            if stranger { truncate_to_fit(&masked, STRANGERS_TARGET) } else { truncate(&masked, MAX_TARGET) };
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
        members.word(key!("peer"), Some(&self.peer.peer_text));
        members.word(key!("listener"), Some(&self.peer.listener));
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
            let agent = if stranger { truncate_to_fit(&agent, STRANGERS_AGENT).0 } else { &agent };
            members.text(key!("user_agent"), Some(agent));
        }
        members.names(bare!("dropped"), self.dropped);
        members.number(bare!("cut"), cut.then_some(1));
        members.0
    }
}

/// The members that only an outcome has.
pub(super) struct OutcomeFields<'a> {
    pub(super) code: Option<Code>,
    pub(super) reason: Option<&'a str>,
    pub(super) fingerprint: Option<&'a str>,
    pub(super) progress: &'a Progress,
    pub(super) bytes_in: u64,
    pub(super) scrubbed: u32,
    pub(super) duration: Duration,
    pub(super) ended: Outcome,
}

impl OutcomeFields<'_> {
    /// Appends these members to those of the call's facts.
    pub(super) fn after(&self, facts: Vec<u8>) -> Vec<u8> {
        let (mut members, progress) = (Members(facts), self.progress);
        members.word(key!("code"), self.code.map(Code::as_str));
        members.text(key!("reason"), self.reason.map(|reason| truncate_to_fit(reason, MAX_TEXT).0));
        members.text(key!("fingerprint"), self.fingerprint);
        members.number(bare!("status"), progress.status.map(u64::from));
        members.number(bare!("upstream_status"), progress.upstream_status.map(u64::from));
        members.number(bare!("bytes_in"), Some(self.bytes_in));
        members.number(bare!("bytes_out"), Some(progress.bytes_out));
        members.number(bare!("duration_us"), Some(micros(self.duration)));
        members.number(bare!("upstream_us"), progress.upstream.map(micros));
        members.number(bare!("attempts"), Some(u64::from(progress.attempts)));
        members.number(bare!("logins"), (progress.logins > 0).then_some(u64::from(progress.logins)));
        members.number(bare!("scrubbed"), (self.scrubbed > 0).then_some(u64::from(self.scrubbed)));
        members.text(key!("link_kept"), progress.link_kept);
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

    /// Appends a list of header names, which need no escaping. A long list is cut; its last element is the number of
    /// names left out.
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

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Makes a request id (UUID version 7, RFC 9562).
pub(super) fn request_id(time: SystemTime) -> Uuid {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let stamp = uuid::Timestamp::from_unix(uuid::NoContext, since.as_secs(), since.subsec_nanos());
    Uuid::new_v7(stamp)
}

fn truncate(text: &str, most: usize) -> (&str, bool) {
    if text.len() <= most {
        return (text, false);
    }
    let end = text.floor_char_boundary(most);
    (text.split_at_checked(end).map_or("", |(start, _)| start), true)
}

/// Returns the longest prefix of `text` that takes at most `most` bytes in a line, and whether anything was cut.
fn truncate_to_fit(text: &str, most: usize) -> (&str, bool) {
    if text.len() <= most && is_plain(text.as_bytes()) {
        return (text, false);
    }
    let mut left = most;
    for (at, character) in text.char_indices() {
        let width = match character {
            '"' | '\\' | '\n' | '\r' | '\t' | '\x08' | '\x0c' => 2,
            ' '..='~' => 1,
            '\0'..='\u{ffff}' => 6,
            '\u{10000}'.. => 12,
        };
        let Some(rest) = left.checked_sub(width) else {
            return (text.get(..at).unwrap_or_default(), true);
        };
        left = rest;
    }
    (text, false)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::audit::trail::chain::ChainHead;
    use crate::audit::trail::event::{COLUMNS, Event, EventKind, Value, push_opening};

    /// A call of which every member is known.
    fn line(event: EventKind, outcome: bool) -> Vec<u8> {
        let name = Name::parse("a-name").unwrap();
        let nonce = Nonce {
            key: Uuid::nil(),
            nonce: [7; _],
            dated: Some(SystemTime::UNIX_EPOCH),
            window: Duration::ZERO,
        };
        let peer = Peer {
            peer: ([192, 0, 2, 1], 4711).into(),
            peer_text: "192.0.2.1:4711".into(),
            listener: "127.0.0.1:8080".into(),
            tls: false,
            recent: CachedSeries::default(),
            authenticated: Cell::default(),
        };
        let facts = CallFields {
            request_id: Uuid::nil(),
            consumer: (!outcome).then_some(&name),
            via: Some("token"),
            proven: Some(&Proven { key: Uuid::nil(), once: Some(nonce) }),
            peer: &peer,
            upstream: Some(&name),
            method: "GET",
            target: &"/\"".repeat(MAX_TARGET),
            received: 2 * MAX_TARGET,
            org: Some("\u{1F600}"),
            credential: Some((&name, 3)),
            rule: Some("r/allow[0]"),
            shadow: Some("r/deny[1]"),
            decision: "allowed",
            user_agent: Some(&HeaderValue::from_static("\\x")),
            dropped: &[http::header::COOKIE, http::header::FORWARDED],
        };
        let progress = Progress {
            status: Some(502),
            upstream_status: Some(401),
            bytes_out: 2,
            upstream: Some(Duration::from_millis(3)),
            attempts: 2,
            logins: 1,
            link_kept: Some("a_reason"),
        };
        let ending = OutcomeFields {
            code: Some(Code::UpstreamAuth),
            reason: Some("because"),
            fingerprint: Some("0011"),
            progress: &progress,
            bytes_in: 1,
            scrubbed: 4,
            duration: Duration::from_millis(9),
            ended: Outcome::Failed,
        };
        let members = if outcome { ending.after(facts.members()) } else { facts.members() };
        let mut line = Vec::new();
        ChainHead::default().append(&mut line, |out| {
            push_opening(out, SystemTime::UNIX_EPOCH, event);
            out.extend_from_slice(&members);
        });
        line
    }

    #[test]
    fn every_member_that_is_written_of_a_call_is_read_back() {
        let mut seen = std::collections::BTreeSet::new();
        for (kind, outcome) in [(EventKind::Intent, false), (EventKind::Outcome, true)] {
            let line = line(kind, outcome);
            let event = Event::parse(&line).unwrap();
            assert_eq!(event.event, kind);
            let written: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line).unwrap();
            for (name, value) in &written {
                match name.as_str() {
                    "prev" => assert_eq!(event.prev.as_deref(), value.as_str()),
                    "dropped" => {
                        let names: Vec<&str> = event.dropped.iter().map(|name| &**name).collect();
                        assert_eq!(*value, serde_json::Value::from(names));
                    }
                    _ => match event.value_of(name).unwrap() {
                        Value::Text(text) => assert_eq!(Some(text), value.as_str(), "{name}"),
                        Value::Number(number) => assert_eq!(Some(number), value.as_u64(), "{name}"),
                    },
                }
            }
            seen.extend(written.keys().cloned());
        }
        let never: Vec<&str> =
            COLUMNS.iter().map(|column| column.name).filter(|name| !seen.contains(*name)).collect();
        assert_eq!(never, ["what", "by", "at", "change", "token", "refusals", "since"], "of other events");
    }

    #[test]
    fn what_fits_into_a_line_is_measured_as_it_stands_there() {
        for text in ["a".repeat(40), "\\".repeat(40), "\u{1}\n\"é\u{1F600}\u{7f}x".repeat(8), String::new()]
        {
            for most in 0..300 {
                let (start, cut) = truncate_to_fit(&text, most);
                let written = |text: &str| ascii_json(text).len() - 2;
                assert!(text.starts_with(start) && written(start) <= most, "{text:?} {most}");
                assert_eq!(cut, start.len() < text.len(), "{text:?} {most}");
                let next = text.chars().nth(start.chars().count());
                let more = next.map(|next| format!("{start}{next}"));
                assert!(more.is_none_or(|more| written(&more) > most), "{text:?} {most}: more would fit");
            }
        }
    }
}
