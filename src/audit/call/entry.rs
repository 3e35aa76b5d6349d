//! A recorded call that is made: its permit, its progress, and its one outcome.
//!
//! The trail always gets exactly one outcome. An entry that is dropped without an outcome records `abandoned`.

use std::any::Any;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use pin_project_lite::pin_project;
use uuid::Uuid;

use super::fields::{CallNames, OutcomeFields, Peer};
use super::meter::{Meter, Progress};
use crate::audit::journal::Journal;
use crate::audit::journal::settings::Unrecorded;
use crate::audit::trail::event::Outcome;
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

/// A call as it arrived.
pub(super) struct Arrived {
    pub(super) journal: Journal,
    pub(super) peer: Rc<Peer>,
    pub(super) began: Instant,
    pub(super) request_id: Uuid,
}

impl Arrived {
    /// Counts the call at its end. `labels` are the route and the consumer.
    pub(super) fn count(
        &self,
        duration: Duration,
        labels: (&Arc<str>, Option<&Name>),
        method: &str,
        status: u16,
    ) {
        let metrics = &self.journal.metrics;
        metrics.in_flight.dec();
        metrics.request_duration.observe(duration.as_secs_f64());
        metrics.count_request(&self.peer.recent, labels, method, status);
    }
}

/// The state of a call until its outcome is recorded.
struct Call {
    arrived: Arrived,
    permit: Permit,
    /// Whether the outcome was recorded.
    over: bool,
    facts: Vec<u8>,
    route: Arc<str>,
    upstream: Name,
    credential: Name,
    progress: Progress,
    meter: Meter,
    guard: Option<Box<dyn Any>>,
}

impl Entry {
    /// Opens an entry whose intent was appended. The outcome repeats `facts`.
    pub(super) fn open(arrived: Arrived, permit: Permit, parties: &CallNames<'_>, facts: Vec<u8>) -> Self {
        let call = Box::new(Call {
            arrived,
            permit,
            over: false,
            facts,
            route: parties.route.clone(),
            upstream: *parties.upstream,
            credential: *parties.credential,
            progress: Progress::default(),
            meter: Meter::default(),
            guard: None,
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
        self.call.arrived.request_id
    }

    pub(super) fn journal(&self) -> &Journal {
        &self.call.arrived.journal
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

    /// Keeps `guard` until the call ends, for example its permit among the calls in flight.
    pub fn attach_guard(&mut self, guard: impl Any) {
        self.call.guard = Some(Box::new(guard));
    }

    /// Updates the progress of the call.
    pub fn update(&mut self, note: impl FnOnce(&mut Progress)) {
        note(&mut self.call.progress);
    }

    /// Records the outcome of the call. Only the first outcome counts.
    fn end(&mut self, ended: Outcome, code: Option<Code>, reason: Option<&str>) {
        if !std::mem::replace(&mut self.call.over, true) {
            self.call.end(ended, code, reason);
        }
    }

    /// Ends a call whose intent could not be made durable and which is therefore not made.
    pub(super) fn mark_unrecorded(mut self) {
        self.update(|progress| progress.status = Some(Code::Unrecorded.status().as_u16()));
        self.end(Outcome::Refused, Some(Code::Unrecorded), None);
    }

    /// Fails the call and records the outcome. The consumer gets `response`.
    #[must_use]
    pub fn answer_failure<B>(mut self, failure: &Failure, response: Response<Bytes>) -> Response<Audited<B>> {
        let code = failure.code;
        let ended = if matches!(code, Code::BodyIncomplete | Code::BodyTimeout) {
            // The consumer left in the middle of its request, or stalled for so long that it amounts to the same.
            Outcome::Abandoned
        } else if code.status().is_server_error() {
            Outcome::Failed
        } else {
            Outcome::Refused
        };
        self.update(|progress| {
            progress.bytes_out = u64::try_from(response.body().len()).unwrap_or(u64::MAX);
            progress.status = Some(code.status().as_u16());
        });
        self.end(ended, Some(code), Some(&failure.reason));
        response.map(Audited::from_text)
    }

    /// Answers with the upstream's response. The outcome is recorded before the last byte of the body is handed over,
    /// or at once if there is no body.
    #[must_use]
    pub fn answer<B: Body<Data = Bytes, Error = Failure>>(
        mut self,
        response: Response<B>,
    ) -> Response<Audited<B>> {
        let status = response.status();
        self.update(|progress| progress.status = Some(status.as_u16()));
        let bodiless = matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
            || self.permit().action().method == http::Method::HEAD
            || response.body().is_end_stream();
        let left = response.body().size_hint().exact();
        let mut entry = Some(self);
        if (bodiless || left == Some(0))
            && let Some(mut entry) = entry.take()
        {
            entry.end(Outcome::Answered, None, None);
        }
        response.map(|body| Audited { inner: Some(body), text: Full::default(), entry, left })
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
        let duration = self.arrived.began.elapsed();
        let ending = OutcomeFields {
            code,
            reason,
            fingerprint: None,
            progress: &self.progress,
            bytes_in: self.meter.bytes.get(),
            scrubbed: self.meter.scrubbed.get(),
            duration,
            ended,
        };
        let members = ending.after(std::mem::take(&mut self.facts));
        self.arrived.journal.outcome(&members, true);
        let metrics = &self.arrived.journal.metrics;
        if let Some(upstream) = self.progress.upstream {
            metrics.observe_upstream(&self.arrived.peer.recent, &self.upstream, upstream.as_secs_f64());
        }
        if code == Some(Code::UpstreamAuth) {
            let upstream = NameLabel(Some(self.upstream));
            let credential = NameLabel(Some(self.credential));
            metrics.upstream_auth_failures.get_or_create(&UpstreamCredential { upstream, credential }).inc();
        }
        let labels = (&self.route, Some(self.permit.identity().name()));
        let method = self.permit.action().method.as_str();
        self.arrived.count(duration, labels, method, self.progress.status.unwrap_or(0));
        self.guard = None;
    }
}

pin_project! {
    /// The body of a recorded answer. Only [`Entry`] and [`Draft`] make one.
    ///
    /// ```compile_fail,E0451
    /// use claviger::audit::Audited;
    /// fn plain<B>(body: http_body_util::Full<bytes::Bytes>) -> Audited<B> {
    ///     Audited { inner: None, text: body, entry: None, left: None }
    /// }
    /// ```
    /// ```
    /// use claviger::audit::Audited;
    /// fn passed_on<B>(body: Audited<B>) -> Audited<B> {
    ///     body
    /// }
    /// ```
    pub struct Audited<B> {
        #[pin]
        inner: Option<B>,
        text: Full<Bytes>,
        entry: Option<Entry>,
        left: Option<u64>,
    }
}

impl<B> Audited<B> {
    pub(super) fn from_text(text: Bytes) -> Self {
        Self { inner: None, text: Full::new(text), entry: None, left: None }
    }

    /// Builds the answer to a call that could not be recorded. The journal records its outcome separately.
    #[must_use]
    pub fn unrecorded(_: Unrecorded, response: Response<Bytes>) -> Response<Self> {
        response.map(Self::from_text)
    }
}

impl<B: Body<Data = Bytes, Error = Failure>> Body for Audited<B> {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else {
            return Pin::new(this.text).poll_frame(cx).map_err(|never| match never {});
        };
        let polled = inner.poll_frame(cx);
        let Some(entry) = this.entry.as_mut() else { return polled };
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, |data| u64::try_from(data.len()).unwrap_or(u64::MAX));
                entry.update(|progress| progress.bytes_out += size);
                if let Some(left) = this.left {
                    *left = left.saturating_sub(size);
                    if *left == 0 {
                        entry.end(Outcome::Answered, None, None);
                    }
                }
            }
            Poll::Ready(None) => entry.end(Outcome::Answered, None, None),
            Poll::Ready(Some(Err(failure))) => {
                entry.end(Outcome::Failed, Some(failure.code), Some(&failure.reason));
            }
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().map_or_else(|| self.text.is_end_stream(), Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| self.text.size_hint(), Body::size_hint)
    }
}
