//! `claviger master-key`: replaces the key that seals the store.
//!
//! The new key is written and flushed beside the former one. Then the store is sealed with it in one transaction, and
//! only then does it replace the former key. After an interruption, one of the two files holds the key that the store
//! names. The next command that reads the key moves it into place.

use std::path::{Path, PathBuf};

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

/// A subcommand of `master-key`.
#[derive(Subcommand)]
pub(super) enum Verb {
    /// Seal everything in the store with a new key
    Rotate {
        /// A file with the new key or passphrase; only if the configuration takes the key from the
        /// environment or a passphrase. Otherwise claviger makes a new key
        #[arg(long, value_name = "FILE")]
        new_file: Option<PathBuf>,
        #[command(flatten)]
        flags: ChangeFlags,
    },
}

/// The message if there is nothing to do.
const NOTHING: &str = "nothing is sealed in the store yet: there is nothing to rotate";

/// Runs the subcommand; returns whether it succeeded.
pub(super) fn run(config: &Path, verb: &Verb, output: Output) -> anyhow::Result<bool> {
    let mut desk = StoreSession::open(config, output)?;
    match verb {
        Verb::Rotate { new_file, flags } => rotate(desk.with(*flags), new_file.as_deref())?,
    }
    Ok(true)
}

fn rotate(desk: &mut StoreSession, new_file: Option<&Path>) -> anyhow::Result<()> {
    if desk.store.is_none() {
        bail!(NOTHING);
    }
    let source = desk.file.custody.master_key.value.clone();
    let in_file = match &source {
        Source::File(path) => Some((path, key_file::lock(path).with_context(|| path.display().to_string())?)),
        Source::Env(_) | Source::Passphrase(_) => None,
    };
    // Another rotation may have run before this one got the lock.
    desk.reload()?;
    let lock = in_file.as_ref().map(|(_, lock)| lock);
    let Some(from) = rotation::current_key(&desk.file, &desk.rows, None, lock)? else {
        bail!(NOTHING);
    };
    let (to, key_check) = new_key(&source, new_file, TrustedOwner::of(&desk.file.state_dir.value))?;
    let mut changes = vec![Change::SetKeyCheck(key_check.bytes())];
    for row in &desk.rows.versions {
        changes.push(Change::PutVersion(rewrap_version(&from, &to, &desk.rows, row)?));
    }
    for row in &desk.rows.access_keys {
        changes.push(Change::PutAccessKey(rewrap_access_key(&from, &to, row)?));
    }
    let (versions, keys) = (desk.rows.versions.len(), desk.rows.access_keys.len());
    let in_file = in_file.filter(|_| !desk.flags.dry_run);
    if let Some((path, lock)) = &in_file {
        key_file::stage(path, &to, lock).with_context(|| path.display().to_string())?;
    }
    let (from, to) = (from.shown_id(), to.shown_id());
    let json = json!({"from": from, "to": to, "versions": versions, "access_keys": keys});
    desk.change("master key rotated", json.clone(), changes)?;
    if let Some((path, lock)) = &in_file {
        key_file::promote(path, lock).with_context(|| path.display().to_string())?;
    }
    let remedy = match &source {
        Source::File(_) => "back it up apart; older backups of the store open with the former key alone",
        Source::Env(_) | Source::Passphrase(_) => {
            "put it where the configuration takes it from, and start the gateway again"
        }
    };
    let text = format!(
        "{versions} versions and {keys} access keys are sealed with the new master key {to}: {remedy}\n"
    );
    desk.report(json, &text);
    Ok(())
}

/// The new key, and its key check.
fn new_key(
    source: &Source,
    new_file: Option<&Path>,
    owner: TrustedOwner,
) -> anyhow::Result<(MasterKey, KeyCheck)> {
    match (source, new_file) {
        (Source::File(_), None) => Ok(rotation::with_key_check(MasterKey::generate()?)?),
        (Source::File(_), Some(_)) => bail!("claviger makes and stores the new key: leave out --new-file"),
        (Source::Env(_) | Source::Passphrase(_), None) => bail!(
            "the configuration takes the key from a place that claviger cannot write: give the new one by \
             --new-file FILE"
        ),
        (Source::Env(_), Some(path)) => Ok(rotation::with_key_check(rotation::read(path, owner)?)?),
        (Source::Passphrase(_), Some(path)) => {
            let passphrase =
                read_secret_file(path, owner).map_err(|ill| rotation::ill_kept(&ill, "the passphrase"))?;
            Ok(KeyCheck::of_passphrase(&passphrase)?)
        }
    }
}
