//! The store of a configuration: where it is, how it is opened and unsealed, and the event of a change.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::bail;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{rotation, store_marker};
use crate::config::File;
use crate::custody::{MasterKey, UnsealedStore};
use crate::state::StateDir;
use crate::storage::{PendingAuditEvent, Revision, Rows, Seconds, Sqlite, Storage as _, format_time};

/// Where the store of this configuration is.
pub(crate) fn path_of(file: &File) -> PathBuf {
    file.state_dir.value.join("store.db")
}

/// The store, open, and what it holds.
pub(crate) struct Opened {
    /// The store itself.
    pub store: Sqlite,
    /// What it holds, unsealed.
    pub stored: UnsealedStore,
    /// The revision at which it was read.
    pub stamp: Revision,
    /// None where nothing is sealed.
    pub key: Option<Rc<MasterKey>>,
}

/// The store, to be followed; none where there never was one.
///
/// # Errors
/// Where it is there no more, or cannot be used, and why.
pub(crate) async fn open(file: &File) -> anyhow::Result<Option<Sqlite>> {
    let path = path_of(file);
    if !store_marker::store_exists(&path)? {
        return Ok(None);
    }
    StateDir::check(&file.state_dir.value)?;
    let store = Sqlite::open(&path).await?;
    // Who holds the store up must not hold up the control thread: what it writes can wait.
    store.wait_at_most(std::time::Duration::from_millis(100)).await?;
    Ok(Some(store))
}

/// What the store holds, opened with the master key where anything is sealed. `None` where there
/// never was a store.
///
/// # Errors
/// Where it cannot be used, and why: never as if it were empty.
pub(crate) async fn stored(file: &File) -> anyhow::Result<Option<Opened>> {
    let Some(store) = open(file).await? else { return Ok(None) };
    let (mut rows, mut stamp) = store.read().await?;
    let mut key = rotation::for_reading(file, &rows, None);
    if key.is_err() {
        // It may have been rotated between the two looks.
        (rows, stamp) = store.read().await?;
        key = rotation::for_reading(file, &rows, None);
    }
    let key = key?;
    let (stored, broken) = UnsealedStore::open(rows, key.as_deref());
    if let Some(broken) = broken.first() {
        bail!("{}: {broken}", path_of(file).display());
    }
    Ok(Some(Opened { store, stored, stamp, key }))
}

/// The same of rows that were read while running: what does not open is not used, and why it does not
/// comes beside the rest.
pub(crate) fn unseal_rows(
    file: &File,
    rows: Rows,
    held: &mut Option<Rc<MasterKey>>,
) -> (UnsealedStore, Option<String>) {
    match rotation::for_reading(file, &rows, held.as_ref()) {
        Ok(key) => *held = key,
        Err(why) => return (UnsealedStore::open(rows, None).0, Some(format!("{why:#}"))),
    }
    let (stored, broken) = UnsealedStore::open(rows, held.as_deref());
    let why: Vec<String> = broken.iter().map(ToString::to_string).collect();
    (stored, (!why.is_empty()).then(|| why.join("; ")))
}

/// The note of a change: who made it and when, since the trail may be told much later, and its id, by
/// which one that was told twice is known.
pub(crate) fn audit_event(
    (what, members): (&str, &[(&str, Value)]),
    (by, now): (String, Seconds),
) -> PendingAuditEvent {
    let id = Uuid::now_v7().to_string();
    let first = [("what", what.into()), ("change", id.as_str().into()), ("at", format_time(now).into())];
    let by = ("by", Value::from(by));
    let all = first.iter().chain([&by]).chain(members);
    let members = all.fold(String::new(), |text, (name, value)| format!("{text},{}:{value}", json!(name)));
    PendingAuditEvent { id, members }
}
