//! A consumer's body with limits on its size and pace.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::audit::Meter;
use crate::code::{Code, Failure};

/// The minimum number of bytes that a body must deliver within the time-out.
const LEAST_PROGRESS: u64 = 1024;

/// The limits of a consumer's body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// The maximum length, in bytes.
    pub most: u64,
    /// The interval in which at least 1 KiB must arrive.
    pub patience: Duration,
    /// The maximum duration of the whole body.
    pub total: Duration,
}

/// A consumer's body with limits on its size and pace.
pub(super) struct PacedBody {
    /// The part that was read ahead and already counted.
    pub(super) front: Bytes,
    incoming: Incoming,
    limits: BodyLimits,
    meter: Meter,
    window: u64,
    patience: Option<ProgressTimer>,
}

/// The timer for a body that makes no progress. It starts with the first wait, which most bodies never cause.
struct ProgressTimer {
    sleep: Pin<Box<Sleep>>,
    end: Instant,
}

impl PacedBody {
    pub(super) fn new(incoming: Incoming, limits: BodyLimits, meter: Meter) -> Self {
        Self { front: Bytes::new(), incoming, limits, meter, window: 0, patience: None }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        if !self.front.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.front))));
        }
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                return self.poll_patience(cx);
            };
            let data = match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(body_fault(&error)))),
                // Trailers are dropped here; they are never forwarded.
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    data
                }
            };
            let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.window += size;
            let bytes = self.meter.bytes.get() + size;
            self.meter.bytes.set(bytes);
            if bytes > self.limits.most {
                let reason = format!("more than {} bytes", self.limits.most);
                return Poll::Ready(Some(Err(Failure { code: Code::BodyTooLarge, reason })));
            }
            return Poll::Ready(Some(Ok(data)));
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let BodyLimits { most: _, patience, total } = self.limits;
        let ProgressTimer { sleep, end } = self.patience.get_or_insert_with(|| {
            let now = Instant::now();
            ProgressTimer {
                sleep: Box::pin(tokio::time::sleep_until(now + patience.min(total))),
                end: now + total,
            }
        });
        while sleep.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let too_slow = if now >= *end {
                Some((self.meter.bytes.get(), total))
            } else {
                (self.window < LEAST_PROGRESS).then_some((self.window, patience))
            };
            if let Some((bytes, time)) = too_slow {
                let reason = format!("{bytes} bytes in {time:?}");
                return Poll::Ready(Some(Err(Failure { code: Code::BodyTimeout, reason })));
            }
            self.window = 0;
            sleep.as_mut().reset((now + patience).min(*end));
        }
        Poll::Pending
    }
}

/// Maps a read error to the reason why a consumer's body is incomplete: invalid framing, or a broken connection.
fn body_fault(error: &hyper::Error) -> Failure {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(found) = cause {
        if found.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            return Failure::new(Code::Malformed, root(error));
        }
        cause = found.source();
    }
    Failure::new(Code::BodyIncomplete, format!("the consumer's body broke off: {}", root(error)))
}

/// Returns the message of an error's innermost cause.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
