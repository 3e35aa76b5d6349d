//! Custody of the keys: credentials by name, unsealed only for a call that is recorded.

pub mod key_file;
mod mark;
mod master_key;
mod material;
mod seal;
mod unsealed_store;

pub use mark::Mark;
pub use master_key::{KeyCheck, KeyId, MasterKey, MasterKeyError};
pub use material::{Kind, Material, MaterialError};
pub use seal::{Binding, UnsealError, rewrap, seal, unseal};
pub use unsealed_store::{
    SealedRecord, UnsealFailure, UnsealedStore, UnsealedVersion, rewrap_access_key, rewrap_version,
    seal_access_key, seal_version,
};

use std::sync::Arc;
use std::time::SystemTime;

use crate::audit::Entry;
use crate::name::Name;
use crate::origin::Origin;

/// A named credential, bound to the origins it may be sent to.
#[derive(Debug)]
pub struct Credential {
    /// Its name.
    pub name: Name,
    /// Its version, from 1.
    pub version: u32,
    /// Where it may go: to the endpoints of one upstream, sorted.
    pub origins: Vec<Origin>,
    /// Since when the version is what it is, where that is known: one of the store since it was stored,
    /// which tells it from one of the same number that was removed.
    pub since: Option<SystemTime>,
    /// Whether it is the store's.
    pub stored: bool,
    /// None where it is not to be had now.
    material: Option<Arc<Material>>,
}

impl Credential {
    /// A credential in custody.
    #[must_use]
    pub fn new(name: Name, version: u32, origins: Vec<Origin>, material: Material) -> Self {
        Self { name, version, origins, since: None, stored: false, material: Some(Arc::new(material)) }
    }

    /// The same, known to be what it is since then.
    #[must_use]
    pub fn with_start(self, since: Option<SystemTime>) -> Self {
        Self { since, ..self }
    }

    /// The same, as one that came from the store.
    #[must_use]
    pub fn of_store(self) -> Self {
        Self { stored: true, ..self }
    }

    /// A credential that grants name and that is not to be had now.
    #[must_use]
    pub fn new_unavailable(name: Name, origins: Vec<Origin>) -> Self {
        Self { name, version: 0, origins, since: None, stored: false, material: None }
    }

    /// The same material, in custody of another snapshot.
    #[must_use]
    pub fn share(&self) -> Self {
        let (name, origins, material) = (self.name, self.origins.clone(), self.material.clone());
        Self { name, version: self.version, origins, since: self.since, stored: self.stored, material }
    }

    /// The part that is no secret: an access key's id, the name of a login.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.material.as_deref().and_then(Material::id)
    }

    /// Whether a mark is that of the secret of this login. Takes milliseconds.
    #[must_use]
    pub fn is_marked(&self, mark: &Mark) -> bool {
        match self.material.as_deref() {
            Some(Material::Login { password: secret, .. } | Material::Client { secret, .. }) => {
                mark.is_of(secret.expose())
            }
            Some(Material::AccessKey { .. } | Material::Value(_) | Material::Rsa { .. }) | None => false,
        }
    }

    /// Whether what was obtained with `former` may still be used for this one: the same version of the
    /// same login, for the same origin.
    #[must_use]
    pub fn is_same_login_as(&self, former: &Self) -> bool {
        let known = |held: &Self| (held.name, held.version, held.since);
        let same = |(one, other): (&Arc<Material>, &Arc<Material>)| one.is_same_login(other);
        known(self) == known(former)
            && self.origins == former.origins
            && self.material.as_ref().zip(former.material.as_ref()).is_some_and(same)
    }
}

/// Every credential, by its place.
#[derive(Debug, Default)]
pub struct Custody(Vec<Credential>);

/// A credential's material, for the one call whose entry `'e` stands for.
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

/// The credential is not to be had, or not for that origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credential is not to be had, or is bound to another origin")]
pub struct CredentialUnavailable;

impl Custody {
    /// Takes credentials into custody.
    #[must_use]
    pub fn new(credentials: Vec<Credential>) -> Self {
        Self(credentials)
    }

    /// The credential at `place`.
    #[must_use]
    pub fn credential(&self, place: usize) -> Option<&Credential> {
        self.0.get(place)
    }

    /// Every credential.
    pub fn iter(&self) -> impl Iterator<Item = &Credential> {
        self.0.iter()
    }

    /// The credential called `name` of this version, if its material is at hand; with `stored`, only
    /// one that was stored at that time.
    #[must_use]
    pub fn find(&self, name: &str, version: u32, stored: Option<SystemTime>) -> Option<&Credential> {
        let wanted = |held: &&Credential| {
            held.name.as_str() == name
                && held.version == version
                && stored.is_none_or(|stored| held.since == Some(stored))
        };
        self.0.iter().filter(|held| held.material.is_some()).find(wanted)
    }

    /// Unseals the credential that the entry's permit names, to be sent to `origin`.
    ///
    /// # Errors
    /// [`CredentialUnavailable`] where the credential is bound elsewhere.
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
    /// The material.
    #[must_use]
    pub fn material(&self) -> &'e Material {
        self.material
    }
}
