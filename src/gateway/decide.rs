//! The decision on a call: target, caller, route, policy, freezes. No I/O, nothing async.
//!
//! One chain serves four callers: admission (`gateway/admit.rs`), the re-authorisation of a delayed call
//! (`gateway/reauthorize.rs`), `claviger explain` ([`explain`](super::explain)) and `claviger policy diff`. They differ
//! in how the caller is identified and in what is known of the body; both are parameters.

use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, Method};

use super::Snapshot;
use crate::audit::RefusalFields;
use crate::code::{Code, Fault};
use crate::inbound::{Directory, Identity, Own};
use crate::name::Name;
use crate::policy::{self, Action, Allowed, BodyMembers, Denial, Override, take_org};
use crate::route::Route;
use crate::signature::Message;
use crate::target::Target;

/// Methods that are never forwarded, compared without case. A server that ignores case would execute `trace` as
/// `TRACE`, which echoes credentials.
const NEVER: [&str; 2] = ["CONNECT", "TRACE"];

/// The head of a request, as the consumer sent it.
#[derive(Clone, Copy)]
pub struct Head<'h> {
    /// The request method.
    pub method: &'h Method,
    /// The request target in bytes, as received.
    pub target: &'h [u8],
    /// The header fields.
    pub headers: &'h HeaderMap,
    /// Whether a body follows or may follow.
    pub bodied: bool,
}

impl<'h> Head<'h> {
    /// Returns the parts of the request that a consumer's signature covers.
    #[must_use]
    pub fn message(self) -> Message<'h> {
        Message { method: self.method.as_str(), target: self.target, headers: self.headers }
    }
}

/// The caller: either an [`Identity`] proven by a credential, or a consumer selected by name.
pub trait Caller {
    /// Returns the consumer's index in the directory.
    fn consumer(&self) -> usize;

    /// Returns whether the consumer, or the credential that proved it, comes from the store.
    fn is_stored(&self) -> bool;

    /// Adds the caller's fields to `rest`.
    fn known(&self, rest: RefusalFields) -> RefusalFields;

    /// Returns the caller's own credential, if the headers contain it.
    fn own<'h>(&self, headers: &'h HeaderMap, directory: &Directory) -> Option<Own<'h>>;
}

impl Caller for Identity {
    fn consumer(&self) -> usize {
        Self::consumer(self)
    }

    fn is_stored(&self) -> bool {
        Self::is_stored(self)
    }

    fn known(&self, rest: RefusalFields) -> RefusalFields {
        RefusalFields { consumer: Some(*self.name()), via: Some(self.via().as_str()), ..rest }
    }

    fn own<'h>(&self, headers: &'h HeaderMap, directory: &Directory) -> Option<Own<'h>> {
        Own::of(self, headers, directory)
    }
}

/// A consumer selected by name, without proof, for commands that only explain a decision. No call can be sent with it.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    consumer: usize,
    name: Name,
    stored: bool,
}

impl Named {
    /// Finds the consumer called `name`, if there is one.
    #[must_use]
    pub fn find(snapshot: &Snapshot, name: &str) -> Option<Self> {
        let consumer = snapshot.directory.place(name)?;
        let found = snapshot.directory.consumer(consumer)?;
        Some(Self { consumer, name: found.name, stored: found.stored })
    }
}

impl Caller for Named {
    fn consumer(&self) -> usize {
        self.consumer
    }

    fn is_stored(&self) -> bool {
        self.stored
    }

    fn known(&self, rest: RefusalFields) -> RefusalFields {
        RefusalFields { consumer: Some(self.name), ..rest }
    }

    fn own<'h>(&self, headers: &'h HeaderMap, directory: &Directory) -> Option<Own<'h>> {
        Own::presented(headers, directory)
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
pub enum Decision<'s, C> {
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
    pub own: Option<Own<'s>>,
    /// The part of the decision that policy made.
    pub allowed: Allowed,
    /// The route that matched the request.
    pub route: &'s Route,
}

/// A call whose decision is still pending, with all that its head determines.
pub struct PendingAdmission<'s, C> {
    caller: C,
    own: Option<Own<'s>>,
    action: Action,
    /// The target as received, if the gateway removed a part of it.
    asked: Option<Target>,
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
) -> Result<Decision<'s, C>, Box<Refusal>> {
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
    let own = caller.own(head.headers, &snapshot.directory);
    if let Some(reason) = own.as_ref().and_then(|own| find_second_use(own, head.method, &target)) {
        let (target, reason) = (Some(target), Some(reason));
        let known = caller.known(RefusalFields { target, reason, ..RefusalFields::default() });
        return Err(Refusal::new(Code::DuplicateCredential, known));
    }
    let (route, action, asked) = match locate(snapshot, head, &target) {
        Ok(located) => located,
        Err((code, known)) => {
            let mut known = caller.known(*known);
            known.target.get_or_insert(target);
            return Err(Refusal::new(code, known));
        }
    };
    let approach = PendingAdmission { caller, own, action, asked, route };
    if snapshot.policy.needs_body(approach.caller.consumer(), &approach.action, head.bodied) {
        // Freezes are checked here too, so that no body is buffered for a call that is refused in any case.
        let by = (approach.caller.consumer(), approach.action.upstream);
        if let Some((code, reason)) = snapshot.freezes.blocked_before_body(by) {
            return Err(Refusal::new(
                code,
                RefusalFields { reason: Some(reason), ..approach.known(snapshot) },
            ));
        }
        return Ok(Decision::NeedsBody(approach));
    }
    approach.decide(snapshot, now).map(Decision::Granted)
}

/// Returns the reason to refuse a call whose own credential also appears outside its header field.
fn find_second_use(own: &Own<'_>, method: &Method, target: &Target) -> Option<&'static str> {
    if own.is_in_target(target) {
        Some("the consumer's credential in the target")
    } else if own.is_in(method.as_str().as_bytes()) {
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
        let Self { caller, own, action, asked, route } = self;
        match decide_on(snapshot, &caller, action, now) {
            Ok(allowed) => Ok(Granted { caller, own, allowed, route }),
            Err(mut refusal) => {
                refusal.known.route = Some(route.label.clone());
                if refusal.code == Code::OrgOverride && asked.is_some() {
                    refusal.known.target = asked;
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
) -> Result<Allowed, Box<Refusal>> {
    let allowed = rule_on(snapshot, caller, action, now)?;
    match snapshot.blocked_by(caller, (allowed.action().upstream, allowed.credential())) {
        None => Ok(allowed),
        Some((code, reason)) => {
            let refusal = refuse_allowed(snapshot, caller, &allowed, code);
            Err(Box::new(Refusal {
                known: RefusalFields { reason: Some(reason), ..refusal.known },
                ..*refusal
            }))
        }
    }
}

/// Decides by policy alone and ignores freezes and the store lease.
///
/// # Errors
/// [`Refusal`], with all fields known for the trail.
#[inline]
pub fn rule_on<C: Caller>(
    snapshot: &Snapshot,
    caller: &C,
    action: Action,
    now: SystemTime,
) -> Result<Allowed, Box<Refusal>> {
    snapshot.policy.decide(caller.consumer(), action, now).map_err(|denial| {
        let Denial { code, rule, shadow, org, action } = *denial;
        let detail = snapshot.policy.why_unjudged(caller.consumer(), &action);
        let upstream = name_of(snapshot, action.upstream);
        let target = Some(action.target);
        Refusal::new(
            code,
            caller.known(RefusalFields {
                upstream,
                target,
                org,
                rule,
                shadow,
                detail,
                ..RefusalFields::default()
            }),
        )
    })
}

/// Builds the refusal of a call that policy allows.
pub(super) fn refuse_allowed<C: Caller>(
    snapshot: &Snapshot,
    caller: &C,
    allowed: &Allowed,
    code: Code,
) -> Box<Refusal> {
    let known = RefusalFields {
        upstream: name_of(snapshot, allowed.action().upstream),
        target: Some(allowed.action().target.clone()),
        org: allowed.org().map(ToString::to_string),
        rule: Some(allowed.rule().clone()),
        ..RefusalFields::default()
    };
    Refusal::new(code, caller.known(known))
}

fn name_of(snapshot: &Snapshot, upstream: usize) -> Option<Name> {
    snapshot.upstreams.get(upstream).map(|upstream| upstream.name)
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
    let upstream = snapshot.upstreams.get(routed.route.upstream).ok_or_else(nowhere)?;
    let mut target = upstream.with_its_slash(routed.target);
    let named = match (acceptable(headers, snapshot.limits.max_body), &upstream.org) {
        (Err(refused), _) => Err(refused),
        (Ok(()), None) => Ok(policy::Named::default()),
        (Ok(()), Some(pin)) => {
            take_org(pin, headers, &mut target).map_err(|Override(reason)| (Code::OrgOverride, reason))
        }
    };
    match named {
        Ok(policy::Named { org, asked }) => {
            let (upstream, method, body) = (routed.route.upstream, method.clone(), BodyMembers::none());
            let action = Action { upstream, method, target, org, body };
            Ok((routed.route, action, asked))
        }
        Err((code, reason)) => {
            let (target, reason) = (Some(target), Some(reason));
            let known = RefusalFields { target, reason, ..with_route(snapshot, routed.route) };
            Err((code, Box::new(known)))
        }
    }
}

/// Checks the headers that cause a refusal after authentication and before the body is read.
fn acceptable(headers: &HeaderMap, max_body: u64) -> Result<(), (Code, &'static str)> {
    // One iteration over all headers costs less than four lookups.
    for (name, value) in headers {
        if *name == EXPECT && !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
            return Err((Code::ExpectationFailed, "expect"));
        }
        if *name == UPGRADE && is_websocket(headers) {
            return Err((Code::UpgradeUnsupported, "websocket handshake"));
        }
        if *name == ACCEPT && !value.as_bytes().is_ascii() {
            return Err((Code::Malformed, "accept beyond ASCII"));
        }
        if *name == CONTENT_LENGTH {
            let length = value.to_str().ok().and_then(|length| length.parse::<u64>().ok());
            if length.is_some_and(|length| length > max_body) {
                return Err((Code::BodyTooLarge, "content-length"));
            }
        }
    }
    Ok(())
}

/// Returns whether a request is a websocket handshake (RFC 6455 §4.1). A server may ignore other upgrade offers (RFC
/// 9110 §7.8). For a websocket, any other response would answer a different request.
fn is_websocket(headers: &HeaderMap) -> bool {
    let lists = |name: HeaderName, wanted: &[u8]| {
        let listed =
            headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        listed.into_iter().any(|one| one.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    lists(UPGRADE, b"websocket") && lists(CONNECTION, b"upgrade")
}
