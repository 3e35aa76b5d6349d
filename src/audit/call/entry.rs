//! A call that is recorded and made: what may be sent for it, and its one outcome.
//!
//! Whatever happens, the trail gets exactly one outcome: where nothing else is said, dropping an
//! entry says `abandoned`.

use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::draft::CallNames;
use super::fields::{Outcome, OutcomeFields, Peer};
use crate::audit::journal::Journal;
use crate::code::Code;
use crate::metrics::{NameLabel, UpstreamCredential};
use crate::name::Name;
use crate::policy::Permit;

/// A call whose intent is recorded. What is sent upstream is taken from its permit; an answer can
/// be made only from it, and closes it.
///
/// ```compile_fail,E0451
/// use claviger::audit::Entry;
/// fn forge(permit: claviger::policy::Permit) -> Entry {
///     Entry { call: unreachable!("{permit:?}") }
/// }
/// ```
/// ```
/// use claviger::audit::Entry;
/// fn read(entry: &Entry) -> &claviger::policy::Permit {
///     entry.permit()
/// }
/// ```
pub struct Entry {
    call: Box<Call>,
}

/// A call, and what is left to say of it.
struct Call {
    permit: Permit,
    /// Its outcome was said.
    over: bool,
    journal: Journal,
    arrival: Rc<Peer>,
    began: Instant,
    request_id: Uuid,
    facts: Vec<u8>,
    route: Arc<str>,
    upstream: Name,
    credential: Name,
    progress: Progress,
    meter: Meter,
    kept: Option<Box<dyn Any>>,
}

/// How much of a consumer's body has come, and whether all of it, and how often the answer showed the credential; seen
/// also by those who no longer hold the body itself.
#[derive(Debug, Clone, Default)]
pub struct Meter(Rc<Metered>);

#[derive(Debug, Default)]
struct Metered {
    bytes: Cell<u64>,
    whole: Cell<bool>,
    awaited: Cell<bool>,
    moved: Cell<Option<tokio::time::Instant>>,
    scrubbed: Cell<u32>,
}

impl Meter {
    /// Body bytes taken from the consumer so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.get()
    }

    /// Whether the whole body was handed to the upstream's connection.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.0.whole.get()
    }

    /// Whether the upstream would take more of the body than the consumer has sent.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.0.awaited.get()
    }

    /// When some of the body was handed to the upstream's connection last.
    #[must_use]
    pub fn last_progress(&self) -> Option<tokio::time::Instant> {
        self.0.moved.get()
    }

    /// Notes that some of the body was handed to the upstream's connection now.
    pub fn set_moved(&self) {
        self.0.moved.set(Some(tokio::time::Instant::now()));
    }

    /// How often the upstream has shown the credential that it was sent.
    #[must_use]
    pub fn scrubbed(&self) -> u32 {
        self.0.scrubbed.get()
    }

    /// Adds to how often the upstream has shown the credential.
    pub fn add_scrubbed(&self, times: u32) {
        self.0.scrubbed.set(self.0.scrubbed.get().saturating_add(times));
    }

    /// Sets the bytes taken.
    pub fn set_bytes(&self, bytes: u64) {
        self.0.bytes.set(bytes);
    }

    /// Sets whether all was handed over.
    pub fn set_whole(&self, whole: bool) {
        self.0.whole.set(whole);
    }

    /// Sets whether it is the consumer that is waited for.
    pub fn set_awaited(&self, awaited: bool) {
        self.0.awaited.set(awaited);
    }
}

/// How far a call came.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    /// The status that the consumer sees, once there is an answer.
    pub status: Option<u16>,
    /// The status of the upstream's answer.
    pub upstream_status: Option<u16>,
    /// Body bytes handed to the consumer.
    pub bytes_out: u64,
    /// From sending to the upstream's answer head.
    pub upstream: Option<Duration>,
    /// How often the request was sent.
    pub attempts: u32,
    /// How many logins were begun for it, whoever else waited for them.
    pub logins: u32,
    /// Why a link was handed on that may lead past the gateway.
    pub link_kept: Option<&'static str>,
}

impl Entry {
    /// Opens an entry whose intent was appended, with the facts that its outcome repeats.
    pub(in crate::audit) fn open(
        permit: Permit,
        parties: &CallNames<'_>,
        (journal, arrival): (Journal, Rc<Peer>),
        (began, request_id): (Instant, Uuid),
        facts: Vec<u8>,
    ) -> Self {
        let call = Box::new(Call {
            permit,
            over: false,
            journal,
            arrival,
            began,
            request_id,
            facts,
            route: parties.route.clone(),
            upstream: *parties.upstream,
            credential: *parties.credential,
            progress: Progress::default(),
            meter: Meter::default(),
            kept: None,
        });
        Self { call }
    }

    /// The permit that the intent records.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.call.permit
    }

    /// The id under which the trail knows this call.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.call.request_id
    }

    pub(in crate::audit) fn journal(&self) -> &Journal {
        &self.call.journal
    }

    /// The meter of the consumer's body.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.call.meter.clone()
    }

    /// Goes on with the meter of a body that was begun before.
    pub fn use_meter(&mut self, meter: Meter) {
        self.call.meter = meter;
    }

    /// Keeps `what` until the call has ended: its place among those in flight.
    pub fn attach_guard(&mut self, what: impl Any) {
        self.call.kept = Some(Box::new(what));
    }

    /// Notes how far the call came.
    pub fn update(&mut self, note: impl FnOnce(&mut Progress)) {
        note(&mut self.call.progress);
    }

    /// Says how the call ended. The first word counts.
    pub(in crate::audit) fn end(&mut self, ended: Outcome, code: Option<Code>, reason: Option<&str>) {
        if !std::mem::replace(&mut self.call.over, true) {
            self.call.end(ended, code, reason);
        }
    }

    /// The intent could not be made durable: the call is not made.
    pub(in crate::audit) fn mark_unrecorded(mut self) {
        self.update(|progress| progress.status = Some(Code::Unrecorded.status().as_u16()));
        self.end(Outcome::Refused, Some(Code::Unrecorded), None);
    }

    /// The call failed and `code` is what the consumer is told.
    pub fn fail(mut self, code: Code, reason: &str) {
        let ended = if matches!(code, Code::BodyIncomplete | Code::BodyTimeout) {
            // The consumer left in the middle of its request, or might as well have.
            Outcome::Abandoned
        } else if code.status().is_server_error() {
            Outcome::Failed
        } else {
            Outcome::Refused
        };
        self.update(|progress| progress.status = Some(code.status().as_u16()));
        self.end(ended, Some(code), Some(reason));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.end(Outcome::Failed, Some(Code::Internal), Some("panic"));
        } else {
            self.end(Outcome::Abandoned, None, None);
        }
    }
}

impl Call {
    fn end(&mut self, ended: Outcome, code: Option<Code>, reason: Option<&str>) {
        let duration = self.began.elapsed();
        let ending = OutcomeFields {
            code,
            reason,
            fingerprint: None,
            status: self.progress.status,
            upstream_status: self.progress.upstream_status,
            bytes_in: self.meter.bytes(),
            bytes_out: self.progress.bytes_out,
            duration,
            upstream: self.progress.upstream,
            attempts: self.progress.attempts,
            logins: self.progress.logins,
            scrubbed: self.meter.scrubbed(),
            link_kept: self.progress.link_kept,
            ended,
        };
        let status = ending.status.unwrap_or(0);
        let members = ending.after(std::mem::take(&mut self.facts));
        self.journal.outcome(&members, true);
        self.count(status, code, duration);
        self.kept = None;
    }

    fn count(&self, status: u16, code: Option<Code>, duration: Duration) {
        let metrics = self.journal.metrics();
        metrics.in_flight.dec();
        metrics.request_duration.observe(duration.as_secs_f64());
        let recent = &self.arrival.recent;
        if let Some(took) = self.progress.upstream {
            metrics.observe_upstream(recent, &self.upstream, took.as_secs_f64());
        }
        if code == Some(Code::UpstreamAuth) {
            let upstream = NameLabel(Some(self.upstream));
            let credential = NameLabel(Some(self.credential));
            metrics.upstream_auth_failures.get_or_create(&UpstreamCredential { upstream, credential }).inc();
        }
        let consumer = Some(self.permit.identity().name());
        let method = self.permit.action().method.as_str();
        metrics.count_request(recent, (&self.route, consumer), method, status);
    }
}
