//! Custody of the keys: credentials by name, unsealed only for a call that is recorded.

pub mod keyfile;
mod master;
mod material;
mod seal;

pub use master::{KeyId, MasterKey, Proof, WrongKey};
pub use material::{Material, Unusable};
pub use seal::{Place, Unsealable, rewrap, seal, unseal};

use crate::audit::Entry;
use crate::name::Name;
use crate::origin::Origin;

/// A named credential, bound to the one origin it may be sent to.
#[derive(Debug)]
pub struct Credential {
    /// Its name.
    pub name: Name,
    /// Its version, from 1.
    pub version: u32,
    /// Where it may go.
    pub origin: Origin,
    material: Material,
}

impl Credential {
    /// A credential in custody.
    #[must_use]
    pub fn new(name: Name, version: u32, origin: Origin, material: Material) -> Self {
        Self { name, version, origin, material }
    }

    /// The part that is no secret: the access key's id.
    #[must_use]
    pub fn key_id(&self) -> &str {
        match &self.material {
            Material::AccessKey { id, .. } => id,
        }
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
#[error("the credential is bound to another origin")]
pub struct NotFor;

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

    /// Unseals the credential that the entry's permit names, to be sent to `origin`.
    ///
    /// # Errors
    /// [`NotFor`] where the credential is bound elsewhere.
    pub fn unseal<'e>(&'e self, entry: &'e Entry, origin: &Origin) -> Result<Unsealed<'e>, NotFor> {
        let credential = self.credential(entry.permit().credential()).ok_or(NotFor)?;
        if credential.origin == *origin {
            Ok(Unsealed { material: &credential.material })
        } else {
            Err(NotFor)
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
