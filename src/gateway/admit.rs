//! Admission: from a received request head to a permit. This module adds authentication, replay protection and quotas
//! to the shared decision chain. No I/O, nothing async.

use std::time::{Duration, Instant, SystemTime};

use super::Snapshot;
use super::decide::{
    Caller as _, Decision, Granted, Head, PendingAdmission, Refusal, decide, refuse_allowed,
};
use super::failure_limiter::AuthFailure;
use super::limits::ConcurrencyPermit;
use crate::audit::{Peer, RefusalFields};
use crate::code::{Code, Fault};
use crate::inbound::{AuthError, Ended, Identity, Own, ReplayError, identify};
use crate::policy::{BodyMembers, Permit};
use crate::route::Route;
use crate::secret::Secret;
use crate::signature::Message;

/// A call that may be made.
pub struct Admitted<'s> {
    /// The permit that policy issued.
    pub permit: Permit,
    /// The consumer's own credential.
    pub own: Option<Own<'s>>,
    /// The route that matched the request.
    pub route: &'s Route,
    /// The call's slot among its consumer's calls in flight; `None` without a concurrency limit.
    pub place: Option<ConcurrencyPermit>,
}

/// The result of admission before the request body is read.
pub enum Admission<'s> {
    /// Policy allows the call.
    Admitted(Admitted<'s>),
    /// A rule inspects the body, so the gateway must read it before the decision.
    NeedsBody(PendingAdmission<'s, Identity>),
}

/// Decides on a request from its head, as far as that is possible without the body. `fault` is the framing fault for
/// which the head was rejected.
///
/// # Errors
/// [`Refusal`], with all fields known for the trail.
pub fn admit<'s>(
    snapshot: &'s Snapshot,
    (head, fault): (Head<'s>, Option<Fault>),
    arrival: &Peer,
    now: SystemTime,
) -> Result<Admission<'s>, Box<Refusal>> {
    if let Some(fault) = fault {
        return Err(Refusal::because(fault));
    }
    let identify = || match identify(head.message(), &snapshot.directory, now) {
        Ok(identity) => {
            let identity = use_nonce(snapshot, identity, now)?;
            arrival.authenticated.set(true);
            Ok(identity)
        }
        Err(unidentified) => Err(unknown_caller(snapshot, unidentified, (arrival, head.message()))),
    };
    match decide(snapshot, head, identify, now)? {
        Decision::Granted(granted) => take_quota(snapshot, granted).map(Admission::Admitted),
        Decision::NeedsBody(approach) if !head.bodied => {
            admit_with(snapshot, approach, BodyMembers::none(), now).map(Admission::Admitted)
        }
        Decision::NeedsBody(approach) => Ok(Admission::NeedsBody(approach)),
    }
}

/// Decides on a call once its body members are known.
///
/// # Errors
/// [`Refusal`], with all fields known for the trail.
pub(super) fn admit_with<'s>(
    snapshot: &'s Snapshot,
    approach: PendingAdmission<'s, Identity>,
    body: BodyMembers,
    now: SystemTime,
) -> Result<Admitted<'s>, Box<Refusal>> {
    take_quota(snapshot, approach.with(body).decide(snapshot, now)?)
}

/// Charges an allowed call to its consumer's quota and issues the permit.
#[inline]
fn take_quota<'s>(
    snapshot: &Snapshot,
    Granted { caller, own, allowed, route }: Granted<'s, Identity>,
) -> Result<Admitted<'s>, Box<Refusal>> {
    let place = match snapshot.quotas.get(caller.consumer()).map(|quota| quota.take()) {
        Some(Ok(place)) => place,
        Some(Err((code, wait))) => {
            let refusal = refuse_allowed(snapshot, &caller, &allowed, code);
            let known = RefusalFields { route: Some(route.label.clone()), ..refusal.known };
            return Err(Box::new(Refusal { known, retry_after: Some(wait), ..*refusal }));
        }
        None => None,
    };
    let internal = || Refusal::because(Fault { code: Code::Internal, reason: "another consumer" });
    let permit = allowed.permit(caller).ok_or_else(internal)?;
    Ok(Admitted { permit, own, route, place })
}

/// Consumes the nonce of a single-use signature.
pub(super) fn use_nonce(
    snapshot: &Snapshot,
    identity: Identity,
    now: SystemTime,
) -> Result<Identity, Box<Refusal>> {
    if let Some(once) = identity.proven().and_then(|proven| proven.once.as_ref())
        && let Err(replay) = snapshot.nonces.take(once, now)
    {
        return Err(replayed(replay, &identity));
    }
    Ok(identity)
}

/// Builds the refusal of a single-use signature that failed the replay check.
fn replayed(replay: ReplayError, identity: &Identity) -> Box<Refusal> {
    let (code, reason, wait) = match replay {
        ReplayError::Stale => (Code::Replayed, "date out of the key's window", None),
        ReplayError::Used => (Code::Replayed, "signature used before", None),
        ReplayError::Unknown => (Code::Replayed, "dated before what is known of earlier signatures", None),
        ReplayError::Full => (Code::RateLimited, "no room for more signatures", Some(Duration::from_secs(1))),
    };
    let known = identity.known(RefusalFields { reason: Some(reason), ..RefusalFields::default() });
    Box::new(Refusal { retry_after: wait, ..*Refusal::new(code, known) })
}

fn unknown_caller(
    snapshot: &Snapshot,
    unidentified: AuthError,
    (arrival, message): (&Peer, Message<'_>),
) -> Box<Refusal> {
    let (mut known, mut unverified) = (RefusalFields::default(), None);
    let code = match unidentified {
        AuthError::Duplicate => return Refusal::new(Code::DuplicateCredential, known),
        AuthError::Missing => {
            known.reason = Some("no credential");
            Code::Unauthenticated
        }
        AuthError::Unknown(sent) => {
            known.reason = Some("unknown credential");
            known.fingerprint = Some(fingerprint(snapshot, &sent));
            Code::Unauthenticated
        }
        AuthError::Dead(dead, sent) => {
            known.reason = Some(match dead {
                Ended::Expired => "expired credential",
                Ended::Revoked => "revoked credential",
                Ended::Disabled => "disabled consumer",
            });
            known.fingerprint = Some(fingerprint(snapshot, &sent));
            Code::Unauthenticated
        }
        AuthError::BadSignature(reason, more, sent) => {
            known.reason = Some(reason);
            known.fingerprint = Some(fingerprint(snapshot, &sent));
            unverified = more.then_some(sent);
            Code::Unauthenticated
        }
    };
    let most = snapshot.limits.auth_failures_per_minute;
    let now = Instant::now();
    match snapshot.failures.record(arrival.peer.ip(), most, now) {
        AuthFailure::Counted => {
            if let Some(sent) = unverified.filter(|_| snapshot.failures.may_explain(now)) {
                known.detail = snapshot.directory.explain(&sent, message);
            }
            Refusal::new(code, known)
        }
        attempt @ (AuthFailure::LockedOut | AuthFailure::AlreadyLocked) => Box::new(Refusal {
            code: Code::TooManyFailures,
            known,
            retry_after: Some(Duration::from_mins(1)),
            suppressed: attempt == AuthFailure::AlreadyLocked,
        }),
    }
}

/// Computes the fingerprint under which the trail records a rejected credential.
fn fingerprint(snapshot: &Snapshot, sent: &Secret) -> String {
    snapshot.fingerprints.fingerprint(sent.expose())
}
