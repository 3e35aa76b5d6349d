//! `claviger credential`: manages the upstreams' credentials, sealed in the store, with their versions.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::Output;
use super::secret_input::SecretArgs;
use super::session::{ChangeFlags, NameArg, StoreSession, confirm, enabled_word, parse_name};
use super::table::table;
use super::time::{parse_seconds, time_or_dash};
use super::usage;
use crate::control::rotation;
use crate::custody::seal_version;
use crate::secret::Secret;
use crate::storage::{Change, CredentialRow, Seconds, Stage, VersionRow, format_time};

/// A subcommand of `credential`.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// Add a credential to the store, sealed; its secret is read from a prompt, standard input or a file
    Add {
        /// The name of the credential, which grants and upstreams refer to
        name: String,
        /// The upstream that accepts it
        #[arg(long, value_name = "NAME")]
        upstream: String,
        /// The kind of the credential: access-key, value, login, rsa or client
        #[arg(long)]
        kind: String,
        #[command(flatten)]
        secret: SecretArgs,
        #[command(flatten)]
        flags: ChangeFlags,
    },
    /// List the credentials of the configuration file and of the store
    List,
    /// Show a credential, its versions, and which consumers used them recently
    Show {
        /// The name of the credential
        name: String,
    },
    /// Put a new version into use; the former one is kept for a while, and can be activated again
    Rotate {
        /// The name of the credential
        name: String,
        #[command(flatten)]
        secret: SecretArgs,
        /// How long the former version is kept: 15m, 24h, 7d
        #[arg(long, value_name = "DURATION", default_value = "24h")]
        overlap: String,
        /// Store the new version without using it, until it is activated
        #[arg(long)]
        stage: bool,
        #[command(flatten)]
        flags: ChangeFlags,
    },
    /// Put a staged or former version into use
    Activate {
        /// The name of the credential
        name: String,
        /// The number of the version, as `show` prints it
        version: u32,
        #[command(flatten)]
        flags: ChangeFlags,
    },
    /// Refuse every call that needs a credential until it is enabled again
    Disable(NameArg),
    /// Use a disabled credential again
    Enable(NameArg),
    /// Remove a credential from the store, with all its versions
    Remove(NameArg),
}

/// Runs the subcommand; returns whether it succeeded.
pub(super) fn run(config: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let mut desk = StoreSession::open(config, output)?;
    match verb {
        Verb::Add { name, upstream, kind, secret, flags } => {
            let row = CredentialRow {
                name: parse_name(name)?.into(),
                upstream: upstream.into(),
                kind: kind.into(),
                created: desk.now,
                disabled: false,
            };
            add(desk.with(*flags), &row, secret)?;
        }
        Verb::List => list(&desk),
        Verb::Show { name } => show(&desk, name)?,
        Verb::Rotate { name, secret, overlap, stage, flags } => {
            let overlap =
                parse_seconds(overlap).with_context(|| format!("`{overlap}` is not a duration as 24h"))?;
            let stage = if *stage { Stage::Staged } else { Stage::Active };
            rotate(desk.with(*flags), name, secret, stage, overlap)?;
        }
        Verb::Activate { name, version, flags } => activate(desk.with(*flags), name, *version)?,
        Verb::Disable(NameArg { name, flags }) => disable(desk.with(*flags), name, true)?,
        Verb::Enable(NameArg { name, flags }) => disable(desk.with(*flags), name, false)?,
        Verb::Remove(NameArg { name, flags }) => return remove(desk.with(*flags), name),
    }
    Ok(true)
}

fn add(desk: &mut StoreSession, row: &CredentialRow, args: &SecretArgs) -> anyhow::Result<()> {
    let CredentialRow { name, upstream, kind, .. } = row;
    if desk.file.credentials.declares(name) {
        bail!("the file declares a credential `{name}` already");
    }
    if desk.rows.credential(name).is_some() {
        bail!(
            "there is a credential `{name}` already; claviger credential rotate {name} gives it a new version"
        );
    }
    let secret = args.read(desk, row)?;
    let mut changes = vec![Change::PutCredential(row.clone())];
    let version = seal_secret(desk, &mut changes, row, Stage::Active, &secret)?;
    let json = json!({"credential": name, "upstream": upstream, "kind": kind, "version": version});
    desk.change("credential added", json.clone(), changes)?;
    desk.report(json, &format!("credential {name} is in custody, for the upstream {upstream}\n"));
    Ok(())
}

/// Seals a secret as the next version, and adds its row to the changes, with those that must precede the first sealed
/// record. Seals nothing in a dry run. Returns the number of the version.
fn seal_secret(
    desk: &StoreSession,
    changes: &mut Vec<Change>,
    row: &CredentialRow,
    stage: Stage,
    (id, secret): &(String, Secret),
) -> anyhow::Result<u32> {
    let version = desk.rows.next_version(&row.name);
    if desk.flags.dry_run {
        return Ok(version);
    }
    let (key, key_check) = rotation::for_sealing(&desk.file, &desk.rows)?;
    changes.extend(key_check);
    let sealed = seal_version(&key, row, version, id, secret)?;
    let (credential, created) = (row.name.clone(), desk.now);
    changes.push(Change::PutVersion(VersionRow { credential, version, stage, sealed, created, until: None }));
    Ok(version)
}

fn versions<'d>(desk: &'d StoreSession, name: &str) -> Vec<&'d VersionRow> {
    desk.rows.versions.iter().filter(|row| row.credential == name).collect()
}

/// The row of the credential in the store.
fn stored(desk: &StoreSession, name: &str) -> anyhow::Result<CredentialRow> {
    if let Some(row) = desk.rows.credential(name) {
        return Ok(row.clone());
    }
    if desk.file.credentials.declares(name) {
        bail!("`{name}` is a reference in the file: change what it refers to, and reload");
    }
    bail!("there is no credential `{}`", name.escape_debug())
}

/// The row of a credential to be changed. It fails if the file's credential of this name is the one in use.
fn changeable(desk: &StoreSession, name: &str) -> anyhow::Result<CredentialRow> {
    let row = stored(desk, name);
    if desk.file.credentials.declares(name) {
        let unused = if row.is_ok() { format!("; {name} of the store is not used") } else { String::new() };
        bail!(
            "the file declares `{name}`, and the file's is in force: change there what it refers to, or take \
             it out, and reload; claviger freeze --credential {name} stops it now{unused}"
        );
    }
    row
}

/// The change that retires a version which is in use, and keeps it until the given time.
fn retire(former: &VersionRow, until: Seconds) -> Change {
    Change::PutVersion(VersionRow { stage: Stage::Retired, until: Some(until), ..former.clone() })
}

fn rotate(
    desk: &mut StoreSession,
    name: &str,
    args: &SecretArgs,
    stage: Stage,
    overlap: Seconds,
) -> anyhow::Result<()> {
    let row = changeable(desk, name)?;
    let secret = args.read(desk, &row)?;
    let until = desk.now + overlap;
    let mut changes = Vec::new();
    for former in versions(desk, name) {
        if former.until.is_some_and(|until| until <= desk.now) {
            changes.push(Change::RemoveVersion(name.into(), former.version));
        } else if former.stage == Stage::Active && stage == Stage::Active {
            changes.push(retire(former, until));
        }
    }
    let version = seal_secret(desk, &mut changes, &row, stage, &secret)?;
    let until = format_time(until);
    let (what, text, former_until) = match stage {
        Stage::Staged => {
            let next = format!("claviger credential activate {name} {version}");
            ("credential staged", format!("version {version} of {name} is kept; next: {next}\n"), None)
        }
        Stage::Active | Stage::Retired => {
            let text =
                format!("version {version} of {name} is in use; the former one is kept until {until}\n");
            ("credential rotated", text, Some(until))
        }
    };
    desk.change(what, json!({"credential": name, "version": version}), changes)?;
    let uses = usage::recent_uses(&desk.file.audit.dir.value, name)?;
    let json = json!({
        "credential": name, "version": version, "stage": stage.as_str(),
        "former_until": former_until, "used_by": uses,
    });
    desk.report(json, &(text + &usage::format_uses(&uses)));
    Ok(())
}

fn activate(desk: &mut StoreSession, name: &str, version: u32) -> anyhow::Result<()> {
    /// How long the version that was in use before is kept.
    const OVERLAP: Seconds = 86_400;
    changeable(desk, name)?;
    let rows = versions(desk, name);
    let Some(row) = rows.iter().find(|row| row.version == version) else {
        bail!("{name} has no version {version}; claviger credential show {name} lists them");
    };
    if row.stage == Stage::Active {
        bail!("version {version} of {name} is in use already");
    }
    let activated = VersionRow { stage: Stage::Active, until: None, ..(*row).clone() };
    let former = rows.iter().filter(|row| row.stage == Stage::Active);
    let former = former.map(|row| retire(row, desk.now + OVERLAP));
    let changes = std::iter::once(Change::PutVersion(activated)).chain(former).collect();
    desk.change("credential activated", json!({"credential": name, "version": version}), changes)?;
    let json = json!({"credential": name, "version": version, "stage": "active"});
    desk.report(json, &format!("version {version} of {name} is in use\n"));
    Ok(())
}

fn disable(desk: &mut StoreSession, name: &str, disabled: bool) -> anyhow::Result<()> {
    let row = CredentialRow { disabled, ..changeable(desk, name)? };
    desk.set_disabled("credential", name, disabled, vec![Change::PutCredential(row)])
}

fn remove(desk: &mut StoreSession, name: &str) -> anyhow::Result<bool> {
    stored(desk, name)?;
    if !confirm(&format!("Remove the credential {name} and all its versions for good?"), desk.flags)? {
        return Ok(false);
    }
    let changes = vec![Change::RemoveCredential(name.into())];
    desk.change("credential removed", json!({"credential": name}), changes)?;
    let declared = desk.file.credentials.declares(name);
    let more = if declared { " from the store; the file's stays in force" } else { "" };
    let json = json!({"credential": name, "removed": true, "declared": declared});
    desk.report(json, &format!("credential {name} removed{more}\n"));
    Ok(true)
}

fn list(desk: &StoreSession) {
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for name in desk.file.credentials.names() {
        values.push(json!({"credential": name, "in": "file", "version": 1}));
        rows.push([name, "file", "-", "-", "1", "enabled"].map(String::from));
    }
    for row in &desk.rows.credentials {
        let active = versions(desk, &row.name).into_iter().find(|row| row.stage == Stage::Active);
        let version = active.map(|row| row.version);
        values.push(json!({
            "credential": row.name, "in": "store", "upstream": row.upstream, "kind": row.kind,
            "version": version, "disabled": row.disabled, "since": active.map(|row| format_time(row.created)),
        }));
        let version = version.map_or_else(|| "-".into(), |version| version.to_string());
        let state = enabled_word(row.disabled);
        rows.push([&row.name, "store", &row.upstream, &row.kind, &version, state].map(String::from));
    }
    let headings = ["credential", "in", "upstream", "kind", "version", "state"];
    let none = "there is no credential yet: claviger credential add NAME";
    desk.output.print(&Value::from(values), &table(&headings, rows, none));
}

fn show(desk: &StoreSession, name: &str) -> anyhow::Result<()> {
    let row = stored(desk, name)?;
    let versions = versions(desk, name);
    let uses = usage::recent_uses(&desk.file.audit.dir.value, name)?;
    let value = json!({
        "credential": name, "upstream": row.upstream, "kind": row.kind, "disabled": row.disabled,
        "created": format_time(row.created),
        "versions": versions.iter().map(|row| json!({
            "version": row.version, "stage": row.stage.as_str(),
            "created": format_time(row.created), "until": row.until.map(format_time),
        })).collect::<Vec<_>>(),
        "used_by": uses,
    });
    let mut text = format!(
        "credential  {name}\nupstream    {}\nkind        {}\nstate       {}\n",
        row.upstream,
        row.kind,
        enabled_word(row.disabled)
    );
    let cells = |row: &&VersionRow| {
        let stage = row.stage.as_str().into();
        [row.version.to_string(), stage, format_time(row.created), time_or_dash(row.until)]
    };
    let headings = ["version", "stage", "since", "kept until"];
    text.push_str(&table(&headings, versions.iter().map(cells), "no version"));
    text.push_str(&usage::format_uses(&uses));
    desk.output.print(&value, &text);
    Ok(())
}
