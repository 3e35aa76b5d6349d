//! The store of a configuration: its path, and how it is opened and unsealed.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::bail;

use super::{rotation, store_marker};
use crate::config::File;
use crate::custody::{MasterKey, UnsealedStore};
use crate::state::StateDir;
use crate::storage::{Revision, Rows, Sqlite, Storage as _};

/// The path of the store of this configuration.
pub(crate) fn path_of(file: &File) -> PathBuf {
    file.state_dir.value.join("store.db")
}

/// The open store and its content.
pub(crate) struct Opened {
    /// The connection to the store.
    pub store: Sqlite,
    /// The content of the store, unsealed.
    pub stored: UnsealedStore,
    /// The revision of the content.
    pub stamp: Revision,
    /// The master key; `None` if nothing is sealed.
    pub key: Option<Rc<MasterKey>>,
}

/// Opens the store, to follow its changes; `None` if there never was a store.
///
/// # Errors
/// If the store is missing although there was one, or cannot be used, with the reason.
pub(crate) async fn open(file: &File) -> anyhow::Result<Option<Sqlite>> {
    let path = path_of(file);
    if !store_marker::store_exists(&path)? {
        return Ok(None);
    }
    StateDir::check(&file.state_dir.value)?;
    let store = Sqlite::open(&path).await?;
    // A process that locks the store must not block the control thread. Writes of the control thread can wait.
    store.wait_at_most(std::time::Duration::from_millis(100)).await?;
    Ok(Some(store))
}

/// Opens the store, reads it, and unseals its content with the master key; `None` if there never was a store.
///
/// # Errors
/// If the store cannot be used, with the reason. It is never treated as empty.
pub(crate) async fn stored(file: &File) -> anyhow::Result<Option<Opened>> {
    let Some(store) = open(file).await? else { return Ok(None) };
    let (mut rows, mut stamp) = store.read().await?;
    let mut key = rotation::current_key(file, &rows, None, None);
    if key.is_err() {
        // The key may have been rotated between the two reads.
        (rows, stamp) = store.read().await?;
        key = rotation::current_key(file, &rows, None, None);
    }
    let key = key?;
    let (stored, broken) = UnsealedStore::open(rows, key.as_deref());
    if let Some(broken) = broken.first() {
        bail!("{}: {broken}", path_of(file).display());
    }
    Ok(Some(Opened { store, stored, stamp, key }))
}

/// Reads and unseals the store, for a command that does not follow it; `None` if there never was a store.
///
/// # Errors
/// Those of [`stored`].
pub(crate) fn read_offline(file: &File) -> anyhow::Result<Option<UnsealedStore>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let Some(Opened { store, stored, .. }) = stored(file).await? else { return Ok(None) };
        store.close().await;
        Ok(Some(stored))
    })
}

/// Unseals rows that were read while the gateway runs. Records that cannot be opened are left out, and the reason is
/// returned beside the rest.
pub(crate) fn unseal_rows(
    file: &File,
    rows: Rows,
    cached: &mut Option<Rc<MasterKey>>,
) -> (UnsealedStore, Option<String>) {
    match rotation::current_key(file, &rows, cached.as_ref(), None) {
        Ok(key) => *cached = key,
        Err(why) => return (UnsealedStore::open(rows, None).0, Some(format!("{why:#}"))),
    }
    let (stored, broken) = UnsealedStore::open(rows, cached.as_deref());
    let why: Vec<String> = broken.iter().map(ToString::to_string).collect();
    (stored, (!why.is_empty()).then(|| why.join("; ")))
}
