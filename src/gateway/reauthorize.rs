//! A call whose body took its time is judged again once it is whole, by what is in force then: nobody
//! keeps what was revoked meanwhile by sending slowly. So is one that waited for a login.

use std::time::SystemTime;

use super::Snapshot;
use super::decide::decide_on;
use crate::code::Code;
use crate::inbound::identify;
use crate::policy::{Action, BodyMembers, BodyUnreadable, Permit};
use crate::signature::Message;
use crate::transport::Failure;

/// Whether what `former` permitted is permitted by `current` as well, with the same credential. `bodied`
/// says that it has a body.
///
/// # Errors
/// [`Failure`]: the call is not made.
pub(super) fn reauthorize(
    permit: &Permit,
    message: Message<'_>,
    former: &Snapshot,
    (current, now, bodied): (&Snapshot, SystemTime, bool),
) -> Result<(), Failure> {
    let identity = identify(message, &current.directory, now)
        .map_err(|_| no_more(Code::Unauthenticated, "the token or key is good no more"))?;
    // Places are those of a snapshot; names last.
    let action = permit.action();
    let upstream = former.upstreams.get(action.upstream).map(|upstream| &upstream.name);
    let upstream = current.upstreams.iter().position(|held| Some(&held.name) == upstream);
    let upstream = upstream.ok_or_else(|| no_more(Code::NoRoute, "the upstream is there no more"))?;
    let org = permit.org().map(ToString::to_string);
    let (method, target, body) = (action.method.clone(), action.target.clone(), action.body.clone());
    let mut again = Action { upstream, method, target, org, body };
    // A rule that came meanwhile looks at what nobody has read.
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
    Failure { code, reason: format!("meanwhile: {reason}") }
}
