//! The decision on a call: target, caller, route, policy, freezes. No I/O, nothing async.
//!
//! One chain serves four callers: admission (`gateway/admit.rs`), the re-authorisation of a delayed call
//! (`gateway/reauthorize.rs`), `claviger explain` ([`explain`](super::explain)) and `claviger policy diff`. They differ
//! in how the caller is identified and in what is known of the body; both are parameters.

use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, UPGRADE};
use http::{HeaderMap, Method};

use super::head::Head;
use super::snapshot::Snapshot;
use crate::audit::RefusalFields;
use crate::code::{Code, Fault};
use crate::headers;
use crate::ids::{ConsumerId, UpstreamId};
use crate::inbound::{CallerCredential, Directory, Identity};
use crate::name::Name;
use crate::policy::{self, Action, BodyMembers, NamedOrg, take_org};
use crate::route::Route;
use crate::target::Target;

/// Methods that are never forwarded, compared without case. A server that ignores case would execute `trace` as
/// `TRACE`, which echoes credentials.
const NEVER: [&str; 2] = ["CONNECT", "TRACE"];

/// The caller: either an [`Identity`] proven by a credential, or a consumer selected by name.
pub trait Caller {
    /// Returns the consumer's id in the directory.
    fn consumer(&self) -> ConsumerId;

    /// Returns whether the consumer, or the credential that proved it, comes from the store.
    fn is_stored(&self) -> bool;

    /// Adds the caller's fields to `rest`.
    fn known(&self, rest: RefusalFields) -> RefusalFields;

    /// Returns the caller's own credential, if the headers contain it.
    fn own_credential<'h>(
        &self,
        headers: &'h HeaderMap,
        directory: &Directory,
    ) -> Option<CallerCredential<'h>>;
}

impl Caller for Identity {
    fn consumer(&self) -> ConsumerId {
        Self::consumer(self)
    }

    fn is_stored(&self) -> bool {
        Self::is_stored(self)
    }

    fn known(&self, rest: RefusalFields) -> RefusalFields {
        RefusalFields { consumer: Some(*self.name()), via: Some(self.via().as_str()), ..rest }
    }

    fn own_credential<'h>(
        &self,
        headers: &'h HeaderMap,
        directory: &Directory,
    ) -> Option<CallerCredential<'h>> {
        CallerCredential::of(self, headers, directory)
    }
}

/// A consumer selected by name, without proof, for commands that only explain a decision. No call can be sent with it.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    consumer: ConsumerId,
    name: Name,
    stored: bool,
}

impl Named {
    /// Finds the consumer called `name`, if there is one.
    #[must_use]
    pub fn find(snapshot: &Snapshot, name: &str) -> Option<Self> {
        let consumer = snapshot.directory.id_of(name)?;
        let found = snapshot.directory.consumer(consumer)?;
        Some(Self { consumer, name: found.name, stored: found.stored })
    }
}

impl Caller for Named {
    fn consumer(&self) -> ConsumerId {
        self.consumer
    }

    fn is_stored(&self) -> bool {
        self.stored
    }

    fn known(&self, rest: RefusalFields) -> RefusalFields {
        RefusalFields { consumer: Some(self.name), ..rest }
    }

    fn own_credential<'h>(
        &self,
        headers: &'h HeaderMap,
        directory: &Directory,
    ) -> Option<CallerCredential<'h>> {
        CallerCredential::from_request(headers, directory)
    }
}

/// The reason why a call is refused.
#[derive(Debug)]
pub struct Refusal {
    /// The error code in the response to the caller.
    pub code: Code,
    /// The fields of the call that were known at the refusal.
    pub known: RefusalFields,
    /// The delay after which the caller should retry.
    pub retry_after: Option<Duration>,
    /// Whether this refusal belongs to a flood: it is counted but not recorded as an event of its own.
    pub suppressed: bool,
}

impl Refusal {
    /// Creates a refusal from its code and the known fields of the call.
    #[must_use]
    pub fn new(code: Code, known: RefusalFields) -> Box<Self> {
        Box::new(Self { code, known, retry_after: None, suppressed: false })
    }

    pub(super) fn because(Fault { code, reason }: Fault) -> Box<Self> {
        Self::new(code, RefusalFields { reason: Some(reason), ..RefusalFields::default() })
    }
}

/// The result of a decision on a request head.
pub enum Admission<'s, C> {
    /// Policy allows the call.
    Granted(Granted<'s, C>),
    /// A rule inspects the body, so the gateway must read it before the decision.
    NeedsBody(PendingAdmission<'s, C>),
}

/// A call that policy allows.
pub struct Granted<'s, C> {
    /// The caller of the gateway.
    pub caller: C,
    /// The caller's own credential.
    pub own_credential: Option<CallerCredential<'s>>,
    /// The decision of policy.
    pub decision: policy::Decision,
    /// The route that matched the request.
    pub route: &'s Route,
}

/// A call whose decision is still pending, with all that its head determines.
pub struct PendingAdmission<'s, C> {
    caller: C,
    own_credential: Option<CallerCredential<'s>>,
    action: Action,
    /// The target as received, if the gateway removed a part of it.
    received: Option<Target>,
    route: &'s Route,
}

/// Decides on a request by its head. `identify` authenticates the caller.
///
/// # Errors
/// [`Refusal`], with all fields known for the trail.
pub fn decide<'s, C: Caller>(
    snapshot: &'s Snapshot,
    head: Head<'s>,
    identify: impl FnOnce() -> Result<C, Box<Refusal>>,
    now: SystemTime,
) -> Result<Admission<'s, C>, Box<Refusal>> {
    if NEVER.iter().any(|name| head.method.as_str().eq_ignore_ascii_case(name)) {
        return Err(Refusal::new(Code::MethodNotAllowed, RefusalFields::default()));
    }
    let target = Target::canonical(head.target)
        .map_err(|reason| Refusal::because(Fault { code: Code::NonCanonical, reason: reason.as_str() }))?;
    let caller = match identify() {
        Ok(caller) => caller,
        Err(mut refusal) => {
            refusal.known.target.get_or_insert(target);
            return Err(refusal);
        }
    };
    let own_credential = caller.own_credential(head.headers, &snapshot.directory);
    if let Some(reason) = own_credential
        .as_ref()
        .and_then(|own_credential| find_second_use(own_credential, head.method, &target))
    {
        let (target, reason) = (Some(target), Some(reason));
        let known = caller.known(RefusalFields { target, reason, ..RefusalFields::default() });
        return Err(Refusal::new(Code::DuplicateCredential, known));
    }
    let (route, action, received) = match locate(snapshot, head, &target) {
        Ok(located) => located,
        Err((code, known)) => {
            let mut known = caller.known(*known);
            known.target.get_or_insert(target);
            return Err(Refusal::new(code, known));
        }
    };
    let pending = PendingAdmission { caller, own_credential, action, received, route };
    let (consumer, action) = (pending.caller.consumer(), &pending.action);
    if snapshot.policy.needs_body(consumer, action, head.bodied) {
        // Freezes are checked here too, so that no body is buffered for a call that is refused in any case.
        return match snapshot.freezes.blocked_before_body(consumer, action.upstream) {
            None => Ok(Admission::NeedsBody(pending)),
            Some(Fault { code, reason }) => {
                let known = RefusalFields { reason: Some(reason), ..pending.known(snapshot) };
                Err(Refusal::new(code, known))
            }
        };
    }
    pending.decide(snapshot, now).map(Admission::Granted)
}

/// Returns the reason to refuse a call whose own credential also appears outside its header field.
fn find_second_use(
    own_credential: &CallerCredential<'_>,
    method: &Method,
    target: &Target,
) -> Option<&'static str> {
    if own_credential.is_in_target(target) {
        Some("the consumer's credential in the target")
    } else if own_credential.is_in(method.as_str().as_bytes()) {
        Some("the consumer's credential in the method")
    } else {
        None
    }
}

impl<'s, C: Caller> PendingAdmission<'s, C> {
    /// Adds the body members that rules see.
    #[must_use]
    pub fn with(mut self, body: BodyMembers) -> Self {
        self.action.body = body;
        self
    }

    /// Returns the known fields of the call, for a refusal before its body is judged.
    #[must_use]
    pub fn known(&self, snapshot: &Snapshot) -> RefusalFields {
        let target = Some(self.action.target.clone());
        self.caller.known(RefusalFields { target, ..with_route(snapshot, self.route) })
    }

    /// Decides on the pending call.
    ///
    /// # Errors
    /// [`Refusal`], with all fields known for the trail.
    #[inline]
    pub fn decide(self, snapshot: &'s Snapshot, now: SystemTime) -> Result<Granted<'s, C>, Box<Refusal>> {
        let Self { caller, own_credential, action, received, route } = self;
        match decide_on(snapshot, &caller, action, now) {
            Ok(decision) => Ok(Granted { caller, own_credential, decision, route }),
            Err(mut refusal) => {
                refusal.known.route = Some(route.label.clone());
                if refusal.code == Code::OrgOverride && received.is_some() {
                    refusal.known.target = received;
                }
                Err(refusal)
            }
        }
    }
}

/// Decides on an action at a known upstream: first by policy, then by freezes and the store lease.
///
/// # Errors
/// [`Refusal`], with all fields known for the trail.
#[inline]
pub fn decide_on<C: Caller>(
    snapshot: &Snapshot,
    caller: &C,
    action: Action,
    now: SystemTime,
) -> Result<policy::Decision, Box<Refusal>> {
    let decision = snapshot.policy.decide(caller.consumer(), action, now);
    let (upstream, ruling) = (decision.action().upstream, decision.ruling());
    let blocked =
        |credential| snapshot.blocked_by(caller.consumer(), caller.is_stored(), upstream, credential);
    match ruling.effect.map(blocked) {
        Ok(None) => Ok(decision),
        Ok(Some(fault)) => Err(refuse(snapshot, caller, &decision, fault.code, Some(fault.reason))),
        Err(code) => {
            let mut refusal = refuse(snapshot, caller, &decision, code, None);
            refusal.known.shadow.clone_from(&ruling.shadow);
            refusal.known.detail = snapshot.policy.why_unjudged(caller.consumer(), decision.action());
            Err(refusal)
        }
    }
}

/// Builds the refusal of a call on which policy has decided.
pub(super) fn refuse<C: Caller>(
    snapshot: &Snapshot,
    caller: &C,
    decision: &policy::Decision,
    code: Code,
    reason: Option<&'static str>,
) -> Box<Refusal> {
    let (action, ruling) = (decision.action(), decision.ruling());
    let known = RefusalFields {
        upstream: name_of(snapshot, action.upstream),
        target: Some(action.target.clone()),
        org: ruling.org.clone(),
        rule: ruling.rule.clone(),
        reason,
        ..RefusalFields::default()
    };
    Refusal::new(code, caller.known(known))
}

fn name_of(snapshot: &Snapshot, upstream: UpstreamId) -> Option<Name> {
    snapshot.upstream(upstream).map(|upstream| upstream.name)
}

/// Returns the fields of a call that its route determines.
fn with_route(snapshot: &Snapshot, route: &Route) -> RefusalFields {
    let upstream = name_of(snapshot, route.upstream);
    RefusalFields { upstream, route: Some(route.label.clone()), ..RefusalFields::default() }
}

/// The route, the requested action, and the target as received if the gateway removed a part of it.
type Located<'s> = (&'s Route, Action, Option<Target>);

/// Determines the requested action and its upstream.
///
/// # Errors
/// The code of the refusal, and the fields known by then.
#[inline]
fn locate<'s>(
    snapshot: &'s Snapshot,
    Head { method, headers, .. }: Head<'_>,
    target: &Target,
) -> Result<Located<'s>, (Code, Box<RefusalFields>)> {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let nowhere = || (Code::NoRoute, Box::default());
    let routed = snapshot.routes.find(host, target).ok_or_else(nowhere)?;
    let upstream = snapshot.upstream(routed.route.upstream).ok_or_else(nowhere)?;
    let mut target = upstream.with_its_slash(routed.target);
    let named = check_headers(headers, snapshot.limits.max_body).and_then(|()| match &upstream.org {
        None => Ok(NamedOrg::default()),
        Some(pin) => take_org(pin, headers, &mut target),
    });
    match named {
        Ok(NamedOrg { org, received }) => {
            let (upstream, method, body) = (routed.route.upstream, method.clone(), BodyMembers::none());
            let action = Action { upstream, method, target, org, body };
            Ok((routed.route, action, received))
        }
        Err(Fault { code, reason }) => {
            let (target, reason) = (Some(target), Some(reason));
            let known = RefusalFields { target, reason, ..with_route(snapshot, routed.route) };
            Err((code, Box::new(known)))
        }
    }
}

/// Checks the headers that cause a refusal after authentication and before the body is read.
fn check_headers(headers: &HeaderMap, max_body: u64) -> Result<(), Fault> {
    // One iteration over all headers costs less than four lookups.
    for (name, value) in headers {
        if *name == EXPECT && !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err(Fault { code: Code::ExpectationFailed, reason: "expect" });
        }
        if *name == UPGRADE && is_websocket(headers) {
            return Err(Fault { code: Code::UpgradeUnsupported, reason: "websocket handshake" });
        }
        if *name == ACCEPT && !value.as_bytes().is_ascii() {
            return Err(Fault { code: Code::Malformed, reason: "accept beyond ASCII" });
        }
        if *name == CONTENT_LENGTH {
            let length = value.to_str().ok().and_then(|length| length.parse::<u64>().ok());
            if length.is_some_and(|length| length > max_body) {
                return Err(Fault { code: Code::BodyTooLarge, reason: "content-length" });
            }
        }
    }
    Ok(())
}

/// Returns whether a request is a websocket handshake (RFC 6455 §4.1). A server may ignore other upgrade offers (RFC
/// 9110 §7.8). For a websocket, any other response would answer a different request.
fn is_websocket(headers: &HeaderMap) -> bool {
    headers::list(headers, UPGRADE).any(|protocol| protocol.eq_ignore_ascii_case(b"websocket"))
        && headers::list(headers, CONNECTION).any(|option| option.eq_ignore_ascii_case(b"upgrade"))
}
