//! The slots for tokens that upstreams issue for credentials; they outlive reloads.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::upstreams::Upstreams;
use crate::custody::{Credential, Custody};
use crate::gateway::Snapshot;
use crate::ids::CredentialId;
use crate::scheme::{LoginIdentity, RefusedLogins, TokenSlot, TokenSource};
use crate::upstream::Upstream;

/// Makes a slot for each credential, by its index, whose upstream issues tokens for it. If login, upstream and settings
/// are the same, the present slot is kept: a reload then costs no login and ends no back-off. After a corrected setting
/// the slot is new, so the login need not wait.
pub(super) fn slots(
    upstreams: &Upstreams,
    custody: &Custody,
    former: Option<&Snapshot>,
    refused: &Arc<RefusedLogins>,
) -> HashMap<CredentialId, Arc<TokenSlot>> {
    let mut slots = HashMap::new();
    for (id, upstream) in upstreams.credentials.values() {
        let upstream = upstreams.get(*upstream).filter(|upstream| upstream.scheme.token_source().is_some());
        if let (Some(upstream), Some(credential)) = (upstream, custody.credential(*id)) {
            let slot = former.and_then(|former| present_slot(former, upstream, credential));
            slots.insert(*id, slot.unwrap_or_else(|| new_slot(upstream, credential, refused)));
        }
    }
    slots
}

/// The slot in force, if it is for the same login.
fn present_slot(former: &Snapshot, upstream: &Upstream, credential: &Credential) -> Option<Arc<TokenSlot>> {
    let before = former.upstreams.iter().find(|before| before.name == upstream.name)?;
    let mut credentials = former.custody.iter().enumerate();
    let (place, same) = credentials.find(|(_, same)| same.name == credential.name)?;
    let is_same_login = before.origins() == upstream.origins()
        && before.first.settings.base == upstream.first.settings.base
        && upstream.scheme.token_source().is_some_and(|source| before.scheme.token_source() == Some(source))
        && credential.is_same_login_as(same);
    former.token_slots.get(&CredentialId::new(place)).filter(|_| is_same_login).map(Arc::clone)
}

fn new_slot(upstream: &Upstream, credential: &Credential, refused: &Arc<RefusedLogins>) -> Arc<TokenSlot> {
    let names = (upstream.name, credential.name);
    let (login, versioned) = (login(upstream, credential), credential.stored);
    Arc::new(TokenSlot::new(LoginIdentity { names, login, versioned, records: Arc::clone(refused) }))
}

/// A digest of everything that defines a login but the secret; for a stored credential it includes the version.
fn login(upstream: &Upstream, credential: &Credential) -> String {
    let version = credential.stored.then_some((credential.version, credential.since));
    let source = upstream.scheme.token_source().map(TokenSource::describe).unwrap_or_default();
    let base = &upstream.first.settings.base;
    let settings = format!("{:?}", (&credential.origins, base, source, credential.key_id(), version));
    STANDARD_NO_PAD.encode(digest(&SHA256, settings.as_bytes()))
}
