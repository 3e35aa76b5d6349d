//! A call that is judged: the facts known whatever happens, and its refusal.
//!
//! Whatever happens, the trail gets exactly one outcome: where nothing else is said, dropping a
//! draft says `abandoned`.

use std::borrow::Cow;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::header::USER_AGENT;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use uuid::Uuid;

use super::entry::Entry;
use super::event::{self, Arrival, Ended, Ending, Facts, Known};
use super::flood::Source;
use super::journal::{Journal, Unrecorded};
use crate::code::Code;
use crate::metrics::{Metrics, Reason, Word};
use crate::name::Name;
use crate::policy::Permit;
use crate::target::Target;

/// A call that was received and is not judged yet.
pub struct Draft(Option<Received>);

struct Received {
    journal: Journal,
    arrival: Rc<Arrival>,
    began: Instant,
    time: SystemTime,
    request_id: Uuid,
    method: Option<Method>,
    raw_target: Rc<[u8]>,
    user_agent: Option<HeaderValue>,
}

/// What the trail calls the parties of a permit.
#[derive(Debug)]
pub struct Parties<'a> {
    /// The upstream's name.
    pub upstream: &'a Name,
    /// The credential's name.
    pub credential: &'a Name,
    /// The credential's version.
    pub credential_version: u32,
    /// The route's prefix.
    pub route: &'a Arc<str>,
    /// The consumer's header lines that do not reach the upstream.
    pub dropped: &'a [HeaderName],
}

impl Journal {
    /// Begins a call: the facts that are known whatever happens. `raw_target` is as received;
    /// `method` is absent where the head was not readable.
    #[must_use]
    pub fn draft(
        &self,
        method: Option<Method>,
        headers: &HeaderMap,
        raw_target: Rc<[u8]>,
        (time, arrival): (SystemTime, Rc<Arrival>),
    ) -> Draft {
        self.metrics().in_flight.inc();
        let received = Received {
            journal: self.clone(),
            arrival,
            began: Instant::now(),
            time,
            request_id: event::request_id(time),
            method,
            raw_target,
            user_agent: headers.get(USER_AGENT).cloned(),
        };
        Draft(Some(received))
    }
}

impl Draft {
    /// The id under which the trail knows this call.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.0.as_ref().map(|received| received.request_id).unwrap_or_default()
    }

    /// Keeps off the trail what must not be on it: `concealed` gives a text without it, where it is there.
    pub fn conceal(&mut self, concealed: impl Fn(&[u8]) -> Option<Vec<u8>>) {
        let Some(received) = &mut self.0 else { return };
        if let Some(target) = concealed(&received.raw_target) {
            received.raw_target = target.into();
        }
        let method = received.method.as_ref().and_then(|method| concealed(method.as_str().as_bytes()));
        if let Some(method) = method {
            // `*` may stand in a method.
            received.method = Method::from_bytes(&method).ok();
        }
        let agent = received.user_agent.as_ref().and_then(|agent| concealed(agent.as_bytes()));
        if let Some(agent) = agent {
            received.user_agent = HeaderValue::from_bytes(&agent).ok();
        }
    }

    /// Records the refusal of this call; how many bytes of the trail that takes.
    pub fn refuse(mut self, code: Code, known: &Known) -> usize {
        self.0.take().map_or(0, |received| received.refused(code, known))
    }

    /// Ends the draft of a call that is not recorded by itself: one of a flood that the trail is told
    /// in sum.
    pub fn suppress(mut self, code: Code, source: Source) {
        if let Some(received) = self.0.take() {
            received.journal.suppressed(source, received.time);
            received.count(code.status().as_u16(), &Known::default());
            count_refusal(received.journal.metrics(), code, None);
        }
    }

    /// Records the intent, and comes back when it is as durable as configured.
    ///
    /// # Errors
    /// [`Unrecorded`]: the call must not be made. Its outcome says so.
    pub async fn commit(mut self, permit: Permit, parties: Parties<'_>) -> Result<Entry, (Unrecorded, Uuid)> {
        let Some(received) = self.0.take() else { return Err((Unrecorded, Uuid::nil())) };
        let facts = received.permitted(&permit, &parties);
        let request_id = received.request_id;
        let Ok(durable) = received.journal.intent(received.time, &facts) else {
            let known = known_of(&permit, &parties);
            received.refused(Code::Unrecorded, &known);
            return Err((Unrecorded, request_id));
        };
        // From here on, a caller that goes away drops an entry, which closes itself.
        let Received { journal, arrival, began, .. } = received;
        let entry = Entry::open(permit, &parties, (journal, arrival), (began, request_id), facts);
        match durable {
            None => return Ok(entry),
            // Boxed: without it every call's future would have room for a timer.
            Some(durable) => {
                if Box::pin(entry.journal().lasts(durable)).await {
                    return Ok(entry);
                }
            }
        }
        entry.unrecorded();
        Err((Unrecorded, request_id))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Some(received) = self.0.take() {
            received.ended(Ended::Abandoned, None, &Known::default());
        }
    }
}

impl Received {
    fn method(&self) -> &str {
        self.method.as_ref().map_or("", Method::as_str)
    }

    fn permitted(&self, permit: &Permit, parties: &Parties<'_>) -> Vec<u8> {
        let identity = permit.identity();
        let facts = Facts {
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
            // What is dropped may hold the consumer's credential.
            user_agent: self.user_agent.as_ref().filter(|_| !parties.dropped.contains(&USER_AGENT)),
            dropped: parties.dropped,
        };
        facts.members()
    }

    fn refused(self, code: Code, known: &Known) -> usize {
        self.ended(Ended::Refused, Some(code), known)
    }

    /// Writes the outcome of a call that has no intent; how many bytes that takes.
    fn ended(self, ended: Ended, code: Option<Code>, known: &Known) -> usize {
        let raw = without_userinfo(event::escaped(&self.raw_target));
        let facts = Facts {
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
        let ending = Ending::early(ended, code, self.began.elapsed(), known);
        let members = ending.after(facts.members());
        self.journal.outcome(&members, false);
        self.count(ending.status.unwrap_or(0), known);
        if let Some(code) = code {
            count_refusal(self.journal.metrics(), code, known.reason);
        }
        members.len() + event::CHAINED
    }

    fn count(&self, status: u16, known: &Known) {
        let metrics = self.journal.metrics();
        metrics.in_flight.dec();
        metrics.request_duration.observe(self.began.elapsed().as_secs_f64());
        let route = known.route.clone().unwrap_or_else(|| "-".into());
        let labels = (&route, known.consumer.as_ref());
        metrics.count_request(&self.arrival.recent, labels, self.method(), status);
    }
}

/// A target that names a host may have a password before it.
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
    metrics.denied.get_or_create(&Reason { reason: Word(code.as_str()) }).inc();
    if matches!(
        code,
        Code::Unauthenticated | Code::Replayed | Code::DuplicateCredential | Code::TooManyFailures
    ) {
        let reason = Word(reason.unwrap_or(code.as_str()));
        metrics.inbound_auth_failures.get_or_create(&Reason { reason }).inc();
    }
}

fn known_of(permit: &Permit, parties: &Parties<'_>) -> Known {
    Known {
        consumer: Some(*permit.identity().name()),
        via: Some(permit.identity().via().as_str()),
        upstream: Some(*parties.upstream),
        route: Some(parties.route.clone()),
        target: Some(permit.action().target.clone()),
        org: permit.org().map(ToString::to_string),
        rule: Some(permit.rule().clone()),
        shadow: permit.shadow().cloned(),
        ..Known::default()
    }
}
