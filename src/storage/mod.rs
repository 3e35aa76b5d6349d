//! What the store keeps: rows of consumers, tokens, credentials and freezes. It sees ciphertext and
//! digests only, and can open neither.
//!
//! A change is a list of [`Change`]s that is applied whole or not at all, with the [`PendingAuditEvent`] that
//! tells the trail of it: no change without its event, whoever made it and whenever.

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

/// A time, in seconds since 1970.
pub type Seconds = i64;

/// A moment in seconds since 1970, as RFC 3339 in UTC.
pub(crate) fn format_time(at: Seconds) -> String {
    Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.to_string())
}

/// A consumer that was added while running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerRow {
    /// Its name.
    pub name: String,
    /// When it was added.
    pub created: Seconds,
    /// Whether it may call.
    pub disabled: bool,
    /// Words of the custodian.
    pub note: Option<String>,
}

/// A token that was issued. It outlives its revocation, so that an auditor finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its id, which is no secret.
    pub id: String,
    /// Whose it is: a consumer of the store or of the file.
    pub consumer: String,
    /// The SHA-256 of the token.
    pub digest: [u8; 32],
    /// When it was issued.
    pub created: Seconds,
    /// When it ends.
    pub expires: Option<Seconds>,
    /// When it was revoked.
    pub revoked: Option<Seconds>,
    /// When it was last used, as far as is known.
    pub last_used: Option<Seconds>,
    /// Words of the custodian.
    pub note: Option<String>,
}

/// A virtual access key that was issued. It outlives its revocation, as a token does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKeyRow {
    /// Its id, a UUID, which is no secret.
    pub id: String,
    /// Whose it is: a consumer of the store or of the file.
    pub consumer: String,
    /// The secret, sealed.
    pub sealed: Vec<u8>,
    /// What it may sign with, by their names, with blanks between them.
    pub algorithms: String,
    /// Where a signature is good once only: how far its date may be from now, in seconds.
    pub strict: Option<Seconds>,
    /// When it was issued.
    pub created: Seconds,
    /// When it ends.
    pub expires: Option<Seconds>,
    /// When it was revoked.
    pub revoked: Option<Seconds>,
    /// When it was last used, as far as is known.
    pub last_used: Option<Seconds>,
    /// Words of the custodian.
    pub note: Option<String>,
}

/// A named credential; its material is in its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialRow {
    /// Its name.
    pub name: String,
    /// The upstream it is for.
    pub upstream: String,
    /// Its kind, as in the file: `access-key`, `value`.
    pub kind: String,
    /// When it was added.
    pub created: Seconds,
    /// Whether it may be used.
    pub disabled: bool,
}

/// How far a version of a credential is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Kept, not used yet.
    Staged,
    /// In use.
    Active,
    /// Not used any more; while its overlap lasts it can be made active again.
    Retired,
}

/// One version of a credential's material.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRow {
    /// The credential's name.
    pub credential: String,
    /// The version, from 1.
    pub version: u32,
    /// How far it is in its life.
    pub stage: Stage,
    /// The material, sealed.
    pub sealed: Vec<u8>,
    /// When it was added.
    pub created: Seconds,
    /// Until when a retired one is kept.
    pub until: Option<Seconds>,
}

/// What a freeze stops.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FreezeTarget {
    /// Every call.
    Gateway,
    /// Every call to an upstream.
    Upstream(String),
    /// Every call of a consumer.
    Consumer(String),
    /// Every call with a credential.
    Credential(String),
}

/// A change as the trail tells it, kept until it is on the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingAuditEvent {
    /// A UUID of version 7: its order is that of the changes.
    pub id: String,
    /// The members of the `admin` event after `event`, each after a comma: JSON.
    pub members: String,
}

/// Everything in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rows {
    /// By name.
    pub consumers: Vec<ConsumerRow>,
    /// By id.
    pub tokens: Vec<TokenRow>,
    /// By id.
    pub access_keys: Vec<AccessKeyRow>,
    /// By name.
    pub credentials: Vec<CredentialRow>,
    /// By credential and version.
    pub versions: Vec<VersionRow>,
    /// The highest number that a version of each name of a credential ever had, by name. It outlives
    /// version and credential, since the trail tells versions apart by their numbers.
    pub last_versions: Vec<(String, u32)>,
    /// In their order.
    pub frozen: Vec<FreezeTarget>,
    /// What the trail was not told yet, in order.
    pub notes: Vec<PendingAuditEvent>,
    /// A value sealed at the beginning, by which a wrong master key is known.
    pub key_check: Option<Vec<u8>>,
}

impl Rows {
    /// The number of a credential's next version: one that none of this name ever had.
    #[must_use]
    pub fn next_version(&self, credential: &str) -> u32 {
        let last = self.last_versions.iter().find(|(name, _)| name == credential);
        last.map_or(1, |(_, last)| last.saturating_add(1))
    }

    /// What was read before, brought up to date. `new` has every row of the small tables; its consumers, tokens
    /// and access keys are those of consumers `touched`, and replace theirs. The rest stays.
    fn merge_changed(self, touched: &HashSet<String>, new: Self) -> Self {
        let Self { mut consumers, mut tokens, mut access_keys, .. } = self;
        replace(&mut consumers, new.consumers, |row| touched.contains(&row.name), |row| &row.name);
        replace(&mut tokens, new.tokens, |row| touched.contains(&row.consumer), |row| &row.id);
        replace(&mut access_keys, new.access_keys, |row| touched.contains(&row.consumer), |row| &row.id);
        Self { consumers, tokens, access_keys, ..new }
    }
}

/// Puts new rows in the place of those that are old, in the order of their keys.
fn replace<R>(rows: &mut Vec<R>, new: Vec<R>, old: impl Fn(&R) -> bool, key: impl Fn(&R) -> &str) {
    rows.retain(|row| !old(row));
    if new.is_empty() {
        return;
    }
    rows.extend(new);
    rows.sort_by(|one, other| key(one).cmp(key(other)));
}

/// One part of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a consumer, or replaces the one of that name.
    PutConsumer(ConsumerRow),
    /// Takes a consumer away, with its tokens and access keys.
    RemoveConsumer(String),
    /// Adds a token, or replaces the one of that id.
    PutToken(TokenRow),
    /// Adds an access key, or replaces the one of that id.
    PutAccessKey(AccessKeyRow),
    /// Notes the last use of a token or access key, where it is later than the one known. Never fails for
    /// one that is gone.
    MarkUsed(String, Seconds),
    /// Adds a credential, or replaces the one of that name.
    PutCredential(CredentialRow),
    /// Takes a credential away, with its versions.
    RemoveCredential(String),
    /// Adds a version, or replaces it.
    PutVersion(VersionRow),
    /// Takes a version away.
    RemoveVersion(String, u32),
    /// Freezes.
    Freeze(FreezeTarget),
    /// Thaws; no error where nothing was frozen.
    Unfreeze(FreezeTarget),
    /// Leaves a note for the trail.
    QueueAuditEvent(PendingAuditEvent),
    /// The trail has this note.
    AuditEventPublished(String),
    /// Sets the proof of the master key.
    SetKeyCheck(Vec<u8>),
    /// Gives up what the trail knows of, up to this state.
    AcceptStore(Revision),
}

/// Which state of the store it is. A change may be made for one, and fails where another came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// How often the store was changed.
    pub changes: i64,
    /// Drawn at the last change: by it the same count of another history is told apart, where an older
    /// state was put back.
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

/// The states that a store was in: by them one that was put back is told from one that was changed since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// The latest of its stamps. What came before them is not known.
    pub stamps: BTreeMap<i64, i64>,
    /// A stamp of what a custodian has given up.
    pub accepted: Option<Revision>,
    /// Whether a change of it was ever recorded on a trail. Where an older version alone has done so, this is false.
    pub is_recorded: bool,
}

impl History {
    /// Whether the store was in this state, as far as it knows.
    #[must_use]
    pub fn holds(&self, stamp: Revision) -> bool {
        let is_before = self.stamps.first_key_value().is_some_and(|(first, _)| stamp.changes < *first);
        is_before || self.stamps.get(&stamp.changes) == Some(&stamp.mark) || self.accepted == Some(stamp)
    }
}

/// The store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened, read or written.
    #[error("{path}: {reason}")]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// It was changed since the rows were read that the change is made from. Nothing was changed.
    #[error("the store was changed by another meanwhile, and nothing was changed now: do it again")]
    Conflict,
}

/// Where rows are kept.
pub trait Storage {
    /// Everything, as of one moment, with the stamp of that moment.
    fn read(&self) -> impl Future<Output = Result<(Rows, Revision), StoreError>>;

    /// The same as [`read`](Self::read) from rows that were read at `from`. Where few consumers were touched
    /// since, little more is read than what is theirs, so that of very many rows a change is known as soon as of
    /// few. Last uses alone may stay as they were.
    fn read_since(
        &self,
        rows: Rows,
        from: Revision,
    ) -> impl Future<Output = Result<(Rows, Revision), StoreError>>;

    /// Makes all of `changes`, or none, durable before it returns. With `from`, only where nothing
    /// else was changed since.
    fn write(
        &self,
        changes: &[Change],
        from: Option<Revision>,
    ) -> impl Future<Output = Result<(), StoreError>>;

    /// The stamp now, counted in the store itself, so that it is the same for all who look, in
    /// whichever process: it is another after any change by anybody but for [`Change::MarkUsed`],
    /// [`Change::QueueAuditEvent`] and [`Change::AuditEventPublished`]. Cheap enough to be asked every quarter of a second.
    fn stamp(&self) -> impl Future<Output = Result<Revision, StoreError>>;

    /// The states that it was in.
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
