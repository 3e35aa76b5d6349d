//! `claviger access-key`: key pairs by which scripts that sign are authenticated. A secret is shown once, when it is
//! issued.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Output;
use super::session::{ChangeFlags, IssueArgs, StoreSession, sealing_key};
use super::table::table;
use super::time::{parse_seconds, shown_or_dash, state};
use crate::custody::seal_access_key;
use crate::inbound::token;
use crate::signature::Algorithm;
use crate::storage::format_time;
use crate::storage::{AccessKeyRow, Change, Seconds};

/// What to do with access keys.
#[derive(Subcommand)]
pub(in crate::cli) enum Command {
    /// Issue an access key; its secret is shown this once
    Issue {
        #[command(flatten)]
        terms: IssueArgs,
        /// An algorithm beside hmac-sha256 that it may sign with; may be repeated
        #[arg(long, value_name = "ALGORITHM", value_parser = ["hmac-sha512", "hmac-sha1"])]
        allow: Vec<String>,
        /// Each signature is good once, and within the window only: not for scripts that sign a date once
        /// and use it on, or ask the same twice in a second
        #[arg(long)]
        strict: bool,
        /// How far the date of a strict key's signature may be from now
        #[arg(long, value_name = "SPAN", default_value = "5m", requires = "strict")]
        window: String,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// List access keys, with their last use
    List {
        /// Only this consumer's
        #[arg(long)]
        consumer: Option<String>,
    },
    /// Revoke an access key
    Revoke {
        /// Its id
        id: String,
        #[command(flatten)]
        manner: ChangeFlags,
    },
}

/// The longest window in seconds: used nonces are remembered that long.
const LONGEST: Seconds = 3600;

/// Runs the subcommand; returns whether it succeeded.
pub(in crate::cli) fn run(config: &Path, verb: &Command, output: Output) -> anyhow::Result<bool> {
    let Some(mut desk) = StoreSession::open(config, output)? else { return Ok(false) };
    match verb {
        Command::Issue { terms, allow, strict, window, manner } => {
            let expires = terms.ends(&desk)?;
            let strict = strict.then(|| window_of(window)).transpose()?;
            let mut algorithms = vec![Algorithm::HmacSha256.as_str()];
            algorithms.extend(allow.iter().map(String::as_str));
            algorithms.dedup();
            let row = AccessKeyRow {
                id: Uuid::now_v7().to_string(),
                consumer: terms.consumer.clone(),
                sealed: Vec::new(),
                algorithms: algorithms.join(" "),
                strict,
                created: desk.now,
                expires,
                revoked: None,
                last_used: None,
                note: terms.note.clone(),
            };
            issue(&mut desk, row, *manner)?;
        }
        Command::List { consumer } => {
            let wanted = |row: &&AccessKeyRow| consumer.as_ref().is_none_or(|name| row.consumer == *name);
            let rows: Vec<&AccessKeyRow> = desk.rows.access_keys.iter().filter(wanted).collect();
            let values: Vec<Value> = rows.iter().map(|row| value(row)).collect();
            desk.show(&Value::from(values), &format_list(&desk, &rows));
        }
        Command::Revoke { id, manner } => revoke(&mut desk, id, *manner)?,
    }
    Ok(true)
}

fn window_of(text: &str) -> anyhow::Result<Seconds> {
    match parse_seconds(text) {
        Some(window) if (1..=LONGEST).contains(&window) => Ok(window),
        Some(_) | None => bail!("`{text}` is no window: a span as 30s or 5m, an hour at most"),
    }
}

fn issue(desk: &mut StoreSession, mut row: AccessKeyRow, manner: ChangeFlags) -> anyhow::Result<()> {
    let consumer = row.consumer.clone();
    desk.must_know_consumer(&consumer)?;
    let secret = token::fresh_secret().context("making a secret")?;
    let mut changes = Vec::new();
    if !manner.dry_run {
        let (key, proof) = sealing_key(desk)?;
        changes.extend(proof);
        row.sealed = seal_access_key(&key, &row, &secret)?;
    }
    let members = [
        ("consumer", consumer.as_str().into()),
        ("access_key", row.id.as_str().into()),
        ("algorithms", row.algorithms.as_str().into()),
        ("window", row.strict.into()),
        ("expires", row.expires.map(format_time).into()),
    ];
    let (id, expires) = (row.id.clone(), row.expires.map(format_time));
    changes.push(Change::PutAccessKey(row));
    desk.change(("access key issued", &members), changes, manner)?;
    let text = if manner.dry_run { "" } else { std::str::from_utf8(secret.expose())? };
    let json = json!({"id": id, "consumer": consumer, "secret": text, "expires": expires});
    let more = desk.warn_ungranted(&consumer);
    desk.report(
        manner,
        json,
        &format!(
            "access key for {consumer}, its secret shown this once:\nid      {id}\nsecret  {text}\n{more}"
        ),
    );
    Ok(())
}

fn revoke(desk: &mut StoreSession, id: &str, manner: ChangeFlags) -> anyhow::Result<()> {
    let Some(row) = desk.rows.access_keys.iter().find(|row| row.id == id).cloned() else {
        let shown = id.escape_debug();
        bail!("there is no access key with the id `{shown}`; claviger access-key list shows them");
    };
    if let Some(at) = row.revoked {
        bail!("the access key was revoked already, at {}", format_time(at));
    }
    let members = [("consumer", row.consumer.as_str().into()), ("access_key", id.into())];
    let revoked = AccessKeyRow { revoked: Some(desk.now), ..row.clone() };
    desk.change(("access key revoked", &members), vec![Change::PutAccessKey(revoked)], manner)?;
    let text = format!("access key {id} of {} revoked\n", row.consumer);
    desk.report(manner, json!({"id": id, "revoked": true}), &text);
    Ok(())
}

/// An access key as JSON, without its secret.
pub(crate) fn value(row: &AccessKeyRow) -> Value {
    json!({
        "id": row.id,
        "consumer": row.consumer,
        "algorithms": row.algorithms.split(' ').collect::<Vec<_>>(),
        "window": row.strict,
        "created": format_time(row.created),
        "expires": row.expires.map(format_time),
        "revoked": row.revoked.map(format_time),
        "last_used": row.last_used.map(format_time),
        "note": row.note,
    })
}

/// Formats the table of access keys.
pub(crate) fn format_list(desk: &StoreSession, rows: &[&AccessKeyRow]) -> String {
    let row = |row: &&AccessKeyRow| {
        [
            row.id.clone(),
            row.consumer.clone(),
            state((row.revoked, row.expires), desk.now),
            row.strict.map_or_else(|| "-".into(), |window| format!("once in {window}s")),
            shown_or_dash(row.last_used),
            row.note.clone().unwrap_or_default(),
        ]
    };
    let headings = ["id", "consumer", "state", "strict", "last used", "note"];
    let none = "there is no access key yet: claviger access-key issue --consumer NAME";
    table(headings, rows.iter().map(row).collect(), none)
}
