//! `[audit]`: the settings of the trail and its sinks.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Sink;
use crate::config::decode::choice::word;
use crate::config::decode::scalar::integer;
use crate::config::decode::text::{origin, path};
use crate::config::decode::units::{duration, size};
use crate::config::decode::{Node, Read, Table};
use crate::config::{Declared, Spanned};

/// The settings of the audit trail.
#[derive(Clone, Debug)]
pub struct Audit {
    /// The folder of the segments.
    pub dir: Spanned<PathBuf>,
    /// When the gateway considers a record as stored.
    pub durability: Durability,
    /// The size at which a new segment is begun, in bytes.
    pub rotate: u64,
    /// The name of the trail in its signed heads.
    pub origin: String,
    /// The number of events after which a head is signed.
    pub checkpoint_events: u64,
    /// The longest time that an event waits for a signed head.
    pub checkpoint_interval: Duration,
    /// How long a closed segment stays uncompressed.
    pub compress_after: Duration,
    /// How long events are kept; absent for ever.
    pub retain: Option<Duration>,
    /// The greatest size of all segments together, in bytes; absent for no limit.
    pub retain_size: Option<u64>,
    /// The sinks that receive events as they are recorded.
    pub sinks: Declared<Sink>,
}

/// When the gateway considers a record as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// When it is flushed to the disk, before the call is forwarded.
    Sync,
    /// When it is queued; it is flushed to the disk within 10 ms.
    Batched,
}

impl Audit {
    /// All settings, wherever in the file they stand, for a comparison.
    #[must_use]
    pub fn settings(&self) -> impl PartialEq + use<> {
        let heads = (self.origin.clone(), self.checkpoint_events, self.checkpoint_interval);
        let retain = (self.compress_after, self.retain, self.retain_size);
        let sinks: Vec<_> =
            self.sinks.iter().map(|(name, sink)| (name.to_owned(), sink.settings())).collect();
        (self.dir.value.clone(), self.durability, self.rotate, heads, retain, sinks)
    }

    pub(super) fn new(state_dir: &Path) -> Self {
        let dir = Spanned::synthetic(state_dir.join("audit"));
        Self {
            dir,
            durability: Durability::Sync,
            rotate: 128 << 20,
            origin: "claviger".into(),
            checkpoint_events: 1000,
            checkpoint_interval: Duration::from_secs(10),
            compress_after: Duration::from_hours(1),
            retain: None,
            retain_size: None,
            sinks: Declared::default(),
        }
    }

    pub(super) fn read(node: &Node<'_>, state_dir: &Path) -> Read<Self> {
        let default = Self::new(state_dir);
        let mut table = Table::of(node)?;
        let words = [("sync", Durability::Sync), ("batched", Durability::Batched)];
        let retain =
            table.optional("retain", duration(Duration::from_secs(1)..=Duration::from_hours(24 * 36_500)));
        let retain_size = table.optional("retain_size", size(1 << 10..=1 << 50));
        let audit = Self {
            dir: table.or_default("dir", default.dir, path),
            durability: table.or_default("durability", default.durability, word(&words)),
            rotate: table.or_default("rotate", default.rotate, size(1 << 10..=1 << 40)),
            origin: table.or_default("origin", default.origin, origin),
            checkpoint_events: table.or_default(
                "checkpoint_events",
                default.checkpoint_events,
                integer(1..=1_000_000),
            ),
            checkpoint_interval: table.or_default(
                "checkpoint_interval",
                default.checkpoint_interval,
                duration(Duration::from_millis(100)..=Duration::from_hours(1)),
            ),
            compress_after: table.or_default(
                "compress_after",
                default.compress_after,
                duration(Duration::ZERO..=Duration::from_hours(24 * 36_500)),
            ),
            retain: retain?,
            retain_size: retain_size?,
            sinks: table.keyed_items("sinks", Sink::read),
        };
        table.finish();
        Ok(audit)
    }
}
