//! The mark beside the store: there was one. Without it a store that was deleted would look like one
//! that never was, and what it had frozen, revoked or disabled would be in force no more.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::fs::trust;

/// For whoever looks into the file.
const TEXT: &str = "A store was made here: without store.db claviger does not start.\n";

/// Where the mark of the store at `store` is.
fn mark_of(store: &Path) -> PathBuf {
    store.with_extension("made")
}

/// Whether there is a store at `store`.
///
/// # Errors
/// Where there was one and is none any more, with what can be done; where nobody can tell.
pub(crate) fn store_exists(store: &Path) -> anyhow::Result<bool> {
    let looked = |path: &Path| path.try_exists().with_context(|| path.display().to_string());
    let mark = mark_of(store);
    // Twice: between the looks another may have made both, the store first.
    if looked(store)? {
        return Ok(true);
    }
    if !looked(&mark)? {
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

/// Whether there was a store at `store`, as far as its mark says.
pub(crate) fn was_there(store: &Path) -> bool {
    mark_of(store).exists()
}

/// Notes durably that there is a store at `store`, which is there. Whoever is killed before this has
/// acknowledged nothing, and the next to use the store notes it.
///
/// # Errors
/// Where it cannot be noted.
pub(crate) fn write_marker(store: &Path) -> anyhow::Result<()> {
    let mark = mark_of(store);
    let marked = || -> io::Result<()> {
        let file = match trust::create(&mark) {
            Ok(mut file) => {
                file.write_all(TEXT.as_bytes())?;
                file
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => File::open(&mark)?,
            Err(error) => return Err(error),
        };
        // What is there already may be another's that was killed before this.
        file.sync_all()?;
        File::open(trust::folder(&mark))?.sync_all()
    };
    marked().with_context(|| mark.display().to_string())
}

/// The same for who only follows the store, and needs no certainty: where it cannot be noted now, the
/// next change does it, or the next start.
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
