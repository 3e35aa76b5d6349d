//! A recorded call that is made: its permit, its progress, and its one outcome.
//!
//! The trail always gets exactly one outcome. An entry that is dropped without an outcome records `abandoned`.

use std::any::Any;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::draft::CallNames;
use super::fields::{Outcome, OutcomeFields, Peer};
use crate::audit::journal::Journal;
use crate::code::{Code, Failure};
use crate::metrics::{NameLabel, UpstreamCredential};
use crate::name::Name;
use crate::policy::Permit;

/// A call whose intent is recorded. The request to the upstream is made from its permit. An answer can be made only
/// from an entry, and closes it.
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

/// The state of a call until its outcome is recorded.
struct Call {
    permit: Permit,
    /// Whether the outcome was recorded.
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

/// Counters of one call: body bytes from the consumer, whether the body is complete, and credential leaks in the
/// answer. Functions that no longer hold the body itself can read them, too.
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
    /// Returns the number of body bytes read from the consumer so far.
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

    /// Returns the last time at which part of the body was handed to the upstream's connection.
    #[must_use]
    pub fn last_progress(&self) -> Option<tokio::time::Instant> {
        self.0.moved.get()
    }

    /// Records that part of the body was handed to the upstream's connection now.
    pub fn set_moved(&self) {
        self.0.moved.set(Some(tokio::time::Instant::now()));
    }

    /// Returns how often the upstream's answer contained the credential that was sent to it.
    #[must_use]
    pub fn scrubbed(&self) -> u32 {
        self.0.scrubbed.get()
    }

    /// Adds to the number of times that the upstream's answer contained the credential.
    pub fn add_scrubbed(&self, times: u32) {
        self.0.scrubbed.set(self.0.scrubbed.get().saturating_add(times));
    }

    /// Sets the number of body bytes read from the consumer.
    pub fn set_bytes(&self, bytes: u64) {
        self.0.bytes.set(bytes);
    }

    /// Sets whether the whole body was handed over.
    pub fn set_whole(&self, whole: bool) {
        self.0.whole.set(whole);
    }

    /// Sets whether the upstream waits for the consumer's body.
    pub fn set_awaited(&self, awaited: bool) {
        self.0.awaited.set(awaited);
    }
}

/// The progress of a call, for its outcome.
#[derive(Debug, Default, Clone, Copy)]
pub struct Progress {
    /// The status that the consumer sees, once there is an answer.
    pub status: Option<u16>,
    /// The status of the upstream's answer.
    pub upstream_status: Option<u16>,
    /// Body bytes handed to the consumer.
    pub bytes_out: u64,
    /// Time from sending the request to the head of the upstream's answer.
    pub upstream: Option<Duration>,
    /// Number of times that the request was sent.
    pub attempts: u32,
    /// Number of logins begun for this call, including those that other calls waited for, too.
    pub logins: u32,
    /// The reason why a link that may lead past the gateway was left in the answer.
    pub link_kept: Option<&'static str>,
}

impl Entry {
    /// Opens an entry whose intent was appended. The outcome repeats `facts`.
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

    /// Returns the permit that the intent records.
    #[must_use]
    pub fn permit(&self) -> &Permit {
        &self.call.permit
    }

    /// Returns the id of this call on the trail.
    #[must_use]
    pub fn request_id(&self) -> Uuid {
        self.call.request_id
    }

    pub(in crate::audit) fn journal(&self) -> &Journal {
        &self.call.journal
    }

    /// Returns the meter of the consumer's body.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.call.meter.clone()
    }

    /// Continues with the meter of a body that the caller began to read before.
    pub fn use_meter(&mut self, meter: Meter) {
        self.call.meter = meter;
    }

    /// Keeps `what` until the call ends, for example its place among the calls in flight.
    pub fn attach_guard(&mut self, what: impl Any) {
        self.call.kept = Some(Box::new(what));
    }

    /// Updates the progress of the call.
    pub fn update(&mut self, note: impl FnOnce(&mut Progress)) {
        note(&mut self.call.progress);
    }

    /// Records the outcome of the call. Only the first outcome counts.
    pub(in crate::audit) fn end(&mut self, ended: Outcome, code: Option<Code>, reason: Option<&str>) {
        if !std::mem::replace(&mut self.call.over, true) {
            self.call.end(ended, code, reason);
        }
    }

    /// Ends a call whose intent could not be made durable and which is therefore not made.
    pub(in crate::audit) fn mark_unrecorded(mut self) {
        self.update(|progress| progress.status = Some(Code::Unrecorded.status().as_u16()));
        self.end(Outcome::Refused, Some(Code::Unrecorded), None);
    }

    /// Ends a failed call. The consumer gets the code; the outcome has the reason as well.
    pub fn fail(mut self, Failure { code, reason }: &Failure) {
        let code = *code;
        let ended = if matches!(code, Code::BodyIncomplete | Code::BodyTimeout) {
            // The consumer left in the middle of its request, or stalled for so long that it amounts to the same.
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
