//! Explains what would happen to a call, with the same code that decides on real calls.

use std::time::SystemTime;

use http::header::{HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method};

use super::admit::use_nonce;
use super::body_rules;
use super::decide::{Admission, Caller, Granted, Named, Refusal, decide};
use super::head::Head;
use super::snapshot::Snapshot;
use crate::audit::RefusalFields;
use crate::code::{Code, Fault};
use crate::inbound::{AuthError, identify};
use crate::name::Name;
use crate::policy::BodyMembers;
use crate::scheme::Preview;
use crate::transport::outgoing_headers;

/// The explanation of a hypothetical call.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// The rule that decides the call.
    pub rule: Option<String>,
    /// The shadow rule that would decide otherwise if it were enforced.
    pub shadow: Option<String>,
    /// The upstream that would receive the call.
    pub upstream: Option<String>,
    /// The organisation of the call.
    pub org: Option<String>,
    /// The canonical target, as the upstream would receive it.
    pub target: Option<String>,
    /// Whether a rule inspects the body.
    pub is_by_body: bool,
    /// The names of the header fields that would not reach the upstream.
    pub dropped: Vec<String>,
}

/// The decision on the call.
#[derive(Debug)]
pub enum Verdict {
    /// The call would be forwarded.
    Allowed {
        /// The name of the credential.
        credential: String,
        /// The credential's key id, if it has one.
        key_id: Option<String>,
        /// A preview of what the scheme would add to the request.
        preview: Preview,
    },
    /// The call would be refused.
    Denied {
        /// The error code of the refusal.
        code: Code,
        /// The reason, for the operator.
        reason: Option<String>,
    },
}

/// The hypothetical call.
#[derive(Debug, Clone)]
pub struct TestCall {
    /// The request method.
    pub method: Method,
    /// The value of `Host`.
    pub host: String,
    /// The path and the query.
    pub target: String,
    /// The header fields of the call; for [`attempt_proven`] with the caller's credential.
    pub headers: HeaderMap,
    /// The body members that rules would see.
    pub body: BodyMembers,
}

/// Returns the members that rules would see in a body with these headers. `body` is `None` if it is unknown.
#[must_use]
pub fn members(snapshot: &Snapshot, headers: &HeaderMap, body: Option<&[u8]>) -> BodyMembers {
    // The gateway does not read a body whose declared length is zero.
    if body.is_some_and(<[u8]>::is_empty) && !headers.contains_key(TRANSFER_ENCODING) {
        return BodyMembers::none();
    }
    body_rules::members(headers, body.filter(|body| body.len() <= snapshot.limits.max_judged_body))
}

/// Explains a call of the consumer called `consumer`. Returns `None` if there is no such consumer. `date` is the `Date`
/// value that would be signed.
#[must_use]
pub fn attempt(
    snapshot: &Snapshot,
    consumer: &str,
    call: &TestCall,
    (now, date): (SystemTime, &HeaderValue),
) -> Option<(Explanation, Verdict)> {
    let named = Named::find(snapshot, consumer)?;
    let disabled = snapshot.directory.consumer(named.consumer())?.disabled;
    let identify = || {
        let refusal = || Refusal::because(Fault { code: Code::Unauthenticated, reason: "disabled consumer" });
        if disabled { Err(refusal()) } else { Ok(named) }
    };
    Some(attempt_by(snapshot, identify, call, (now, date)))
}

/// Explains a call and authenticates its caller by the credential in `call`. Also returns the consumer's name, if the
/// decision came that far. Only the running gateway knows whether a single-use signature was used before.
///
/// # Errors
/// The reason why the credential proves no consumer.
pub fn attempt_proven(
    snapshot: &Snapshot,
    call: &TestCall,
    (now, date): (SystemTime, &HeaderValue),
) -> Result<(Option<Name>, (Explanation, Verdict)), AuthError> {
    let (mut nobody, mut name) = (None, None);
    let message =
        Head { method: &call.method, target: call.target.as_bytes(), headers: &call.headers, bodied: false }
            .message();
    let identify = || match identify(message, &snapshot.directory, now) {
        Ok(identity) => {
            name = Some(*identity.name());
            use_nonce(snapshot, identity, now)
        }
        Err(why) => {
            nobody = Some(why);
            let reason = "no consumer is known by it";
            Err(Refusal::because(Fault { code: Code::Unauthenticated, reason }))
        }
    };
    let attempted = attempt_by(snapshot, identify, call, (now, date));
    nobody.map_or(Ok((name, attempted)), Err)
}

/// Explains a call whose caller `identify` determines.
fn attempt_by<C: Caller>(
    snapshot: &Snapshot,
    identify: impl FnOnce() -> Result<C, Box<Refusal>>,
    TestCall { method, host, target, headers, body }: &TestCall,
    (now, date): (SystemTime, &HeaderValue),
) -> (Explanation, Verdict) {
    let mut headers = headers.clone();
    if let Ok(host) = HeaderValue::from_str(host)
        && !headers.contains_key(HOST)
    {
        headers.insert(HOST, host);
    }
    let head = Head { method, target: target.as_bytes(), headers: &headers, bodied: !body.is_none() };
    let (decided, is_by_body) = match decide(snapshot, head, identify, now) {
        Ok(Admission::Granted(granted)) => (Ok(granted), false),
        Ok(Admission::NeedsBody(pending)) => (pending.with(body.clone()).decide(snapshot, now), true),
        Err(refusal) => (Err(refusal), false),
    };
    let (explanation, verdict) = match decided {
        Ok(granted) => explain_sent(snapshot, &granted, &headers, date),
        Err(refusal) => explain_refusal(*refusal),
    };
    (Explanation { is_by_body, ..explanation }, verdict)
}

/// Explains a refused call from its code and known fields.
fn explain_refusal(Refusal { code, known, .. }: Refusal) -> (Explanation, Verdict) {
    let RefusalFields { upstream, target, org, rule, shadow, reason, detail, .. } = known;
    let explanation = Explanation {
        rule: rule.map(|rule| rule.to_string()),
        shadow: shadow.map(|rule| rule.to_string()),
        upstream: upstream.map(|name| name.to_string()),
        target: target.map(|target| target.to_string()),
        org: org.map(|org| org.to_string()),
        is_by_body: false,
        dropped: Vec::new(),
    };
    (explanation, Verdict::Denied { code, reason: reason.map(String::from).or(detail) })
}

/// Explains what an allowed call would send to the upstream.
fn explain_sent<C>(
    snapshot: &Snapshot,
    Granted { decision, own_credential, .. }: &Granted<'_, C>,
    headers: &HeaderMap,
    date: &HeaderValue,
) -> (Explanation, Verdict) {
    let (action, ruling) = (decision.action(), decision.ruling());
    let (upstream, org) = (snapshot.upstream(action.upstream), ruling.org.as_deref());
    let explanation = Explanation {
        rule: ruling.rule.as_ref().map(ToString::to_string),
        shadow: ruling.shadow.as_ref().map(ToString::to_string),
        upstream: upstream.map(|upstream| upstream.name.to_string()),
        org: org.map(String::from),
        target: Some(action.target.to_string()),
        is_by_body: false,
        dropped: Vec::new(),
    };
    let internal = |reason: &str| Verdict::Denied { code: Code::Internal, reason: Some(reason.into()) };
    let credential = ruling.effect.ok().and_then(|credential| snapshot.custody.credential(credential));
    let (Some(upstream), Some(credential)) = (upstream, credential) else {
        return (explanation, internal("no upstream or no credential"));
    };
    let dropped =
        upstream.request_headers.select_dropped(headers, action.target.path(), own_credential.as_ref());
    let names = dropped.names().iter().map(|name| name.as_str().to_owned());
    let explanation = Explanation { dropped: names.collect(), ..explanation };
    let passed = upstream.request_headers.forwarded(headers, &dropped);
    let Ok(outgoing) = outgoing_headers(&upstream.first.settings, passed, org, date.clone()) else {
        return (explanation, internal("a header cannot be sent"));
    };
    let signed_target = upstream.first.settings.signed_target(&action.target);
    let verdict = match upstream.scheme.preview(action.method.as_str(), &signed_target, &outgoing) {
        Ok(preview) => Verdict::Allowed {
            credential: credential.name.to_string(),
            key_id: credential.key_id().map(String::from),
            preview,
        },
        Err(_) => internal("a header to be signed does not occur exactly once"),
    };
    (explanation, verdict)
}
