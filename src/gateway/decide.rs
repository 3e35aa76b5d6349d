//! The decision on a call: target, caller, route, policy, freezes. No I/O, nothing async.
//!
//! One chain serves admission ([`admit`](mod@super::admit)), the second look at a call that waited
//! (`gateway/reauthorize.rs`), `claviger explain` ([`trial`](super::explain)) and `claviger policy diff`. What differs
//! between them comes in: how the caller is known, and what is known of the body.

use std::time::{Duration, SystemTime};

use http::header::{ACCEPT, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, UPGRADE};
use http::{HeaderMap, Method};

use super::Snapshot;
use crate::audit::RefusalFields;
use crate::code::Code;
use crate::inbound::{Directory, Identity, Own};
use crate::name::Name;
use crate::policy::{self, Action, Allowed, BodyMembers, Denial, Override, take_org};
use crate::route::Route;
use crate::signature::Message;
use crate::target::Target;

/// Methods that are never forwarded, in any case of their letters: servers that fold it would take `trace`
/// for the method that echoes credentials.
const NEVER: [&str; 2] = ["CONNECT", "TRACE"];

/// The head of a request, as the consumer sent it.
#[derive(Clone, Copy)]
pub struct Head<'h> {
    /// The method.
    pub method: &'h Method,
    /// The target's bytes.
    pub target: &'h [u8],
    /// The header lines.
    pub headers: &'h HeaderMap,
    /// Whether a body comes with it, or may.
    pub bodied: bool,
}

impl<'h> Head<'h> {
    /// What a signature of the consumer's is about.
    #[must_use]
    pub fn message(self) -> Message<'h> {
        Message { method: self.method.as_str(), target: self.target, headers: self.headers }
    }
}

/// Who calls: an [`Identity`] that a credential proved, or a consumer by its name.
pub trait Caller {
    /// The consumer's place in the directory.
    fn consumer(&self) -> usize;

    /// Whether the consumer, or what proved it, is known from the store.
    fn is_stored(&self) -> bool;

    /// What is known of a call by its caller, beside the rest.
    fn known(&self, rest: RefusalFields) -> RefusalFields;

    /// The caller's own credential, where the headers have it.
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

/// A consumer by its name, for who asks what would be decided. Nothing leaves by it.
#[derive(Debug, Clone, Copy)]
pub struct Named {
    consumer: usize,
    name: Name,
    stored: bool,
}

impl Named {
    /// The consumer called `name`, where there is one.
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

/// A call that may not be made.
#[derive(Debug)]
pub struct Refusal {
    /// What the caller is told.
    pub code: Code,
    /// What was found out on the way.
    pub known: RefusalFields,
    /// How long until asking again makes sense.
    pub retry_after: Option<Duration>,
    /// One of a flood: counted, not recorded by itself.
    pub suppressed: bool,
}

impl Refusal {
    /// A refusal with this code and what is known of the call.
    #[must_use]
    pub fn new(code: Code, known: RefusalFields) -> Box<Self> {
        Box::new(Self { code, known, retry_after: None, suppressed: false })
    }

    pub(super) fn because(code: Code, reason: &'static str) -> Box<Self> {
        Self::new(code, RefusalFields { reason: Some(reason), ..RefusalFields::default() })
    }
}

/// What is decided on a request head.
pub enum Decision<'s, C> {
    /// The call may be made.
    Granted(Granted<'s, C>),
    /// A rule looks at its body: it is to be read first.
    NeedsBody(PendingAdmission<'s, C>),
}

/// A call that may be made.
pub struct Granted<'s, C> {
    /// Who calls.
    pub caller: C,
    /// The caller's own credential.
    pub own: Option<Own<'s>>,
    /// What policy allows.
    pub allowed: Allowed,
    /// The route it took.
    pub route: &'s Route,
}

/// A call as far as it is known before it is decided on.
pub struct PendingAdmission<'s, C> {
    caller: C,
    own: Option<Own<'s>>,
    action: Action,
    /// The target as it came, where something was taken off.
    asked: Option<Target>,
    route: &'s Route,
}

/// Decides on a request by its head. `identify` says who calls.
///
/// # Errors
/// [`Refusal`], with all that is known for the trail.
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
        .map_err(|reason| Refusal::because(Code::NonCanonical, reason.as_str()))?;
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
        // Nobody's body is kept for a call that is not made in any case.
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

/// Where else than in its header line the caller's own credential stands, as a reason to refuse.
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
    /// The same, with what rules see of the body.
    #[must_use]
    pub fn with(mut self, body: BodyMembers) -> Self {
        self.action.body = body;
        self
    }

    /// What is known of it where its body does not come.
    #[must_use]
    pub fn known(&self, snapshot: &Snapshot) -> RefusalFields {
        let target = Some(self.action.target.clone());
        self.caller.known(RefusalFields { target, ..with_route(snapshot, self.route) })
    }

    /// Decides.
    ///
    /// # Errors
    /// [`Refusal`], with all that is known for the trail.
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

/// Decides on what is known to go to an upstream: policy, then what is stopped for now.
///
/// # Errors
/// [`Refusal`], with all that is known for the trail.
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

/// Decides by policy alone, whatever is stopped for now.
///
/// # Errors
/// [`Refusal`], with all that is known for the trail.
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

/// The refusal of what policy allows.
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

/// What is known of a call by its route.
fn with_route(snapshot: &Snapshot, route: &Route) -> RefusalFields {
    let upstream = name_of(snapshot, route.upstream);
    RefusalFields { upstream, route: Some(route.label.clone()), ..RefusalFields::default() }
}

/// The route, what is asked for, and the target as it came where something was taken off.
type Located<'s> = (&'s Route, Action, Option<Target>);

/// Finds out what is asked for, and of which upstream.
///
/// # Errors
/// The code of the refusal, and what is known by then.
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

/// What the headers ask that is refused after the caller is known and before its body is read.
fn acceptable(headers: &HeaderMap, max_body: u64) -> Result<(), (Code, &'static str)> {
    // One pass costs less than four lookups.
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

/// Whether a request is a websocket's handshake (RFC 6455 §4.1). Other upgrades are offers that may be passed
/// over (RFC 9110 §7.8); of this one, whatever else is answered is an answer to another request.
fn is_websocket(headers: &HeaderMap) -> bool {
    let lists = |name: HeaderName, wanted: &[u8]| {
        let listed =
            headers.get_all(name).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
        listed.into_iter().any(|one| one.trim_ascii().eq_ignore_ascii_case(wanted))
    };
    lists(UPGRADE, b"websocket") && lists(CONNECTION, b"upgrade")
}
