//! `claviger credential`: manages the upstreams' credentials, sealed in the store, with their versions.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::{Value, json};

use super::Output;
use super::secret_input::{SecretArgs, material};
use super::session::{ChangeFlags, StoreSession, confirm, parse_name, sealing_key};
use super::table::table;
use super::time::{parse_seconds, shown_or_dash};
use super::usage::{self, Used};
use crate::custody::seal_version;
use crate::secret::Secret;
use crate::storage::format_time;
use crate::storage::{Change, CredentialRow, Stage, VersionRow};

/// What to do with credentials.
#[derive(Subcommand)]
pub(in crate::cli) enum Verb {
    /// Take a credential into custody; its secret comes by prompt, standard input or file
    Add {
        /// What grants and upstreams call it
        name: String,
        /// The upstream it is for
        #[arg(long)]
        upstream: String,
        /// Its kind: access-key, value, login, rsa or client
        #[arg(long)]
        kind: String,
        #[command(flatten)]
        material: SecretArgs,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// List the credentials of file and store
    List,
    /// Show a credential, its versions, and who used which lately
    Show {
        /// Which
        name: String,
    },
    /// Put a new version in use; the former one is kept for an overlap, and can be put back
    Rotate {
        /// Which
        name: String,
        #[command(flatten)]
        material: SecretArgs,
        /// How long the former version is kept: 15m, 24h, 7d
        #[arg(long, default_value = "24h")]
        overlap: String,
        /// Keep the new version without using it, until it is activated
        #[arg(long)]
        stage: bool,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// Put a staged or a former version in use
    Activate {
        /// Which
        name: String,
        /// Its version
        version: u32,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// Use it for no call, until it is enabled again
    Disable {
        /// Which
        name: String,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// Use it again
    Enable {
        /// Which
        name: String,
        #[command(flatten)]
        manner: ChangeFlags,
    },
    /// Remove it from the store, with all its versions
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
        Verb::Add { name, upstream, kind, material, manner } => {
            add(&mut desk, (name, upstream, kind), material, *manner)?;
        }
        Verb::List => list(&desk),
        Verb::Show { name } => show(&desk, name)?,
        Verb::Rotate { name, material, overlap, stage, manner } => {
            let overlap = parse_seconds(overlap).with_context(|| format!("`{overlap}` is no span as 24h"))?;
            rotate(&mut desk, name, material, (overlap, *stage), *manner)?;
        }
        Verb::Activate { name, version, manner } => activate(&mut desk, name, *version, *manner)?,
        Verb::Disable { name, manner } => disable(&mut desk, name, true, *manner)?,
        Verb::Enable { name, manner } => disable(&mut desk, name, false, *manner)?,
        Verb::Remove { name, manner } => return remove(&mut desk, name, *manner),
    }
    Ok(true)
}

fn add(
    desk: &mut StoreSession,
    (name, upstream, kind): (&str, &str, &str),
    given: &SecretArgs,
    manner: ChangeFlags,
) -> anyhow::Result<()> {
    let name = parse_name(name)?;
    if desk.file.credentials.declares(name) {
        bail!("the file declares a credential `{name}` already");
    }
    if desk.rows.credentials.iter().any(|row| row.name == name) {
        bail!(
            "there is a credential `{name}` already; claviger credential rotate {name} gives it a new version"
        );
    }
    let version = desk.rows.next_version(name);
    let row = CredentialRow {
        name: name.into(),
        upstream: upstream.into(),
        kind: kind.into(),
        created: desk.now,
        disabled: false,
    };
    let (id, secret) = material(desk, &row, given)?;
    let mut changes = vec![Change::PutCredential(row.clone())];
    if !manner.dry_run {
        seal_secret(desk, &mut changes, (&row, version, Stage::Active), (&id, &secret))?;
    }
    let members = [
        ("credential", name.into()),
        ("upstream", upstream.into()),
        ("kind", kind.into()),
        ("version", version.into()),
    ];
    desk.change(("credential added", &members), changes, manner)?;
    let json = json!({"credential": name, "upstream": upstream, "kind": kind, "version": version});
    desk.report(manner, json, &format!("credential {name} is in custody, for the upstream {upstream}\n"));
    Ok(())
}

/// Seals material as a version, and returns it with the changes that must precede the first sealed record.
fn seal_secret(
    desk: &StoreSession,
    changes: &mut Vec<Change>,
    (row, version, stage): (&CredentialRow, u32, Stage),
    material: (&str, &Secret),
) -> anyhow::Result<()> {
    let (key, proof) = sealing_key(desk)?;
    changes.extend(proof);
    let sealed = seal_version(&key, (row, version), material)?;
    let credential = row.name.clone();
    changes.push(Change::PutVersion(VersionRow {
        credential,
        version,
        stage,
        sealed,
        created: desk.now,
        until: None,
    }));
    Ok(())
}

fn versions<'d>(desk: &'d StoreSession, name: &str) -> Vec<&'d VersionRow> {
    desk.rows.versions.iter().filter(|row| row.credential == name).collect()
}

/// The row of the credential in the store.
fn stored(desk: &StoreSession, name: &str) -> anyhow::Result<CredentialRow> {
    if let Some(row) = desk.rows.credentials.iter().find(|row| row.name == name) {
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
        let spare = if row.is_ok() { format!("; {name} of the store is not used") } else { String::new() };
        bail!(
            "the file declares `{name}`, and the file's is in force: change there what it refers to, or take \
             it out, and reload; claviger freeze --credential {name} stops it now{spare}"
        );
    }
    row
}

fn rotate(
    desk: &mut StoreSession,
    name: &str,
    given: &SecretArgs,
    (overlap, stage): (i64, bool),
    manner: ChangeFlags,
) -> anyhow::Result<()> {
    let row = changeable(desk, name)?;
    let (id, secret) = material(desk, &row, given)?;
    let version = desk.rows.next_version(name);
    let until = desk.now + overlap;
    let mut changes = Vec::new();
    for former in versions(desk, name) {
        if former.until.is_some_and(|until| until <= desk.now) {
            changes.push(Change::RemoveVersion(name.into(), former.version));
        } else if former.stage == Stage::Active && !stage {
            changes.push(Change::PutVersion(VersionRow {
                stage: Stage::Retired,
                until: Some(until),
                ..former.clone()
            }));
        }
    }
    let in_use = if stage { Stage::Staged } else { Stage::Active };
    if !manner.dry_run {
        seal_secret(desk, &mut changes, (&row, version, in_use), (&id, &secret))?;
    }
    let what = if stage { "credential staged" } else { "credential rotated" };
    desk.change((what, &[("credential", name.into()), ("version", version.into())]), changes, manner)?;
    let used = usage::recent_use(&desk.file.audit.dir.value, name)?;
    let json = json!({
        "credential": name, "version": version, "stage": word(in_use),
        "former_until": (!stage).then(|| format_time(until)), "used_by": used.iter().map(Used::value).collect::<Vec<_>>(),
    });
    let mut text = match in_use {
        Stage::Staged => format!(
            "version {version} of {name} is kept; next: claviger credential activate {name} {version}\n"
        ),
        Stage::Active | Stage::Retired => {
            format!(
                "version {version} of {name} is in use; the former one is kept until {}\n",
                format_time(until)
            )
        }
    };
    text.push_str(&usage::text(&used));
    desk.report(manner, json, &text);
    Ok(())
}

fn activate(desk: &mut StoreSession, name: &str, version: u32, manner: ChangeFlags) -> anyhow::Result<()> {
    changeable(desk, name)?;
    let rows = versions(desk, name);
    let Some(wanted) = rows.iter().find(|row| row.version == version) else {
        bail!("{name} has no version {version}; claviger credential show {name} lists them");
    };
    if wanted.stage == Stage::Active {
        bail!("version {version} of {name} is in use already");
    }
    let mut changes =
        vec![Change::PutVersion(VersionRow { stage: Stage::Active, until: None, ..(*wanted).clone() })];
    for former in rows.iter().filter(|row| row.stage == Stage::Active) {
        let until = Some(desk.now + 86_400);
        changes.push(Change::PutVersion(VersionRow { stage: Stage::Retired, until, ..(*former).clone() }));
    }
    let members = [("credential", name.into()), ("version", version.into())];
    desk.change(("credential activated", &members), changes, manner)?;
    let json = json!({"credential": name, "version": version, "stage": "active"});
    desk.report(manner, json, &format!("version {version} of {name} is in use\n"));
    Ok(())
}

fn disable(desk: &mut StoreSession, name: &str, disabled: bool, manner: ChangeFlags) -> anyhow::Result<()> {
    let row = CredentialRow { disabled, ..changeable(desk, name)? };
    let word = if disabled { "disabled" } else { "enabled" };
    let what = format!("credential {word}");
    desk.change((&what, &[("credential", name.into())]), vec![Change::PutCredential(row)], manner)?;
    desk.report(
        manner,
        json!({"credential": name, "disabled": disabled}),
        &format!("credential {name} {word}\n"),
    );
    Ok(())
}

fn remove(desk: &mut StoreSession, name: &str, manner: ChangeFlags) -> anyhow::Result<bool> {
    stored(desk, name)?;
    if !confirm(&format!("Remove the credential {name} and all its versions for good?"), manner)? {
        return Ok(false);
    }
    let changes = vec![Change::RemoveCredential(name.into())];
    desk.change(("credential removed", &[("credential", name.into())]), changes, manner)?;
    let declared = desk.file.credentials.declares(name);
    let more = if declared { " from the store; the file's stays in force" } else { "" };
    let json = json!({"credential": name, "removed": true, "declared": declared});
    desk.report(manner, json, &format!("credential {name} removed{more}\n"));
    Ok(true)
}

const fn word(stage: Stage) -> &'static str {
    match stage {
        Stage::Staged => "staged",
        Stage::Active => "active",
        Stage::Retired => "retired",
    }
}

fn list(desk: &StoreSession) {
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    for name in desk.file.credentials.names() {
        values.push(json!({"credential": name, "in": "file", "version": 1}));
        rows.push([name.into(), "file".into(), "-".into(), "-".into(), "1".into(), "enabled".into()]);
    }
    for row in &desk.rows.credentials {
        let active = versions(desk, &row.name).into_iter().find(|row| row.stage == Stage::Active);
        let version = active.map(|row| row.version);
        values.push(json!({
            "credential": row.name, "in": "store", "upstream": row.upstream, "kind": row.kind,
            "version": version, "disabled": row.disabled, "since": active.map(|row| format_time(row.created)),
        }));
        let state = if row.disabled { "disabled" } else { "enabled" };
        let version = version.map_or_else(|| "-".into(), |version| version.to_string());
        rows.push([
            row.name.clone(),
            "store".into(),
            row.upstream.clone(),
            row.kind.clone(),
            version,
            state.into(),
        ]);
    }
    let headings = ["credential", "in", "upstream", "kind", "version", "state"];
    desk.show(
        &Value::from(values),
        &table(headings, rows, "there is no credential yet: claviger credential add NAME"),
    );
}

fn show(desk: &StoreSession, name: &str) -> anyhow::Result<()> {
    let row = stored(desk, name)?;
    let versions = versions(desk, name);
    let used = usage::recent_use(&desk.file.audit.dir.value, name)?;
    let value = json!({
        "credential": name, "upstream": row.upstream, "kind": row.kind, "disabled": row.disabled,
        "created": format_time(row.created),
        "versions": versions.iter().map(|row| json!({
            "version": row.version, "stage": word(row.stage),
            "created": format_time(row.created), "until": row.until.map(format_time),
        })).collect::<Vec<_>>(),
        "used_by": used.iter().map(Used::value).collect::<Vec<_>>(),
    });
    let state = if row.disabled { "disabled" } else { "enabled" };
    let mut text = format!(
        "credential  {name}\nupstream    {}\nkind        {}\nstate       {state}\n",
        row.upstream, row.kind
    );
    let line = |row: &&VersionRow| {
        [row.version.to_string(), word(row.stage).into(), format_time(row.created), shown_or_dash(row.until)]
    };
    text.push_str(&table(
        ["version", "stage", "since", "kept until"],
        versions.iter().map(line).collect(),
        "no version",
    ));
    text.push_str(&usage::text(&used));
    desk.show(&value, &text);
    Ok(())
}
