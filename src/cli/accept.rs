//! `store accept`: continues with a store that lacks changes which the trail records.

use std::path::Path;

use clap::Subcommand;
use serde_json::{Value, json};

use super::Output;
use super::session::{ChangeFlags, StoreSession, confirm};
use crate::cli::eprint;
use crate::control::known;
use crate::control::store::path_of;
use crate::state::StateDir;
use crate::storage::Change;

/// What to do with the store itself.
#[derive(Subcommand)]
pub(in crate::cli) enum Verb {
    /// Continue with a store that was put back, or is gone: what the trail knows to be changed since is forgotten
    Accept {
        #[command(flatten)]
        manner: ChangeFlags,
    },
}

/// Runs `store accept`; returns whether it succeeded.
pub(in crate::cli) fn run(config: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let Verb::Accept { manner } = verb;
    let Some(mut desk) = StoreSession::open_whatever_is_gone(config, output)? else { return Ok(false) };
    accept(&mut desk, *manner)
}

fn accept(desk: &mut StoreSession, manner: ChangeFlags) -> anyhow::Result<bool> {
    let history = desk.history()?;
    let dir = desk.file.audit.dir.value.clone();
    // A trail with missing events is incomplete. Only `audit accept` adds to it what else is known.
    StateDir::check_last_head(&desk.file.state_dir.value, &dir)?;
    let forgotten = known::find_forgotten(&dir, &history)?;
    let is_gone = desk.store.is_none() && crate::control::store_marker::was_there(&path_of(&desk.file));
    let Some(forgotten) = forgotten.or_else(|| is_gone.then(known::Forgotten::default)) else {
        let nothing = "the store has all that the trail knows of: there is nothing to accept\n";
        desk.show(&json!({"forgotten": []}), nothing);
        return Ok(true);
    };
    eprint(&forgotten.text());
    if !confirm("Forget these changes?", manner)? {
        return Ok(false);
    }
    let changes: Vec<Change> = forgotten.known.map(Change::AcceptStore).into_iter().collect();
    let members = [
        ("forgotten", Value::from(forgotten.changes.changes)),
        ("trail_knew", forgotten.known.map(|known| known.to_string()).into()),
        ("changes", forgotten.ids().into()),
    ];
    desk.change(("store accepted", &members), changes, manner)?;
    let json = json!({"forgotten": forgotten.events()});
    desk.report(
        manner,
        json,
        "the store is accepted as it is; a running gateway or the next start records it\n",
    );
    Ok(true)
}
