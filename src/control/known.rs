//! Checks that the store contains every change that the trail records. A store restored from a backup may lack changes.
//! It could bring a revoked token or a disabled consumer back into force, so the lost changes are listed and the start
//! fails.

use std::io;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::audit;
use crate::audit::known_store;
use crate::audit::trail::summary::summary;
use crate::config::File;
use crate::state::StateDir;
use crate::storage::{History, Revision, Sqlite, Storage as _};

/// The number of lost changes that are listed.
const NAMED: usize = 20;

/// What the trail records and the store lacks.
#[derive(Default)]
pub(crate) struct Forgotten {
    /// The store's last revision, as far as the trail records it.
    pub known: Option<Revision>,
    /// The changes that the store lacks.
    pub changes: audit::Forgotten,
}

/// The changes that the trail in `dir` records and the history of the store lacks; `None` if it lacks none. Without a
/// trail, or without the permission to read it, nothing can be compared and the result is `None`.
///
/// # Errors
/// If reading the trail fails for another reason.
pub(crate) fn find_forgotten(dir: &Path, history: &History) -> anyhow::Result<Option<Forgotten>> {
    let read = || -> io::Result<Option<Forgotten>> {
        let Some(known) = known_store(dir)?.filter(|known| !history.holds(*known)) else { return Ok(None) };
        let changes = audit::find_forgotten(dir, |stamp| history.holds(stamp))?;
        Ok(Some(Forgotten { known: Some(known), changes }))
    };
    match read() {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
            ) =>
        {
            Ok(None)
        }
        found => found.with_context(|| dir.display().to_string()),
    }
}

impl Forgotten {
    /// The lost changes as text for people.
    pub(crate) fn text(&self) -> String {
        let all = self.changes.changes;
        let latest = self.changes.latest.iter().rev().take(NAMED).rev();
        let rows: String = latest.map(|line| summary(line)).collect();
        let shown = rows.lines().count();
        let some = if u64::try_from(shown).is_ok_and(|shown| shown < all) {
            format!(", the latest {shown} of which are")
        } else {
            String::new()
        };
        match (all, &self.changes.until) {
            (0, Some(until)) => format!(
                "the store is older than the gateway last saw it, at {until}: the changes since are among the events that the trail misses\n"
            ),
            (0, None) => "the store is not the one that the trail knows, or an older state of it\n".into(),
            (_, _) => format!(
                "the store is not the one that the trail knows, or an older state of it: it would forget {all} changes{some}\n{rows}"
            ),
        }
    }

    /// The text of [`Self::text`], followed by what the operator can do.
    pub(crate) fn refusal(&self) -> String {
        self.text()
            + "restore the latest state of the store; or, to forget these changes, run `claviger store accept`, which records it"
    }

    /// The events of the latest lost changes.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.changes.latest.iter().filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// The ids of the latest lost changes.
    pub(crate) fn ids(&self) -> Vec<Value> {
        self.events().iter().filter_map(|event| event.get("change")).cloned().collect()
    }
}

/// The reason to refuse the start if the trail that recorded changes of this store is gone; `None` if there is a trail,
/// or if the store knows of no trail.
pub(crate) fn lost_trail(file: &File, history: &History) -> Option<String> {
    let (state, dir) = (&file.state_dir.value, &file.audit.dir.value);
    (history.is_recorded && StateDir::has_no_trail(state, dir)).then(|| {
        format!(
            "changes of {} were recorded on a trail, and nothing is left of it: neither {} nor a segment in {}",
            super::store::path_of(file).display(),
            StateDir::path_of_last_head(state).display(),
            dir.display()
        )
    })
}

/// Checks that neither the store nor the trail lacks anything known, before anything is created or put in force.
///
/// # Errors
/// If something is missing or would be forgotten, with a list of it, and if the store cannot be read.
pub(crate) async fn check_against_trail(file: &File, store: Option<&Sqlite>) -> anyhow::Result<()> {
    let dir = &file.audit.dir.value;
    match StateDir::check_last_head(&file.state_dir.value, dir) {
        Err(why) if why.kind() == io::ErrorKind::InvalidData => return Err(why.into()),
        // Opening the trail reports any other fault.
        Ok(()) | Err(_) => {}
    }
    let history = history_of(store).await?;
    if let Some(why) = lost_trail(file, &history) {
        return Err(StateDir::refusal(&why).into());
    }
    match find_forgotten(dir, &history)? {
        Some(forgotten) => bail!(forgotten.refusal()),
        None => Ok(()),
    }
}

/// The revisions that the store went through; empty without a store.
async fn history_of(store: Option<&Sqlite>) -> anyhow::Result<History> {
    match store {
        Some(store) => Ok(store.history().await?),
        None => Ok(History::default()),
    }
}

/// The history of the store that this configuration names; see [`history_of`].
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn history(file: &File) -> anyhow::Result<History> {
    with_store(file, history_of)
}

/// Runs `work` with the store, if there is one.
fn with_store<T>(
    file: &File,
    work: impl AsyncFnOnce(Option<&Sqlite>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = super::store::open(file).await?;
        let done = work(store.as_ref()).await;
        if let Some(store) = store {
            store.close().await;
        }
        done
    })
}

/// Runs [`check_against_trail`] for a command that is not the running gateway.
///
/// # Errors
/// As those of [`check_against_trail`].
pub(crate) fn check(file: &File) -> anyhow::Result<()> {
    with_store(file, async |store| check_against_trail(file, store).await)
}
