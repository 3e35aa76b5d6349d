//! `claviger master-key`: replaces the key that seals the store.
//!
//! The new key is written and flushed beside the former one. Then the store is sealed with it in one transaction, and
//! only then does it replace the former key. After an interruption, one of the two files holds the key that the store
//! names. The next command that reads the key moves it into place.

use std::path::{Path, PathBuf};
use std::rc::Rc;

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::json;

use super::Output;
use super::session::{ChangeFlags, StoreSession};
use crate::config::file::MasterKey as Source;
use crate::config::read_secret_file;
use crate::control::rotation;
use crate::custody::{KeyCheck, MasterKey, key_file, rewrap_access_key, rewrap_version};
use crate::fs::trust::TrustedOwner;
use crate::storage::Change;

/// What to do with the master key.
#[derive(Subcommand)]
pub(in crate::cli) enum Verb {
    /// Seal everything in the store with a new key
    Rotate {
        /// A file with the new key or passphrase, where the configuration takes it from elsewhere than a
        /// file of the key; a new key is made otherwise
        #[arg(long, value_name = "FILE")]
        new_file: Option<PathBuf>,
        #[command(flatten)]
        manner: ChangeFlags,
    },
}

/// The message if there is nothing to do.
const NOTHING: &str = "nothing is sealed in the store yet: there is nothing to rotate";

/// Runs the subcommand; returns whether it succeeded.
pub(in crate::cli) fn run(config: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let Some(mut desk) = StoreSession::open(config, output)? else { return Ok(false) };
    match verb {
        Verb::Rotate { new_file, manner } => rotate(&mut desk, new_file.as_deref(), *manner)?,
    }
    Ok(true)
}

fn rotate(desk: &mut StoreSession, new_file: Option<&Path>, manner: ChangeFlags) -> anyhow::Result<()> {
    if desk.store.is_none() {
        bail!(NOTHING);
    }
    let source = desk.file.custody.master_key.value.clone();
    let alone = match &source {
        Source::File(path) => Some(key_file::lock(path).with_context(|| path.display().to_string())?),
        Source::Env(_) | Source::Passphrase(_) => None,
    };
    // Another rotation may have run before this one got the lock.
    desk.reload()?;
    let Some(from) = rotation::for_rotating(&desk.file, &desk.rows, alone.as_ref())? else {
        bail!(NOTHING);
    };
    let (to, proof) = requested_keys(&source, new_file, TrustedOwner::of(&desk.file.state_dir.value))?;
    let mut changes = vec![Change::SetKeyCheck(proof.bytes())];
    for row in &desk.rows.versions {
        changes.push(Change::PutVersion(rewrap_version((&from, &to), &desk.rows, row)?));
    }
    for row in &desk.rows.access_keys {
        changes.push(Change::PutAccessKey(rewrap_access_key((&from, &to), row)?));
    }
    let count = desk.rows.versions.len();
    let keys = desk.rows.access_keys.len();
    let kept = match &source {
        Source::File(path) => alone.as_ref().map(|alone| (path, alone)).filter(|_| !manner.dry_run),
        Source::Env(_) | Source::Passphrase(_) => None,
    };
    if let Some((path, alone)) = kept {
        key_file::stage(path, &to, alone).with_context(|| path.display().to_string())?;
    }
    let members = [
        ("from", from.shown_id().into()),
        ("to", to.shown_id().into()),
        ("versions", count.into()),
        ("access_keys", keys.into()),
    ];
    desk.change(("master key rotated", &members), changes, manner)?;
    if let Some((path, alone)) = kept {
        key_file::promote(path, alone).with_context(|| path.display().to_string())?;
    }
    let remedy = match &source {
        Source::File(_) => "back it up apart; older backups of the store open with the former key alone",
        Source::Env(_) | Source::Passphrase(_) => {
            "put it where the configuration takes it from, and start the gateway again"
        }
    };
    let json = json!({"from": from.shown_id(), "to": to.shown_id(), "versions": count, "access_keys": keys});
    let text = format!(
        "{count} versions and {keys} access keys are sealed with the new master key {}: {remedy}\n",
        to.shown_id()
    );
    desk.report(manner, json, &text);
    Ok(())
}

/// The new key, and its key check.
fn requested_keys(
    source: &Source,
    new_file: Option<&Path>,
    keeper: TrustedOwner,
) -> anyhow::Result<(Rc<MasterKey>, KeyCheck)> {
    let (key, proof) = match (source, new_file) {
        (Source::File(_), None) => rotation::with_key_check(MasterKey::generate()?)?,
        (Source::File(_), Some(_)) => bail!("the new key is made and kept by claviger: leave out --new-file"),
        (Source::Env(_) | Source::Passphrase(_), None) => {
            bail!(
                "the configuration takes the key from where claviger cannot write: --new-file FILE holds the new one"
            )
        }
        (Source::Env(_), Some(path)) => rotation::with_key_check(rotation::read(path, keeper)?)?,
        (Source::Passphrase(_), Some(path)) => {
            let passphrase =
                read_secret_file(path, keeper).map_err(|ill| rotation::ill_kept(&ill, "the passphrase"))?;
            KeyCheck::of_passphrase(&passphrase)?
        }
    };
    Ok((Rc::new(key), proof))
}
