//! What of a line events are found by.

use std::borrow::Cow;
use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

use crate::audit::trail::chain;

/// A text that is copied only where it had to be unescaped. (`Cow` in an `Option` always is.)
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

/// The members that calls are found by.
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

/// The columns of a kind, in the order of its table.
pub(super) const KIND: &str = "event, what, consumer, via, upstream, method, org, credential, version, rule, decision, code, status, ended";
pub(super) const COLUMNS: usize = 14;
/// Between the columns of a kind, where they are one text: no name has it.
pub(super) const BETWEEN: char = '\u{1f}';

impl IndexedEvent<'_> {
    /// What it has in common with many others, as one text.
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

    /// What else a text is looked for in: of a call what came from outside, of any other event all it says.
    pub(super) fn detail(&self, line: &[u8], out: &mut String) {
        out.clear();
        if self.event != "outcome" {
            let (body, _) = chain::split_line(line).unwrap_or_default();
            let text = std::str::from_utf8(body).unwrap_or_default();
            let said = text.split_once("\"event\":").map_or("", |(_, said)| said);
            out.push_str(said);
            return;
        }
        // Each connection has a port of its own.
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
