//! The gateway: the path of one request. [`Gateway::handle`] holds its whole control flow.

mod admit;
mod body_rules;
pub mod decide;
pub mod error_response;
mod exchange;
pub mod explain;
pub mod failure_limiter;
mod forward;
pub mod freezes;
mod head;
pub mod limits;
pub mod quota;
mod reauthorize;
mod relay;
mod snapshot;
pub mod store_lease;

pub use decide::Refusal;
pub use forward::Forwarder;
pub use head::RawHead;
pub use snapshot::Snapshot;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Instant;

use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use uuid::Uuid;

use crate::audit::{
    Audited, CallNames, Draft, Entry, Journal, Meter, Peer, RefusalFields, RefusalSource, Unrecorded,
};
use crate::code::{Code, Failure, Fault};
use crate::custody::Credential;
use crate::inbound::CallerCredential;
use crate::route::Route;
use crate::target::Target;
use crate::transport::{Dropped, IncomingBody, UpstreamBody};
use crate::upstream::Upstream;
use admit::{Admitted, admit, take_quota};
use decide::Admission;
use error_response::Challenge;
use exchange::Exchange;
use limits::network;

/// The gateway of one worker.
pub struct Gateway {
    /// The journal that appends to the audit trail.
    pub journal: Journal,
    /// The part that forwards recorded calls, with the current configuration.
    pub forwarder: Forwarder,
}

impl Gateway {
    /// Handles one request, from its head to the response.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        received: RawHead,
        arrival: Rc<Peer>,
    ) -> Response<Audited<UpstreamBody>> {
        let snapshot = self.forwarder.snapshot.load_full();
        let (head, body) = request.into_parts();
        let now = self.forwarder.clock.now();
        let (method, target) = (received.method.clone(), Rc::clone(&received.target));
        let draft = Draft::begin(&self.journal, method, &head.headers, target, (now, Rc::clone(&arrival)));
        let (mut body, mut meter) = (IncomingBody::Unread(body), None);
        let decision_head = received.head(&head, !body.is_over());
        let decided = match admit(&snapshot, decision_head, received.fault, &arrival, now) {
            Ok(Admission::Granted(granted)) => Ok(granted),
            Ok(Admission::NeedsBody(pending)) => {
                let parts = (&head.headers, body, Rc::clone(meter.insert(Meter::default())));
                // Boxed, since it is rare and large.
                let (begun, decided) = Box::pin(body_rules::decide(&snapshot, pending, parts, now)).await;
                body = begun;
                decided
            }
            Err(refusal) => Err(refusal),
        };
        let admitted = decided.and_then(|granted| take_quota(&snapshot, granted));
        let Admitted { permit, own_credential, route, slot } = match admitted {
            Ok(admitted) => admitted,
            Err(mut refusal) => {
                let close = received.fault.is_some() || !body.is_over();
                let response = refuse_call(&snapshot, draft, &mut refusal, (&head.headers, &arrival), close);
                if refusal.retry_after.is_some() {
                    // Boxed: otherwise every call's future would reserve room for a timer.
                    Box::pin(tokio::time::sleep(limits::REFUSAL_DELAY)).await;
                }
                return response;
            }
        };
        let action = permit.action();
        let (Some(upstream), Some(credential)) =
            (snapshot.upstream(action.upstream), snapshot.custody.credential(permit.credential()))
        else {
            let refusal = Refusal::new(Code::Internal, RefusalFields::default());
            return refuse(&snapshot, draft, &refusal, &arrival, (Challenge::Token, true));
        };
        let dropped = upstream.request_headers.select_dropped(
            &head.headers,
            action.target.path(),
            own_credential.as_ref(),
        );
        let names = call_names(upstream, credential, route, &dropped);
        let mut entry = match draft.commit(permit, names).await {
            Ok(entry) => entry,
            Err((unrecorded, id)) => return answer_unrecorded(unrecorded, id, !body.is_over()),
        };
        if let Some(slot) = slot {
            entry.attach_guard(slot);
        }
        if let Some(meter) = meter {
            entry.use_meter(meter);
        }
        let mut call = Exchange {
            snapshot: &snapshot,
            upstream,
            destination: upstream.pick(),
            route,
            message: received.head(&head, false).message(),
            dropped: &dropped,
            arrival: &arrival,
            logins: Cell::new(0),
        };
        let forwarded = self.forwarder.forward(&mut call, &mut entry, body).await;
        entry.update(|progress| progress.logins = call.logins.get());
        match forwarded {
            Ok(response) => entry.answer(response),
            Err(failure) => answer_failure(&snapshot, entry, &failure, &head.headers),
        }
    }

    /// Records a fault that occurred before there was a request, so that no response is possible: an abused
    /// connection or stream.
    pub fn refuse_unread(&self, fault: Fault, arrival: &Rc<Peer>) {
        let snapshot = self.forwarder.snapshot.load_full();
        let from = (self.forwarder.clock.now(), Rc::clone(arrival));
        let draft = Draft::begin(&self.journal, None, &HeaderMap::new(), Rc::default(), from);
        let refusal = Refusal::because(fault);
        drop(refuse(&snapshot, draft, &refusal, arrival, (Challenge::Token, true)));
    }
}

/// Returns the names that the trail records for a call.
fn call_names<'s>(
    upstream: &'s Upstream,
    credential: &'s Credential,
    route: &'s Route,
    dropped: &'s Dropped,
) -> CallNames<'s> {
    CallNames {
        upstream: &upstream.name,
        credential: &credential.name,
        credential_version: credential.version,
        route: &route.label,
        dropped: dropped.names(),
    }
}

/// Answers a call that could not be recorded, so that it is not made.
fn answer_unrecorded(
    unrecorded: Unrecorded,
    request_id: Uuid,
    close: bool,
) -> Response<Audited<UpstreamBody>> {
    let problem = (Code::Unrecorded, Challenge::Token);
    Audited::unrecorded(unrecorded, error_response::problem(problem, request_id, None, close))
}

/// Answers a call that failed. Logs failures that only the operator can fix; the consumer does not see the reason.
fn answer_failure(
    snapshot: &Snapshot,
    entry: Entry,
    failure: &Failure,
    headers: &HeaderMap,
) -> Response<Audited<UpstreamBody>> {
    let by_configuration = matches!(
        failure.code,
        Code::UpstreamTls | Code::UpstreamAuth | Code::UpstreamInvalid | Code::UpstreamDns
    );
    let upstream = snapshot.upstream(entry.permit().action().upstream);
    if let Some(upstream) = upstream.filter(|_| by_configuration) {
        upstream.first.endpoint.state.log(failure.code.as_str(), &failure.reason);
    }
    let close = !entry.meter().is_whole.get();
    let problem = (failure.code, Challenge::of(headers));
    let response = error_response::problem(problem, entry.request_id(), None, close);
    entry.answer_failure(failure, response)
}

/// Refuses a call before it is made. Masks a credential that the caller also sent in the method, the target or the user
/// agent, so that the trail does not contain it.
fn refuse_call(
    snapshot: &Snapshot,
    mut draft: Draft,
    refusal: &mut Refusal,
    (headers, arrival): (&HeaderMap, &Peer),
    close: bool,
) -> Response<Audited<UpstreamBody>> {
    if let Some(own_credential) = CallerCredential::from_request(headers, &snapshot.directory) {
        draft.conceal(|text| own_credential.conceal(text));
        let target = refusal.known.target.as_ref().map(|target| target.as_str().as_bytes());
        if let Some(target) = target.and_then(|target| own_credential.conceal(target)) {
            // `*` is allowed unescaped in every part of a target.
            refusal.known.target = Target::canonical(&target).ok();
        }
    }
    refuse(snapshot, draft, refusal, arrival, (Challenge::of(headers), close))
}

/// Records a refusal, and builds its response.
fn refuse(
    snapshot: &Snapshot,
    draft: Draft,
    refusal: &Refusal,
    arrival: &Peer,
    (challenge, close): (Challenge, bool),
) -> Response<Audited<UpstreamBody>> {
    let problem = (refusal.code, challenge);
    let response = error_response::problem(problem, draft.request_id(), refusal.retry_after, close);
    let address = || RefusalSource::Address(network(arrival.peer.ip()));
    let source = refusal.known.consumer.map_or_else(address, RefusalSource::Consumer);
    let (most, now) = (snapshot.limits.refusals_per_minute, Instant::now());
    if refusal.suppressed || !snapshot.failures.is_recorded(&source, most, now) {
        return draft.answer_suppressed(refusal.code, source, response);
    }
    let (response, written) = draft.answer_refusal(refusal.code, &refusal.known, response);
    if most > 0 {
        snapshot.failures.add_written(&source, written, now);
    }
    response
}
