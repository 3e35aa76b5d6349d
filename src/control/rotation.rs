//! Loads the master key from the source that the configuration names, and completes interrupted rotations.

use std::path::Path;
use std::rc::Rc;

use anyhow::{Context as _, bail};

use super::environment;
use crate::config::file::{MasterKey as Source, Reference};
use crate::config::{self, File};
use crate::custody::key_file::{self, KeyLock};
use crate::custody::{KeyCheck, MasterKey, MasterKeyError};
use crate::fs::trust::{FileTrustError, TrustedOwner};
use crate::secret::Secret;
use crate::state::StateDir;
use crate::storage::{Change, Rows};

/// The key check that the store holds for its master key; `None` if nothing is sealed.
pub(crate) fn proof(rows: &Rows) -> anyhow::Result<Option<KeyCheck>> {
    match &rows.key_check {
        Some(proof) => Ok(Some(KeyCheck::parse(proof)?)),
        None if rows.versions.is_empty() && rows.access_keys.is_empty() => Ok(None),
        None => bail!("the store holds sealed secrets and no proof of their master key: it is damaged"),
    }
}

/// The key that the store is sealed with; `None` if nothing is sealed. `cached` is returned if it is still the right key,
/// which saves its derivation. `lock` is the lock of the key file, if the caller holds it.
///
/// # Errors
/// If the key is not available or is another key, with the reason. With `lock`, also if an interrupted rotation cannot
/// be completed: the next rotation would overwrite the key that is in use.
pub(crate) fn current_key(
    file: &File,
    rows: &Rows,
    cached: Option<&Rc<MasterKey>>,
    lock: Option<&KeyLock>,
) -> anyhow::Result<Option<Rc<MasterKey>>> {
    let Some(proof) = proof(rows)? else { return Ok(None) };
    if let Some(cached) = cached.filter(|cached| proof.is_of(cached)) {
        return Ok(Some(Rc::clone(cached)));
    }
    let owner = TrustedOwner::of(&file.state_dir.value);
    let key = match &file.custody.master_key.value {
        Source::File(path) => of_file(path, owner, &proof, lock)?,
        Source::Env(name) => {
            let key = MasterKey::parse(&variable(name)?).and_then(|key| proof.holds(&key).map(|()| key));
            key.with_context(|| format!("the master key in the variable `{name}`"))?
        }
        Source::Passphrase(place) => {
            let key = proof.derive(&read_reference(place, owner)?);
            key.with_context(|| format!("the passphrase in {}", format_reference(place)))?
        }
    };
    Ok(Some(Rc::new(key)))
}

/// The key to seal with, and the change that must be written with the first sealed record.
///
/// # Errors
/// Those of [`current_key`]. Also if there is no key and none may be made.
pub(crate) fn for_sealing(file: &File, rows: &Rows) -> anyhow::Result<(Rc<MasterKey>, Option<Change>)> {
    if let Some(key) = current_key(file, rows, None, None)? {
        return Ok((key, None));
    }
    let (source, owner) = (&file.custody.master_key, TrustedOwner::of(&file.state_dir.value));
    let (key, proof) = match &source.value {
        Source::File(path) => {
            if source.span.is_nowhere() && !path.try_exists()? {
                StateDir::prepare(&file.state_dir.value)?;
                key_file::create(path).with_context(|| path.display().to_string())?;
                super::eprint(&format!(
                    "a master key was made: {}; without it nothing in the store can be opened: back it up apart\n",
                    path.display()
                ));
            }
            if !path.try_exists()? {
                let path = path.display();
                bail!(
                    "the master key cannot be used: {path}: there is no such file; put the key there, or leave \
                     `[custody] master_key` out, so that one is made"
                );
            }
            with_key_check(read(path, owner)?)?
        }
        Source::Env(name) => {
            let key = MasterKey::parse(&variable(name)?);
            with_key_check(key.with_context(|| format!("the master key in the variable `{name}`"))?)?
        }
        Source::Passphrase(place) => KeyCheck::of_passphrase(&read_reference(place, owner)?)?,
    };
    Ok((Rc::new(key), Some(Change::SetKeyCheck(proof.bytes()))))
}

/// Computes the key check of a key, and returns both.
pub(crate) fn with_key_check(key: MasterKey) -> Result<(MasterKey, KeyCheck), MasterKeyError> {
    let proof = KeyCheck::of_key(&key)?;
    Ok((key, proof))
}

/// The key in the file, or the next key if a rotation was interrupted after the store was sealed with it. A caller that
/// holds the lock, or gets it at once, moves the next key into place. Other callers leave it where it is.
fn of_file(
    path: &Path,
    owner: TrustedOwner,
    proof: &KeyCheck,
    lock: Option<&KeyLock>,
) -> anyhow::Result<MasterKey> {
    let why = match proven_in(path, owner, proof) {
        Ok(key) => return Ok(key),
        Err(why) => why,
    };
    let Ok(key) = proven_in(&key_file::next(path), owner, proof) else {
        // Another process may have moved the key into place between the two reads.
        return proven_in(path, owner, proof).map_err(|_| why);
    };
    if let Some(lock) = lock {
        complete(path, owner, proof, lock).with_context(|| path.display().to_string())?;
        return Ok(key);
    }
    let completed = match key_file::try_lock(path) {
        Ok(Some(lock)) => complete(path, owner, proof, &lock),
        // The holder of the lock completes the rotation, or else the next caller does.
        Ok(None) => Ok(()),
        Err(why) => Err(why),
    };
    if let Err(why) = completed {
        let next = key_file::next(path);
        tracing::warn!(%why, next = %next.display(), "the master key in use cannot be moved into place");
    }
    Ok(key)
}

/// Moves the next key into place if it is still the right one. Only the lock makes this certain: another rotation may
/// have moved the key meanwhile and staged a key of its own.
fn complete(path: &Path, owner: TrustedOwner, proof: &KeyCheck, lock: &KeyLock) -> std::io::Result<()> {
    if proven_in(path, owner, proof).is_ok() {
        return Ok(());
    }
    if let Ok(key) = proven_in(&key_file::next(path), owner, proof) {
        key_file::promote(path, lock)?;
        tracing::info!(key = key.shown_id(), "the rotation of the master key is complete");
    }
    Ok(())
}

/// The key in a file, if the store is sealed with it.
fn proven_in(path: &Path, owner: TrustedOwner, proof: &KeyCheck) -> anyhow::Result<MasterKey> {
    let key = read(path, owner)?;
    proof.holds(&key).with_context(|| path.display().to_string())?;
    Ok(key)
}

/// Reads the key from a file that only its owner can read.
pub(crate) fn read(path: &Path, owner: TrustedOwner) -> anyhow::Result<MasterKey> {
    let text = config::read_secret_file(path, owner).map_err(|ill| ill_kept(&ill, "the master key"))?;
    MasterKey::parse(&text).with_context(|| path.display().to_string())
}

/// The error for a file of secrets whose owner or mode is not safe, with the remedy.
pub(crate) fn ill_kept(ill: &FileTrustError, what: &str) -> anyhow::Error {
    let remedy = ill.remedy().map(|remedy| format!(": {remedy}")).unwrap_or_default();
    anyhow::anyhow!("{what} cannot be used: {ill}{remedy}")
}

fn variable(name: &str) -> anyhow::Result<Secret> {
    let value = environment(name).with_context(|| format!("the environment has no variable `{name}`"))?;
    Ok(Secret::new(value.into_bytes()))
}

fn read_reference(place: &Reference, owner: TrustedOwner) -> anyhow::Result<Secret> {
    match place {
        Reference::Env(name) => variable(name),
        Reference::File(path) => {
            config::read_secret_file(path, owner).map_err(|ill| ill_kept(&ill, "the passphrase"))
        }
    }
}

fn format_reference(place: &Reference) -> String {
    match place {
        Reference::Env(name) => format!("the variable `{name}`"),
        Reference::File(path) => path.display().to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::*;

    /// An interrupted rotation: the former key at its path, the key in use beside it.
    struct CutOff {
        folder: tempfile::TempDir,
        path: PathBuf,
        used: MasterKey,
        proof: KeyCheck,
    }

    /// The user who runs the test.
    fn user() -> TrustedOwner {
        TrustedOwner::of(Path::new("/nowhere"))
    }

    fn cut_off() -> CutOff {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("master.key");
        key_file::create(&path).unwrap();
        let (used, proof) = with_key_check(MasterKey::generate().unwrap()).unwrap();
        key_file::stage(&path, &used, &key_file::lock(&path).unwrap()).unwrap();
        CutOff { folder, path, used, proof }
    }

    impl CutOff {
        /// Checks that the key found is the key in use.
        fn finds(&self, lock: Option<&KeyLock>) {
            let found = of_file(&self.path, user(), &self.proof, lock).unwrap();
            assert_eq!(found.shown_id(), self.used.shown_id());
        }

        fn is_complete(&self) -> bool {
            let (at, beside) = (read(&self.path, user()), key_file::next(&self.path).exists());
            at.is_ok_and(|key| self.proof.is_of(&key)) && !beside
        }
    }

    #[test]
    fn a_rotation_that_was_cut_off_is_completed() {
        let left = cut_off();
        left.finds(None);
        assert!(left.is_complete());
        left.finds(None);
        let left = cut_off();
        left.finds(Some(&key_file::lock(&left.path).unwrap()));
        assert!(left.is_complete());
    }

    #[test]
    fn while_another_rotates_the_key_is_used_where_it_is() {
        let left = cut_off();
        let former = fs::read(&left.path).unwrap();
        let another = key_file::lock(&left.path).unwrap();
        left.finds(None);
        assert_eq!(fs::read(&left.path).unwrap(), former);
        drop(another);
        left.finds(None);
        assert!(left.is_complete());
    }

    /// Between the reads and the lock, the rotation was completed and another has staged its key.
    #[test]
    fn no_later_key_takes_the_place_of_the_one_in_use() {
        let left = cut_off();
        let lock = key_file::lock(&left.path).unwrap();
        key_file::promote(&left.path, &lock).unwrap();
        let later = MasterKey::generate().unwrap();
        key_file::stage(&left.path, &later, &lock).unwrap();
        complete(&left.path, user(), &left.proof, &lock).unwrap();
        left.finds(None);
        assert_eq!(read(&left.path, user()).unwrap().shown_id(), left.used.shown_id());
        // Nothing is moved either if neither file has the key that was read.
        let (_, proof) = with_key_check(MasterKey::generate().unwrap()).unwrap();
        complete(&left.path, user(), &proof, &lock).unwrap();
        assert_eq!(read(&left.path, user()).unwrap().shown_id(), left.used.shown_id());
        assert_eq!(read(&key_file::next(&left.path), user()).unwrap().shown_id(), later.shown_id());
    }

    #[test]
    fn what_cannot_be_completed_keeps_no_reader_from_the_key() {
        let left = cut_off();
        fs::set_permissions(left.folder.path(), Permissions::from_mode(0o500)).unwrap();
        left.finds(None);
        fs::set_permissions(left.folder.path(), Permissions::from_mode(0o700)).unwrap();
        // Root can write there in any case, but nobody can rename a file over a folder.
        let left = cut_off();
        fs::remove_file(&left.path).unwrap();
        fs::create_dir(&left.path).unwrap();
        left.finds(None);
        assert!(key_file::next(&left.path).exists());
        // The next rotation would stage its own key there, so it must not continue.
        let lock = key_file::lock(&left.path).unwrap();
        of_file(&left.path, user(), &left.proof, Some(&lock)).unwrap_err();
        assert!(key_file::next(&left.path).exists());
    }
}
