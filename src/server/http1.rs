//! HTTP/1 with a consumer: hyper on a framed socket, put away while nothing is said.

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
use super::quiet::Quiet;
use super::shared::Shared;
use super::wire::{Pace, Wire};
use crate::audit::{Arrival, Audited, Broken};
use crate::code::Code;
use crate::framing::Fault;
use crate::gateway::{Gateway, Received};
use crate::transport::Answer;

/// How long a connection that has said nothing yet may take to do so once the worker ends.
const FRESH: Duration = Duration::from_secs(1);

/// One connection, from its first byte to its last.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    gateway: Rc<Gateway>,
    socket: (S, fn(&S)),
    arrival: Rc<Arrival>,
    drain: Rc<Drain>,
) {
    let limits = gateway.snapshot.load().limits.clone();
    let pace = Pace { head: limits.header_timeout, idle: limits.idle_timeout, write: limits.body_timeout };
    let quiet = Rc::new(Quiet::new(Rc::clone(&arrival)));
    let shared = Rc::new(Shared::new(Rc::clone(&quiet)));
    let wire = Wire::new(socket, (gateway.journal.gate(), Rc::clone(&shared)), limits.head, pace);
    let queue = Rc::clone(&shared);
    let answers = service_fn(move |request: Request<Incoming>| {
        let (gateway, shared, arrival) = (Rc::clone(&gateway), Rc::clone(&queue), Rc::clone(&arrival));
        answer(gateway, request, shared, arrival)
    });
    let mut builder = Builder::new();
    // hyper keeps room for 100 lines on its stack, and allocates for any other number.
    if limits.head.lines > 100 {
        builder.max_headers(limits.head.lines);
    }
    let state = State::Silent(wire);
    let mut talk = Talk { state, answers, builder, shared, spoke: false, ending: false };
    if let Err(error) = drain.run(Pin::new(&mut talk), quiet, Talk::wind_up).await {
        tracing::debug!(%error, "connection ended");
    }
}

/// A connection: spoken with by hyper, or silent. Thousands are mostly silent, and hyper keeps buffers
/// of 8 KiB and more for each.
struct Talk<S, V: HttpService<Incoming>> {
    state: State<S, V>,
    answers: V,
    builder: Builder,
    shared: Rc<Shared>,
    spoke: bool,
    ending: bool,
}

#[expect(clippy::large_enum_variant, reason = "the large one is what most are, most of the time")]
enum State<S, V: HttpService<Incoming>> {
    Spoken(Box<http1::Connection<TokioIo<Wire<S>>, V>>),
    Silent(Wire<S>),
    Over,
}

impl<S, V> Talk<S, V>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: HttpService<Incoming, Error = Infallible> + Clone,
    V::ResBody: Body<Data = Bytes, Error = Broken> + 'static,
{
    /// The worker ends: after the answer, or at once where none is due. Who has only just come may have
    /// its request on the way.
    fn wind_up(self: Pin<&mut Self>)
    where
        Self: Unpin,
    {
        let this = self.get_mut();
        this.ending = true;
        match &mut this.state {
            State::Spoken(connection) => Pin::new(&mut **connection).graceful_shutdown(),
            State::Silent(wire) => wire.hurry(if this.spoke { Duration::ZERO } else { FRESH }),
            State::Over => {}
        }
    }

    /// Puts hyper's part away.
    fn rest(&mut self) {
        if let State::Spoken(connection) = std::mem::replace(&mut self.state, State::Over) {
            self.shared.quiet.end();
            let parts = connection.into_parts();
            let mut wire = parts.io.into_inner();
            // Whoever is silent has left nothing behind.
            if wire.shrink() && parts.read_buf.is_empty() {
                self.state = State::Silent(wire);
            }
        }
    }

    /// Has hyper speak.
    fn speak(&mut self) {
        if let State::Silent(wire) = std::mem::replace(&mut self.state, State::Over) {
            let mut connection =
                Box::new(self.builder.serve_connection(TokioIo::new(wire), self.answers.clone()));
            if self.ending {
                Pin::new(&mut *connection).graceful_shutdown();
            }
            (self.state, self.spoke) = (State::Spoken(connection), true);
        }
    }
}

impl<S, V> Future for Talk<S, V>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: HttpService<Incoming, Error = Infallible> + Clone + Unpin,
    V::ResBody: Body<Data = Bytes, Error = Broken> + 'static,
{
    type Output = hyper::Result<()>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        let this = self.get_mut();
        loop {
            // Where it stands: moving it for every poll would be most of what this costs.
            match &mut this.state {
                State::Spoken(_) if this.shared.quiet.is_due() => this.rest(),
                State::Spoken(connection) => {
                    let polled = Pin::new(&mut **connection).poll(cx);
                    let over = polled.is_pending() && this.shared.quiet.is_unwanted();
                    return if over { Poll::Ready(Ok(())) } else { polled };
                }
                State::Silent(wire) => {
                    if wire.poll_spoken(cx).is_pending() {
                        let over = this.shared.quiet.is_unwanted();
                        return if over { Poll::Ready(Ok(())) } else { Poll::Pending };
                    }
                    this.speak();
                }
                State::Over => return Poll::Ready(Ok(())),
            }
        }
    }
}

async fn answer(
    gateway: Rc<Gateway>,
    request: Request<Incoming>,
    shared: Rc<Shared>,
    arrival: Rc<Arrival>,
) -> Result<Response<Tracked>, Infallible> {
    let received = shared.take().unwrap_or_else(|| Received {
        method: None,
        target: Rc::default(),
        fault: Some(Fault { code: Code::Malformed, reason: "unframed" }),
    });
    let flight = Flight(shared);
    let old = request.version() < Version::HTTP_11;
    // Boxed, since hyper moves the service's future into its own place for every request; and made
    // where it stays, since it is large.
    let handling = Box::write(Box::new_uninit(), gateway.handle(request, received, arrival));
    let response = Box::into_pin(handling).await;
    Ok(response.map(|body| Tracked { body, flight, old }))
}

/// A request in flight, until its whole answer is handed over.
struct Flight(Rc<Shared>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.finished();
    }
}

/// An answer's body that tells the framer when it is done.
struct Tracked {
    body: Audited<Answer>,
    flight: Flight,
    /// Whether the consumer knows no chunked coding.
    old: bool,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        if this.old && this.body.size_hint().exact().is_none() {
            this.flight.0.is_told_by_the_end();
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
