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
use crate::scheme::{LoginIdentity, RefusedLogins, TokenSlot};
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
    for (name, (id, upstream)) in &upstreams.credentials {
        let (Some(upstream), Some(credential)) = (upstreams.get(*upstream), custody.credential(*id)) else {
            continue;
        };
        if !upstream.scheme.uses_tokens() {
            continue;
        }
        let kept = former.and_then(|former| {
            let held = former.upstreams.iter().find(|held| held.name == upstream.name)?;
            let (at, before) = former.custody.iter().enumerate().find(|(_, held)| held.name == *name)?;
            let is_same_login = held.origins() == upstream.origins()
                && held.first.settings.base == upstream.first.settings.base
                && held.scheme.same_token_source(&upstream.scheme)
                && credential.is_same_login_as(before);
            former.token_slots.get(&CredentialId::new(at)).filter(|_| is_same_login).map(Arc::clone)
        });
        let new = || {
            let names = (upstream.name, credential.name);
            let (login, versioned) = (login(upstream, credential), credential.stored);
            Arc::new(TokenSlot::new(LoginIdentity { names, login, versioned, records: Arc::clone(refused) }))
        };
        slots.insert(*id, kept.unwrap_or_else(new));
    }
    slots
}

/// A digest of everything that defines a login but the secret; for a stored credential it includes the version.
fn login(upstream: &Upstream, credential: &Credential) -> String {
    let version = credential.stored.then_some((credential.version, credential.since));
    let (base, scheme) = (&upstream.first.settings.base, upstream.scheme.describe_token_source());
    let settings = format!("{:?}", (&credential.origins, base, scheme, credential.key_id(), version));
    STANDARD_NO_PAD.encode(digest(&SHA256, settings.as_bytes()))
}
