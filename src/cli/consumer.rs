//! `claviger consumer`: manages the consumers that may call.

use std::path::Path;

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};

use super::Output;
use super::session::{ChangeFlags, StoreSession, confirm, parse_name};
use super::table::table;
use super::time::shown_or_dash;
use crate::storage::format_time;
use crate::storage::{Change, ConsumerRow, TokenRow};

/// What to do with consumers.
#[derive(Subcommand)]
pub(in crate::cli) enum Verb {
    /// Add a consumer to the store
    Add {
        /// What grants call it
        name: String,
        /// Words for other custodians
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// List the consumers of file and store
    List,
    /// Show a consumer and its tokens
    Show {
        /// Which
        name: String,
    },
    /// Let none of its tokens in, until it is enabled again
    Disable {
        /// Which
        name: String,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// Let its tokens in again
    Enable {
        /// Which
        name: String,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// Remove a consumer of the store, with its tokens
    Remove {
        /// Which
        name: String,
        #[command(flatten)]
        manner: ChangeFlags,
    },
}

/// Runs the subcommand; returns whether it succeeded.
pub(in crate::cli) fn run(config: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let Some(mut desk) = StoreSession::open(config, output)? else { return Ok(false) };
    match verb {
        Verb::Add { name, note, manner } => add(&mut desk, name, note.clone(), *manner)?,
        Verb::List => list(&desk),
        Verb::Show { name } => show(&desk, name)?,
        Verb::Disable { name, manner } => disable(&mut desk, name, true, *manner)?,
        Verb::Enable { name, manner } => disable(&mut desk, name, false, *manner)?,
        Verb::Remove { name, manner } => return remove(&mut desk, name, *manner),
    }
    Ok(true)
}

fn add(desk: &mut StoreSession, name: &str, note: Option<String>, manner: ChangeFlags) -> anyhow::Result<()> {
    let name = parse_name(name)?;
    if desk.file.consumers.declares(name) {
        bail!("the file declares `{name}` already: claviger token issue --consumer {name}");
    }
    if desk.knows_consumer(name) {
        bail!("there is a consumer `{name}` already");
    }
    // Tokens of a former consumer of this name, which people may still hold.
    let tokens = desk.rows.tokens.iter().filter(|row| row.consumer == name && row.revoked.is_none());
    let keys = desk.rows.access_keys.iter().filter(|row| row.consumer == name && row.revoked.is_none());
    let left = tokens.count() + keys.count();
    if left > 0 {
        bail!(
            "the store has tokens or access keys of a former `{name}`, which would be good again: {left}; \
             claviger consumer remove {name} removes them all, claviger token revoke one by one"
        );
    }
    let row = ConsumerRow { name: name.into(), created: desk.now, disabled: false, note };
    desk.change(("consumer added", &[("consumer", name.into())]), vec![Change::PutConsumer(row)], manner)?;
    let next = format!("claviger token issue --consumer {name}");
    desk.report(manner, json!({"consumer": name}), &format!("consumer {name} added; next: {next}\n"));
    Ok(())
}

/// One row for each consumer of the file and the store.
fn every(desk: &StoreSession) -> Vec<(String, Option<&ConsumerRow>)> {
    let stored = |name: &str| desk.rows.consumers.iter().find(|row| row.name == name);
    let mut names: Vec<&str> = desk.file.consumers.names().collect();
    names.extend(desk.rows.consumers.iter().map(|row| row.name.as_str()));
    names.sort_unstable();
    names.dedup();
    names.into_iter().map(|name| (name.to_owned(), stored(name))).collect()
}

fn live_tokens(desk: &StoreSession, name: &str) -> usize {
    let live = |row: &&TokenRow| {
        row.consumer == name && row.revoked.is_none() && row.expires.is_none_or(|end| desk.now < end)
    };
    let declared = desk.file.consumers.find(name).map_or(0, |consumer| consumer.token_sha256.len());
    declared + desk.rows.tokens.iter().filter(live).count()
}

fn list(desk: &StoreSession) {
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for (name, row) in every(desk) {
        let place = if desk.file.consumers.declares(&name) { "file" } else { "store" };
        let disabled = row.is_some_and(|row| row.disabled);
        let tokens = live_tokens(desk, &name);
        let note = row.and_then(|row| row.note.clone());
        values.push(
            json!({"consumer": name, "in": place, "disabled": disabled, "tokens": tokens, "note": note}),
        );
        let state = if disabled { "disabled" } else { "enabled" };
        rows.push([name, place.into(), state.into(), tokens.to_string(), note.unwrap_or_default()]);
    }
    let headings = ["consumer", "in", "state", "live tokens", "note"];
    desk.show(
        &Value::from(values),
        &table(headings, rows, "there is no consumer yet: claviger consumer add NAME"),
    );
}

fn show(desk: &StoreSession, name: &str) -> anyhow::Result<()> {
    desk.must_know_consumer(name)?;
    let row = desk.rows.consumers.iter().find(|row| row.name == name);
    let disabled = row.is_some_and(|row| row.disabled);
    let tokens: Vec<_> = desk.rows.tokens.iter().filter(|token| token.consumer == name).collect();
    let keys: Vec<_> = desk.rows.access_keys.iter().filter(|key| key.consumer == name).collect();
    let value = json!({
        "consumer": name,
        "disabled": disabled,
        "note": row.and_then(|row| row.note.clone()),
        "created": row.map(|row| format_time(row.created)),
        "tokens": tokens.iter().map(|token| super::token::value(token)).collect::<Vec<_>>(),
        "access_keys": keys.iter().map(|key| super::access_key::value(key)).collect::<Vec<_>>(),
    });
    let state = if disabled { "disabled" } else { "enabled" };
    let created = shown_or_dash(row.map(|row| row.created));
    let tokens = super::token::format_list(desk, &tokens);
    let keys = if keys.is_empty() { String::new() } else { super::access_key::format_list(desk, &keys) };
    desk.show(&value, &format!("consumer  {name}\nstate     {state}\ncreated   {created}\n{tokens}{keys}"));
    Ok(())
}

fn disable(desk: &mut StoreSession, name: &str, disabled: bool, manner: ChangeFlags) -> anyhow::Result<()> {
    desk.must_know_consumer(name)?;
    let former = desk.rows.consumers.iter().find(|row| row.name == name).cloned();
    let changes = if !disabled && desk.file.consumers.declares(name) {
        if former.is_some() { without_row(desk, name) } else { Vec::new() }
    } else {
        let new = ConsumerRow { name: name.into(), created: desk.now, disabled, note: None };
        vec![Change::PutConsumer(ConsumerRow { disabled, ..former.unwrap_or(new) })]
    };
    let word = if disabled { "disabled" } else { "enabled" };
    let what = format!("consumer {word}");
    desk.change((&what, &[("consumer", name.into())]), changes, manner)?;
    desk.report(
        manner,
        json!({"consumer": name, "disabled": disabled}),
        &format!("consumer {name} {word}\n"),
    );
    Ok(())
}

/// The changes that remove the row of a consumer which the file declares, and keep its tokens. With a row, it would
/// stay a consumer of the store after the file no longer declares it.
fn without_row(desk: &StoreSession, name: &str) -> Vec<Change> {
    let tokens = desk.rows.tokens.iter().filter(|row| row.consumer == name).cloned();
    let keys = desk.rows.access_keys.iter().filter(|row| row.consumer == name).cloned();
    let kept = tokens.map(Change::PutToken).chain(keys.map(Change::PutAccessKey));
    std::iter::once(Change::RemoveConsumer(name.into())).chain(kept).collect()
}

/// Whether the file declares a token that the store has revoked. Without its row the token would be valid again.
fn is_held_down(desk: &StoreSession, row: &TokenRow) -> bool {
    let mut declared = desk.file.consumers.iter().flat_map(|(_, consumer)| &consumer.token_sha256);
    row.revoked.is_some() && declared.any(|digest| digest.value == row.digest)
}

/// Removes a consumer from the store. If the file declares or declared it, the store may hold only its tokens.
fn remove(desk: &mut StoreSession, name: &str, manner: ChangeFlags) -> anyhow::Result<bool> {
    let tokens = desk.rows.tokens.iter().filter(|row| row.consumer == name);
    let (kept, doomed): (Vec<&TokenRow>, Vec<&TokenRow>) = tokens.partition(|row| is_held_down(desk, row));
    let (tokens, kept) = (doomed.len(), kept.into_iter().cloned().map(Change::PutToken).collect::<Vec<_>>());
    let keys = desk.rows.access_keys.iter().filter(|row| row.consumer == name).count();
    let declared = desk.file.consumers.declares(name);
    if tokens + keys == 0 && !desk.rows.consumers.iter().any(|row| row.name == name) {
        if !kept.is_empty() {
            bail!(
                "what the store has of `{name}` is revoked, and the file declares it: remove it there first"
            );
        }
        desk.must_know_consumer(name)?;
        bail!("`{name}` is declared in the file: remove it there");
    }
    let more =
        if declared { " The file still declares it: what it declares is not disabled then." } else { "" };
    let question = format!(
        "Remove the consumer {name}, its {tokens} tokens and {keys} access keys from the store for good?{more}"
    );
    if !confirm(&question, manner)? {
        return Ok(false);
    }
    let members = [("consumer", name.into()), ("tokens", tokens.into()), ("access_keys", keys.into())];
    let held_down = kept.len();
    let changes = std::iter::once(Change::RemoveConsumer(name.into())).chain(kept).collect();
    desk.change(("consumer removed", &members), changes, manner)?;
    let more = if declared { " from the store; the file still declares it" } else { "" };
    let stay = if held_down > 0 {
        format!("; revoked tokens that the file declares stay revoked: {held_down}")
    } else {
        String::new()
    };
    let json = json!({"consumer": name, "removed": true, "declared": declared});
    desk.report(manner, json, &format!("consumer {name} removed{more}{stay}\n"));
    Ok(true)
}
