//! Custody of credentials by name. A credential is unsealed only for a call whose intent is recorded.

pub mod key_file;
mod key_check;
mod mark;
mod master_key;
mod material;
mod seal;
mod unsealed_store;

pub use key_check::KeyCheck;
pub use mark::Mark;
pub use master_key::{KeyId, MasterKey, MasterKeyError};
pub use material::{Kind, Material, MaterialError};
pub use seal::{Binding, UnsealError, rewrap, seal, unseal};
pub use unsealed_store::{
    SealedRecord, UnsealFailure, UnsealedStore, UnsealedVersion, rewrap_access_key, rewrap_version,
    seal_access_key, seal_version,
};

use std::sync::Arc;
use std::time::SystemTime;

use crate::audit::Entry;
use crate::code::Failure;
use crate::ids::CredentialId;
use crate::name::Name;
use crate::origin::Origin;

/// A named credential, bound to the origins it may be sent to. Copies share the material.
#[derive(Debug, Clone)]
pub struct Credential {
    /// The name of the credential.
    pub name: Name,
    /// The version number, from 1.
    pub version: u32,
    /// The origins that it may be sent to: the endpoints of one upstream, sorted.
    pub origins: Vec<Origin>,
    /// The time since which this version is unchanged, if known. For a version of the store it is the time of storage,
    /// which distinguishes it from a removed version with the same number.
    pub since: Option<SystemTime>,
    /// Whether the credential comes from the store.
    pub stored: bool,
    /// The secret content; `None` if the credential is not available now.
    material: Option<Arc<Material>>,
}

impl Credential {
    /// Makes a credential whose material is available.
    #[must_use]
    pub fn new(name: Name, version: u32, origins: Vec<Origin>, material: Material) -> Self {
        Self { name, version, origins, since: None, stored: false, material: Some(Arc::new(material)) }
    }

    /// Sets the time since which this version is unchanged.
    #[must_use]
    pub fn with_start(self, since: Option<SystemTime>) -> Self {
        Self { since, ..self }
    }

    /// Marks the credential as one of the store.
    #[must_use]
    pub fn of_store(self) -> Self {
        Self { stored: true, ..self }
    }

    /// Makes a credential that grants name but that is not available now.
    #[must_use]
    pub fn new_unavailable(name: Name, origins: Vec<Origin>) -> Self {
        Self { name, version: 0, origins, since: None, stored: false, material: None }
    }

    /// Returns the public part: the id of an access key, the user name of a login.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.material.as_deref().and_then(Material::id)
    }

    /// Whether `mark` is the mark of this login's secret. Takes milliseconds.
    #[must_use]
    pub fn is_marked(&self, mark: &Mark) -> bool {
        let secret = self.material.as_deref().and_then(Material::login_secret);
        secret.is_some_and(|secret| mark.is_of(secret.expose()))
    }

    /// Whether a token obtained with `former` is still valid for this credential: the same version of the same login,
    /// for the same origins.
    #[must_use]
    pub fn is_same_login_as(&self, former: &Self) -> bool {
        let version = |credential: &Self| (credential.name, credential.version, credential.since);
        version(self) == version(former)
            && self.origins == former.origins
            && self.material.iter().zip(&former.material).any(|(one, former)| one.is_same_login(former))
    }
}

/// All credentials of a snapshot, by their index.
#[derive(Debug, Default)]
pub struct Custody(Vec<Credential>);

/// The material of a credential, unsealed for one call. `'e` is the lifetime of this call's entry.
///
/// A permit alone does not unseal:
/// ```compile_fail,E0308
/// fn early(custody: &claviger::custody::Custody, permit: &claviger::policy::Permit, to: &claviger::origin::Origin) {
///     let _ = custody.unseal(permit, to);
/// }
/// ```
/// ```
/// fn due(custody: &claviger::custody::Custody, entry: &claviger::audit::Entry, to: &claviger::origin::Origin) {
///     let _ = custody.unseal(entry, to);
/// }
/// ```
pub struct Unsealed<'e> {
    material: &'e Material,
}

/// The error for a credential that is not available, or is bound to another origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credential is not available, or is bound to another origin")]
pub struct CredentialUnavailable;

impl Custody {
    /// Takes these credentials into custody.
    #[must_use]
    pub fn new(credentials: Vec<Credential>) -> Self {
        Self(credentials)
    }

    /// Returns the credential with this id, its index in the list given to [`new`](Self::new).
    #[must_use]
    pub fn credential(&self, id: CredentialId) -> Option<&Credential> {
        self.0.get(id.index())
    }

    /// Iterates over all credentials.
    pub fn iter(&self) -> impl Iterator<Item = &Credential> {
        self.0.iter()
    }

    /// Finds the credential with this name and version, if its material is available. With `stored`, it must also have
    /// been stored at that time.
    #[must_use]
    pub fn find(&self, name: &str, version: u32, stored: Option<SystemTime>) -> Option<&Credential> {
        self.0.iter().find(|credential| {
            credential.name.as_str() == name
                && credential.version == version
                && credential.material.is_some()
                && stored.is_none_or(|stored| credential.since == Some(stored))
        })
    }

    /// Unseals the credential that the entry's permit names, to be sent to `origin`.
    ///
    /// # Errors
    /// [`CredentialUnavailable`] if the credential is not available, or is bound to other origins.
    pub fn unseal<'e>(
        &'e self,
        entry: &'e Entry,
        origin: &Origin,
    ) -> Result<Unsealed<'e>, CredentialUnavailable> {
        let credential = self.credential(entry.permit().credential()).ok_or(CredentialUnavailable)?;
        match &credential.material {
            Some(material) if credential.origins.contains(origin) => Ok(Unsealed { material }),
            Some(_) | None => Err(CredentialUnavailable),
        }
    }
}

impl<'e> Unsealed<'e> {
    /// Returns the material of the credential.
    #[must_use]
    pub fn material(&self) -> &'e Material {
        self.material
    }

    /// Returns the failure of a scheme that needs another kind of credential. A valid configuration never causes it.
    #[must_use]
    pub fn unfit(&self) -> Failure {
        Failure::internal("the credential's kind does not fit the scheme")
    }
}
