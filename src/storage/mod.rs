//! The store: rows of consumers, tokens, credentials and freezes. It handles only ciphertext and digests,
//! and can decrypt nothing.
//!
//! A change is a list of [`Change`]s that is applied in one transaction. The list includes the [`PendingAuditEvent`]
//! that records the change on the trail, so no change is made without its event.

mod read;
mod sqlite;
mod write;

pub use sqlite::Sqlite;

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::future::Future;
use std::num::ParseIntError;
use std::path::PathBuf;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A point in time, in seconds since 1970.
pub type Seconds = i64;

/// Formats a time in seconds since 1970 as RFC 3339 in UTC.
pub(crate) fn format_time(at: Seconds) -> String {
    Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// A consumer that was added to the store by a command.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ConsumerRow {
    /// The name of the consumer.
    pub name: String,
    /// Time of creation.
    pub created: Seconds,
    /// Whether the consumer's calls are refused.
    pub disabled: bool,
    /// A free-text note of the operator.
    pub note: Option<String>,
}

/// To whom a token or an access key was issued, and until when. The row outlives the revocation, for auditors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Issuance {
    /// The id, a UUID, which is not secret.
    pub id: String,
    /// The consumer that owns it, of the store or of the configuration file.
    pub consumer: String,
    /// Time of issue.
    pub created: Seconds,
    /// Time of expiry, if it expires.
    pub expires: Option<Seconds>,
    /// Time of revocation, if it was revoked.
    pub revoked: Option<Seconds>,
    /// Time of the last known use.
    pub last_used: Option<Seconds>,
    /// A free-text note of the operator.
    pub note: Option<String>,
}

/// An issued token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its owner and its life.
    pub issued: Issuance,
    /// The SHA-256 digest of the token.
    pub digest: [u8; 32],
}

/// An issued virtual access key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKeyRow {
    /// Its owner and its life.
    pub issued: Issuance,
    /// The sealed secret of the key.
    pub sealed: Vec<u8>,
    /// The names of the algorithms that the key may sign with, separated by blanks.
    pub algorithms: String,
    /// If set, each signature is accepted once only, and its date may differ from now by at most this many seconds.
    pub strict: Option<Seconds>,
}

/// A named credential. Its versions hold the material.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct CredentialRow {
    /// The name of the credential.
    pub name: String,
    /// The name of the upstream that accepts it.
    pub upstream: String,
    /// The kind of the credential, as the configuration file spells it: `access-key`, `value`.
    pub kind: String,
    /// Time of creation.
    pub created: Seconds,
    /// Whether the credential is barred from use.
    pub disabled: bool,
}

/// The stage of a credential version in its life cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Stored, but not used yet.
    Staged,
    /// The version in use for calls.
    Active,
    /// No longer used. The operator can activate it again until its overlap ends.
    Retired,
}

impl Stage {
    /// Returns the name of the stage in rows and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "staged",
            Self::Active => "active",
            Self::Retired => "retired",
        }
    }
}

/// One version of a credential's material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// The name of the credential.
    pub credential: String,
    /// The version number, from 1.
    pub version: u32,
    /// The stage in the life cycle.
    pub stage: Stage,
    /// The sealed material.
    pub sealed: Vec<u8>,
    /// Time of creation.
    pub created: Seconds,
    /// The time until which a retired version is kept.
    pub until: Option<Seconds>,
}

/// The calls that a freeze stops.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FreezeTarget {
    /// Every call to every upstream.
    Gateway,
    /// Every call to an upstream.
    Upstream(String),
    /// Every call of a consumer.
    Consumer(String),
    /// Every call with a credential.
    Credential(String),
}

impl FreezeTarget {
    /// Parses the kind and the name of a target, as [`kind`](Self::kind) and [`name`](Self::name) give them.
    #[must_use]
    pub fn parse(kind: &str, name: String) -> Option<Self> {
        match kind {
            "gateway" => Some(Self::Gateway),
            "upstream" => Some(Self::Upstream(name)),
            "consumer" => Some(Self::Consumer(name)),
            "credential" => Some(Self::Credential(name)),
            _ => None,
        }
    }

    /// Returns the kind of the target, as rows and events spell it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Upstream(_) => "upstream",
            Self::Consumer(_) => "consumer",
            Self::Credential(_) => "credential",
        }
    }

    /// Returns the name of the target; empty for the gateway.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Gateway => "",
            Self::Upstream(name) | Self::Consumer(name) | Self::Credential(name) => name,
        }
    }
}

/// An audit event of a change in the outbox, kept until it is on the trail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingAuditEvent {
    /// The change that was made.
    pub what: String,
    /// The id, a version 7 UUID. Ids sort in the order of the changes. A duplicate is recognised by it.
    #[serde(rename = "change", default)]
    pub id: String,
    /// The time of the change (RFC 3339). The event may be published much later.
    #[serde(default)]
    pub at: String,
    /// The operator who made the change.
    #[serde(default)]
    pub by: String,
    /// The other members of the event: the objects of the change.
    #[serde(flatten)]
    pub members: Map<String, Value>,
}

impl PendingAuditEvent {
    /// Builds the event of a change that is made now. `members` is an object.
    #[must_use]
    pub fn new(what: &str, by: String, now: Seconds, members: Value) -> Self {
        let members = if let Value::Object(members) = members { members } else { Map::new() };
        Self { what: what.to_owned(), id: Uuid::now_v7().to_string(), at: format_time(now), by, members }
    }
}

/// All rows of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// The consumers, sorted by name.
    pub consumers: Vec<ConsumerRow>,
    /// The tokens, sorted by id.
    pub tokens: Vec<TokenRow>,
    /// The access keys, sorted by id.
    pub access_keys: Vec<AccessKeyRow>,
    /// The credentials, sorted by name.
    pub credentials: Vec<CredentialRow>,
    /// The versions, sorted by credential and version.
    pub versions: Vec<VersionRow>,
    /// The highest version number that each credential name ever had, sorted by name. It outlives version and
    /// credential, since the trail tells versions apart by their numbers.
    pub last_versions: Vec<(String, u32)>,
    /// The freeze targets in effect, sorted.
    pub frozen: Vec<FreezeTarget>,
    /// The outbox: events that are not on the trail yet, in order.
    pub notes: Vec<PendingAuditEvent>,
    /// A value sealed when the store was created. A wrong master key cannot open it.
    pub key_check: Option<Vec<u8>>,
}

impl Rows {
    /// Returns the row of the consumer with this name.
    #[must_use]
    pub fn consumer(&self, name: &str) -> Option<&ConsumerRow> {
        let at = self.consumers.binary_search_by(|row| row.name.as_str().cmp(name)).ok()?;
        self.consumers.get(at)
    }

    /// Returns the row of the credential with this name.
    #[must_use]
    pub fn credential(&self, name: &str) -> Option<&CredentialRow> {
        let at = self.credentials.binary_search_by(|row| row.name.as_str().cmp(name)).ok()?;
        self.credentials.get(at)
    }

    /// Returns the number for a credential's next version. No version of this name ever had it.
    #[must_use]
    pub fn next_version(&self, credential: &str) -> u32 {
        let last = self.last_versions.iter().find(|(name, _)| name == credential);
        last.map_or(1, |(_, last)| last.saturating_add(1))
    }

    /// Merges newly read rows into these. `new` has every row of the small tables. Its consumers, tokens and access
    /// keys replace those of the `touched` consumers; all others stay.
    fn merge_changed(self, touched: &HashSet<String>, new: Self) -> Self {
        let Self { mut consumers, mut tokens, mut access_keys, .. } = self;
        replace(&mut consumers, new.consumers, |row| touched.contains(&row.name), |row| &row.name);
        replace(&mut tokens, new.tokens, |row| touched.contains(&row.issued.consumer), |row| &row.issued.id);
        replace(
            &mut access_keys,
            new.access_keys,
            |row| touched.contains(&row.issued.consumer),
            |row| &row.issued.id,
        );
        Self { consumers, tokens, access_keys, ..new }
    }
}

/// Replaces the rows that are `old` by the `new` ones, and keeps the order of the keys.
fn replace<R>(rows: &mut Vec<R>, new: Vec<R>, old: impl Fn(&R) -> bool, key: impl Fn(&R) -> &str) {
    rows.retain(|row| !old(row));
    if new.is_empty() {
        return;
    }
    rows.extend(new);
    rows.sort_by(|one, other| key(one).cmp(key(other)));
}

/// One part of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a consumer, or replaces the one with the same name.
    PutConsumer(ConsumerRow),
    /// Removes a consumer, with its tokens and access keys.
    RemoveConsumer(String),
    /// Adds a token, or replaces the one with the same id.
    PutToken(TokenRow),
    /// Adds an access key, or replaces the one with the same id.
    PutAccessKey(AccessKeyRow),
    /// Records the last use of a token or access key, if it is later than the known one. Ignores unknown ids.
    MarkUsed(String, Seconds),
    /// Adds a credential, or replaces the one with the same name.
    PutCredential(CredentialRow),
    /// Removes a credential, with its versions.
    RemoveCredential(String),
    /// Adds a version, or replaces it.
    PutVersion(VersionRow),
    /// Removes the version of this credential with this number.
    RemoveVersion(String, u32),
    /// Puts a freeze into effect.
    Freeze(FreezeTarget),
    /// Lifts a freeze. Does not fail if nothing was frozen.
    Unfreeze(FreezeTarget),
    /// Adds an audit event to the outbox.
    QueueAuditEvent(PendingAuditEvent),
    /// Removes the event with this id from the outbox, since it is on the trail.
    AuditEventPublished(String),
    /// Sets the value that shows whether a master key is the right one.
    SetKeyCheck(Vec<u8>),
    /// Accepts that store changes which the trail records, up to this revision, are lost.
    AcceptStore(Revision),
}

/// A revision of the store. A change may name the revision it was made from; it fails if another change came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// The number of changes ever made to the store.
    pub changes: i64,
    /// A random number drawn at the last change. It distinguishes revisions with the same count after an older copy of
    /// the store was restored.
    pub mark: i64,
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.changes, self.mark)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        let (changes, mark) = text.split_once(':').unwrap_or((text, ""));
        Ok(Self { changes: changes.parse()?, mark: mark.parse()? })
    }
}

/// The revisions that a store has had. They distinguish a restored older copy from a store that was changed since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The latest revisions: count of changes to mark. Earlier revisions are not known.
    pub stamps: BTreeMap<i64, i64>,
    /// A revision up to which an operator has accepted the loss of changes.
    pub accepted: Option<Revision>,
    /// Whether a change of this store was ever recorded on a trail. False if only an older version of claviger did so.
    pub is_recorded: bool,
}

impl History {
    /// Whether the store has had this revision, as far as it knows.
    #[must_use]
    pub fn holds(&self, stamp: Revision) -> bool {
        let is_before = self.stamps.first_key_value().is_some_and(|(first, _)| stamp.changes < *first);
        is_before || self.stamps.get(&stamp.changes) == Some(&stamp.mark) || self.accepted == Some(stamp)
    }
}

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The store cannot be opened, read or written.
    #[error("{path}: {reason}")]
    Unusable {
        /// The file at fault.
        path: PathBuf,
        /// The reason for the failure.
        reason: String,
    },
    /// Another change came after the rows were read that this change is made from. Nothing was changed.
    #[error("the store was changed by another meanwhile, and nothing was changed now: do it again")]
    Conflict,
}

/// Access to the rows of the store.
pub trait Storage {
    /// Reads all rows in one transaction, with the revision.
    fn read(&self) -> impl Future<Output = Result<(Rows, Revision), StoreError>>;

    /// Brings `rows`, which were read at revision `from`, up to date and returns them with the new revision.
    ///
    /// If few consumers were touched since, it reads little more than their rows. The time to notice a change thus
    /// hardly depends on the number of rows. Last uses alone may stay as they were.
    fn read_since(
        &self,
        rows: Rows,
        from: Revision,
    ) -> impl Future<Output = Result<(Rows, Revision), StoreError>>;

    /// Applies all `changes` in one transaction, which is durable when this returns. With `from`, the revision of the
    /// store must still be `from`.
    fn write(
        &self,
        changes: &[Change],
        from: Option<Revision>,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// Reads the current revision. The store itself counts it, so every process sees the same one.
    ///
    /// Every change makes a new revision, except [`Change::MarkUsed`], [`Change::QueueAuditEvent`] and
    /// [`Change::AuditEventPublished`]. The call is cheap enough for a poll four times a second.
    fn stamp(&self) -> impl Future<Output = Result<Revision, StoreError>>;

    /// Reads the revisions that the store has had.
    fn history(&self) -> impl Future<Output = Result<History, StoreError>>;
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_known_by_its_mark() {
        let stamp = |changes, mark| Revision { changes, mark };
        let accepted = Some(stamp(90, -9));
        let history =
            History { stamps: [(10, -1), (11, 5), (12, i64::MIN)].into(), accepted, is_recorded: true };
        for (known, held) in [
            (stamp(12, i64::MIN), true),
            (stamp(11, 5), true),
            (stamp(11, 6), false),
            (stamp(13, 5), false),
            (stamp(9, 77), true),
            (stamp(90, -9), true),
            (stamp(90, 9), false),
        ] {
            assert_eq!(history.holds(known), held, "{known}");
            assert_eq!(known.to_string().parse::<Revision>().unwrap(), known);
        }
        assert!(!History::default().holds(stamp(0, 0)), "no store was in any state");
        for wrong in ["", "1", "1:", ":1", "a:1"] {
            assert!(wrong.parse::<Revision>().is_err(), "{wrong}");
        }
    }
}
