//! `claviger token` and `claviger access-key`: issues, lists and revokes what consumers authenticate with. A secret is
//! printed once, when it is issued.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Output;
use super::session::{ChangeFlags, StoreSession};
use super::table::table;
use super::time::{parse_seconds, parse_time, time_or_dash};
use crate::control::rotation;
use crate::custody::seal_access_key;
use crate::inbound::{Directory, token};
use crate::signature::Algorithm;
use crate::storage::{AccessKeyRow, Change, Issuance, Rows, Seconds, TokenRow, format_time};

/// A subcommand of `token`.
#[derive(Subcommand)]
pub(super) enum TokenVerb {
    /// Issue a token to a consumer; it is printed only this once
    Issue(IssueArgs),
    #[command(flatten)]
    Existing(Verb),
}

/// A subcommand of `access-key`.
#[derive(Subcommand)]
pub(super) enum AccessKeyVerb {
    /// Issue an access key to a consumer; its secret is printed only this once
    Issue {
        #[command(flatten)]
        terms: IssueArgs,
        /// Another algorithm that the key may sign with, besides hmac-sha256; may be repeated
        #[arg(long, value_name = "ALGORITHM", value_parser = ["hmac-sha512", "hmac-sha1"])]
        allow: Vec<String>,
        /// Accept each signature only once, and only within the window. Not for scripts that reuse one signed
        /// date, or send the same request twice in a second
        #[arg(long)]
        strict: bool,
        /// With --strict: how far the date of a signature may be from now, at most 1h
        #[arg(long, value_name = "DURATION", default_value = "5m", requires = "strict")]
        window: String,
    },
    #[command(flatten)]
    Existing(Verb),
}

/// A subcommand that concerns what was issued before.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// List what was issued, with the time of the last use
    List {
        /// Only those of this consumer
        #[arg(long, value_name = "NAME")]
        consumer: Option<String>,
    },
    /// Revoke one by its id; a running gateway refuses calls with it within a second
    Revoke {
        /// The id, as `list` prints it
        id: String,
        #[command(flatten)]
        flags: ChangeFlags,
    },
}

/// To whom something is issued, and until when.
#[derive(Args)]
pub(super) struct IssueArgs {
    /// The consumer to issue it to
    #[arg(long, value_name = "NAME")]
    consumer: String,
    /// The time at which it expires: 2027-01-01T00:00:00Z, or a duration from now such as 90d
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    /// A note for other operators
    #[arg(long)]
    note: Option<String>,
    #[command(flatten)]
    flags: ChangeFlags,
}

/// The two kinds of what is issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Token,
    AccessKey,
}

/// One row of either kind.
#[derive(Clone, Copy)]
pub(super) enum Issued<'r> {
    Token(&'r TokenRow),
    AccessKey(&'r AccessKeyRow),
}

/// The longest window in seconds: used nonces are remembered that long.
const MAX_WINDOW: Seconds = 3600;

/// Runs a subcommand of `token`; returns whether it succeeded.
pub(super) fn run_token(config: &Path, verb: &TokenVerb, output: Output) -> anyhow::Result<bool> {
    let mut desk = StoreSession::open(config, output)?;
    match verb {
        TokenVerb::Issue(terms) => issue_token(desk.with(terms.flags), terms)?,
        TokenVerb::Existing(verb) => run(&mut desk, Kind::Token, verb)?,
    }
    Ok(true)
}

/// Runs a subcommand of `access-key`; returns whether it succeeded.
pub(super) fn run_access_key(config: &Path, verb: &AccessKeyVerb, output: Output) -> anyhow::Result<bool> {
    let mut desk = StoreSession::open(config, output)?;
    match verb {
        AccessKeyVerb::Issue { terms, allow, strict, window } => {
            let mut algorithms = vec![Algorithm::HmacSha256.as_str()];
            algorithms.extend(allow.iter().map(String::as_str));
            algorithms.dedup();
            let key = AccessKeyRow {
                issued: terms.issuance(&desk)?,
                sealed: Vec::new(),
                algorithms: algorithms.join(" "),
                strict: strict.then(|| parse_window(window)).transpose()?,
            };
            issue_access_key(desk.with(terms.flags), key)?;
        }
        AccessKeyVerb::Existing(verb) => run(&mut desk, Kind::AccessKey, verb)?,
    }
    Ok(true)
}

fn run(desk: &mut StoreSession, kind: Kind, verb: &Verb) -> anyhow::Result<()> {
    match verb {
        Verb::List { consumer } => {
            let rows = kind.rows(&desk.rows, consumer.as_deref());
            let values = rows.iter().map(|row| row.value()).collect();
            desk.output.print(&Value::Array(values), &kind.format_list(&rows, desk.now));
            Ok(())
        }
        Verb::Revoke { id, flags } => revoke(desk.with(*flags), kind, id),
    }
}

impl IssueArgs {
    fn issuance(&self, desk: &StoreSession) -> anyhow::Result<Issuance> {
        desk.must_know_consumer(&self.consumer)?;
        let expires = self.expires.as_deref().map(|text| parse_time(text, desk.now)).transpose()?;
        Ok(Issuance {
            id: Uuid::now_v7().to_string(),
            consumer: self.consumer.clone(),
            created: desk.now,
            expires,
            revoked: None,
            last_used: None,
            note: self.note.clone(),
        })
    }
}

fn parse_window(text: &str) -> anyhow::Result<Seconds> {
    let window = parse_seconds(text).filter(|window| (1..=MAX_WINDOW).contains(window));
    window.with_context(|| format!("`{text}` is not a window: write a duration as 30s or 5m, at most 1h"))
}

fn issue_token(desk: &mut StoreSession, terms: &IssueArgs) -> anyhow::Result<()> {
    let issued = terms.issuance(desk)?;
    let secret = token::fresh().context("making a token")?;
    let (id, consumer) = (issued.id.clone(), issued.consumer.clone());
    let expires = issued.expires.map(format_time);
    let members = json!({"consumer": consumer, "token": id, "expires": expires});
    let row = TokenRow { issued, digest: Directory::digest(secret.expose()) };
    desk.change("token issued", members, vec![Change::PutToken(row)])?;
    let text = if desk.flags.dry_run { "" } else { std::str::from_utf8(secret.expose())? };
    let json = json!({"id": id, "consumer": consumer, "token": text, "expires": expires});
    let warning = desk.warn_ungranted(&consumer);
    desk.report(json, &format!("token {id} for {consumer}, shown this once:\n{text}\n{warning}"));
    Ok(())
}

fn issue_access_key(desk: &mut StoreSession, mut row: AccessKeyRow) -> anyhow::Result<()> {
    let secret = token::fresh_secret().context("making a secret")?;
    let mut changes = Vec::new();
    if !desk.flags.dry_run {
        let (key, key_check) = rotation::for_sealing(&desk.file, &desk.rows)?;
        changes.extend(key_check);
        row.sealed = seal_access_key(&key, &row, &secret)?;
    }
    let (id, consumer) = (row.issued.id.clone(), row.issued.consumer.clone());
    let expires = row.issued.expires.map(format_time);
    let members = json!({
        "consumer": consumer, "access_key": id, "algorithms": row.algorithms, "window": row.strict,
        "expires": expires,
    });
    changes.push(Change::PutAccessKey(row));
    desk.change("access key issued", members, changes)?;
    let text = if desk.flags.dry_run { "" } else { std::str::from_utf8(secret.expose())? };
    let json = json!({"id": id, "consumer": consumer, "secret": text, "expires": expires});
    let warning = desk.warn_ungranted(&consumer);
    let title = format!("access key for {consumer}, its secret shown this once:");
    desk.report(json, &format!("{title}\nid      {id}\nsecret  {text}\n{warning}"));
    Ok(())
}

fn revoke(desk: &mut StoreSession, kind: Kind, id: &str) -> anyhow::Result<()> {
    let (noun, command) = kind.names();
    let rows = kind.rows(&desk.rows, None);
    let Some(row) = rows.into_iter().find(|row| row.issued().id == id) else {
        bail!("there is no {noun} with the id `{}`; claviger {command} list shows them", id.escape_debug());
    };
    if let Some(at) = row.issued().revoked {
        bail!("the {noun} was revoked already, at {}", format_time(at));
    }
    let issued = Issuance { revoked: Some(desk.now), ..row.issued().clone() };
    let consumer = issued.consumer.clone();
    let (member, change) = match row {
        Issued::Token(row) => ("token", Change::PutToken(TokenRow { issued, ..row.clone() })),
        Issued::AccessKey(row) => {
            ("access_key", Change::PutAccessKey(AccessKeyRow { issued, ..row.clone() }))
        }
    };
    let members = json!({"consumer": consumer, member: id});
    desk.change(&format!("{noun} revoked"), members, vec![change])?;
    desk.report(json!({"id": id, "revoked": true}), &format!("{noun} {id} of {consumer} revoked\n"));
    Ok(())
}

impl Kind {
    /// The name in messages, and the name of the command.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Token => ("token", "token"),
            Self::AccessKey => ("access key", "access-key"),
        }
    }

    /// The rows of this kind: those of one consumer, or all.
    pub(super) fn rows<'r>(self, rows: &'r Rows, consumer: Option<&str>) -> Vec<Issued<'r>> {
        let mut rows: Vec<Issued<'r>> = match self {
            Self::Token => rows.tokens.iter().map(Issued::Token).collect(),
            Self::AccessKey => rows.access_keys.iter().map(Issued::AccessKey).collect(),
        };
        rows.retain(|row| consumer.is_none_or(|name| row.issued().consumer == name));
        rows
    }

    /// Formats the table of `rows`.
    pub(super) fn format_list(self, rows: &[Issued<'_>], now: Seconds) -> String {
        let cells = |row: &Issued<'_>| {
            let issued = row.issued();
            let mut cells = vec![issued.id.clone(), issued.consumer.clone(), state(issued, now)];
            if let Issued::AccessKey(key) = row {
                cells.push(key.strict.map_or_else(|| "-".into(), |window| format!("once in {window}s")));
            }
            cells.extend([time_or_dash(issued.last_used), issued.note.clone().unwrap_or_default()]);
            cells
        };
        let cells = rows.iter().map(cells);
        match self {
            Self::Token => {
                let none = "there is no token in the store yet";
                table(&["id", "consumer", "state", "last used", "note"], cells, none)
            }
            Self::AccessKey => {
                let none = "there is no access key yet: claviger access-key issue --consumer NAME";
                table(&["id", "consumer", "state", "strict", "last used", "note"], cells, none)
            }
        }
    }
}

impl<'r> Issued<'r> {
    pub(super) fn issued(self) -> &'r Issuance {
        match self {
            Self::Token(row) => &row.issued,
            Self::AccessKey(row) => &row.issued,
        }
    }

    /// The row as JSON, without any secret.
    pub(super) fn value(self) -> Value {
        let Issuance { id, consumer, created, expires, revoked, last_used, note } = self.issued();
        let mut value = json!({
            "id": id,
            "consumer": consumer,
            "created": format_time(*created),
            "expires": expires.map(format_time),
            "revoked": revoked.map(format_time),
            "last_used": last_used.map(format_time),
            "note": note,
        });
        if let (Self::AccessKey(key), Some(members)) = (self, value.as_object_mut()) {
            members.insert("algorithms".into(), key.algorithms.split(' ').collect());
            members.insert("window".into(), key.strict.into());
        }
        value
    }
}

/// Describes the state: revoked, expired, or when it expires.
fn state(issued: &Issuance, now: Seconds) -> String {
    match (issued.revoked, issued.expires) {
        (Some(at), _) => format!("revoked {}", format_time(at)),
        (None, Some(end)) if end <= now => format!("ended {}", format_time(end)),
        (None, Some(end)) => format!("until {}", format_time(end)),
        (None, None) => "good".into(),
    }
}
