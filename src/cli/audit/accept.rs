//! `audit accept`: continues a trail from which events are missing, and records that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::context::settings;
use crate::audit::known_store;
use crate::audit::{
    CheckpointPolicy, Disk, Durability, Journal, LastHead, Opening, Retention, Settings, parse_segment_name,
    segments, set_aside,
};
use crate::cli::session::{ChangeFlags, confirm, now, operator};
use crate::cli::{Output, eprint};
use crate::clock::SystemClock;
use crate::config::File;
use crate::control::known;
use crate::metrics::Metrics;
use crate::sinks;
use crate::state::{StateDir, Trail};
use crate::storage::PendingAuditEvent;

/// The part of the message that names what no acceptance changes.
const HOLE: &str =
    "if a segment is missing in the middle, `audit verify` still reports it, and exits with 1\n";

/// The damage of the trail.
struct Found {
    /// The damage in words.
    why: String,
    /// The last known head of the trail, as far as it is known.
    last: Option<LastHead>,
    /// Files from which the trail cannot be continued.
    strays: Vec<PathBuf>,
}

pub(super) fn run(path: &Path, flags: ChangeFlags, output: Output) -> anyhow::Result<bool> {
    let file = settings(path)?;
    let (state, audit) = (&file.state_dir.value, &file.audit.dir.value);
    let state_dir = StateDir::open(state)?;
    let trail = Trail::lock(state, audit, false)?;
    let Some(found) = find(&file, &trail)? else {
        let text = "the trail has every event that the state folder knows of: there is nothing to accept\n";
        output.print(&json!({"accepted": null}), text);
        return Ok(true);
    };
    eprint(&format!("{}: {}\n", audit.display(), found.why));
    if !confirm("Continue the trail without the missing events?", flags)? {
        return Ok(false);
    }
    let mut aside = Vec::new();
    if !flags.dry_run {
        let done = set_aside_all(&trail, found.strays.clone(), &mut aside);
        let done = done.and_then(|()| {
            let members = Value::from_iter(found.members(&aside));
            let accepted = PendingAuditEvent::new("trail accepted", operator(), now(), members);
            record(&file, trail, (&state_dir, found.last.as_ref()), accepted)
        });
        // If the acceptance could not be recorded, the files are moved back.
        done.inspect_err(|_| aside.iter().for_each(|(from, to)| fs::rename(to, from).unwrap_or_default()))?;
    }
    found.print(&aside, flags, output);
    Ok(true)
}

impl Found {
    /// The members of the event that records the acceptance.
    fn members(&self, aside: &[(PathBuf, PathBuf)]) -> Vec<(&'static str, Value)> {
        let mut members = vec![("missing", json!(self.why))];
        if !aside.is_empty() {
            members.push(("aside", aside.iter().map(|(_, to)| name(to)).collect()));
        }
        if let Some(last) = &self.last {
            members.extend([
                ("events", json!(last.events)),
                ("last", json!(last.hash)),
                ("note", json!(last.note)),
                ("until", json!(last.time)),
            ]);
        }
        members
    }

    /// Prints what was done, or would be done in a dry run.
    fn print(&self, aside: &[(PathBuf, PathBuf)], ChangeFlags { dry_run, .. }: ChangeFlags, output: Output) {
        let set_aside = |(from, to): &(PathBuf, PathBuf)| {
            (name(to), format!("{} is set aside as {}\n", name(from), name(to)))
        };
        let would_be = |path: &PathBuf| (name(path), format!("would be done: {} is set aside\n", name(path)));
        let (aside, text, done): (Vec<String>, String, _) = if dry_run {
            let (aside, text) = self.strays.iter().map(would_be).unzip();
            (aside, text, "would be done: the trail continues without the missing events")
        } else {
            let (aside, text) = aside.iter().map(set_aside).unzip();
            (aside, text, "the trail continues without the missing events, and records that")
        };
        let json = json!({"accepted": self.why, "aside": aside, "dry_run": dry_run});
        output.print(&json, &format!("{text}{done}\n{HOLE}"));
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn find(file: &File, trail: &Trail) -> anyhow::Result<Option<Found>> {
    let (unknown, last) = match StateDir::last_head(&file.state_dir.value) {
        Ok(last) => (None, last),
        // The last head is not known any more.
        Err(why) => (Some(why.to_string()), None),
    };
    let amiss = trail.find_damage(last.as_ref())?;
    let is_unheard_of = unknown.is_none() && last.is_none();
    let gone = if is_unheard_of { known::lost_trail(file, &known::history(file)?) } else { None };
    let all: Vec<String> = unknown.into_iter().chain(gone).chain(amiss.refusal_reason()).collect();
    let strays = amiss.strays().cloned().collect();
    Ok((!all.is_empty()).then(|| Found { why: all.join("; "), last, strays }))
}

/// Moves files out of the trail, and adds the old and the new path of each to `aside`.
fn set_aside_all(
    trail: &Trail,
    mut strays: Vec<PathBuf>,
    aside: &mut Vec<(PathBuf, PathBuf)>,
) -> anyhow::Result<()> {
    while !strays.is_empty() {
        for path in std::mem::take(&mut strays) {
            let to = set_aside(&path).with_context(|| path.display().to_string())?;
            aside.push((path, to));
        }
        // If a segment existed twice, the compressed file now replaces the plain one.
        strays.extend(trail.find_damage(None)?.strays().cloned());
    }
    Ok(())
}

/// Continues the trail with an event that records the acceptance, and stores its head. Every sink then gets the events
/// from here on: a sink may be ahead, and would take them for events that it already has.
fn record(
    file: &File,
    trail: Trail,
    (state_dir, former): (&StateDir, Option<&LastHead>),
    accepted: PendingAuditEvent,
) -> anyhow::Result<()> {
    let (state, dir) = (&file.state_dir.value, file.audit.dir.value.display());
    let settings = Settings {
        durability: Durability::Sync,
        rotate: file.audit.rotate,
        heads: CheckpointPolicy {
            events: file.audit.checkpoint_events,
            interval: file.audit.checkpoint_interval,
        },
        // This process compresses or deletes no segment.
        keep: Retention { plain: Duration::MAX, age: None, size: None },
    };
    // The missing events may concern the store. Then only the head has its last revision.
    let known = [known_store(&file.audit.dir.value)?, former.and_then(|former| former.store)];
    let store = known.into_iter().flatten().max_by_key(|stamp| stamp.changes);
    let opening = Opening { store, changes: vec![accepted] };
    let disk: (Box<dyn Disk>, _) = (Box::new(trail), state_dir.signer(&file.audit.origin)?);
    let (clock, metrics) = (Arc::new(SystemClock), Arc::<Metrics>::default());
    let before = segments(&file.audit.dir.value)?;
    let (journal, threads) = Journal::open(opening, disk, settings, clock, metrics)?;
    let is_recorded = journal.healthy();
    journal.close(threads);
    ensure!(is_recorded, "{dir}: the trail cannot be written, so nothing was accepted");
    let added = segments(&file.audit.dir.value)?.into_iter().filter(|path| !before.contains(path));
    if let Some(first) = added.filter_map(|path| parse_segment_name(&path)).map(|(first, _)| first).min() {
        sinks::lower(state, first).with_context(|| sinks::folder(state).display().to_string())?;
    }
    if StateDir::last_head(state).is_ok_and(|last| last.as_ref() == former) {
        // If the trail does not begin with its first event, no head can be signed.
        StateDir::forget_last_head(state)?;
    }
    Ok(())
}
