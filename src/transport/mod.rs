//! The only way out of the gateway: pooled connections to upstreams, one pool per worker, and the exchange over them.

mod address_filter;
mod connect;
mod cookies;
mod descriptions;
mod endpoint_state;
mod excerpt;
mod fetch;
mod health_check;
mod incoming_body;
pub mod link_rewrite;
mod outbound;
mod paced_body;
mod pool;
mod request_body;
pub mod request_headers;
mod response_body;
mod response_guard;
pub mod scrub;

pub use address_filter::{is_allowed, parse_network};
pub use connect::Endpoint;
pub use descriptions::remove_descriptions;
pub use endpoint_state::{EndpointState, InFlight};
pub use excerpt::excerpt;
pub use fetch::{Fetched, fetch};
pub use health_check::{Health, check};
pub use incoming_body::IncomingBody;
pub use outbound::{Destination, Outbound, OutboundSettings, Signed, outgoing_headers};
pub use paced_body::BodyLimits;
pub use request_body::RequestBody;
pub use request_headers::{Dropped, RequestHeaders};
pub use response_body::UpstreamBody;

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use http::{Method, Response, Version};
use hyper::ext::ReasonPhrase;

use crate::audit::Meter;
use crate::code::{Code, Failure};
use crate::io::timer::LazyTimer;
use pool::Pool;

/// The connections of one worker, not shared between threads. It sends only signed requests.
///
/// ```compile_fail,E0308
/// use claviger::transport::{Endpoint, Outbound, Transport};
/// async fn bare(transport: &Transport, to: &Endpoint, outbound: Outbound<'_>, meter: &claviger::audit::Meter) {
///     let _answer = transport.send(to, outbound, meter, std::time::Instant::now()).await;
/// }
/// ```
/// ```
/// use claviger::transport::{Endpoint, Signed, Transport};
/// async fn signed(transport: &Transport, to: &Endpoint, signed: Signed<'_>, meter: &claviger::audit::Meter) {
///     let _answer = transport.send(to, signed, meter, std::time::Instant::now()).await;
/// }
/// ```
#[derive(Default)]
pub struct Transport {
    pool: Rc<Pool>,
}

/// The error of a request without a response.
pub struct SendError {
    /// The code and the reason.
    pub failure: Failure,
    /// Whether any part of the request may have been sent.
    pub sent: bool,
    /// Whether a reused connection died before any byte of a response. If the request is safe to repeat, the caller may
    /// retry it once.
    pub stale: bool,
    /// The body of a request of which nothing was sent, because no connection could be made.
    pub unsent: Option<Box<RequestBody>>,
}

impl SendError {
    /// Creates the error for a request that was aborted after a part of it may have been sent.
    #[must_use]
    pub fn aborted(failure: Failure) -> Self {
        Self { failure, sent: true, stale: false, unsent: None }
    }
}

impl Transport {
    /// Sends a request that began at `now`, and waits for the response head within `endpoint.timeout`. A request that
    /// could not be written to a reused connection is written to another one.
    ///
    /// # Errors
    /// [`SendError`] if no connection can be made, no response arrives in time, or the connection breaks.
    pub async fn send(
        &self,
        endpoint: &Endpoint,
        signed: Signed<'_>,
        meter: &Meter,
        now: Instant,
    ) -> Result<Response<UpstreamBody>, SendError> {
        let mut request = signed.into_request();
        let until = tokio::time::Instant::from_std(now) + endpoint.timeout;
        let load = endpoint.is_one_of_several.then(|| endpoint.state.load());
        loop {
            let (mut connection, reused) = match self.pool.reuse(endpoint, now).await {
                Some(connection) => (connection, true),
                None => {
                    match endpoint.connect(until.saturating_duration_since(tokio::time::Instant::now())).await
                    {
                        Ok(connection) => (connection, false),
                        Err(failure) => {
                            endpoint.state.record_failure(&failure.reason);
                            let unsent = Some(Box::new(request.into_body()));
                            return Err(SendError { failure, sent: false, stale: false, unsent });
                        }
                    }
                }
            };
            connection.watch.begin_request(request.method() == Method::HEAD);
            let mut deadline = std::mem::take(&mut connection.deadline);
            let sending = pin!(connection.sender.try_send_request(request));
            let answered = with_deadline(sending, &mut deadline, until, meter, endpoint.timeout).await;
            connection.deadline = deadline;
            let mut error = match answered {
                None => {
                    let reason = format!("no answer within {:?}", endpoint.timeout);
                    endpoint.state.record_failure(&reason);
                    return Err(SendError::aborted(Failure::new(Code::UpstreamTimeout, reason)));
                }
                Some(Ok(response)) => {
                    endpoint.state.record_success(endpoint.is_checked);
                    // hyper would send the next request as HTTP/1.0 too, although it may be signed as HTTP/1.1.
                    if response.version() < Version::HTTP_11 {
                        connection.watch.is_retired.set(true);
                    }
                    let owner = (connection, Rc::clone(&self.pool));
                    let answer = |body| UpstreamBody::new(body, owner, (endpoint, load), Rc::clone(meter));
                    return Ok(with_own_status_line(response).map(answer));
                }
                Some(Err(error)) => error,
            };
            match error.take_message() {
                Some(unsent) if reused => request = unsent,
                _ => {
                    let failure = connection.failure(error.error());
                    let by_tls = failure.code == Code::UpstreamTls;
                    if by_tls {
                        endpoint.state.record_failure(&failure.reason);
                    }
                    let stale = reused && !by_tls && !connection.watch.has_begun.get();
                    return Err(SendError { stale, ..SendError::aborted(failure) });
                }
            }
        }
    }

    /// Closes connections that exceeded their idle time. The worker calls this about once a second.
    pub fn sweep(&self) {
        self.pool.sweep();
    }

    /// Closes every idle connection.
    pub fn clear(&self) {
        self.pool.clear();
    }
}

/// Removes the version and the reason phrase of the upstream's status line from a response. The version belongs to the
/// hop to the upstream (RFC 9110 §2.5): an HTTP/1.0 body ends with its connection, so a truncated one would look
/// complete. The reason phrase may contain anything, and no client needs it.
fn with_own_status_line<B>(mut response: Response<B>) -> Response<B> {
    *response.version_mut() = Version::HTTP_11;
    response.extensions_mut().remove::<ReasonPhrase>();
    response
}

/// Waits for `answered` until the deadline. The deadline moves while the body makes progress. It also moves while the
/// gateway waits for the consumer's body, which has a time-out of its own.
fn with_deadline<T>(
    mut answered: Pin<&mut impl Future<Output = T>>,
    deadline: &mut LazyTimer,
    mut until: tokio::time::Instant,
    meter: &Meter,
    timeout: Duration,
) -> impl Future<Output = Option<T>> {
    std::future::poll_fn(move |cx| {
        loop {
            if let Poll::Ready(answer) = answered.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            ready!(deadline.poll(cx, until));
            let Some(later) =
                extend_deadline(until, timeout, (meter.is_awaited.get(), meter.last_progress.get()))
            else {
                return Poll::Ready(None);
            };
            until = later;
        }
    })
}

/// Computes the next deadline after `until` has passed without a response: one time-out after the body last `moved`.
fn extend_deadline(
    until: tokio::time::Instant,
    timeout: Duration,
    (awaited, moved): (bool, Option<tokio::time::Instant>),
) -> Option<tokio::time::Instant> {
    if awaited {
        return Some(until + timeout);
    }
    moved.map(|moved| moved + timeout).filter(|later| *later > until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_waited_for_one_time_out_after_the_body_moved() {
        let (began, timeout) = (tokio::time::Instant::now(), Duration::from_mins(1));
        let after = |seconds| began + Duration::from_secs(seconds);
        // No body, or a body that was complete when the wait began.
        assert_eq!(extend_deadline(after(60), timeout, (false, None)), None);
        assert_eq!(extend_deadline(after(60), timeout, (false, Some(began))), None);
        // The last byte was sent after one second: the wait ends after 61 seconds, not after 120.
        assert_eq!(extend_deadline(after(60), timeout, (false, Some(after(1)))), Some(after(61)));
        assert_eq!(extend_deadline(after(61), timeout, (false, Some(after(1)))), None);
        // The consumer causes the delay.
        assert_eq!(extend_deadline(after(60), timeout, (true, Some(after(1)))), Some(after(120)));
        assert_eq!(extend_deadline(after(60), timeout, (true, None)), Some(after(120)));
    }
}
