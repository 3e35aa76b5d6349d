//! The master key, from where the configuration says it is.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, bail};

use crate::cli::environment;
use crate::config::file::{MasterKey as Source, Reference};
use crate::config::{self, File};
use crate::custody::{MasterKey, Proof, WrongKey, keyfile};
use crate::secret::Secret;
use crate::storage::{Change, Rows};

/// What the store says of its master key; none where nothing is sealed.
pub(super) fn proof(rows: &Rows) -> anyhow::Result<Option<Proof>> {
    match &rows.proof {
        Some(proof) => Ok(Some(Proof::parse(proof)?)),
        None if rows.versions.is_empty() => Ok(None),
        None => bail!("the store holds sealed credentials and no proof of their master key: it is damaged"),
    }
}

/// The key that the store is sealed with; none where nothing is sealed. `held` is taken where it is
/// still the right one, which spares deriving it.
///
/// # Errors
/// Where the key is not to be had or is another, and why.
pub(super) fn for_reading(
    file: &File,
    rows: &Rows,
    held: Option<&Rc<MasterKey>>,
) -> anyhow::Result<Option<Rc<MasterKey>>> {
    let Some(proof) = proof(rows)? else { return Ok(None) };
    if let Some(held) = held.filter(|held| proof.is_of(held)) {
        return Ok(Some(Rc::clone(held)));
    }
    let key = match &file.custody.master_key.value {
        Source::File(path) => of_file(path, &proof)?,
        Source::Env(name) => {
            let key = MasterKey::parse(&variable(name)?).and_then(|key| proof.holds(&key).map(|()| key));
            key.with_context(|| format!("the master key in the variable `{name}`"))?
        }
        Source::Passphrase(place) => {
            let key = proof.derive(&referred(place)?);
            key.with_context(|| format!("the passphrase in {}", shown(place)))?
        }
    };
    Ok(Some(Rc::new(key)))
}

/// The key to seal with, and what has to be written with the first record sealed.
///
/// # Errors
/// As [`for_reading`]; also where there is no key and none may be made.
pub(super) fn for_sealing(file: &File, rows: &Rows) -> anyhow::Result<(Rc<MasterKey>, Option<Change>)> {
    if let Some(key) = for_reading(file, rows, None)? {
        return Ok((key, None));
    }
    let source = &file.custody.master_key;
    let (key, proof) = match &source.value {
        Source::File(path) => {
            if source.span.is_nowhere() && !path.try_exists()? {
                keyfile::make(path).with_context(|| path.display().to_string())?;
                crate::cli::tell(&format!(
                    "a master key was made: {}; without it nothing in the store can be opened: back it up apart\n",
                    path.display()
                ));
            }
            proven(read(path)?)?
        }
        Source::Env(name) => {
            let key = MasterKey::parse(&variable(name)?);
            proven(key.with_context(|| format!("the master key in the variable `{name}`"))?)?
        }
        Source::Passphrase(place) => Proof::of_passphrase(&referred(place)?)?,
    };
    Ok((Rc::new(key), Some(Change::Proof(proof.bytes()))))
}

/// The key, and its proof.
pub(super) fn proven(key: MasterKey) -> Result<(MasterKey, Proof), WrongKey> {
    let proof = Proof::of_key(&key)?;
    Ok((key, proof))
}

/// The key in the file. Where a rotation was cut off after the store was sealed with the next key,
/// that one is put in its place.
fn of_file(path: &Path, proof: &Proof) -> anyhow::Result<MasterKey> {
    let found = read(path)
        .and_then(|key| proof.holds(&key).map(|()| key).with_context(|| path.display().to_string()));
    let why = match found {
        Ok(key) => return Ok(key),
        Err(why) => why,
    };
    let next = keyfile::next(path);
    match read(&next) {
        Ok(key) if proof.is_of(&key) => {
            keyfile::promote(path).with_context(|| path.display().to_string())?;
            tracing::info!(key = key.shown_id(), "the rotation of the master key is complete");
            Ok(key)
        }
        Ok(_) | Err(_) => Err(why),
    }
}

/// Reads the key in a file that nobody else can read.
pub(super) fn read(path: &Path) -> anyhow::Result<MasterKey> {
    let text = config::kept(path).map_err(|ill| anyhow::anyhow!("the master key cannot be used: {ill}"))?;
    MasterKey::parse(&text).with_context(|| path.display().to_string())
}

fn variable(name: &str) -> anyhow::Result<Secret> {
    let value = environment(name).with_context(|| format!("the environment has no variable `{name}`"))?;
    Ok(Secret::new(value.into_bytes()))
}

fn referred(place: &Reference) -> anyhow::Result<Secret> {
    match place {
        Reference::Env(name) => variable(name),
        Reference::File(path) => {
            config::kept(path).map_err(|ill| anyhow::anyhow!("the passphrase cannot be used: {ill}"))
        }
    }
}

fn shown(place: &Reference) -> String {
    match place {
        Reference::Env(name) => format!("the variable `{name}`"),
        Reference::File(path) => path.display().to_string(),
    }
}
