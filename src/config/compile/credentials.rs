//! Compiles `[credentials.…]`: reads the secrets that the file refers to.

use std::time::SystemTime;

use super::inputs::Scope;
use super::secrets::read;
use super::upstreams::Upstreams;
use crate::config::file::{Profile, Reference};
use crate::config::{Problem, Spanned};
use crate::custody::{Credential, Material, MaterialError};
use crate::ids::CredentialId;

/// The credentials of the file that grants use, each with its index.
pub(super) fn compile(scope: &mut Scope<'_>, upstreams: &Upstreams) -> Vec<(CredentialId, Credential)> {
    let mut compiled: Vec<(CredentialId, Credential)> = Vec::new();
    for (name, credential) in scope.file.credentials.iter() {
        let used = upstreams.credentials.get(name).copied();
        // The grant that uses it may be one that could not be read.
        if used.is_none() && !scope.problems.has_errors() {
            let title = format!("no grant uses the credential `{name}`");
            scope.problems.push(Problem::warning(credential.name.span, title));
        }
        if let Some(retained) = scope.inputs.base.retained() {
            compiled.extend(
                used.and_then(|(place, _)| Some((place, retained.custody.find(name, 1, None)?.clone()))),
            );
            continue;
        }
        let bound = used.and_then(|(_, upstream)| upstreams.get(upstream));
        let uuid = bound.is_some_and(|upstream| has_uuids(scope, &upstream.name));
        let (id, reference) = (credential.id.as_ref(), &credential.secret);
        let Some(secret) = read(scope, reference) else { continue };
        let key_id = id.map_or("", |id| id.value.as_str());
        match Material::parse(credential.kind, key_id, &secret, uuid) {
            Ok(material) => {
                if let (Some((place, _)), Some(upstream)) = (used, bound) {
                    let origins = upstream.credential_origins();
                    let made = Credential::new(credential.name.value, 1, origins, material);
                    compiled.push((place, made.with_start(modified_at(reference))));
                }
            }
            Err(why) => {
                let (is_of_id, help) = remedy(why);
                let id = id.map_or(credential.name.span, |id| id.span);
                let span = if is_of_id { id } else { reference.span };
                let title = format!("the credential cannot work: {why}");
                scope.problems.push(Problem::error(span, title).help(help));
            }
        }
    }
    compiled
}

/// Whether the ids of access keys at this upstream are UUIDs.
pub(super) fn has_uuids(scope: &Scope<'_>, upstream: &str) -> bool {
    let section = scope.file.upstreams.find(upstream);
    section.is_some_and(|section| section.profile.value == Profile::JumpServer)
}

/// Whether the id is at fault, and the remedy.
const fn remedy(why: MaterialError) -> (bool, &'static str) {
    match why {
        MaterialError::KeyId | MaterialError::IdOfValue | MaterialError::KeyIdBytes => {
            (true, "JumpServer shows it beside the secret")
        }
        MaterialError::ClientId => (true, "it is shown beside the secret, where the client was made"),
        MaterialError::Username => (true, "write the name that is typed at a login"),
        MaterialError::Empty | MaterialError::Blank | MaterialError::NotAscii => {
            (false, "write the secret alone into it")
        }
        MaterialError::Rsa(_) => (false, "openssl genrsa 2048 makes one"),
        MaterialError::Password => (false, "write the password alone into it, in UTF-8"),
    }
}

/// When the file that a reference names was last modified.
fn modified_at(reference: &Spanned<Reference>) -> Option<SystemTime> {
    match &reference.value {
        Reference::File(path) => std::fs::metadata(path).and_then(|file| file.modified()).ok(),
        Reference::Env(_) => None,
    }
}
