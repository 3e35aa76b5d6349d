//! What would happen to a call, found out by the same code that decides on real ones.

use std::time::SystemTime;

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method};

use super::admit::unused;
use super::decide::{Caller, Decision, Granted, Head, Named, Refusal, decide};
use super::{Snapshot, judged};
use crate::audit::Known;
use crate::code::Code;
use crate::inbound::{Unidentified, identify};
use crate::name::Name;
use crate::policy::Members;
use crate::scheme::Shown;
use crate::transport::outgoing_headers;

/// What would happen.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trial {
    /// The rule that decides.
    pub rule: Option<String>,
    /// The rule that would decide otherwise, were it no shadow.
    pub shadow: Option<String>,
    /// The upstream it would go to.
    pub upstream: Option<String>,
    /// The organisation.
    pub org: Option<String>,
    /// The canonical target, as the upstream knows it.
    pub target: Option<String>,
    /// Whether a rule looks at its body.
    pub is_by_body: bool,
    /// The header lines that do not reach it, by their names.
    pub dropped: Vec<String>,
}

/// The decision.
#[derive(Debug)]
pub enum Verdict {
    /// It would be forwarded.
    Allowed {
        /// With this credential.
        credential: String,
        /// Its key id, where it has one.
        key_id: Option<String>,
        /// What is put on.
        shown: Shown,
    },
    /// It would be refused.
    Denied {
        /// With this code.
        code: Code,
        /// More for the custodian.
        reason: Option<String>,
    },
}

/// The call in question.
#[derive(Debug, Clone)]
pub struct Call {
    /// The method.
    pub method: Method,
    /// What `Host` would say.
    pub host: String,
    /// Path and query.
    pub target: String,
    /// What it would carry beside its credential.
    pub headers: HeaderMap,
    /// What rules would see of its body.
    pub body: Members,
}

/// What rules would see of a body that comes with such headers; `None` for one that is not known.
#[must_use]
pub fn members(snapshot: &Snapshot, headers: &HeaderMap, body: Option<&[u8]>) -> Members {
    // Of a body whose length is said to be nothing, nothing is read.
    if body.is_some_and(<[u8]>::is_empty) && !headers.contains_key(TRANSFER_ENCODING) {
        return Members::none();
    }
    judged::members(headers, body.filter(|body| body.len() <= snapshot.limits.max_judged_body))
}

/// Tries a call of `consumer`; `None` where there is no such consumer. `date` is what would be signed.
#[must_use]
pub fn attempt(
    snapshot: &Snapshot,
    consumer: &str,
    call: &Call,
    (now, date): (SystemTime, &HeaderValue),
) -> Option<(Trial, Verdict)> {
    let named = Named::find(snapshot, consumer)?;
    let disabled = snapshot.directory.consumer(named.consumer())?.disabled;
    let identify = || {
        let refusal = || Refusal::because(Code::Unauthenticated, "disabled consumer");
        if disabled { Err(refusal()) } else { Ok(named) }
    };
    Some(attempt_by(snapshot, identify, call, (now, date)))
}

/// Tries a call of whom its own credential proves; also who that is, where the call came so far. Whether a
/// signature that is good once was used before is known to the running gateway alone.
///
/// # Errors
/// Why the credential proves nobody.
pub fn attempt_proven(
    snapshot: &Snapshot,
    call: &Call,
    (now, date): (SystemTime, &HeaderValue),
) -> Result<(Option<Name>, (Trial, Verdict)), Unidentified> {
    let (mut nobody, mut name) = (None, None);
    let message =
        Head { method: &call.method, target: call.target.as_bytes(), headers: &call.headers, bodied: false }
            .message();
    let identify = || match identify(message, &snapshot.directory, now) {
        Ok(identity) => {
            name = Some(*identity.name());
            unused(snapshot, identity, now)
        }
        Err(why) => {
            nobody = Some(why);
            Err(Refusal::because(Code::Unauthenticated, "no consumer is known by it"))
        }
    };
    let tried = attempt_by(snapshot, identify, call, (now, date));
    nobody.map_or(Ok((name, tried)), Err)
}

/// Tries a call of whom `identify` finds.
fn attempt_by<C: Caller>(
    snapshot: &Snapshot,
    identify: impl FnOnce() -> Result<C, Box<Refusal>>,
    Call { method, host, target, headers, body }: &Call,
    (now, date): (SystemTime, &HeaderValue),
) -> (Trial, Verdict) {
    let mut headers = headers.clone();
    if let Ok(host) = HeaderValue::from_str(host)
        && !headers.contains_key(HOST)
    {
        headers.insert(HOST, host);
    }
    let head = Head { method, target: target.as_bytes(), headers: &headers, bodied: !body.is_none() };
    let (decided, is_by_body) = match decide(snapshot, head, identify, now) {
        Ok(Decision::Granted(granted)) => (Ok(granted), false),
        Ok(Decision::Body(approach)) => (approach.with(body.clone()).decide(snapshot, now), true),
        Err(refusal) => (Err(refusal), false),
    };
    let (trial, verdict) = match decided {
        Ok(granted) => sent(snapshot, &granted, &headers, date),
        Err(refusal) => refused(*refusal),
    };
    (Trial { is_by_body, ..trial }, verdict)
}

/// What is known of a call that may not be made.
fn refused(Refusal { code, known, .. }: Refusal) -> (Trial, Verdict) {
    let Known { upstream, target, org, rule, shadow, reason, detail, .. } = known;
    let trial = Trial {
        rule: rule.map(|rule| rule.to_string()),
        shadow: shadow.map(|rule| rule.to_string()),
        upstream: upstream.map(|name| name.to_string()),
        target: target.map(|target| target.to_string()),
        org,
        is_by_body: false,
        dropped: Vec::new(),
    };
    (trial, Verdict::Denied { code, reason: reason.map(String::from).or(detail) })
}

/// What would be sent for a call that may be made.
fn sent<C>(
    snapshot: &Snapshot,
    Granted { allowed, own, .. }: &Granted<'_, C>,
    headers: &HeaderMap,
    date: &HeaderValue,
) -> (Trial, Verdict) {
    let (action, org) = (allowed.action(), allowed.org().map(|org| &**org));
    let upstream = snapshot.upstreams.get(action.upstream);
    let trial = Trial {
        rule: Some(allowed.rule().to_string()),
        shadow: allowed.shadow().map(ToString::to_string),
        upstream: upstream.map(|upstream| upstream.name.to_string()),
        org: org.map(String::from),
        target: Some(action.target.to_string()),
        is_by_body: false,
        dropped: Vec::new(),
    };
    let internal = |reason: &str| Verdict::Denied { code: Code::Internal, reason: Some(reason.into()) };
    let (Some(upstream), Some(credential)) = (upstream, snapshot.custody.credential(allowed.credential()))
    else {
        return (trial, internal("no upstream or no credential"));
    };
    let dropped = upstream.request_headers.dropped(headers, action.target.path(), own.as_ref());
    let names = dropped.names().iter().map(|name| name.as_str().to_owned());
    let trial = Trial { dropped: names.collect(), ..trial };
    let passed = upstream.request_headers.passed(headers, &dropped);
    let Ok(outgoing) = outgoing_headers(&upstream.manners, passed, org, date.clone()) else {
        return (trial, internal("a header cannot be sent"));
    };
    let signed_target = upstream.manners.signed_target(&action.target);
    let verdict = match upstream.scheme.shown(action.method.as_str(), &signed_target, &outgoing) {
        Ok(shown) => Verdict::Allowed {
            credential: credential.name.to_string(),
            key_id: credential.key_id().map(String::from),
            shown,
        },
        Err(_) => internal("a header to be signed is not there once"),
    };
    (trial, verdict)
}
