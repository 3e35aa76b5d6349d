//! `claviger token`: manages the tokens of consumers. A token is shown once, when it is issued.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Output;
use super::session::{ChangeFlags, IssueArgs, StoreSession};
use super::table::table;
use super::time::{shown_or_dash, state};
use crate::inbound::{Directory, token};
use crate::storage::format_time;
use crate::storage::{Change, TokenRow};

/// What to do with tokens.
#[derive(Subcommand)]
pub(in crate::cli) enum Verb {
    /// Issue a token; it is shown this once
    Issue {
        #[command(flatten)]
        terms: IssueArgs,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// List tokens, with their last use
    List {
        /// Only this consumer's
        #[arg(long)]
        consumer: Option<String>,
    },
    /// Revoke a token
    Revoke {
        /// Its id
        id: String,
        #[command(flatten)]
        manner: ChangeFlags,
    },
}

/// Runs the subcommand; returns whether it succeeded.
pub(in crate::cli) fn run(config: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let Some(mut desk) = StoreSession::open(config, output)? else { return Ok(false) };
    match verb {
        Verb::Issue { terms, manner } => issue(&mut desk, terms, *manner)?,
        Verb::List { consumer } => {
            let wanted = |row: &&TokenRow| consumer.as_ref().is_none_or(|name| row.consumer == *name);
            let rows: Vec<&TokenRow> = desk.rows.tokens.iter().filter(wanted).collect();
            let values: Vec<Value> = rows.iter().map(|row| value(row)).collect();
            desk.show(&Value::from(values), &format_list(&desk, &rows));
        }
        Verb::Revoke { id, manner } => revoke(&mut desk, id, *manner)?,
    }
    Ok(true)
}

fn issue(desk: &mut StoreSession, terms: &IssueArgs, manner: ChangeFlags) -> anyhow::Result<()> {
    let consumer = terms.consumer.as_str();
    desk.must_know_consumer(consumer)?;
    let expires = terms.ends(desk)?;
    let made = token::fresh().context("making a token")?;
    let id = Uuid::now_v7().to_string();
    let row = TokenRow {
        id: id.clone(),
        consumer: consumer.into(),
        digest: Directory::digest(made.expose()),
        created: desk.now,
        expires,
        revoked: None,
        last_used: None,
        note: terms.note.clone(),
    };
    let members = [
        ("consumer", consumer.into()),
        ("token", id.as_str().into()),
        ("expires", expires.map(format_time).into()),
    ];
    desk.change(("token issued", &members), vec![Change::PutToken(row)], manner)?;
    let text = if manner.dry_run { "" } else { std::str::from_utf8(made.expose())? };
    let json = json!({"id": id, "consumer": consumer, "token": text, "expires": expires.map(format_time)});
    let more = desk.warn_ungranted(consumer);
    desk.report(manner, json, &format!("token {id} for {consumer}, shown this once:\n{text}\n{more}"));
    Ok(())
}

fn revoke(desk: &mut StoreSession, id: &str, manner: ChangeFlags) -> anyhow::Result<()> {
    let Some(row) = desk.rows.tokens.iter().find(|row| row.id == id).cloned() else {
        bail!("there is no token with the id `{}`; claviger token list shows them", id.escape_debug());
    };
    if let Some(at) = row.revoked {
        bail!("the token was revoked already, at {}", format_time(at));
    }
    let members = [("consumer", row.consumer.as_str().into()), ("token", id.into())];
    let revoked = TokenRow { revoked: Some(desk.now), ..row.clone() };
    desk.change(("token revoked", &members), vec![Change::PutToken(revoked)], manner)?;
    desk.report(
        manner,
        json!({"id": id, "revoked": true}),
        &format!("token {id} of {} revoked\n", row.consumer),
    );
    Ok(())
}

/// A token's record as JSON, without the token itself.
pub(crate) fn value(row: &TokenRow) -> Value {
    json!({
        "id": row.id,
        "consumer": row.consumer,
        "created": format_time(row.created),
        "expires": row.expires.map(format_time),
        "revoked": row.revoked.map(format_time),
        "last_used": row.last_used.map(format_time),
        "note": row.note,
    })
}

/// Formats the table of tokens.
pub(crate) fn format_list(desk: &StoreSession, rows: &[&TokenRow]) -> String {
    let row = |row: &&TokenRow| {
        [
            row.id.clone(),
            row.consumer.clone(),
            state((row.revoked, row.expires), desk.now),
            shown_or_dash(row.last_used),
            row.note.clone().unwrap_or_default(),
        ]
    };
    let headings = ["id", "consumer", "state", "last used", "note"];
    table(headings, rows.iter().map(row).collect(), "there is no token in the store yet")
}
