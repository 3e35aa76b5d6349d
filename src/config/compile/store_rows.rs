//! Adds the store's consumers, tokens, credentials and freezes to the file's.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use uuid::Uuid;

use super::credentials::has_uuids;
use super::inputs::Scope;
use super::upstreams::Upstreams;
use crate::code::{Code, Fault};
use crate::custody::{Credential, Kind, Material, UnsealedStore};
use crate::gateway::Snapshot;
use crate::gateway::freezes::Freezes;
use crate::ids::{ConsumerId, CredentialId};
use crate::inbound::{AccessKey, Consumer, Directory, Ended, TokenRecord};
use crate::name::Name;
use crate::origin::Origin;
use crate::secret::Secret;
use crate::signature::{Algorithm, VerifyingKey};
use crate::storage::{AccessKeyRow, FreezeTarget, Rows, Seconds, TokenRow};
use crate::upstream::Upstream;

/// Adds the store's consumers and tokens. `declared` says whether the file declares a token. Such a token belongs to
/// the file, but if the store has ended it, it stays ended.
pub(super) fn consumers<'a>(
    rows: &'a Rows,
    entries: &mut Vec<(Consumer, Vec<TokenRecord>)>,
    places: &mut HashMap<&'a str, usize>,
    declared: impl Fn(&[u8; 32]) -> bool,
) {
    for row in &rows.consumers {
        let Some(called) = Name::parse(&row.name) else { continue };
        let place = *places.entry(&row.name).or_insert_with(|| {
            entries.push((Consumer::new(called), Vec::new()));
            entries.len() - 1
        });
        let Some((consumer, tokens)) = entries.get_mut(place) else { continue };
        consumer.stored = true;
        if row.disabled {
            consumer.disabled = true;
            for token in tokens {
                token.dead = Some(Ended::Disabled);
            }
        }
    }
    let mut ended = HashMap::new();
    for TokenRow { issued: row, digest } in &rows.tokens {
        let entry = places.get(row.consumer.as_str()).and_then(|place| entries.get_mut(*place));
        let dead = ended_by(row.revoked, entry.as_ref().is_some_and(|(consumer, _)| consumer.disabled));
        if declared(digest) {
            ended.extend(dead.map(|dead| (*digest, dead)));
        } else if let Some((_, tokens)) = entry {
            let (id, expires) = (Uuid::try_parse(&row.id).ok(), row.expires.map(time));
            // Most consumers have one token; more capacity would take most of the memory of a start.
            tokens.reserve_exact(1);
            tokens.push(TokenRecord { digest: *digest, id, expires, dead });
        }
    }
    if ended.is_empty() {
        return;
    }
    for token in entries.iter_mut().flat_map(|(_, tokens)| tokens) {
        token.dead = ended.get(&token.digest).copied().or(token.dead);
    }
}

fn ended_by(revoked: Option<Seconds>, disabled: bool) -> Option<Ended> {
    revoked.map(|_| Ended::Revoked).or(disabled.then_some(Ended::Disabled))
}

/// The store's access keys, each with the index of its consumer. A key whose secret cannot be unsealed now keeps the
/// version in force.
pub(super) fn access_keys(
    stored: &UnsealedStore,
    former: Option<&Snapshot>,
    places: &HashMap<&str, usize>,
) -> Vec<(ConsumerId, AccessKey)> {
    let rows = &stored.rows.access_keys;
    let compiled = rows.iter().filter_map(|AccessKeyRow { issued: row, algorithms, strict, .. }| {
        let (place, id) = (*places.get(row.consumer.as_str())?, Uuid::try_parse(&row.id).ok()?);
        let disabled = stored.rows.consumer(&row.consumer).is_some_and(|consumer| consumer.disabled);
        let dead = ended_by(row.revoked, disabled);
        let copied = |secret: &Secret| Arc::new(VerifyingKey::new(Secret::new(secret.expose().to_vec())));
        let opened = stored.keys.get(&row.id).map(copied);
        let key = opened.or_else(|| former?.directory.verifying(&id))?;
        let algorithms = algorithms.split(' ').filter_map(Algorithm::parse).collect();
        let strict = strict.map(|seconds| Duration::from_secs(u64::try_from(seconds).unwrap_or(0)));
        let expires = row.expires.map(time);
        Some((ConsumerId::new(place), AccessKey { id, key, algorithms, strict, expires, dead }))
    });
    compiled.collect()
}

/// The credentials that grants name and the file does not declare. A credential that is not available still takes its
/// index: only calls with it are refused, and `freezes` has the reason.
pub(super) fn credentials(
    scope: &Scope<'_>,
    upstreams: &Upstreams,
    freezes: &mut Freezes,
) -> Vec<(CredentialId, Credential)> {
    let Some(stored) = scope.inputs.stored else { return Vec::new() };
    let is_stored = |(name, _): &(&Name, _)| !scope.file.credentials.declares(name);
    let mut compiled = Vec::new();
    for (name, (id, upstream)) in upstreams.credentials.iter().filter(is_stored) {
        let Some(upstream) = upstreams.get(*upstream) else { continue };
        let origins = upstream.credential_origins();
        let credential = available(stored, name, upstream).and_then(|kind| {
            let Some(opened) = stored.opened.get(name.as_str()) else {
                let former = scope.inputs.base.former();
                return reuse(stored, former, name, &origins)
                    .ok_or("the credential has no version that can be used");
            };
            Material::parse(kind, &opened.id, &opened.secret, has_uuids(scope, &upstream.name))
                .map(|material| {
                    Credential::new(*name, opened.version, origins.clone(), material)
                        .with_start(Some(time(opened.created)))
                })
                .map_err(|_| "the credential's material is ill-formed")
        });
        let credential = credential.unwrap_or_else(|reason| {
            let fault = Fault { code: Code::CredentialUnavailable, reason };
            freezes.credentials.entry(*id).or_insert(fault);
            Credential::new_unavailable(*name, origins)
        });
        compiled.push((*id, credential.of_store()));
    }
    compiled
}

/// The kind of a stored credential, if this upstream may use it, or the reason why not.
fn available(stored: &UnsealedStore, name: &str, upstream: &Upstream) -> Result<Kind, &'static str> {
    let row = stored.rows.credential(name).ok_or("there is no such credential")?;
    if row.upstream != upstream.name.as_str() {
        return Err("the credential is for another upstream");
    }
    let kind = upstream.scheme.kind();
    if row.kind != kind.as_str() {
        return Err("the credential is of a kind that the upstream's scheme cannot put on");
    }
    if row.disabled {
        return Err("the credential is disabled");
    }
    Ok(kind)
}

/// The material in force of a version that cannot be unsealed now. The master key may be unavailable, which is no
/// reason to stop calls that work.
fn reuse(
    stored: &UnsealedStore,
    former: Option<&Snapshot>,
    name: &str,
    origins: &[Origin],
) -> Option<Credential> {
    let (version, created) = stored.active(name)?;
    let former = former?.custody.find(name, version, Some(time(created)))?;
    (former.origins == origins).then(|| former.clone())
}

/// The frozen consumers, upstreams and credentials, by their indices.
pub(super) fn freezes(
    stored: Option<&UnsealedStore>,
    upstreams: &Upstreams,
    directory: &Directory,
) -> Freezes {
    let mut freezes = Freezes::default();
    for frozen in stored.iter().flat_map(|stored| &stored.rows.frozen) {
        match frozen {
            FreezeTarget::Gateway => freezes.gateway = true,
            FreezeTarget::Upstream(name) => freezes.upstreams.extend(upstreams.places.get(name.as_str())),
            FreezeTarget::Consumer(name) => freezes.consumers.extend(directory.id_of(name)),
            FreezeTarget::Credential(name) => {
                let id = upstreams.credentials.get(name.as_str()).map(|(id, _)| *id);
                freezes.credentials.extend(id.map(|id| (id, Freezes::CREDENTIAL)));
            }
        }
    }
    freezes
}

fn time(at: Seconds) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at).unwrap_or(0))
}
