//! The parts of a line by which events are found.

use std::borrow::Cow;
use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::audit::trail::chain;

/// A text that is copied only if it had to be unescaped. (A `Cow` in an `Option` is always copied.)
#[derive(Default)]
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

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

/// The members by which calls are found.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct IndexedEvent<'a> {
    pub(super) seq: u64,
    pub(super) time: &'a str,
    pub(super) event: &'a str,
    pub(super) request_id: Option<&'a str>,
    pub(super) target: Option<Text<'a>>,
    peer: Option<Text<'a>>,
    listener: Option<Text<'a>>,
    access_key: Option<Text<'a>>,
    user_agent: Option<Text<'a>>,
    reason: Option<Text<'a>>,
    fingerprint: Option<Text<'a>>,
    what: Option<Text<'a>>,
    consumer: Option<Text<'a>>,
    via: Option<Text<'a>>,
    upstream: Option<Text<'a>>,
    method: Option<Text<'a>>,
    org: Option<Text<'a>>,
    credential: Option<Text<'a>>,
    credential_version: Option<i64>,
    rule: Option<Text<'a>>,
    shadow: Option<Text<'a>>,
    #[serde(default)]
    dropped: Vec<Text<'a>>,
    decision: Option<Text<'a>>,
    code: Option<Text<'a>>,
    status: Option<i64>,
    ended: Option<Text<'a>>,
}

/// The columns of a kind, in the order of the table `kinds`.
pub(super) const KIND: &str = "event, what, consumer, via, upstream, method, org, credential, version, rule, decision, code, status, ended";
pub(super) const COLUMNS: usize = 14;
/// The separator between the columns of a kind in one text. No name contains it.
pub(super) const BETWEEN: char = '\u{1f}';

impl IndexedEvent<'_> {
    /// Writes the members that many events have in common as one text.
    pub(super) fn kind(&self, out: &mut String) {
        let text = |out: &mut String, text: Option<&Text<'_>>| {
            out.push_str(text.map_or("", |Text(text)| text));
            out.push(BETWEEN);
        };
        let number = |out: &mut String, number: Option<i64>| {
            if let Some(number) = number {
                out.push_str(itoa::Buffer::new().format(number));
            }
            out.push(BETWEEN);
        };
        out.clear();
        out.push_str(self.event);
        out.push(BETWEEN);
        for word in [&self.what, &self.consumer, &self.via, &self.upstream, &self.method, &self.org] {
            text(out, word.as_ref());
        }
        text(out, self.credential.as_ref());
        number(out, self.credential_version);
        for word in [&self.rule, &self.decision, &self.code] {
            text(out, word.as_ref());
        }
        number(out, self.status);
        text(out, self.ended.as_ref());
    }

    /// Writes the other texts that a search looks at: of a call, the texts from outside; of any other event, its
    /// content.
    pub(super) fn detail(&self, line: &[u8], out: &mut String) {
        out.clear();
        if self.event != "outcome" {
            let (body, _) = chain::split_line(line).unwrap_or_default();
            let text = std::str::from_utf8(body).unwrap_or_default();
            let said = text.split_once("\"event\":").map_or("", |(_, said)| said);
            out.push_str(said);
            return;
        }
        // Drop the port, since each connection has a different one.
        let peer =
            self.peer.as_ref().map(|Text(peer)| peer.rsplit_once(':').map_or(&**peer, |(host, _)| host));
        let texts = [
            &self.shadow,
            &self.listener,
            &self.access_key,
            &self.user_agent,
            &self.reason,
            &self.fingerprint,
        ];
        let texts = texts.into_iter().filter_map(|text| text.as_ref().map(|Text(text)| &**text));
        let dropped = self.dropped.iter().map(|Text(name)| &**name);
        for text in peer.into_iter().chain(texts).chain(dropped) {
            out.push_str(text);
            out.push('\n');
        }
    }
}
