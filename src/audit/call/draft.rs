//! A call before the decision: the facts known at its arrival, and its refusal.
//!
//! The trail gets exactly one outcome of each call, except of a suppressed refusal, which it only counts. A draft that
//! is dropped without an outcome records `abandoned`.

use std::borrow::Cow;
use std::rc::Rc;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use http::header::USER_AGENT;
use http::{HeaderMap, HeaderValue, Method, Response};
use uuid::Uuid;

use super::entry::{Arrived, Audited, Entry};
use super::fields::{self, CallFields, CallNames, OutcomeFields, Peer, RefusalFields};
use super::meter::Progress;
use crate::audit::journal::Journal;
use crate::audit::journal::settings::Unrecorded;
use crate::audit::journal::suppressed::RefusalSource;
use crate::audit::trail::ascii::escape;
use crate::audit::trail::event::Outcome;
use crate::code::Code;
use crate::metrics::{Metrics, Reason};
use crate::policy::Permit;
use crate::target::Target;

/// A call that was received and is not decided yet.
pub struct Draft(Option<Received>);

struct Received {
    call: Arrived,
    time: SystemTime,
    method: Option<Method>,
    raw_target: Rc<[u8]>,
    user_agent: Option<HeaderValue>,
}

impl Draft {
    /// Begins a call with the facts known at its arrival. `raw_target` is the target as received. `method` is absent if
    /// the request head was not readable.
    #[must_use]
    pub fn begin(
        journal: &Journal,
        method: Option<Method>,
        headers: &HeaderMap,
        raw_target: Rc<[u8]>,
        (time, peer): (SystemTime, Rc<Peer>),
    ) -> Self {
        journal.metrics.in_flight.inc();
        let request_id = fields::request_id(time);
        let call = Arrived { journal: journal.clone(), peer, began: Instant::now(), request_id };
        let user_agent = headers.get(USER_AGENT).cloned();
        Self(Some(Received { call, time, method, raw_target, user_agent }))
    }

    /// Returns the id of this call on the trail.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.0.as_ref().map(|received| received.call.request_id).unwrap_or_default()
    }

    /// Redacts secrets before they reach the trail. `concealed` returns the redacted text if a text contains a secret.
    pub fn conceal(&mut self, concealed: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        let Some(received) = &mut self.0 else { return };
        if let Some(target) = concealed(&received.raw_target) {
            received.raw_target = target.into();
        }
        let method = received.method.as_ref().and_then(|method| concealed(method.as_str().as_bytes()));
        if let Some(method) = method {
            // The replacement `*` is valid in a method.
            received.method = Method::from_bytes(&method).ok();
        }
        let agent = received.user_agent.as_ref().and_then(|agent| concealed(agent.as_bytes()));
        if let Some(agent) = agent {
            received.user_agent = HeaderValue::from_bytes(&agent).ok();
        }
    }

    /// Refuses the call and records the outcome. Returns the answer with `response` as its body, and the number of
    /// bytes that the outcome takes on the trail.
    #[must_use]
    pub fn answer_refusal<B>(
        mut self,
        code: Code,
        known: &RefusalFields,
        response: Response<Bytes>,
    ) -> (Response<Audited<B>>, usize) {
        let written = self.0.take().map_or(0, |received| received.record_refusal(code, known));
        (response.map(Audited::from_text), written)
    }

    /// Refuses a call whose source is refused too often. The trail records it only as part of a count.
    #[must_use]
    pub fn answer_suppressed<B>(
        mut self,
        code: Code,
        source: RefusalSource,
        response: Response<Bytes>,
    ) -> Response<Audited<B>> {
        if let Some(received) = self.0.take() {
            received.call.journal.suppressed(source, received.time);
            received.count(code.status().as_u16(), &RefusalFields::default());
            count_refusal(&received.call.journal.metrics, code, None);
        }
        response.map(Audited::from_text)
    }

    /// Records the intent, and returns once it is as durable as configured.
    ///
    /// # Errors
    /// [`Unrecorded`] if the intent could not be recorded. The call must not be made; its outcome states that.
    pub async fn commit(
        mut self,
        permit: Permit,
        parties: CallNames<'_>,
    ) -> Result<Entry, (Unrecorded, Uuid)> {
        let Some(received) = self.0.take() else { return Err((Unrecorded, Uuid::nil())) };
        let facts = received.intent_line(&permit, &parties);
        let request_id = received.call.request_id;
        let Ok(durable) = received.call.journal.intent(received.time, &facts) else {
            let known = known_of(&permit, &parties);
            received.record_refusal(Code::Unrecorded, &known);
            return Err((Unrecorded, request_id));
        };
        // From here on, a caller that is dropped drops the entry, which records its own outcome.
        let entry = Entry::open(received.call, permit, &parties, facts);
        match durable {
            None => return Ok(entry),
            // Boxed, since otherwise the future of every call would have room for a timer.
            Some(durable) => {
                if Box::pin(entry.journal().wait_durable(durable)).await {
                    return Ok(entry);
                }
            }
        }
        entry.mark_unrecorded();
        Err((Unrecorded, request_id))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(received) = self.0.take() {
            received.record_end(Outcome::Abandoned, None, &RefusalFields::default());
        }
    }
}

impl Received {
    fn method(&self) -> &str {
        self.method.as_ref().map_or("", Method::as_str)
    }

    fn intent_line(&self, permit: &Permit, parties: &CallNames<'_>) -> Vec<u8> {
        let identity = permit.identity();
        let facts = CallFields {
            request_id: self.call.request_id,
            consumer: Some(identity.name()),
            via: Some(identity.via().as_str()),
            proven: identity.proven(),
            peer: &self.call.peer,
            upstream: Some(parties.upstream),
            method: self.method(),
            target: permit.action().target.as_str(),
            received: self.raw_target.len(),
            org: permit.ruling().org.as_deref(),
            credential: Some((parties.credential, parties.credential_version)),
            rule: permit.ruling().rule.as_deref(),
            shadow: permit.ruling().shadow.as_deref(),
            decision: "allowed",
            // A header that is not forwarded may hold the consumer's credential.
            user_agent: self.user_agent.as_ref().filter(|_| !parties.dropped.contains(&USER_AGENT)),
            dropped: parties.dropped,
        };
        facts.members()
    }

    fn record_refusal(self, code: Code, known: &RefusalFields) -> usize {
        self.record_end(Outcome::Refused, Some(code), known)
    }

    /// Records the outcome of a call without an intent. Returns the number of bytes that it takes.
    fn record_end(self, ended: Outcome, code: Option<Code>, known: &RefusalFields) -> usize {
        let raw = without_userinfo(escape(&self.raw_target));
        let facts = CallFields {
            request_id: self.call.request_id,
            consumer: known.consumer.as_ref(),
            via: known.via,
            proven: None,
            peer: &self.call.peer,
            upstream: known.upstream.as_ref(),
            method: self.method(),
            target: known.target.as_ref().map_or(&raw, Target::as_str),
            received: self.raw_target.len(),
            org: known.org.as_deref(),
            credential: None,
            rule: known.rule.as_deref(),
            shadow: known.shadow.as_deref(),
            decision: if code == Some(Code::Unrecorded) { "allowed" } else { "denied" },
            user_agent: self.user_agent.as_ref(),
            dropped: &[],
        };
        let status = code.map(|code| code.status().as_u16());
        let ending = OutcomeFields {
            code,
            reason: known.detail.as_deref().or(known.reason),
            fingerprint: known.fingerprint.as_deref(),
            progress: &Progress { status, ..Progress::default() },
            bytes_in: 0,
            scrubbed: 0,
            duration: self.call.began.elapsed(),
            ended,
        };
        let members = ending.after(facts.members());
        self.call.journal.outcome(&members, false);
        self.count(status.unwrap_or(0), known);
        if let Some(code) = code {
            count_refusal(&self.call.journal.metrics, code, known.reason);
        }
        members.len() + fields::CHAINED
    }

    fn count(&self, status: u16, known: &RefusalFields) {
        let route = known.route.clone().unwrap_or_else(|| "-".into());
        let labels = (&route, known.consumer.as_ref());
        self.call.count(self.call.began.elapsed(), labels, self.method(), status);
    }
}

/// Removes userinfo, which may hold a password, from a target that names a host.
fn without_userinfo(target: Cow<'_, str>) -> Cow<'_, str> {
    let begin = target.find("://").map_or(0, |at| at + 3);
    let rest = target.get(begin..).unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((userinfo, _)) if !userinfo.is_empty() && !target.starts_with('/') => {
            let (before, after) = (target.get(..begin), target.get(begin + userinfo.len()..));
            format!("{}***{}", before.unwrap_or_default(), after.unwrap_or_default()).into()
        }
        _ => target,
    }
}

fn count_refusal(metrics: &Metrics, code: Code, reason: Option<&'static str>) {
    metrics.denied.get_or_create(&Reason { reason: code.as_str() }).inc();
    if matches!(
        code,
        Code::Unauthenticated | Code::Replayed | Code::DuplicateCredential | Code::TooManyFailures
    ) {
        let reason = reason.unwrap_or(code.as_str());
        metrics.inbound_auth_failures.get_or_create(&Reason { reason }).inc();
    }
}

fn known_of(permit: &Permit, parties: &CallNames<'_>) -> RefusalFields {
    RefusalFields {
        consumer: Some(*permit.identity().name()),
        via: Some(permit.identity().via().as_str()),
        upstream: Some(*parties.upstream),
        route: Some(parties.route.clone()),
        target: Some(permit.action().target.clone()),
        org: permit.ruling().org.clone(),
        rule: permit.ruling().rule.clone(),
        shadow: permit.ruling().shadow.clone(),
        ..RefusalFields::default()
    }
}
