//! `[audit]`: the settings of the trail and its sinks.

use std::path::PathBuf;
use std::time::Duration;

use super::reference::Reference;
use crate::audit::Durability;
use crate::config::decode::{
    Absent, Reader, Section, boolean, declared_name, duration, integer, named_by, optional, or, or_default,
    or_from, origin, path, required, section, size, url, word,
};
use crate::config::{Declared, Spanned};
use crate::name::Name;

section! {
    /// The settings of the audit trail.
    pub struct Audit {
        /// The folder of the segments.
        dir: Spanned<PathBuf> = or_from(
            Absent::Words("`\"audit\"` in `state_dir`"),
            |context| Spanned::synthetic(context.state_dir.join("audit")),
            path()
        ),
        /// When an event counts as recorded; `sync`: a call is on the disk before it leaves; `batched`: within 10 ms.
        durability: Durability = or_default(Durability::Sync, word(&DURABILITIES)),
        /// The size at which a new segment begins.
        rotate: u64 = or_default(128 << 20, size(1 << 10..=1 << 40)),
        /// The trail's name in its signed heads; no blanks, no `+`.
        origin: String = or_default("claviger".to_owned(), origin()),
        /// The number of events after which a head is signed.
        checkpoint_events: u64 = or_default(1000, integer(1..=1_000_000)),
        /// The longest time until a signed head covers an event.
        checkpoint_interval: Duration = or_default(
            Duration::from_secs(10), duration(Duration::from_millis(100)..=Duration::from_hours(1))
        ),
        /// The time after which a closed segment is compressed (zstd).
        compress_after: Duration = or_default(Duration::from_hours(1), duration(Duration::ZERO..=CENTURY)),
        /// The time after which events are deleted; by default never.
        retain: Option<Duration> = optional(duration(Duration::from_secs(1)..=CENTURY)),
        /// The size of all segments together beyond which the oldest are deleted; by default never.
        retain_size: Option<u64> = optional(size(1 << 10..=1 << 50)),
        /// The sinks that receive events as they come. An event that a sink does not have yet is not deleted.
        sinks: Declared<Sink> = named_by(sink),
    }
}

section! {
    /// A sink, which receives events.
    pub struct Sink {
        /// The name of the sink in its cursor file and in logs.
        name: Spanned<Name> = declared_name(),
        /// The kind: `stdout`, `syslog` (RFC 5424, octet counting), `http` (JSON arrays), `otlp` (logs, in JSON) or
        /// `witness` (signed heads alone).
        kind: Spanned<SinkKind> = required(word(&KINDS).located()),
        /// The URL: `tls://host:port` or `tcp://host:port` for syslog; `https://…` or `http://…` for the others.
        url: Option<Spanned<String>> = optional(url()),
        /// The file of a witness, which always holds the latest head, for `audit verify --head`.
        file: Option<Spanned<PathBuf>> = optional(path()),
        /// The bearer token that is sent: `{ file }` or `{ env }`.
        token: Option<Spanned<Reference>> = optional(Reference::reader()),
        /// The sink's authority or its own certificate, in PEM, instead of the public authorities.
        ca_file: Option<Spanned<PathBuf>> = optional(path()),
        /// Whether the sink may be reached without TLS beyond this machine.
        insecure_plaintext: bool = or(false, boolean()),
    }
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
const DURABILITIES: [(&str, Durability); 2] = [("sync", Durability::Sync), ("batched", Durability::Batched)];

/// The longest delay that can be set for events.
const CENTURY: Duration = Duration::from_hours(24 * 36_500);

/// Reads a sink, and checks that it has the keys of its kind.
fn sink() -> Reader<Sink> {
    Sink::reader().check(|sink| {
        let alone = sink.token.is_none() && sink.ca_file.is_none();
        let (wrong, fault) = match (sink.kind.value, sink.url.is_some(), sink.file.is_some()) {
            (SinkKind::Stdout, url, file) => {
                (url || file || !alone, "is standard output: it has nothing but its kind")
            }
            (SinkKind::Witness, false, true) => (!alone, "writes a file: it has no token and no ca_file"),
            (SinkKind::Witness, url, file) => (url == file, "needs a url or a file, and not both"),
            (_, false, _) => (true, "needs a url"),
            (_, _, true) => (true, "has no file: that is for a witness"),
            (SinkKind::Syslog, _, _) => (sink.token.is_some(), "has no token: syslog has no place for it"),
            (SinkKind::Http | SinkKind::Otlp, _, _) => (false, ""),
        };
        wrong.then_some(fault)
    })
}
