//! The gateway: the path of one request. [`Gateway::handle`] holds its whole control flow.

mod admit;
mod body_rules;
pub mod decide;
pub mod error_response;
pub mod explain;
pub mod failure_limiter;
mod forward;
pub mod freezes;
pub mod limits;
mod reauthorize;
pub mod store_lease;

pub use admit::{Admission, Admitted, admit};
pub use decide::Refusal;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response};
use hyper::body::Incoming;

use crate::audit::{Audited, CallNames, Draft, Entry, Journal, Meter, Peer, RefusalFields, RefusalSource};
use crate::clock::Clock;
use crate::code::{Code, Failure, Fault};
use crate::custody::{Custody, Mark};
use crate::fs::trust::TrustedOwner;
use crate::inbound::{Directory, Own, ReplayCache};
use crate::policy::{Permit, Policy};
use crate::route::{Route, Routes};
use crate::scheme::{RefusedLogins, TokenSlot};
use crate::signature::{HmacKey, Message};
use crate::target::Target;
use crate::transport::{Dropped, IncomingBody, Transport, UpstreamBody};
use crate::upstream::Upstream;
use decide::Head;
use error_response::Challenge;
use failure_limiter::FailureLimiter;
use freezes::Freezes;
use limits::{Limits, Quota, network};
use store_lease::StoreLease;

/// The compiled configuration. A request uses one snapshot from beginning to end.
pub struct Snapshot {
    /// The consumers and their credentials.
    pub directory: Directory,
    /// The routes to the upstreams.
    pub routes: Routes,
    /// The roles and grants that permit calls.
    pub policy: Policy,
    /// The upstream credentials.
    pub custody: Custody,
    /// The access tokens that upstreams issued, by credential index; kept across reloads.
    pub passes: HashMap<usize, Arc<TokenSlot>>,
    /// The rejected logins, kept across reloads and restarts.
    pub refused_logins: Arc<RefusedLogins>,
    /// The upstreams; other tables hold indexes into this list.
    pub upstreams: Vec<Upstream>,
    /// The active freezes.
    pub freezes: Freezes,
    /// The lease on all data that came from the store.
    pub store_lease: Arc<StoreLease>,
    /// The configured limits.
    pub limits: Limits,
    /// The quota of each consumer, by the consumer's index.
    pub quotas: Vec<Arc<Quota>>,
    /// The counters of failed attempts and refusals, kept across reloads.
    pub failures: Arc<FailureLimiter>,
    /// The single-use signatures seen so far, kept across reloads.
    pub nonces: Arc<ReplayCache>,
    /// The key of the fingerprints under which the trail records wrong credentials.
    pub fingerprints: HmacKey,
}

impl Snapshot {
    /// Persists rejected logins in the file at `path` from now on, and restores those that it holds. Entries of unknown
    /// credentials, or of former versions of a credential, are discarded.
    ///
    /// # Errors
    /// An I/O error if the file cannot be read, is damaged, or can be read or replaced by others. No entry is restored
    /// then.
    pub fn recall_logins(&self, path: &Path, keeper: TrustedOwner) -> io::Result<()> {
        self.refused_logins.open(path, keeper)?;
        let is_marked = |place: &usize, mark: &Mark| {
            self.custody.credential(*place).is_some_and(|credential| credential.is_marked(mark))
        };
        let recalled = self.passes.iter().filter(|(place, slot)| slot.restore(|mark| is_marked(place, mark)));
        let names: Vec<_> = recalled.map(|(_, slot)| slot.names()).collect();
        self.refused_logins.keep_only(&names);
        Ok(())
    }

    /// Returns the quota of the consumer called `name`.
    #[must_use]
    pub fn quota(&self, name: &str) -> Option<Arc<Quota>> {
        self.quotas.get(self.directory.place(name)?).map(Arc::clone)
    }
}

/// The request head as it was received from the socket. hyper sees only heads that passed the strict framer.
#[derive(Debug)]
pub struct RawHead {
    /// The request method; `None` if the head could not be parsed.
    pub method: Option<Method>,
    /// The request target in bytes; of a head that could not be parsed, its first bytes.
    pub target: Rc<[u8]>,
    /// The framing fault for which the head was rejected.
    pub fault: Option<Fault>,
}

impl RawHead {
    /// Returns the parts of the request that a consumer's signature covers.
    fn message<'a>(&'a self, head: &'a Parts) -> Message<'a> {
        Message { method: head.method.as_str(), target: &self.target, headers: &head.headers }
    }

    /// Returns the head for the decision. `bodied` means that a body follows or may follow.
    fn head<'a>(&'a self, head: &'a Parts, bodied: bool) -> Head<'a> {
        Head { method: &head.method, target: &self.target, headers: &head.headers, bodied }
    }
}

/// The gateway of one worker.
pub struct Gateway {
    /// The current configuration.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// The journal that appends to the audit trail.
    pub journal: Journal,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// The worker's connections to the upstreams.
    pub transport: Rc<Transport>,
    /// The folder for request bodies that do not fit into memory.
    pub spool: PathBuf,
}

impl Gateway {
    /// Handles one request, from its head to the response.
    pub async fn handle(
        &self,
        request: Request<Incoming>,
        received: RawHead,
        arrival: Rc<Peer>,
    ) -> Response<Audited<UpstreamBody>> {
        let snapshot = self.snapshot.load_full();
        let (head, body) = request.into_parts();
        let now = self.clock.now();
        let (method, target) = (received.method.clone(), Rc::clone(&received.target));
        let mut draft =
            Draft::begin(&self.journal, method, &head.headers, target, (now, Rc::clone(&arrival)));
        let (mut inflow, mut meter) = (IncomingBody::Unread(body), None);
        let asked = received.head(&head, !inflow.is_over());
        let decided = match admit(&snapshot, (asked, received.fault), &arrival, now) {
            Ok(Admission::Admitted(admitted)) => Ok(admitted),
            Ok(Admission::NeedsBody(approach)) => {
                let meter = meter.insert(Meter::default()).clone();
                let body = (&head.headers, inflow, meter);
                // Boxed, since it is rare and large.
                let (begun, decided) = Box::pin(body_rules::decide(&snapshot, approach, body, now)).await;
                inflow = begun;
                decided
            }
            Err(refusal) => Err(refusal),
        };
        let Admitted { permit, own, route, place } = match decided {
            Ok(admitted) => admitted,
            Err(mut refusal) => {
                if let Some(own) = Own::presented(&head.headers, &snapshot.directory) {
                    conceal(&own, &mut draft, &mut refusal);
                }
                let close = received.fault.is_some() || !inflow.is_over();
                let challenge = Challenge::of(&head.headers);
                let response = refuse(&snapshot, draft, (&refusal, &arrival, challenge), close);
                if refusal.retry_after.is_some() {
                    // Boxed: otherwise every call's future would reserve room for a timer.
                    Box::pin(tokio::time::sleep(limits::REFUSAL_DELAY)).await;
                }
                return response;
            }
        };
        let dropped = drop_headers(&snapshot, &permit, (&head.headers, own));
        let Some(parties) = parties(&snapshot, &permit, (route, &dropped)) else {
            let refusal = Refusal::new(Code::Internal, RefusalFields::default());
            return refuse(&snapshot, draft, (&refusal, &arrival, Challenge::Token), true);
        };
        let mut entry = match draft.commit(permit, parties).await {
            Ok(entry) => entry,
            Err((unrecorded, request_id)) => {
                let problem = (Code::Unrecorded, Challenge::Token);
                let response = error_response::problem(problem, request_id, None, !inflow.is_over());
                return Audited::unrecorded(unrecorded, response);
            }
        };
        if let Some(place) = place {
            entry.attach_guard(place);
        }
        if let Some(meter) = meter {
            entry.use_meter(meter);
        }
        match self
            .forward(&snapshot, &mut entry, route, ((&head, &received, &dropped), inflow, &arrival))
            .await
        {
            Ok(response) => entry.answer(response),
            Err(failure) => {
                log(&snapshot, &entry, &failure);
                let close = !entry.meter().is_whole.get();
                let problem = (failure.code, Challenge::of(&head.headers));
                let response = error_response::problem(problem, entry.request_id(), None, close);
                entry.answer_failure(&failure, response)
            }
        }
    }
}

impl Gateway {
    /// Records a fault that occurred before there was a request, so that no response is possible: an abused connection
    /// or stream.
    pub fn refuse_unread(&self, fault: Fault, arrival: &Rc<Peer>) {
        let snapshot = self.snapshot.load_full();
        let from = (self.clock.now(), Rc::clone(arrival));
        let draft = Draft::begin(&self.journal, None, &HeaderMap::new(), Rc::default(), from);
        let refusal = Refusal::because(fault);
        drop(refuse(&snapshot, draft, (&refusal, arrival, Challenge::Token), true));
    }
}

/// Logs failures that only the operator can fix; the consumer does not see the reason.
fn log(snapshot: &Snapshot, entry: &Entry, failure: &Failure) {
    let by_configuration = matches!(
        failure.code,
        Code::UpstreamTls | Code::UpstreamAuth | Code::UpstreamInvalid | Code::UpstreamDns
    );
    if let Some(upstream) =
        snapshot.upstreams.get(entry.permit().action().upstream).filter(|_| by_configuration)
    {
        upstream.first.endpoint.standing.log(failure.code.as_str(), &failure.reason);
    }
}

fn refuse(
    snapshot: &Snapshot,
    draft: Draft,
    (refusal, arrival, challenge): (&Refusal, &Peer, Challenge),
    close: bool,
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

/// Masks a credential that the caller also sent in the method, the target or the user agent, so that the trail does not
/// contain it.
fn conceal(own: &Own<'_>, draft: &mut Draft, refusal: &mut Refusal) {
    draft.conceal(|text| own.conceal(text));
    let target = refusal.known.target.as_ref().and_then(|target| own.conceal(target.as_str().as_bytes()));
    if let Some(target) = target {
        // `*` is allowed unescaped in every part of a target.
        refusal.known.target = Target::canonical(&target).ok();
    }
}

/// Selects the consumer's header fields that the upstream does not receive.
fn drop_headers(
    snapshot: &Snapshot,
    permit: &Permit,
    (headers, own): (&HeaderMap, Option<Own<'_>>),
) -> Dropped {
    let Some(upstream) = snapshot.upstreams.get(permit.action().upstream) else { return Dropped::default() };
    upstream.request_headers.dropped(headers, permit.action().target.path(), own.as_ref())
}

fn parties<'s>(
    snapshot: &'s Snapshot,
    permit: &Permit,
    (route, dropped): (&'s Route, &'s Dropped),
) -> Option<CallNames<'s>> {
    let upstream = snapshot.upstreams.get(permit.action().upstream)?;
    let credential = snapshot.custody.credential(permit.credential())?;
    Some(CallNames {
        upstream: &upstream.name,
        credential: &credential.name,
        credential_version: credential.version,
        route: &route.label,
        dropped: dropped.names(),
    })
}
