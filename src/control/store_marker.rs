//! The marker file beside the store, which records that a store was created. Without it, a deleted store would look as
//! if there never was one. Everything frozen, revoked or disabled in it would take no effect any more.

use std::fs::{self, File};
use std::io::{self, Write as _};
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
    let looked = |path: &Path| path.try_exists().with_context(|| path.display().to_string());
    let mark = mark_of(store);
    // Checked twice: between the two checks another process may have made both, the store first.
    if looked(store)? {
        return Ok(true);
    }
    if !looked(&mark)? && !looked(&former_mark_of(store))? {
        return Ok(false);
    }
    if looked(store)? {
        return Ok(true);
    }
    bail!(
        "{} is not there, and was: restore it from a back-up; or, if the consumers, tokens, credentials and freezes that \
         were kept in it are to be forgotten, run `claviger store accept`, which records it ({} says that it was there)",
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
    let marked = || -> io::Result<()> {
        match fs::rename(former_mark_of(store), &mark) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = match trust::create(&mark) {
            Ok(mut file) => {
                file.write_all(TEXT.as_bytes())?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(&mark)?,
            Err(error) => return Err(error),
        };
        // The file may come from another process that was killed before it flushed the file.
        file.sync_all()?;
        File::open(trust::folder(&mark))?.sync_all()
    };
    marked().with_context(|| mark.display().to_string())
}

/// Writes the marker for a process that only follows the store. If it fails, the next change or the next start writes
/// the marker.
pub(crate) fn mark_if_possible(store: &Path) {
    if !mark_of(store).try_exists().unwrap_or(false)
        && let Err(why) = write_marker(store)
    {
        tracing::warn!(
            why = format!("{why:#}"),
            "should the store be deleted, the next start would not know"
        );
    }
}
