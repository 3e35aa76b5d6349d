//! `audit accept`: goes on with a trail that does not hold what it held, and records that.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::json;

use super::{Output, say, settings, tell};
use crate::audit::{
    Disk, Durability, Heads, Journal, Keep, LastHead, Opening, Settings, known_store, named, segments,
};
use crate::cli::store::{Manner, confirmed, custodian, note, now};
use crate::clock::SystemClock;
use crate::config::File;
use crate::delivery;
use crate::metrics::Metrics;
use crate::server::{StateDir, Trail};

pub(super) fn run(path: &Path, manner: Manner, output: Output) -> anyhow::Result<bool> {
    let file = settings(path)?;
    let (state, audit) = (&file.state_dir.value, &file.audit.dir.value);
    let held = StateDir::open(state)?;
    let trail = Trail::take(state, audit)?;
    let missing = match StateDir::last_head(state) {
        Ok(None) => None,
        Ok(Some(last)) => trail.missing(&last)?.map(|missing| (missing, Some(last))),
        // Nobody knows any more what it was.
        Err(why) => Some((why.to_string(), None)),
    };
    let Some((missing, last)) = missing else {
        match output {
            Output::Json => say(&format!("{}\n", json!({"accepted": null}))),
            Output::Text => {
                say("the trail holds all that the state folder knows of: there is nothing to accept\n");
            }
        }
        return Ok(true);
    };
    tell(&format!("{}: {missing}\n", audit.display()));
    if !confirmed("Continue the trail without what is missing?", manner)? {
        return Ok(false);
    }
    let mut members = vec![("missing", json!(missing))];
    if let Some(last) = &last {
        members.extend([
            ("events", json!(last.events)),
            ("last", json!(last.hash)),
            ("note", json!(last.note)),
            ("until", json!(last.time)),
        ]);
    }
    if !manner.dry_run {
        let accepted = note(("trail accepted", &members), (custodian(), now()));
        record(&file, trail, (&held, last), accepted.members)?;
    }
    match output {
        Output::Json => say(&format!("{}\n", json!({"accepted": missing, "dry_run": manner.dry_run}))),
        Output::Text if manner.dry_run => {
            say("would be done: the trail is continued without what is missing\n");
        }
        Output::Text => say("the trail is continued without what is missing, and says so\n"),
    }
    Ok(true)
}

/// Continues the trail by an event that says what was accepted, keeps its head, and has every sink get what is recorded
/// from here on: a sink may be beyond it, and would take it for what it has.
fn record(
    file: &File,
    trail: Trail,
    (held, former): (&StateDir, Option<LastHead>),
    accepted: String,
) -> anyhow::Result<()> {
    let (state, dir) = (&file.state_dir.value, file.audit.dir.value.display());
    let settings = Settings {
        durability: Durability::Sync,
        rotate: file.audit.rotate,
        heads: Heads { events: file.audit.head_events, interval: file.audit.head_interval },
        // Nothing is compressed or let go by this.
        keep: Keep { plain: Duration::MAX, age: None, size: None },
    };
    // What is missing may have been of the store, whose last state is then known by the head alone.
    let known = [known_store(&file.audit.dir.value)?, former.as_ref().and_then(|former| former.store)];
    let store = known.into_iter().flatten().max_by_key(|stamp| stamp.changes);
    let opening = Opening { store, changes: vec![accepted] };
    let kept: (Box<dyn Disk>, _) = (Box::new(trail), held.signer(&file.audit.origin)?);
    let (clock, metrics) = (Arc::new(SystemClock), Arc::<Metrics>::default());
    let before = segments(&file.audit.dir.value)?;
    let (journal, flusher) = Journal::open_with(opening, kept, settings, clock, metrics)?;
    let is_recorded = journal.healthy();
    journal.close(flusher);
    ensure!(is_recorded, "{dir}: the trail cannot be written, and nothing was accepted");
    let added = segments(&file.audit.dir.value)?.into_iter().filter(|path| !before.contains(path));
    if let Some(first) = added.filter_map(|path| named(&path)).map(|(first, _)| first).min() {
        delivery::lower(state, first).with_context(|| delivery::folder(state).display().to_string())?;
    }
    if StateDir::last_head(state).is_ok_and(|kept| kept == former) {
        // Of a trail that does not begin with its first event no head can be signed.
        StateDir::forget_last_head(state)?;
    }
    Ok(())
}
