//! The schema of events: what a line may hold, as one type that reads it, and as one table of columns. The index, the
//! search, the exports, the sinks and the summaries for people all use these two.
//!
//! Lines of calls are written by hand (`call/fields.rs`), since that is on the path of every call. A test there compares
//! what is written with what is read here.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::de::{IgnoredAny, Visitor};
use serde::{Deserialize, Deserializer};

use super::ascii::escape_non_ascii;
use crate::clock::push_rfc3339;
use crate::storage::{PendingAuditEvent, Revision};

/// Defines an enum of the words that a member may have.
macro_rules! words {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Returns the word on the trail.
            pub(crate) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Returns the value that this word stands for.
            pub(crate) fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl Member for $name {
            fn value(&self) -> Option<Value<'_>> {
                Some(Value::Text(self.as_str()))
            }
        }
    };
}

words! {
    /// The kind of an event.
    EventKind {
        /// A call that was allowed, before anything is sent upstream.
        Intent = "intent",
        /// The end of a call.
        Outcome = "outcome",
        /// A change by an operator.
        Admin = "admin",
        /// A signed head over all events before it.
        Head = "head",
        /// An event of the journal's own.
        Journal = "journal",
        /// A kind that this version does not know.
        Unknown = "-",
    }
}

words! {
    /// The way in which a call ended.
    Outcome {
        /// The whole answer was handed to the consumer.
        Answered = "answered",
        /// The gateway refused the call.
        Refused = "refused",
        /// The upstream or the gateway failed.
        Failed = "failed",
        /// The consumer left before the end of the answer.
        Abandoned = "abandoned",
        /// The gateway ended during the call. The next start records this.
        Lost = "lost",
    }
}

words! {
    /// The subject of an event of the journal's own: its member `what`.
    JournalAction {
        /// The first segment of a run was begun.
        Opened = "opened",
        /// A segment was begun because the former one could not be used any more.
        Gap = "gap",
        /// A segment was begun because the former one was full.
        Rotated = "rotated",
        /// The disk works again.
        Resumed = "resumed",
        /// The gateway has ended.
        Closed = "closed",
        /// The oldest segments were deleted.
        Retired = "retired",
        /// Refusals of one source were counted instead of recorded.
        Suppressed = "suppressed",
    }
}

/// How urgent an event is; as a number, its severity in syslog (RFC 5424 §6.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// A call failed.
    Error = 3,
    /// A call was refused or abandoned.
    Warning = 4,
    /// An operator changed something.
    Notice = 5,
    /// Any other event.
    Info = 6,
}

/// A text that is copied only if it had to be unescaped. (A `Cow` in an `Option` is always copied.)
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowing;
        impl<'de> Visitor<'de> for Borrowing {
            type Value = Text<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Borrowing)
    }
}

/// The value of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'e> {
    /// A JSON string.
    Text(&'e str),
    /// A JSON number.
    Number(u64),
}

/// A member that has a column.
trait Member {
    fn value(&self) -> Option<Value<'_>>;
}

impl Member for u64 {
    fn value(&self) -> Option<Value<'_>> {
        Some(Value::Number(*self))
    }
}

impl Member for Text<'_> {
    fn value(&self) -> Option<Value<'_>> {
        Some(Value::Text(self))
    }
}

impl<M: Member> Member for Option<M> {
    fn value(&self) -> Option<Value<'_>> {
        self.as_ref().and_then(Member::value)
    }
}

/// The type of the values in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ColumnType {
    /// Any other text.
    Text,
    /// An RFC 3339 time.
    Time,
    /// A number that is not negative.
    Number,
}

/// Where the index of the trail has a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexPart {
    /// In the table `kinds`, since few combinations make up many events.
    Kind,
    /// In the texts of a call that a search by text looks at.
    Detail,
    /// In none, or in a table of its own.
    Other,
}

/// A column of the events: one member of their lines.
#[derive(Debug)]
pub(crate) struct Column {
    /// The name of the member, and of the column.
    pub(crate) name: &'static str,
    /// The type of its values.
    pub(crate) value_type: ColumnType,
    /// Where the index has it.
    pub(crate) index: IndexPart,
    get: for<'e> fn(&'e Event<'e>) -> Option<Value<'e>>,
}

impl Column {
    /// Returns the value that an event has in this column.
    pub(crate) fn value<'e>(&self, event: &'e Event<'e>) -> Option<Value<'e>> {
        (self.get)(event)
    }
}

/// Defines the type of an event, and the table of its columns.
macro_rules! members {
    (
        columns { $($(#[$about:meta])* $column:ident: $type:ty => $column_type:ident, $index:ident;)+ }
        others { $($(#[$doc:meta])* $other:ident: $rest:ty;)+ }
    ) => {
        /// An event, as its line has it. Members that nothing reads are left out.
        #[derive(Debug, Deserialize)]
        #[serde(bound(deserialize = "'de: 'a"))]
        pub(crate) struct Event<'a> {
            $($(#[$about])* pub(crate) $column: $type,)+
            $($(#[$doc])* pub(crate) $other: $rest,)+
        }

        /// The columns of events, in the order of exports.
        pub(crate) const COLUMNS: &[Column] = &[$(Column {
            name: stringify!($column),
            value_type: ColumnType::$column_type,
            index: IndexPart::$index,
            get: |event| event.$column.value(),
        },)+];
    };
}

members! {
    columns {
        /// The number of the event on the trail, from 1.
        seq: u64 => Number, Other;
        /// The time of the event.
        time: Option<Text<'a>> => Time, Other;
        /// The kind of the event.
        #[serde(deserialize_with = "event_kind")]
        event: EventKind => Text, Kind;
        /// The change of an `admin` event, or the [`JournalAction`].
        what: Option<Text<'a>> => Text, Kind;
        /// The id of the call.
        request_id: Option<Text<'a>> => Text, Other;
        /// The name of the consumer that called, or that was changed.
        consumer: Option<Text<'a>> => Text, Kind;
        /// The way in which the consumer authenticated.
        via: Option<Text<'a>> => Text, Kind;
        /// The id of the access key that signed the call, or that was changed.
        access_key: Option<Text<'a>> => Text, Detail;
        /// The address that the call came from.
        peer: Option<Text<'a>> => Text, Other;
        /// The address that it came to.
        listener: Option<Text<'a>> => Text, Detail;
        /// The name of the upstream.
        upstream: Option<Text<'a>> => Text, Kind;
        /// The HTTP method.
        method: Option<Text<'a>> => Text, Kind;
        /// The target of the request.
        target: Option<Text<'a>> => Text, Other;
        /// The organisation of the call.
        org: Option<Text<'a>> => Text, Kind;
        /// The name of the credential that was sent, or that was changed.
        credential: Option<Text<'a>> => Text, Kind;
        /// The version of that credential; `version` in `admin` events. (In `journal` events that is a text.)
        #[serde(alias = "version", default, deserialize_with = "number_or_none")]
        credential_version: Option<u64> => Number, Kind;
        /// The rule that decided.
        rule: Option<Text<'a>> => Text, Kind;
        /// The decision: `allowed` or `denied`.
        decision: Option<Text<'a>> => Text, Kind;
        /// The code of a refusal or failure.
        code: Option<Text<'a>> => Text, Kind;
        /// The reason in more detail.
        reason: Option<Text<'a>> => Text, Detail;
        /// The fingerprint of a rejected credential.
        fingerprint: Option<Text<'a>> => Text, Detail;
        /// The status that the consumer saw.
        status: Option<u64> => Number, Kind;
        /// The status of the upstream's answer.
        upstream_status: Option<u64> => Number, Other;
        /// Number of body bytes from the consumer.
        bytes_in: Option<u64> => Number, Other;
        /// Number of body bytes to the consumer.
        bytes_out: Option<u64> => Number, Other;
        /// Duration of the call in microseconds.
        duration_us: Option<u64> => Number, Other;
        /// Time until the head of the upstream's answer, in microseconds.
        upstream_us: Option<u64> => Number, Other;
        /// Number of times that the request was sent.
        attempts: Option<u64> => Number, Other;
        /// The [`Outcome`] of the call.
        ended: Option<Text<'a>> => Text, Kind;
        /// The user agent of the request.
        user_agent: Option<Text<'a>> => Text, Detail;
        /// The shadow rule that would have changed the decision.
        shadow: Option<Text<'a>> => Text, Detail;
        /// The nonce of a signature that is accepted only once.
        nonce: Option<Text<'a>> => Text, Other;
        /// Number of logins begun for the call.
        logins: Option<u64> => Number, Other;
        /// Number of times that the answer contained the credential.
        scrubbed: Option<u64> => Number, Other;
        /// The reason why a link was left in the answer.
        link_kept: Option<Text<'a>> => Text, Other;
        /// Length of a target in bytes that was cut because the caller is not known.
        target_bytes: Option<u64> => Number, Other;
        /// 1 if the target was cut.
        cut: Option<u64> => Number, Other;
        /// The operator who changed something.
        by: Option<Text<'a>> => Text, Other;
        /// The time of the change. The event may be recorded much later.
        at: Option<Text<'a>> => Time, Other;
        /// The id of the change.
        change: Option<Text<'a>> => Text, Other;
        /// The id of the token that was changed.
        token: Option<Text<'a>> => Text, Other;
        /// Number of refusals that one event stands for.
        refusals: Option<u64> => Number, Other;
        /// The time of the first of them.
        since: Option<Text<'a>> => Time, Other;
        /// The hash of the line.
        hash: Option<Text<'a>> => Text, Other;
    }
    others {
        /// The hash of the line before.
        prev: Option<Text<'a>>;
        /// The names of the headers that are not forwarded to the upstream.
        #[serde(default)]
        dropped: Vec<Text<'a>>;
        /// Number of events that a head covers.
        size: Option<u64>;
        /// The signed note of a head.
        note: Option<Text<'a>>;
        /// The peaks of the tree that a head covers.
        #[serde(default)]
        peaks: Vec<String>;
        /// Number of calls without an outcome when a segment was begun.
        open: Option<u64>;
        /// The `seq` of the last retired event.
        through: Option<u64>;
        /// The revision of the store.
        store: Option<Text<'a>>;
        /// The last time at which the trail was complete, if an operator has accepted that events are missing.
        until: Option<Text<'a>>;
    }
}

fn event_kind<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EventKind, D::Error> {
    Text::deserialize(deserializer).map(|word| EventKind::parse(&word).unwrap_or(EventKind::Unknown))
}

fn number_or_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Scalar {
        Number(u64),
        Other(IgnoredAny),
    }
    Ok(match Scalar::deserialize(deserializer)? {
        Scalar::Number(number) => Some(number),
        Scalar::Other(IgnoredAny) => None,
    })
}

impl<'a> Event<'a> {
    /// Reads an event from its line; `None` if the line is not one.
    pub(crate) fn parse(line: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Returns the value of the member with this name, if it has a column.
    pub(crate) fn value_of(&'a self, name: &str) -> Option<Value<'a>> {
        COLUMNS.iter().find(|column| column.name == name)?.value(self)
    }

    /// Returns the time of the event, if it is valid.
    pub(crate) fn timestamp(&self) -> Option<Timestamp> {
        self.time.as_deref().and_then(|time| time.parse().ok())
    }

    /// Returns the way in which the call ended, if this is an outcome.
    pub(crate) fn outcome(&self) -> Option<Outcome> {
        self.ended.as_deref().and_then(Outcome::parse)
    }

    /// Returns how urgent the event is.
    pub(crate) fn severity(&self) -> Severity {
        match (self.outcome(), self.event) {
            (Some(Outcome::Failed | Outcome::Lost), _) => Severity::Error,
            (Some(Outcome::Refused | Outcome::Abandoned), _) => Severity::Warning,
            (None, EventKind::Admin) => Severity::Notice,
            (Some(Outcome::Answered) | None, _) => Severity::Info,
        }
    }
}

/// Appends `"time":"…","event":"…"`, with which every line begins after the chain's members.
pub(in crate::audit) fn push_opening(out: &mut Vec<u8>, time: SystemTime, event: EventKind) {
    out.extend_from_slice(b"\"time\":\"");
    push_rfc3339(out, time);
    out.extend_from_slice(b"\",\"event\":\"");
    out.extend_from_slice(event.as_str().as_bytes());
    out.push(b'"');
}

/// Formats the members of an event that does not belong to a call. Each is preceded by a comma.
pub(in crate::audit) fn format_members<'m>(
    members: impl IntoIterator<Item = &'m (&'static str, serde_json::Value)>,
) -> String {
    members.into_iter().fold(String::new(), |text, (name, value)| {
        text + ",\"" + name + "\":" + &escape_non_ascii(&value.to_string())
    })
}

/// Formats the members of an `admin` event. `store` is the revision of the store after the change.
pub(in crate::audit) fn format_admin(change: &PendingAuditEvent, store: Option<Revision>) -> String {
    let object = serde_json::to_string(change).unwrap_or_default();
    let members = object.strip_prefix('{').and_then(|object| object.strip_suffix('}')).unwrap_or_default();
    let store = store.map(|store| ("store", store.to_string().into()));
    format!(",{}{}", escape_non_ascii(members), format_members(&store))
}
