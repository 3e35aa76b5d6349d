//! Admission: from a received request head to a permit. This module adds authentication, replay protection and quotas
//! to the shared decision chain. No I/O, nothing async.

use std::time::{Duration, Instant, SystemTime};

use super::decide::{Admission, Caller as _, Granted, Refusal, decide, refuse};
use super::failure_limiter::AuthFailure;
use super::head::Head;
use super::quota::ConcurrencyPermit;
use super::snapshot::Snapshot;
use crate::audit::{Peer, RefusalFields};
use crate::code::{Code, Fault};
use crate::inbound::{AuthError, CallerCredential, CredentialError, Identity, ReplayError, identify};
use crate::policy::{BodyMembers, Permit};
use crate::route::Route;
use crate::signature::Message;

/// A call that may be made.
pub(super) struct Admitted<'s> {
    /// The permit that policy issued.
    pub(super) permit: Permit,
    /// The consumer's own credential.
    pub(super) own_credential: Option<CallerCredential<'s>>,
    /// The route that matched the request.
    pub(super) route: &'s Route,
    /// The call's slot among its consumer's calls in flight; `None` without a concurrency limit.
    pub(super) slot: Option<ConcurrencyPermit>,
}

/// Decides on a request from its head, as far as that is possible without the body. `fault` is the framing fault for
/// which the head was rejected.
///
/// # Errors
/// [`Refusal`], with all fields known for the trail.
pub(super) fn admit<'s>(
    snapshot: &'s Snapshot,
    head: Head<'s>,
    fault: Option<Fault>,
    arrival: &Peer,
    now: SystemTime,
) -> Result<Admission<'s, Identity>, Box<Refusal>> {
    if let Some(fault) = fault {
        return Err(Refusal::because(fault));
    }
    let identify = || match identify(head.message(), &snapshot.directory, now) {
        Ok(identity) => {
            let identity = use_nonce(snapshot, identity, now)?;
            arrival.authenticated.set(true);
            Ok(identity)
        }
        Err(error) => Err(refuse_unknown(snapshot, error, arrival, head.message())),
    };
    match decide(snapshot, head, identify, now)? {
        Admission::NeedsBody(pending) if !head.bodied => {
            pending.with(BodyMembers::none()).decide(snapshot, now).map(Admission::Granted)
        }
        decided @ (Admission::Granted(_) | Admission::NeedsBody(_)) => Ok(decided),
    }
}

/// Charges an allowed call to its consumer's quota and issues the permit.
///
/// # Errors
/// [`Refusal`], with all fields known for the trail.
#[inline]
pub(super) fn take_quota<'s>(
    snapshot: &Snapshot,
    Granted { caller, own_credential, decision, route }: Granted<'s, Identity>,
) -> Result<Admitted<'s>, Box<Refusal>> {
    let slot = match snapshot.quotas.get(caller.consumer().index()).map(|quota| quota.take()) {
        Some(Ok(slot)) => slot,
        Some(Err((code, wait))) => {
            let mut refusal = refuse(snapshot, &caller, &decision, code, None);
            (refusal.known.route, refusal.retry_after) = (Some(route.label.clone()), Some(wait));
            return Err(refusal);
        }
        None => None,
    };
    let internal = || Refusal::because(Fault { code: Code::Internal, reason: "another consumer" });
    let permit = decision.permit(caller).ok_or_else(internal)?;
    Ok(Admitted { permit, own_credential, route, slot })
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
        return Err(refuse_replay(replay, &identity));
    }
    Ok(identity)
}

/// Builds the refusal of a single-use signature that failed the replay check.
fn refuse_replay(replay: ReplayError, identity: &Identity) -> Box<Refusal> {
    let (code, reason, wait) = match replay {
        ReplayError::Stale => (Code::Replayed, "date out of the key's window", None),
        ReplayError::Used => (Code::Replayed, "signature used before", None),
        ReplayError::Unknown => (Code::Replayed, "dated before what is known of earlier signatures", None),
        ReplayError::Full => (Code::RateLimited, "no room for more signatures", Some(Duration::from_secs(1))),
    };
    let known = identity.known(RefusalFields { reason: Some(reason), ..RefusalFields::default() });
    let mut refusal = Refusal::new(code, known);
    refusal.retry_after = wait;
    refusal
}

/// Builds the refusal of a caller that proves no consumer. The trail records a rejected credential by its fingerprint.
fn refuse_unknown(
    snapshot: &Snapshot,
    error: AuthError,
    arrival: &Peer,
    message: Message<'_>,
) -> Box<Refusal> {
    let (reason, sent, may_explain) = match error {
        AuthError::Duplicate => return Refusal::new(Code::DuplicateCredential, RefusalFields::default()),
        AuthError::Missing => ("no credential", None, false),
        AuthError::Rejected(error, sent) => {
            (error.as_str(), Some(sent), matches!(error, CredentialError::BadSignature(_, true)))
        }
    };
    let fingerprint = sent.as_ref().map(|sent| snapshot.fingerprints.fingerprint(sent.expose()));
    let mut known = RefusalFields { reason: Some(reason), fingerprint, ..RefusalFields::default() };
    let most = snapshot.limits.auth_failures_per_minute;
    let now = Instant::now();
    match snapshot.failures.record(arrival.peer.ip(), most, now) {
        AuthFailure::Counted => {
            if let Some(sent) = sent.filter(|_| may_explain && snapshot.failures.may_explain(now)) {
                known.detail = snapshot.directory.explain(&sent, message);
            }
            Refusal::new(Code::Unauthenticated, known)
        }
        attempt @ (AuthFailure::LockedOut | AuthFailure::AlreadyLocked) => Box::new(Refusal {
            code: Code::TooManyFailures,
            known,
            retry_after: Some(Duration::from_mins(1)),
            suppressed: attempt == AuthFailure::AlreadyLocked,
        }),
    }
}
