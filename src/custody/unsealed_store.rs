//! The unsealed content of the store: its rows, and the material of the active versions.

use std::collections::HashMap;

use super::master_key::MasterKey;
use super::seal::{Binding, UnsealError, rewrap, seal, unseal};
use crate::secret::Secret;
use crate::storage::{AccessKeyRow, CredentialRow, Rows, Seconds, Stage, VersionRow};

/// The content of the store, with which a configuration is compiled.
#[derive(Debug, Default)]
pub struct UnsealedStore {
    /// All rows of the store.
    pub rows: Rows,
    /// The material of each credential's active version, by the credential's name. Absent if it could not be unsealed.
    pub opened: HashMap<String, UnsealedVersion>,
    /// The secrets of access keys by their ids. Absent if one could not be unsealed.
    pub keys: HashMap<String, Secret>,
}

/// The material of a version in plaintext.
#[derive(Debug)]
pub struct UnsealedVersion {
    /// The version number.
    pub version: u32,
    /// The time at which it was stored.
    pub created: Seconds,
    /// The public part, for example the id of an access key. Empty if the kind has none.
    pub id: String,
    /// The secret part.
    pub secret: Secret,
}

/// A sealed row that cannot be unsealed.
#[derive(Debug, thiserror::Error)]
#[error("{what} does not open: {why}")]
pub struct UnsealFailure {
    /// The record at fault.
    pub what: SealedRecord,
    /// The reason for the failure.
    pub why: UnsealError,
}

/// A kind of sealed record in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealedRecord {
    /// A version of a credential, by its name and number.
    #[error("version {1} of the credential `{0}`")]
    Version(String, u32),
    /// An access key, by its id.
    #[error("the access key {0}")]
    AccessKey(String),
}

impl UnsealFailure {
    fn of_version(row: &VersionRow, why: UnsealError) -> Self {
        Self { what: SealedRecord::Version(row.credential.clone(), row.version), why }
    }

    fn of_access_key(row: &AccessKeyRow, why: UnsealError) -> Self {
        Self { what: SealedRecord::AccessKey(row.issued.id.clone()), why }
    }
}

impl UnsealedStore {
    /// Unseals every version and access key, and keeps the material in use. Returns the failures beside it. Without a
    /// key, unseals nothing and reports no failure.
    #[must_use]
    pub fn open(rows: Rows, key: Option<&MasterKey>) -> (Self, Vec<UnsealFailure>) {
        let (mut opened, mut keys, mut broken) = (HashMap::new(), HashMap::new(), Vec::new());
        for row in &rows.versions {
            let Some(key) = key else { continue };
            let material = row_of(&rows, row)
                .and_then(|place| unseal(key, at("versions", &place), &row.sealed))
                .and_then(|packed| unpack_login(&packed).ok_or(UnsealError::Form));
            match material {
                // Versions are sorted, so that the latest of several active ones wins.
                Ok((id, secret)) if row.stage == Stage::Active => {
                    let (version, created) = (row.version, row.created);
                    opened.insert(row.credential.clone(), UnsealedVersion { version, created, id, secret });
                }
                Ok(_) => {}
                Err(why) => broken.push(UnsealFailure::of_version(row, why)),
            }
        }
        for row in &rows.access_keys {
            let Some(key) = key else { continue };
            match unseal(key, at("access_keys", &bound_key(row)), &row.sealed) {
                Ok(secret) => drop(keys.insert(row.issued.id.clone(), secret)),
                Err(why) => broken.push(UnsealFailure::of_access_key(row, why)),
            }
        }
        (Self { rows, opened, keys }, broken)
    }

    /// Returns number and storage time of a credential's active version, whether it could be unsealed or not.
    #[must_use]
    pub fn active(&self, name: &str) -> Option<(u32, Seconds)> {
        let active = |row: &&VersionRow| row.credential == name && row.stage == Stage::Active;
        self.rows.versions.iter().filter(active).map(|row| (row.version, row.created)).max()
    }
}

/// Seals a version's material for its credential's row.
///
/// # Errors
/// [`UnsealError::Form`] if the id has more than 255 bytes, or an [`UnsealError`] of the encryption.
pub fn seal_version(
    key: &MasterKey,
    credential: &CredentialRow,
    version: u32,
    id: &str,
    secret: &Secret,
) -> Result<Vec<u8>, UnsealError> {
    let packed = pack_login(id, secret).map_err(|_| UnsealError::Form)?;
    seal(key, at("versions", &bound_to(credential, version)), packed.expose())
}

/// Wraps the data key of a version's row for another master key.
///
/// # Errors
/// An [`UnsealFailure`] if the row cannot be unsealed.
pub fn rewrap_version(
    from: &MasterKey,
    to: &MasterKey,
    rows: &Rows,
    row: &VersionRow,
) -> Result<VersionRow, UnsealFailure> {
    let sealed = row_of(rows, row).and_then(|place| rewrap(from, to, at("versions", &place), &row.sealed));
    let sealed = sealed.map_err(|why| UnsealFailure::of_version(row, why))?;
    Ok(VersionRow { sealed, ..row.clone() })
}

/// Seals an access key's secret for its row. All members of the row but `sealed` must be as they will be stored.
///
/// # Errors
/// [`UnsealError::Random`] if the encryption fails.
pub fn seal_access_key(key: &MasterKey, row: &AccessKeyRow, secret: &Secret) -> Result<Vec<u8>, UnsealError> {
    seal(key, at("access_keys", &bound_key(row)), secret.expose())
}

/// Wraps the data key of an access key's row for another master key.
///
/// # Errors
/// An [`UnsealFailure`] if the row cannot be unsealed.
pub fn rewrap_access_key(
    from: &MasterKey,
    to: &MasterKey,
    row: &AccessKeyRow,
) -> Result<AccessKeyRow, UnsealFailure> {
    let sealed = rewrap(from, to, at("access_keys", &bound_key(row)), &row.sealed);
    let sealed = sealed.map_err(|why| UnsealFailure::of_access_key(row, why))?;
    Ok(AccessKeyRow { sealed, ..row.clone() })
}

/// Formats the text that binds an access key's secret to its row. It includes consumer, algorithms and strictness.
/// Otherwise a writer of the store without the key could give the access key to another consumer, or make
/// it less strict.
fn bound_key(AccessKeyRow { issued, algorithms, strict, .. }: &AccessKeyRow) -> String {
    format!("{}/{}/{algorithms}/{}", issued.id, issued.consumer, strict.unwrap_or(0))
}

/// Returns the text that binds a version to its row. Fails if the credential is missing.
fn row_of(rows: &Rows, row: &VersionRow) -> Result<String, UnsealError> {
    let credential = rows.credential(&row.credential).ok_or(UnsealError::Altered)?;
    Ok(bound_to(credential, row.version))
}

/// Formats the text that binds a version to its row. It includes upstream and kind. Otherwise a writer of the store
/// without the key could have an access key's secret sent in plaintext, or to another upstream. No part contains `/`,
/// so different rows have different texts.
fn bound_to(CredentialRow { name, upstream, kind, .. }: &CredentialRow, version: u32) -> String {
    format!("{name}/{version}/{upstream}/{kind}")
}

fn at<'r>(table: &'r str, row: &'r str) -> Binding<'r> {
    Binding { table, row, column: "sealed" }
}

/// Encodes material for sealing: the length of the id in one byte, the id, the secret. Fails if the id has
/// more than 255 bytes.
fn pack_login(id: &str, secret: &Secret) -> Result<Secret, std::num::TryFromIntError> {
    let length = [u8::try_from(id.len())?];
    // The room for all of it is reserved at once, so that no copy of the secret stays behind.
    Ok(Secret::new([&length, id.as_bytes(), secret.expose()].concat()))
}

/// Decodes the id and the secret from material encoded by [`pack_login`].
fn unpack_login(packed: &Secret) -> Option<(String, Secret)> {
    let (length, rest) = packed.expose().split_first()?;
    let (id, secret) = rest.split_at_checked(usize::from(*length))?;
    Some((String::from_utf8(id.to_vec()).ok()?, Secret::new(secret.to_vec())))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::storage::Issuance;

    fn version(credential: &str, version: u32, stage: Stage, sealed: Vec<u8>) -> VersionRow {
        VersionRow { credential: credential.into(), version, stage, sealed, created: 0, until: None }
    }

    fn credential(name: &str) -> CredentialRow {
        let (upstream, kind) = ("jms".into(), "access-key".into());
        CredentialRow { name: name.into(), upstream, kind, created: 0, disabled: false }
    }

    #[test]
    fn opens_what_is_in_use_and_names_what_does_not_open() {
        let (key, secret) = (MasterKey::generate().unwrap(), Secret::new(b"fake-secret".to_vec()));
        let sealed =
            |name: &str, number| seal_version(&key, &credential(name), number, "id", &secret).unwrap();
        let versions = vec![
            version("jms", 1, Stage::Retired, sealed("jms", 1)),
            version("jms", 2, Stage::Active, sealed("jms", 2)),
            version("jms", 3, Stage::Staged, sealed("jms", 3)),
            // The row of another credential, and an older version put back.
            version("other", 1, Stage::Active, sealed("jms", 2)),
            version("other", 2, Stage::Retired, sealed("other", 1)),
        ];
        let credentials = vec![credential("jms"), credential("other")];
        let rows = Rows { credentials, versions, ..Rows::default() };
        let (stored, broken) = UnsealedStore::open(rows.clone(), Some(&key));
        assert_eq!(stored.opened.len(), 1);
        let opened = stored.opened.get("jms").unwrap();
        assert_eq!((opened.version, opened.secret.expose()), (2, secret.expose()));
        assert_eq!(
            (stored.active("jms"), stored.active("other"), stored.active("x")),
            (Some((2, 0)), Some((1, 0)), None)
        );
        let broken: Vec<SealedRecord> = broken.into_iter().map(|broken| broken.what).collect();
        assert_eq!(broken, [1, 2].map(|version| SealedRecord::Version("other".into(), version)));
        let (stored, broken) = UnsealedStore::open(rows, None);
        assert!(stored.opened.is_empty() && broken.is_empty());
    }

    #[test]
    fn what_is_said_to_be_for_another_upstream_or_of_another_kind_does_not_open() {
        let (key, secret) = (MasterKey::generate().unwrap(), Secret::new(b"fake-secret".to_vec()));
        let [changed, other] = [credential("changed"), credential("other")];
        let sealed = |of: &CredentialRow| seal_version(&key, of, 1, "id", &secret).unwrap();
        let versions = vec![
            version("changed", 1, Stage::Active, sealed(&changed)),
            version("other", 1, Stage::Active, sealed(&other)),
        ];
        for altered in [
            vec![CredentialRow { kind: "value".into(), ..changed.clone() }, other.clone()],
            vec![CredentialRow { upstream: "elsewhere".into(), ..changed.clone() }, other.clone()],
            vec![
                CredentialRow { kind: String::new(), upstream: "jms/access-key".into(), ..changed },
                other.clone(),
            ],
            vec![other],
        ] {
            let rows = Rows { credentials: altered, versions: versions.clone(), ..Rows::default() };
            let to = MasterKey::generate().unwrap();
            let wrapped = rows.versions.iter().map(|row| rewrap_version(&key, &to, &rows, row).is_ok());
            assert_eq!(wrapped.collect::<Vec<_>>(), [false, true]);
            let (stored, broken) = UnsealedStore::open(rows, Some(&key));
            assert_eq!(stored.opened.keys().collect::<Vec<_>>(), ["other"]);
            let said: Vec<_> = broken.iter().map(ToString::to_string).collect();
            assert_eq!(said.len(), 1);
            assert!(
                said.iter().all(|said| said.contains("version 1 of the credential `changed`")),
                "{said:?}"
            );
            assert!(said.iter().all(|said| said.contains("another upstream or kind")), "{said:?}");
        }
    }

    #[test]
    fn an_access_key_opens_in_its_own_row_alone() {
        let (key, other, secret) = (
            MasterKey::generate().unwrap(),
            MasterKey::generate().unwrap(),
            Secret::new(b"fake-secret".to_vec()),
        );
        let issued = Issuance {
            id: "one".into(),
            consumer: "tool".into(),
            created: 0,
            expires: None,
            revoked: None,
            last_used: None,
            note: None,
        };
        let (sealed, algorithms, strict) = (Vec::new(), "hmac-sha256".into(), Some(300));
        let mut row = AccessKeyRow { issued: issued.clone(), sealed, algorithms, strict };
        row.sealed = seal_access_key(&key, &row, &secret).unwrap();
        let opens = |row: &AccessKeyRow, key: &MasterKey| {
            let rows = Rows { access_keys: vec![row.clone()], ..Rows::default() };
            let (stored, broken) = UnsealedStore::open(rows, Some(key));
            let opened = stored.keys.get(&row.issued.id).map(|secret| secret.expose().to_vec());
            (opened, broken.into_iter().map(|broken| broken.what).collect::<Vec<_>>())
        };
        let good = (Some(secret.expose().to_vec()), Vec::new());
        assert_eq!(opens(&row, &key), good);
        let changed =
            Issuance { note: Some("n".into()), expires: Some(7), revoked: Some(9), ..issued.clone() };
        let changed = AccessKeyRow { issued: changed, ..row.clone() };
        assert_eq!(opens(&changed, &key), good);
        for altered in [
            AccessKeyRow { issued: Issuance { consumer: "another".into(), ..issued }, ..row.clone() },
            AccessKeyRow { strict: None, ..row.clone() },
            AccessKeyRow { algorithms: "hmac-sha256 hmac-sha1".into(), ..row.clone() },
        ] {
            assert_eq!(opens(&altered, &key), (None, vec![SealedRecord::AccessKey("one".into())]));
            assert!(rewrap_access_key(&key, &other, &altered).is_err());
        }
        assert_eq!(opens(&rewrap_access_key(&key, &other, &row).unwrap(), &other), good);
    }

    #[test]
    fn unpacks_what_was_packed() {
        let secret = Secret::new(b"fake-secret".to_vec());
        let (id, again) = unpack_login(&pack_login("an-id", &secret).unwrap()).unwrap();
        assert_eq!((id.as_str(), again.expose()), ("an-id", secret.expose()));
        assert!(pack_login(&"x".repeat(256), &secret).is_err());
        assert!(unpack_login(&Secret::new(vec![])).is_none());
        assert!(unpack_login(&Secret::new(vec![5, b'a'])).is_none());
    }
}
