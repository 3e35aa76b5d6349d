//! `claviger consumer`: manages the consumers that may call.

use std::path::Path;

use anyhow::bail;
use clap::Subcommand;
use serde_json::{Value, json};

use super::Output;
use super::issued::{Issued, Kind};
use super::session::{ChangeFlags, NameArg, StoreSession, confirm, enabled_word, parse_name};
use super::table::table;
use super::time::time_or_dash;
use crate::storage::{Change, ConsumerRow, TokenRow, format_time};

/// A subcommand of `consumer`.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// Add a consumer to the store
    Add {
        /// The name of the consumer, which grants refer to
        name: String,
        /// A note for other operators
        #[arg(long)]
        note: Option<String>,
        #[command(flatten)]
        flags: ChangeFlags,
    },
    /// List the consumers of the configuration file and of the store
    List,
    /// Show a consumer, its tokens and its access keys
    Show {
        /// The name of the consumer
        name: String,
    },
    /// Refuse every call of a consumer until it is enabled again
    Disable(NameArg),
    /// Accept the calls of a disabled consumer again
    Enable(NameArg),
    /// Remove a consumer from the store, with its tokens and access keys
    Remove(NameArg),
}

/// Runs the subcommand; returns whether it succeeded.
pub(super) fn run(config: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let mut desk = StoreSession::open(config, output)?;
    match verb {
        Verb::Add { name, note, flags } => add(desk.with(*flags), name, note.clone())?,
        Verb::List => list(&desk),
        Verb::Show { name } => show(&desk, name)?,
        Verb::Disable(NameArg { name, flags }) => disable(desk.with(*flags), name, true)?,
        Verb::Enable(NameArg { name, flags }) => disable(desk.with(*flags), name, false)?,
        Verb::Remove(NameArg { name, flags }) => return remove(desk.with(*flags), name),
    }
    Ok(true)
}

fn add(desk: &mut StoreSession, name: &str, note: Option<String>) -> anyhow::Result<()> {
    let name = parse_name(name)?;
    if desk.file.consumers.declares(name) {
        bail!("the file declares `{name}` already: claviger token issue --consumer {name}");
    }
    if desk.knows_consumer(name) {
        bail!("there is a consumer `{name}` already");
    }
    // Tokens of a former consumer of this name, which people may still hold.
    let former = [Kind::Token, Kind::AccessKey].map(|kind| kind.rows(&desk.rows, Some(name)));
    let valid = former.iter().flatten().filter(|row| row.issued().revoked.is_none()).count();
    if valid > 0 {
        bail!(
            "the store has tokens or access keys of a former `{name}`, which would be valid again: {valid}; \
             claviger consumer remove {name} removes them all, claviger token revoke one by one"
        );
    }
    let row = ConsumerRow { name: name.into(), created: desk.now, disabled: false, note };
    desk.change("consumer added", json!({"consumer": name}), vec![Change::PutConsumer(row)])?;
    let next = format!("claviger token issue --consumer {name}");
    desk.report(json!({"consumer": name}), &format!("consumer {name} added; next: {next}\n"));
    Ok(())
}

fn count_valid_tokens(desk: &StoreSession, name: &str) -> usize {
    let rows = Kind::Token.rows(&desk.rows, Some(name)).into_iter().map(Issued::issued);
    let valid =
        rows.filter(|issued| issued.revoked.is_none() && issued.expires.is_none_or(|end| desk.now < end));
    let declared = desk.file.consumers.find(name).map_or(0, |consumer| consumer.token_sha256.len());
    declared + valid.count()
}

fn list(desk: &StoreSession) {
    let mut names: Vec<&str> = desk.file.consumers.names().collect();
    names.extend(desk.rows.consumers.iter().map(|row| row.name.as_str()));
    names.sort_unstable();
    names.dedup();
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for name in names {
        let row = desk.rows.consumer(name);
        let place = if desk.file.consumers.declares(name) { "file" } else { "store" };
        let disabled = row.is_some_and(|row| row.disabled);
        let tokens = count_valid_tokens(desk, name);
        let note = row.and_then(|row| row.note.clone());
        values.push(
            json!({"consumer": name, "in": place, "disabled": disabled, "tokens": tokens, "note": note}),
        );
        let state = enabled_word(disabled).into();
        rows.push([name.into(), place.into(), state, tokens.to_string(), note.unwrap_or_default()]);
    }
    let headings = ["consumer", "in", "state", "live tokens", "note"];
    let none = "there is no consumer yet: claviger consumer add NAME";
    desk.output.print(&Value::from(values), &table(&headings, rows, none));
}

fn show(desk: &StoreSession, name: &str) -> anyhow::Result<()> {
    desk.must_know_consumer(name)?;
    let row = desk.rows.consumer(name);
    let disabled = row.is_some_and(|row| row.disabled);
    let [tokens, keys] = [Kind::Token, Kind::AccessKey].map(|kind| kind.rows(&desk.rows, Some(name)));
    let value = json!({
        "consumer": name,
        "disabled": disabled,
        "note": row.and_then(|row| row.note.clone()),
        "created": row.map(|row| format_time(row.created)),
        "tokens": tokens.iter().map(|token| token.value()).collect::<Vec<_>>(),
        "access_keys": keys.iter().map(|key| key.value()).collect::<Vec<_>>(),
    });
    let (state, created) = (enabled_word(disabled), time_or_dash(row.map(|row| row.created)));
    let mut text = format!("consumer  {name}\nstate     {state}\ncreated   {created}\n");
    text.push_str(&Kind::Token.format_list(&tokens, desk.now));
    if !keys.is_empty() {
        text.push_str(&Kind::AccessKey.format_list(&keys, desk.now));
    }
    desk.output.print(&value, &text);
    Ok(())
}

fn disable(desk: &mut StoreSession, name: &str, disabled: bool) -> anyhow::Result<()> {
    desk.must_know_consumer(name)?;
    let former = desk.rows.consumer(name).cloned();
    let changes = if !disabled && desk.file.consumers.declares(name) {
        if former.is_some() { without_row(desk, name) } else { Vec::new() }
    } else {
        let new = ConsumerRow { name: name.into(), created: desk.now, disabled, note: None };
        vec![Change::PutConsumer(ConsumerRow { disabled, ..former.unwrap_or(new) })]
    };
    desk.set_disabled("consumer", name, disabled, changes)
}

/// The changes that remove the row of a consumer which the file declares, and keep its tokens. With a row, it would
/// stay a consumer of the store after the file no longer declares it.
fn without_row(desk: &StoreSession, name: &str) -> Vec<Change> {
    let tokens = desk.rows.tokens.iter().filter(|row| row.issued.consumer == name).cloned();
    let keys = desk.rows.access_keys.iter().filter(|row| row.issued.consumer == name).cloned();
    let restored = tokens.map(Change::PutToken).chain(keys.map(Change::PutAccessKey));
    std::iter::once(Change::RemoveConsumer(name.into())).chain(restored).collect()
}

/// Whether the file declares a token that the store has revoked. Without its row the token would be valid again.
fn is_held_down(desk: &StoreSession, row: &TokenRow) -> bool {
    let mut declared = desk.file.consumers.iter().flat_map(|(_, consumer)| &consumer.token_sha256);
    row.issued.revoked.is_some() && declared.any(|digest| digest.value == row.digest)
}

/// Removes a consumer from the store. If the file declares or declared it, the store may hold only its tokens.
fn remove(desk: &mut StoreSession, name: &str) -> anyhow::Result<bool> {
    let tokens = desk.rows.tokens.iter().filter(|row| row.issued.consumer == name);
    let (held_down, removed): (Vec<&TokenRow>, Vec<&TokenRow>) =
        tokens.partition(|row| is_held_down(desk, row));
    let (tokens, stay) = (removed.len(), held_down.len());
    let keys = Kind::AccessKey.rows(&desk.rows, Some(name)).len();
    let declared = desk.file.consumers.declares(name);
    if tokens + keys == 0 && desk.rows.consumer(name).is_none() {
        if stay > 0 {
            bail!(
                "what the store has of `{name}` is revoked, and the file declares it: remove it there first"
            );
        }
        desk.must_know_consumer(name)?;
        bail!("`{name}` is declared in the file: remove it there");
    }
    let restored = held_down.into_iter().cloned().map(Change::PutToken);
    let changes = std::iter::once(Change::RemoveConsumer(name.into())).chain(restored).collect();
    let more =
        if declared { " The file still declares it: what it declares is not disabled then." } else { "" };
    let question = format!(
        "Remove the consumer {name}, its {tokens} tokens and {keys} access keys from the store for good?{more}"
    );
    if !confirm(&question, desk.flags)? {
        return Ok(false);
    }
    let members = json!({"consumer": name, "tokens": tokens, "access_keys": keys});
    desk.change("consumer removed", members, changes)?;
    let mut text = format!("consumer {name} removed");
    if declared {
        text.push_str(" from the store; the file still declares it");
    }
    if stay > 0 {
        text += "; revoked tokens that the file declares stay revoked: ";
        text += &stay.to_string();
    }
    desk.report(json!({"consumer": name, "removed": true, "declared": declared}), &(text + "\n"));
    Ok(true)
}
