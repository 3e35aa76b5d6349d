//! From what was received to a permit: parse, identify, route, decide. No I/O, nothing async.

use std::time::{Duration, Instant, SystemTime};

use http::header::{ACCEPT, CONTENT_LENGTH, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderMap, Method};

use super::failures::Attempt;
use super::limits::Place;
use super::{Received, Snapshot};
use crate::audit::{Arrival, Known};
use crate::code::Code;
use crate::inbound::{Dead, Identity, Replay, Unidentified, identify};
use crate::policy::{Action, Denial, Members, Permit, named_org};
use crate::route::Route;
use crate::secret::Secret;
use crate::target::Target;

/// A call that may be made.
pub struct Admitted<'s> {
    /// The decision.
    pub permit: Permit,
    /// The route it took.
    pub route: &'s Route,
    /// Its place among the consumer's calls in flight.
    pub place: Option<Place>,
}

/// A call as far as it is known before it is decided on.
pub struct Approach<'s> {
    identity: Identity,
    action: Action,
    route: &'s Route,
}

/// How far a call came without its body.
pub enum Step<'s> {
    /// It may be made.
    Admitted(Admitted<'s>),
    /// A rule looks at its body: it is to be read first.
    Body(Approach<'s>),
}

/// A call that may not.
#[derive(Debug)]
pub struct Refusal {
    /// What the caller is told.
    pub code: Code,
    /// What was found out on the way.
    pub known: Known,
    /// How long until asking again makes sense.
    pub retry_after: Option<Duration>,
    /// One of a flood: counted, not recorded by itself.
    pub suppressed: bool,
}

impl Refusal {
    /// A refusal with this code and what is known of the call.
    #[must_use]
    pub fn new(code: Code, known: Known) -> Box<Self> {
        Box::new(Self { code, known, retry_after: None, suppressed: false })
    }

    pub(super) fn because(code: Code, reason: &'static str) -> Box<Self> {
        Self::new(code, Known { reason: Some(reason), ..Known::default() })
    }
}

/// Decides on a request, if that can be done without its body.
///
/// # Errors
/// [`Refusal`], with all that is known for the trail.
pub fn admit<'s>(
    snapshot: &'s Snapshot,
    head: &Parts,
    received: &Received,
    arrival: &Arrival,
    now: SystemTime,
) -> Result<Step<'s>, Box<Refusal>> {
    if let Some(fault) = received.fault {
        return Err(Refusal::because(fault.code, fault.reason));
    }
    // In any case: servers that fold it would take `trace` for the method that echoes credentials.
    let never = ["CONNECT", "TRACE"].iter().any(|name| head.method.as_str().eq_ignore_ascii_case(name));
    if never {
        return Err(Refusal::new(Code::MethodNotAllowed, Known::default()));
    }
    let target = Target::canonical(&received.target)
        .map_err(|reason| Refusal::because(Code::NonCanonical, reason.as_str()))?;
    let identity = match identify(received.message(head), &snapshot.directory, now) {
        Ok(identity) => identity,
        Err(unidentified) => return Err(unknown_caller(snapshot, unidentified, arrival, target)),
    };
    if let Some(once) = identity.proven().and_then(|proven| proven.once.as_ref())
        && let Err(replay) = snapshot.nonces.take(once, now)
    {
        return Err(replayed(
            replay,
            called_by(&identity, Known { target: Some(target), ..Known::default() }),
        ));
    }
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let (route, action) = match locate(snapshot, (&head.method, host, &target), &head.headers) {
        Ok(located) => located,
        Err((code, known)) => {
            let mut known = called_by(&identity, *known);
            known.target.get_or_insert(target);
            return Err(Refusal::new(code, known));
        }
    };
    let approach = Approach { identity, action, route };
    if snapshot.policy.looks_at_body(approach.identity.consumer(), &approach.action) {
        // Nobody's body is kept for a call that is not made in any case.
        let by = (approach.identity.consumer(), approach.action.upstream);
        if let Some((code, reason)) = snapshot.freezes.stops_early(by) {
            return Err(Refusal::new(code, Known { reason: Some(reason), ..approach.known(snapshot) }));
        }
        return Ok(Step::Body(approach));
    }
    approach.decide(snapshot, now).map(Step::Admitted)
}

impl<'s> Approach<'s> {
    /// The same, with what rules see of the body.
    #[must_use]
    pub fn with(mut self, body: Members) -> Self {
        self.action.body = body;
        self
    }

    /// What is known of it where its body does not come.
    #[must_use]
    pub fn known(&self, snapshot: &Snapshot) -> Known {
        let target = Some(self.action.target.clone());
        called_by(&self.identity, Known { target, ..led_by(snapshot, self.route) })
    }

    /// Decides.
    ///
    /// # Errors
    /// [`Refusal`], with all that is known for the trail.
    pub fn decide(self, snapshot: &'s Snapshot, now: SystemTime) -> Result<Admitted<'s>, Box<Refusal>> {
        let Self { identity, action, route } = self;
        let consumer = identity.consumer();
        let permit = snapshot.policy.decide(identity, action, now).map_err(|denial| {
            let Denial { code, rule, shadow, org, identity, action } = *denial;
            let detail = action.body.why_unread().map(|why| why.to_string());
            let target = Some(action.target);
            let known = Known { target, org, rule, shadow, detail, ..led_by(snapshot, route) };
            Refusal::new(code, called_by(&identity, known))
        })?;
        let stopped = |code, reason| {
            let (target, rule) = (Some(permit.action().target.clone()), Some(permit.rule().clone()));
            let known = Known { target, rule, reason, ..led_by(snapshot, route) };
            Refusal::new(code, called_by(permit.identity(), known))
        };
        let by = (permit.action().upstream, permit.credential());
        if let Some((code, reason)) = snapshot.stops(permit.identity(), by) {
            return Err(stopped(code, Some(reason)));
        }
        let place = match snapshot.quotas.get(consumer).map(|quota| quota.take()) {
            Some(Ok(place)) => place,
            Some(Err((code, wait))) => {
                return Err(Box::new(Refusal { retry_after: Some(wait), ..*stopped(code, None) }));
            }
            None => None,
        };
        Ok(Admitted { permit, route, place })
    }
}

/// The refusal of a signature that is good once.
fn replayed(replay: Replay, known: Known) -> Box<Refusal> {
    let (code, reason, wait) = match replay {
        Replay::Stale => (Code::Replayed, "date out of the key's window", None),
        Replay::Used => (Code::Replayed, "signature used before", None),
        Replay::Unknown => (Code::Replayed, "dated before what is known of earlier signatures", None),
        Replay::Full => (Code::RateLimited, "no room for more signatures", Some(Duration::from_secs(1))),
    };
    let known = Known { reason: Some(reason), ..known };
    Box::new(Refusal { retry_after: wait, ..*Refusal::new(code, known) })
}

/// What is known of a call by its caller, beside the rest.
fn called_by(identity: &Identity, rest: Known) -> Known {
    Known { consumer: Some(*identity.name()), via: Some(identity.via().as_str()), ..rest }
}

/// What is known of a call by its route.
fn led_by(snapshot: &Snapshot, route: &Route) -> Known {
    let upstream = snapshot.upstreams.get(route.upstream).map(|upstream| upstream.name);
    Known { upstream, route: Some(route.label.clone()), ..Known::default() }
}

/// Finds out what is asked for, and of which upstream.
///
/// # Errors
/// The code of the refusal, and what is known by then.
pub(super) fn locate<'s>(
    snapshot: &'s Snapshot,
    (method, host, target): (&Method, &str, &Target),
    headers: &HeaderMap,
) -> Result<(&'s Route, Action), (Code, Box<Known>)> {
    let nowhere = || (Code::NoRoute, Box::default());
    let routed = snapshot.routes.find(host, target).ok_or_else(nowhere)?;
    let upstream = snapshot.upstreams.get(routed.route.upstream).ok_or_else(nowhere)?;
    let target = upstream.with_its_slash(routed.target);
    let org = match (acceptable(headers, snapshot.limits.max_body), &upstream.org) {
        (Err(refused), _) => Err(refused),
        (Ok(()), None) => Ok(None),
        (Ok(()), Some(pin)) => named_org(pin, headers, &target)
            .map_err(|_| (Code::OrgOverride, "organisation named by query or twice")),
    };
    match org {
        Ok(org) => {
            let (upstream, method, body) = (routed.route.upstream, method.clone(), Members::none());
            let action = Action { upstream, method, target, org, body };
            Ok((routed.route, action))
        }
        Err((code, reason)) => {
            let (target, reason) = (Some(target), Some(reason));
            let known = Known { target, reason, ..led_by(snapshot, routed.route) };
            Err((code, Box::new(known)))
        }
    }
}

/// What the headers ask that is refused after the caller is known and before its body is read.
fn acceptable(headers: &HeaderMap, max_body: u64) -> Result<(), (Code, &'static str)> {
    let mut expected = headers.get_all(EXPECT).iter();
    if expected.any(|expect| !expect.as_bytes().eq_ignore_ascii_case(b"100-continue")) {
        return Err((Code::ExpectationFailed, "expect"));
    }
    if headers.get_all(ACCEPT).iter().any(|accept| !accept.as_bytes().is_ascii()) {
        return Err((Code::Malformed, "accept beyond ASCII"));
    }
    let length = headers.get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max_body) {
        return Err((Code::BodyTooLarge, "content-length"));
    }
    Ok(())
}

fn unknown_caller(
    snapshot: &Snapshot,
    unidentified: Unidentified,
    arrival: &Arrival,
    target: Target,
) -> Box<Refusal> {
    let mut known = Known { target: Some(target), ..Known::default() };
    let code = match unidentified {
        Unidentified::Duplicate => return Refusal::new(Code::DuplicateCredential, known),
        Unidentified::Missing => {
            known.reason = Some("no credential");
            Code::Unauthenticated
        }
        Unidentified::Unknown(sent) => {
            known.reason = Some("unknown credential");
            known.fingerprint = Some(fingerprint(snapshot, &sent));
            Code::Unauthenticated
        }
        Unidentified::Dead(dead, sent) => {
            known.reason = Some(match dead {
                Dead::Expired => "expired credential",
                Dead::Revoked => "revoked credential",
                Dead::Disabled => "disabled consumer",
            });
            known.fingerprint = Some(fingerprint(snapshot, &sent));
            Code::Unauthenticated
        }
        Unidentified::Forged(reason, detail, sent) => {
            (known.reason, known.detail) = (Some(reason), detail);
            known.fingerprint = Some(fingerprint(snapshot, &sent));
            Code::Unauthenticated
        }
    };
    let most = snapshot.limits.auth_failures_per_minute;
    match snapshot.failures.note(arrival.peer.ip(), most, Instant::now()) {
        Attempt::Told => Refusal::new(code, known),
        attempt @ (Attempt::LockedOut | Attempt::Flood) => Box::new(Refusal {
            code: Code::TooManyFailures,
            known,
            retry_after: Some(Duration::from_mins(1)),
            suppressed: attempt == Attempt::Flood,
        }),
    }
}

/// By which an auditor tells one wrong credential from another.
fn fingerprint(snapshot: &Snapshot, sent: &Secret) -> String {
    snapshot.fingerprints.fingerprint(sent.expose())
}
