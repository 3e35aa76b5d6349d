//! Checks that the store contains every change that the trail records. A store restored from a backup may lack changes.
//! It could bring a revoked token or a disabled consumer back into force, so the start fails and
//! lists the lost changes.

use std::io;
use std::path::Path;

use anyhow::bail;
use serde_json::Value;

use crate::audit;
use crate::audit::known_store;
use crate::audit::trail::summary::summary;
use crate::config::File;
use crate::state::StateDir;
use crate::storage::{History, Revision, Storage as _};

/// The number of lost changes that are listed.
const MAX_LISTED: usize = 20;

/// What the trail records and the store lacks.
#[derive(Default)]
pub(crate) struct Forgotten {
    /// The store's last revision, as far as the trail records it.
    pub known: Option<Revision>,
    /// The changes that the store lacks.
    pub changes: audit::Forgotten,
}

/// The changes that the trail in `dir` records and the history of the store lacks; `None` if it lacks none, or if there
/// is no trail.
///
/// # Errors
/// An I/O error if the trail cannot be read: whether the store lacks changes is not known then.
pub(crate) fn find_forgotten(dir: &Path, history: &History) -> io::Result<Option<Forgotten>> {
    let find = || {
        let Some(known) = known_store(dir)?.filter(|known| !history.holds(*known)) else { return Ok(None) };
        let changes = audit::find_forgotten(dir, |stamp| history.holds(stamp))?;
        Ok(Some(Forgotten { known: Some(known), changes }))
    };
    none_without_trail(dir, find())
}

fn none_without_trail<T>(dir: &Path, found: io::Result<Option<T>>) -> io::Result<Option<T>> {
    found.or_else(|error| {
        let kind = error.kind();
        if matches!(kind, io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) {
            return Ok(None);
        }
        let unknown = "the trail cannot be read, so whether the store lacks changes is not known";
        Err(io::Error::new(kind, format!("{}: {unknown}: {error}", dir.display())))
    })
}

impl Forgotten {
    /// The lost changes as text for people.
    pub(crate) fn text(&self) -> String {
        let all = self.changes.changes;
        let latest = self.changes.latest.iter().rev().take(MAX_LISTED).rev();
        let rows: String = latest.map(|line| summary(line)).collect();
        let listed = rows.lines().count();
        let some = if u64::try_from(listed).is_ok_and(|listed| listed < all) {
            format!(", the latest {listed} of which are")
        } else {
            String::new()
        };
        match (all, &self.changes.until) {
            (0, Some(until)) => format!(
                "the store is older than its last state that the gateway saw, at {until}: the changes since then are among the events that are missing on the trail\n"
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
/// If something is missing or would be forgotten, with a list of it.
pub(crate) fn check_against_trail(file: &File, history: &History) -> anyhow::Result<()> {
    let dir = &file.audit.dir.value;
    match StateDir::check_last_head(&file.state_dir.value, dir) {
        Err(why) if why.kind() == io::ErrorKind::InvalidData => return Err(why.into()),
        // Opening the trail reports any other fault.
        Ok(()) | Err(_) => {}
    }
    if let Some(why) = lost_trail(file, history) {
        return Err(StateDir::refusal(&why).into());
    }
    match find_forgotten(dir, history) {
        Ok(Some(forgotten)) => bail!(forgotten.refusal()),
        Ok(None) => Ok(()),
        // No call is forwarded before the journal can use the folder.
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied => {
            tracing::warn!(%why, "the store was not compared with the trail");
            Ok(())
        }
        Err(why) => Err(why.into()),
    }
}

/// The history of the store that this configuration names; empty without a store.
///
/// # Errors
/// If the store cannot be read.
pub(crate) fn history(file: &File) -> anyhow::Result<History> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let Some(store) = super::store::open(file).await? else { return Ok(History::default()) };
        let history = store.history().await;
        store.close().await;
        Ok(history?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trail_that_may_not_be_read_is_not_taken_for_none() {
        let result = |kind| none_without_trail::<()>(Path::new("trail"), Err(io::Error::from(kind)));
        assert!(result(io::ErrorKind::NotFound).is_ok_and(|found| found.is_none()));
        let denied = result(io::ErrorKind::PermissionDenied).map_err(|error| error.to_string());
        assert!(denied.is_err_and(|why| why.starts_with("trail: the trail cannot be read, so whether")));
    }
}
