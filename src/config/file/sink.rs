//! `[audit.sinks.…]`: receivers of events as they are recorded.

use std::path::PathBuf;

use super::custody::Reference;
use crate::config::Spanned;
use crate::config::decode::choice::{located, word};
use crate::config::decode::scalar::boolean;
use crate::config::decode::text::path;
use crate::config::decode::{Node, Read, Table};

/// A sink, which receives events.
#[derive(Clone, Debug)]
pub struct Sink {
    /// The name of the sink in its cursor file and in logs.
    pub name: Spanned<String>,
    /// The kind of the sink.
    pub kind: Spanned<SinkKind>,
    /// The URL of the sink.
    pub url: Option<Spanned<String>>,
    /// The file that a witness writes.
    pub file: Option<Spanned<PathBuf>>,
    /// The reference to the bearer token.
    pub token: Option<Spanned<Reference>>,
    /// The path of the certificate authorities to trust instead of the public ones, in PEM.
    pub ca_file: Option<Spanned<PathBuf>>,
    /// Whether the sink may be reached in plaintext beyond this host.
    pub insecure_plaintext: bool,
}

/// The kinds of sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkKind {
    /// Lines on standard output.
    Stdout,
    /// Syslog messages (RFC 5424) over TCP or TLS.
    Syslog,
    /// HTTP posts of JSON arrays.
    Http,
    /// HTTP posts of OpenTelemetry logs (OTLP).
    Otlp,
    /// Only the signed heads, written to a file or posted.
    Witness,
}

const KINDS: [(&str, SinkKind); 5] = [
    ("stdout", SinkKind::Stdout),
    ("syslog", SinkKind::Syslog),
    ("http", SinkKind::Http),
    ("otlp", SinkKind::Otlp),
    ("witness", SinkKind::Witness),
];

impl Sink {
    pub(super) fn settings(&self) -> impl PartialEq + use<> {
        let (url, file) = (self.url.clone().map(|url| url.value), self.file.clone().map(|file| file.value));
        let token = self.token.clone().map(|token| token.value);
        let ca_file = self.ca_file.clone().map(|ca_file| ca_file.value);
        (self.kind.value, url, file, token, ca_file, self.insecure_plaintext)
    }

    pub(super) fn read(name: Spanned<String>, node: &Node<'_>) -> Read<Self> {
        let mut table = Table::of(node)?;
        let kind = table.required("kind", located(word(&KINDS)));
        let url = table.optional("url", super::upstream::one_endpoint);
        let file = table.optional("file", path);
        let token = table.optional("token", Reference::read);
        let ca_file = table.optional("ca_file", path);
        let insecure_plaintext = table.optional("insecure_plaintext", boolean);
        table.finish();
        let sink = Self {
            name,
            kind: kind?,
            url: url?,
            file: file?,
            token: token?,
            ca_file: ca_file?,
            insecure_plaintext: insecure_plaintext?.unwrap_or(false),
        };
        match sink.missing_key() {
            None => Ok(sink),
            Some(why) => Err(node.refuse(format!("{} {why}", node.subject()))),
        }
    }

    /// What is missing or not allowed for this kind of sink, as the end of a message.
    fn missing_key(&self) -> Option<&'static str> {
        let alone = self.token.is_none() && self.ca_file.is_none();
        let wrong = match (self.kind.value, self.url.is_some(), self.file.is_some()) {
            (SinkKind::Stdout, url, file) => {
                (url || file || !alone, "is standard output: it has nothing but its kind")
            }
            (SinkKind::Witness, false, true) => (!alone, "writes a file: it has no token and no ca_file"),
            (SinkKind::Witness, url, file) => (url == file, "needs a url or a file, and not both"),
            (_, false, _) => (true, "needs a url"),
            (_, _, true) => (true, "has no file: that is for a witness"),
            (SinkKind::Syslog, _, _) => (self.token.is_some(), "has no token: syslog has no place for it"),
            (SinkKind::Http | SinkKind::Otlp, _, _) => (false, ""),
        };
        wrong.0.then_some(wrong.1)
    }
}
