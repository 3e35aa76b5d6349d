//! HTTP/1 with a consumer: hyper on a framed socket. Idle connections are parked without hyper.

pub(super) mod bad_head;
pub(super) mod framer;
pub(super) mod lingering_close;
pub(super) mod pipeline;
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1::{self, Builder};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::drain::Drain;
use super::idle::IdleState;
use super::timeouts::Timeouts;
use crate::audit::{Audited, Peer, WriteBarrier};
use crate::code::{Code, Failure, Fault};
use crate::gateway::{Gateway, RawHead};
use crate::transport::UpstreamBody;
use framer::Framer;
use pipeline::Pipeline;

/// How long a connection without a first request is kept once the worker ends.
const FRESH: Duration = Duration::from_secs(1);

/// Serves one connection from its first byte to its last.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    gateway: Rc<Gateway>,
    socket: (S, fn(&S)),
    arrival: Rc<Peer>,
    drain: Rc<Drain>,
) {
    let limits = gateway.forwarder.snapshot.load().limits.clone();
    let idle = Rc::new(IdleState::new(Rc::clone(&arrival)));
    let shared = Rc::new(Pipeline::new(Rc::clone(&idle)));
    let (barrier, timeouts) = (WriteBarrier::new(&gateway.journal), Timeouts::of(&limits));
    let framer = Framer::new(socket, barrier, Rc::clone(&shared), limits.head, timeouts);
    let queue = Rc::clone(&shared);
    let answers = service_fn(move |request: Request<Incoming>| {
        let (gateway, shared, arrival) = (Rc::clone(&gateway), Rc::clone(&queue), Rc::clone(&arrival));
        answer(gateway, request, shared, arrival)
    });
    let mut builder = Builder::new();
    // hyper reserves room for 100 header fields on its stack, and allocates for any other number.
    if limits.head.lines > 100 {
        builder.max_headers(limits.head.lines);
    }
    let state = State::Parked(framer);
    let mut connection = Http1Conn { state, answers, builder, shared, was_active: false, is_ending: false };
    if let Err(error) = drain.run(Pin::new(&mut connection), idle, Http1Conn::graceful_shutdown).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// A connection that is either active in hyper or parked. Thousands of connections are mostly idle, and hyper keeps
/// buffers of 8 KiB or more for each.
struct Http1Conn<S, V: HttpService<Incoming>> {
    state: State<S, V>,
    answers: V,
    builder: Builder,
    shared: Rc<Pipeline>,
    was_active: bool,
    is_ending: bool,
}

#[expect(clippy::large_enum_variant, reason = "the large one is what most are, most of the time")]
enum State<S, V: HttpService<Incoming>> {
    Active(Box<http1::Connection<TokioIo<Framer<S>>, V>>),
    Parked(Framer<S>),
    Closed,
}

impl<S, V> Http1Conn<S, V>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: HttpService<Incoming, Error = Infallible> + Clone,
    V::ResBody: Body<Data = Bytes, Error = Failure> + 'static,
{
    /// The worker ends: closes the connection after its response, or at once if none is pending. A new connection gets
    /// [`FRESH`] time, since its first request may be on the way.
    fn graceful_shutdown(self: Pin<&mut Self>)
    where
        Self: Unpin,
    {
        let this = self.get_mut();
        this.is_ending = true;
        match &mut this.state {
            State::Active(connection) => Pin::new(&mut **connection).graceful_shutdown(),
            State::Parked(framer) => {
                framer.shorten_idle(if this.was_active { Duration::ZERO } else { FRESH });
            }
            State::Closed => {}
        }
    }

    /// Parks the connection: drops hyper's part.
    fn park(&mut self) {
        if let State::Active(connection) = std::mem::replace(&mut self.state, State::Closed) {
            self.shared.idle.end();
            let parts = connection.into_parts();
            let mut framer = parts.io.into_inner();
            // An idle connection has no buffered data.
            if framer.release_buffers() && parts.read_buf.is_empty() {
                self.state = State::Parked(framer);
            }
        }
    }

    /// Activates hyper on a parked connection.
    fn unpark(&mut self) {
        if let State::Parked(framer) = std::mem::replace(&mut self.state, State::Closed) {
            let mut connection =
                Box::new(self.builder.serve_connection(TokioIo::new(framer), self.answers.clone()));
            if self.is_ending {
                Pin::new(&mut *connection).graceful_shutdown();
            }
            (self.state, self.was_active) = (State::Active(connection), true);
        }
    }
}

impl<S, V> Future for Http1Conn<S, V>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: HttpService<Incoming, Error = Infallible> + Clone + Unpin,
    V::ResBody: Body<Data = Bytes, Error = Failure> + 'static,
{
    type Output = hyper::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = self.get_mut();
        loop {
            // Matched in place: moving the state on every poll would cost more than the rest of the function.
            match &mut this.state {
                State::Active(_) if this.shared.idle.take_park_request() => this.park(),
                State::Active(connection) => {
                    let polled = Pin::new(&mut **connection).poll(cx);
                    let must_end = polled.is_pending() && this.shared.idle.is_unwanted();
                    return if must_end { Poll::Ready(Ok(())) } else { polled };
                }
                State::Parked(framer) => {
                    if framer.poll_first_byte(cx).is_pending() {
                        let must_end = this.shared.idle.is_unwanted();
                        return if must_end { Poll::Ready(Ok(())) } else { Poll::Pending };
                    }
                    this.unpark();
                }
                State::Closed => return Poll::Ready(Ok(())),
            }
        }
    }
}

async fn answer(
    gateway: Rc<Gateway>,
    request: Request<Incoming>,
    shared: Rc<Pipeline>,
    arrival: Rc<Peer>,
) -> Result<Response<Tracked>, Infallible> {
    let received = shared.take().unwrap_or_else(|| RawHead {
        method: None,
        target: Rc::default(),
        fault: Some(Fault { code: Code::Malformed, reason: "unframed" }),
    });
    let flight = Flight(shared);
    let lacks_chunks = request.version() < Version::HTTP_11;
    // Boxed, since hyper moves the service's future for every request. Created in place, since it is large.
    let handling = Box::write(Box::new_uninit(), gateway.handle(request, received, arrival));
    let response = Box::into_pin(handling).await;
    Ok(response.map(|body| Tracked { body, flight, lacks_chunks }))
}

/// A request in flight, until its whole response is handed over.
struct Flight(Rc<Pipeline>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.mark_finished();
    }
}

/// A response body that notifies the framer when it ends.
struct Tracked {
    body: Audited<UpstreamBody>,
    flight: Flight,
    /// Whether the consumer's HTTP version lacks chunked coding.
    lacks_chunks: bool,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        if this.lacks_chunks && this.body.size_hint().exact().is_none() {
            this.flight.0.may_truncate.set(true);
        }
        Pin::new(&mut this.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
