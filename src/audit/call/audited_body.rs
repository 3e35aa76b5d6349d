//! The only body that an answer of the gateway can have. It closes its entry exactly once.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::draft::Draft;
use super::entry::Entry;
use super::fields::{Outcome, RefusalFields};
use crate::audit::journal::suppressed::RefusalSource;
use crate::code::{Code, Failure};

pin_project! {
    /// The body of a recorded answer. Only [`Entry`] and [`Draft`] make one.
    ///
    /// ```compile_fail,E0451
    /// use claviger::audit::Audited;
    /// fn plain<B>(body: bytes::Bytes) -> Audited<B> {
    ///     Audited { inner: None, own: Some(body), entry: None, left: None }
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
        own: Option<Bytes>,
        entry: Option<Entry>,
        left: Option<u64>,
    }
}

impl<B> Audited<B> {
    fn from_text(text: Bytes) -> Self {
        Self { inner: None, own: Some(text), entry: None, left: None }
    }
}

impl Draft {
    /// Refuses the call and records the outcome. Returns the answer with `response` as its body, and the number of
    /// bytes that the outcome takes on the trail.
    #[must_use]
    pub fn answer_refusal<B>(
        self,
        code: Code,
        known: &RefusalFields,
        response: Response<Bytes>,
    ) -> (Response<Audited<B>>, usize) {
        let written = self.refuse(code, known);
        (response.map(Audited::from_text), written)
    }

    /// Refuses a call whose source is refused too often. The trail records it only as part of a count.
    #[must_use]
    pub fn answer_suppressed<B>(
        self,
        code: Code,
        source: RefusalSource,
        response: Response<Bytes>,
    ) -> Response<Audited<B>> {
        self.suppress(code, source);
        response.map(Audited::from_text)
    }
}

impl crate::audit::journal::Unrecorded {
    /// Builds the answer to a call that could not be recorded. The journal records its outcome separately.
    #[must_use]
    pub fn answer<B>(self, response: Response<Bytes>) -> Response<Audited<B>> {
        response.map(Audited::from_text)
    }
}

impl Entry {
    /// Fails the call and records the outcome. The consumer gets `response`.
    #[must_use]
    pub fn answer_failure<B>(mut self, failure: &Failure, response: Response<Bytes>) -> Response<Audited<B>> {
        let sent = u64::try_from(response.body().len()).unwrap_or(u64::MAX);
        self.update(|progress| progress.bytes_out = sent);
        self.fail(failure);
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
        response.map(|body| Audited { inner: Some(body), own: None, entry, left })
    }
}

impl<B: Body<Data = Bytes, Error = Failure>> Body for Audited<B> {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let mut this = self.project();
        if let Some(own) = this.own.take() {
            return Poll::Ready(Some(Ok(Frame::data(own))));
        }
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(None) };
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
        match (&self.own, &self.inner) {
            (Some(own), _) => own.is_empty(),
            (None, Some(inner)) => inner.is_end_stream(),
            (None, None) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.own, &self.inner) {
            (Some(own), _) => SizeHint::with_exact(u64::try_from(own.len()).unwrap_or(u64::MAX)),
            (None, Some(inner)) => inner.size_hint(),
            (None, None) => SizeHint::with_exact(0),
        }
    }
}
