//! Re-authorisation of a delayed call. After a slow body or a login, the gateway decides again by the current snapshot.
//! A caller therefore cannot keep revoked access by sending slowly.

use std::time::SystemTime;

use super::decide::decide_on;
use super::snapshot::Snapshot;
use crate::code::{Code, Failure};
use crate::ids::CredentialId;
use crate::inbound::identify;
use crate::policy::{Action, BodyMembers, BodyUnreadable, Permit};
use crate::signature::Message;

/// The state of a delayed call, at the time at which it is decided again.
pub(super) struct Delayed<'a> {
    /// The parts of the request that identify the caller.
    pub(super) message: Message<'a>,
    /// The snapshot that permitted the call.
    pub(super) former: &'a Snapshot,
    /// The present time.
    pub(super) now: SystemTime,
    /// Whether the call has a body.
    pub(super) bodied: bool,
}

/// Checks that `current` permits the call that the former snapshot permitted, with the same credential.
///
/// # Errors
/// A [`Failure`] if the call is no longer permitted.
pub(super) fn reauthorize(
    permit: &Permit,
    Delayed { message, former, now, bodied }: Delayed<'_>,
    current: &Snapshot,
) -> Result<(), Failure> {
    let identity = identify(message, &current.directory, now)
        .map_err(|_| no_more(Code::Unauthenticated, "the token or key is no longer valid"))?;
    // An id is valid in one snapshot only; a name is valid in both.
    let action = permit.action();
    let upstream = former.upstream(action.upstream);
    let upstream = upstream.and_then(|upstream| current.upstream_id(upstream.name.as_str()));
    let upstream = upstream.ok_or_else(|| no_more(Code::NoRoute, "the upstream no longer exists"))?;
    let org = permit.ruling().org.as_ref().map(ToString::to_string);
    let (method, target, body) = (action.method.clone(), action.target.clone(), action.body.clone());
    let mut again = Action { upstream, method, target, org, body };
    // A rule added since then may inspect a body that was not parsed.
    if bodied && again.body.is_none() {
        again.body = BodyMembers::unreadable(BodyUnreadable::Long);
    }
    let decision = decide_on(current, &identity, again, now).map_err(|refusal| {
        no_more(refusal.code, refusal.known.reason.unwrap_or("the call is no longer granted"))
    })?;
    let name = |snapshot: &Snapshot, credential: CredentialId| {
        snapshot.custody.credential(credential).map(|credential| credential.name)
    };
    let credential = decision.ruling().effect.ok().and_then(|credential| name(current, credential));
    if credential != name(former, permit.credential()) {
        return Err(no_more(Code::Denied, "the call is granted with another credential"));
    }
    Ok(())
}

fn no_more(code: Code, reason: &str) -> Failure {
    Failure::new(code, format!("meanwhile: {reason}"))
}
