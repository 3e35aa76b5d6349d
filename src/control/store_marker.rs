//! The marker file beside the store, which records that a store was created. Without it, a deleted store would look as
//! if there never was one. Everything frozen, revoked or disabled in it would take no effect any more.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::fs::trust;

/// The text in the marker file, for people who open it.
const TEXT: &str = "A store was made here: without store.db claviger does not start.\n";

/// The path of the marker of the store at `store`.
fn mark_of(store: &Path) -> PathBuf {
    store.with_extension("marker")
}

/// The path of the marker that earlier versions wrote. It counts as one; [`write_marker`] gives it the new name.
fn former_mark_of(store: &Path) -> PathBuf {
    store.with_extension("made")
}

/// Whether there is a store at `store`.
///
/// # Errors
/// If there was a store and it is gone, with the remedy; if the file system gives no answer.
pub(crate) fn store_exists(store: &Path) -> anyhow::Result<bool> {
    let exists = |path: &Path| path.try_exists().with_context(|| path.display().to_string());
    let mark = mark_of(store);
    // Checked twice: between the two checks another process may have made both, the store first.
    if exists(store)? {
        return Ok(true);
    }
    if !exists(&mark)? && !exists(&former_mark_of(store))? {
        return Ok(false);
    }
    if exists(store)? {
        return Ok(true);
    }
    bail!(
        "{} is missing: restore it from a backup; or, if its consumers, tokens, credentials and freezes may be lost, run \
         `claviger store accept`, which records that ({} shows that there was a store)",
        store.display(),
        mark.display()
    )
}

/// Whether the marker says that there was a store at `store`.
pub(crate) fn was_there(store: &Path) -> bool {
    mark_of(store).exists() || former_mark_of(store).exists()
}

/// Writes the marker durably; the store at `store` must exist. A process killed before this has acknowledged nothing,
/// and the next one that uses the store writes the marker.
///
/// # Errors
/// If the marker cannot be written.
pub(crate) fn write_marker(store: &Path) -> anyhow::Result<()> {
    let mark = mark_of(store);
    let write = || -> io::Result<()> {
        match fs::rename(former_mark_of(store), &mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        match trust::write_new(&mark, TEXT.as_bytes()) {
            // The file may come from another process that was killed before it flushed the file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(&mark)?.sync_all()?,
            written => written?,
        }
        trust::sync_folder(&mark)
    };
    write().with_context(|| mark.display().to_string())
}

/// Writes the marker for a process that only follows the store. If that fails, the next change or start tries again.
pub(crate) fn mark_if_possible(store: &Path) {
    if !mark_of(store).try_exists().unwrap_or(false)
        && let Err(why) = write_marker(store)
    {
        let why = format!("{why:#}");
        tracing::warn!(
            why,
            "cannot write the store marker: a deleted store would go unnoticed at the next start"
        );
    }
}
