//! Re-authorisation of a delayed call. After a slow body or a login, the gateway decides again by the current snapshot.
//! A caller therefore cannot keep revoked access by sending slowly.

use std::time::SystemTime;

use super::Snapshot;
use super::decide::decide_on;
use crate::code::{Code, Failure};
use crate::inbound::identify;
use crate::policy::{Action, BodyMembers, BodyUnreadable, Permit};
use crate::signature::Message;

/// Checks that `current` permits the call that `former` permitted, with the same credential. `bodied` means that the
/// call has a body.
///
/// # Errors
/// [`Failure`] if the call is no longer permitted.
pub(super) fn reauthorize(
    permit: &Permit,
    message: Message<'_>,
    former: &Snapshot,
    (current, now, bodied): (&Snapshot, SystemTime, bool),
) -> Result<(), Failure> {
    let identity = identify(message, &current.directory, now)
        .map_err(|_| no_more(Code::Unauthenticated, "the token or key is good no more"))?;
    // An index is valid in one snapshot only; a name is valid in both.
    let action = permit.action();
    let upstream = former.upstreams.get(action.upstream).map(|upstream| &upstream.name);
    let upstream = current.upstreams.iter().position(|held| Some(&held.name) == upstream);
    let upstream = upstream.ok_or_else(|| no_more(Code::NoRoute, "the upstream is there no more"))?;
    let org = permit.org().map(ToString::to_string);
    let (method, target, body) = (action.method.clone(), action.target.clone(), action.body.clone());
    let mut again = Action { upstream, method, target, org, body };
    // A rule added since then may inspect a body that was not parsed.
    if bodied && again.body.is_none() {
        again.body = BodyMembers::unreadable(BodyUnreadable::Long);
    }
    let allowed = decide_on(current, &identity, again, now)
        .map_err(|refusal| no_more(refusal.code, refusal.known.reason.unwrap_or("it is granted no more")))?;
    let name = |held: &Snapshot, place| held.custody.credential(place).map(|credential| credential.name);
    if name(current, allowed.credential()) != name(former, permit.credential()) {
        return Err(no_more(Code::Denied, "it is granted with another credential"));
    }
    Ok(())
}

fn no_more(code: Code, reason: &str) -> Failure {
    Failure::new(code, format!("meanwhile: {reason}"))
}
