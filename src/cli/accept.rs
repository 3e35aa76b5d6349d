//! `store accept`: continues with a store that lacks changes which the trail records.

use std::path::Path;

use clap::Subcommand;
use serde_json::json;

use super::session::{ChangeFlags, StoreSession, confirm};
use super::{Output, eprint};
use crate::control::store::path_of;
use crate::control::{known, store_marker};
use crate::state::StateDir;
use crate::storage::Change;

/// A subcommand of `store`.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// Continue with a store that was restored or is gone, and forget the changes that only the trail knows
    Accept(ChangeFlags),
}

/// Runs `store accept`; returns whether it succeeded.
pub(super) fn run(config: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let Verb::Accept(flags) = verb;
    let mut desk = StoreSession::open_if(config, output, |store| Ok(store.try_exists()?))?;
    desk.with(*flags);
    let history = desk.history()?;
    let dir = desk.file.audit.dir.value.clone();
    // A trail with missing events is incomplete. Only `audit accept` adds to it what else is known.
    StateDir::check_last_head(&desk.file.state_dir.value, &dir)?;
    let forgotten = known::find_forgotten(&dir, &history)?;
    let is_gone = desk.store.is_none() && store_marker::was_there(&path_of(&desk.file));
    let Some(forgotten) = forgotten.or_else(|| is_gone.then(known::Forgotten::default)) else {
        let text = "the store has all changes that the trail records: there is nothing to accept\n";
        desk.output.print(&json!({"forgotten": []}), text);
        return Ok(true);
    };
    eprint(&forgotten.text());
    if !confirm("Forget these changes?", desk.flags)? {
        return Ok(false);
    }
    let changes: Vec<Change> = forgotten.known.map(Change::AcceptStore).into_iter().collect();
    let members = json!({
        "forgotten": forgotten.changes.changes,
        "trail_knew": forgotten.known.map(|known| known.to_string()),
        "changes": forgotten.ids(),
    });
    desk.change("store accepted", members, changes)?;
    let text = "the store is accepted as it is; a running gateway or the next start records it\n";
    desk.report(json!({"forgotten": forgotten.events()}), text);
    Ok(true)
}
