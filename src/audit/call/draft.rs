//! A call before the decision: the facts known at its arrival, and its refusal.
//!
//! The trail gets exactly one outcome of each call, except of a suppressed refusal, which it only counts. A draft that
//! is dropped without an outcome records `abandoned`.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use uuid::Uuid;

use super::entry::Entry;
use super::fields::{self, CallFields, Outcome, OutcomeFields, Peer, RefusalFields};
use crate::audit::journal::suppressed::RefusalSource;
use crate::audit::journal::{Journal, Unrecorded};
use crate::code::Code;
use crate::metrics::{Metrics, Reason, StaticLabel};
use crate::name::Name;
use crate::policy::Permit;
use crate::target::Target;

/// A call that was received and is not decided yet.
pub struct Draft(Option<Received>);

struct Received {
    journal: Journal,
    arrival: Rc<Peer>,
    began: Instant,
    time: SystemTime,
    request_id: Uuid,
    method: Option<Method>,
    raw_target: Rc<[u8]>,
    user_agent: Option<HeaderValue>,
}

/// The names that the trail records for a permit.
#[derive(Debug)]
pub struct CallNames<'a> {
    /// The name of the upstream.
    pub upstream: &'a Name,
    /// The name of the credential.
    pub credential: &'a Name,
    /// The version of the credential.
    pub credential_version: u32,
    /// The prefix of the route.
    pub route: &'a Arc<str>,
    /// The names of the consumer's headers that are not forwarded to the upstream.
    pub dropped: &'a [HeaderName],
}

impl Journal {
    /// Begins a call with the facts known at its arrival. `raw_target` is the target as received. `method` is absent if
    /// the request head was not readable.
    #[must_use]
    pub fn draft(
        &self,
        method: Option<Method>,
        headers: &HeaderMap,
        raw_target: Rc<[u8]>,
        (time, arrival): (SystemTime, Rc<Peer>),
    ) -> Draft {
        self.metrics().in_flight.inc();
        let received = Received {
            journal: self.clone(),
            arrival,
            began: Instant::now(),
            time,
            request_id: fields::request_id(time),
            method,
            raw_target,
            user_agent: headers.get(USER_AGENT).cloned(),
        };
        Draft(Some(received))
    }
}

impl Draft {
    /// Returns the id of this call on the trail.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.0.as_ref().map(|received| received.request_id).unwrap_or_default()
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

    /// Records the refusal of this call. Returns the number of bytes that it takes on the trail.
    pub fn refuse(mut self, code: Code, known: &RefusalFields) -> usize {
        self.0.take().map_or(0, |received| received.record_refusal(code, known))
    }

    /// Ends the draft of a call that is recorded only as part of a count, because `source` is refused too often.
    pub fn suppress(mut self, code: Code, source: RefusalSource) {
        if let Some(received) = self.0.take() {
            received.journal.suppressed(source, received.time);
            received.count(code.status().as_u16(), &RefusalFields::default());
            count_refusal(received.journal.metrics(), code, None);
        }
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
        let request_id = received.request_id;
        let Ok(durable) = received.journal.intent(received.time, &facts) else {
            let known = known_of(&permit, &parties);
            received.record_refusal(Code::Unrecorded, &known);
            return Err((Unrecorded, request_id));
        };
        // From here on, a caller that is dropped drops the entry, which records its own outcome.
        let Received { journal, arrival, began, .. } = received;
        let entry = Entry::open(permit, &parties, (journal, arrival), (began, request_id), facts);
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
            request_id: self.request_id,
            consumer: Some(identity.name()),
            via: Some(identity.via().as_str()),
            proven: identity.proven(),
            arrival: &self.arrival,
            upstream: Some(parties.upstream),
            method: self.method(),
            target: permit.action().target.as_str(),
            received: self.raw_target.len(),
            org: permit.org().map(|org| &**org),
            credential: Some((parties.credential, parties.credential_version)),
            rule: Some(permit.rule()),
            shadow: permit.shadow().map(|shadow| &**shadow),
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
        let raw = without_userinfo(fields::escape(&self.raw_target));
        let facts = CallFields {
            request_id: self.request_id,
            consumer: known.consumer.as_ref(),
            via: known.via,
            proven: None,
            arrival: &self.arrival,
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
        let ending = OutcomeFields::early(ended, code, self.began.elapsed(), known);
        let members = ending.after(facts.members());
        self.journal.outcome(&members, false);
        self.count(ending.status.unwrap_or(0), known);
        if let Some(code) = code {
            count_refusal(self.journal.metrics(), code, known.reason);
        }
        members.len() + fields::CHAINED
    }

    fn count(&self, status: u16, known: &RefusalFields) {
        let metrics = self.journal.metrics();
        metrics.in_flight.dec();
        metrics.request_duration.observe(self.began.elapsed().as_secs_f64());
        let route = known.route.clone().unwrap_or_else(|| "-".into());
        let labels = (&route, known.consumer.as_ref());
        metrics.count_request(&self.arrival.recent, labels, self.method(), status);
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
    metrics.denied.get_or_create(&Reason { reason: StaticLabel(code.as_str()) }).inc();
    if matches!(
        code,
        Code::Unauthenticated | Code::Replayed | Code::DuplicateCredential | Code::TooManyFailures
    ) {
        let reason = StaticLabel(reason.unwrap_or(code.as_str()));
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
        org: permit.org().map(ToString::to_string),
        rule: Some(permit.rule().clone()),
        shadow: permit.shadow().cloned(),
        ..RefusalFields::default()
    }
}
