//! HTTP/2 with a consumer (RFC 9113): hyper on watched frames, with an end to whatever is slow.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error as _;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::header::{CONNECTION, COOKIE, HOST};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2::{self, Builder};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::drain::Drain;
use super::frames::{Frames, Seen};
use super::quiet::Quiet;
use crate::audit::{Arrival, Audited, Broken};
use crate::code::Code;
use crate::deadline::Deadline;
use crate::framing::{Fault, HeadLimits, request_fields};
use crate::gateway::{Gateway, Received};
use crate::transport::Answer;

/// Requests at once on one connection.
const STREAMS: u32 = 100;
/// What a consumer may send before it is asked for more: for one stream, and for all of a connection.
const WINDOWS: (u32, u32) = (256 << 10, 1 << 20);
/// What is kept of an answer that the consumer does not take.
const UNSENT: usize = 64 << 10;
/// Streams of which the consumer and we have done with, and of which frames may still come.
const RESETS: usize = 100;
/// How long a connection may take to end.
const LINGER: Duration = Duration::from_secs(2);
/// How long until a stream that became no request is one that never will.
const DOUBT: Duration = Duration::from_secs(1);

const SLOW: Fault = Fault { code: Code::HeaderTimeout, reason: "head too slow" };
const BROKEN: Fault = Fault { code: Code::Malformed, reason: "HTTP/2 is not kept to" };
const ABUSED: Fault = Fault { code: Code::Malformed, reason: "connection abuse: HTTP/2 flood" };
const REFUSED: Fault = Fault { code: Code::Malformed, reason: "a stream that HTTP/2 refuses" };

/// One connection, from its first byte to its last.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    gateway: Rc<Gateway>,
    socket: S,
    arrival: Rc<Arrival>,
    drain: Rc<Drain>,
) {
    let limits = gateway.snapshot.load().limits.clone();
    let (seen, streams) = (Rc::new(Seen::default()), Rc::new(Streams::default()));
    // Twice what we take, so that we are the ones who refuse, and the trail hears of it.
    let most = limits.head.headers.saturating_mul(2);
    let frames = Frames::new(socket, Rc::clone(&seen), most);
    let (asked, begun, from) = (Rc::clone(&gateway), Rc::clone(&streams), Rc::clone(&arrival));
    let answers = service_fn(move |request: Request<Incoming>| {
        answer(Rc::clone(&asked), request, limits.head, (Rc::clone(&from), begun.begin()))
    });
    let mut builder = Builder::new(Tasks { streams: Rc::clone(&streams), patience: limits.body_timeout });
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(most).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOWS.0)
        .initial_connection_window_size(WINDOWS.1)
        .max_send_buf_size(UNSENT)
        .max_local_error_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS);
    let connection = Box::pin(builder.serve_connection(TokioIo::new(frames), answers));
    let pace = (limits.header_timeout, limits.idle_timeout);
    let (deadline, told) = (Deadline::default(), 0);
    let mut talk =
        Talk { connection, seen, streams, gateway, arrival, pace, deadline, doubt: None, told, ending: None };
    // Its state is small beside that of TLS, and stays.
    drain.run(Pin::new(&mut talk), Rc::new(Quiet::default()), Talk::wind_up).await;
}

/// The requests of one connection.
struct Streams {
    /// How many came.
    served: Cell<u64>,
    in_flight: Cell<u32>,
    /// When the last one ended.
    idle: Cell<Instant>,
    /// Of the one that came last, until its task has it.
    fresh: RefCell<Option<Rc<Progress>>>,
}

impl Default for Streams {
    fn default() -> Self {
        let idle = Cell::new(Instant::now());
        Self { served: Cell::default(), in_flight: Cell::default(), idle, fresh: RefCell::default() }
    }
}

impl Streams {
    fn begin(self: &Rc<Self>) -> Flight {
        self.served.set(self.served.get() + 1);
        self.in_flight.set(self.in_flight.get() + 1);
        let progress = Rc::new(Progress::default());
        *self.fresh.borrow_mut() = Some(Rc::clone(&progress));
        Flight { streams: Rc::clone(self), progress }
    }
}

/// Since when the consumer takes nothing of an answer that it could have.
#[derive(Default)]
struct Progress(Cell<Option<Instant>>);

/// A request in flight, until its whole answer is handed over.
struct Flight {
    streams: Rc<Streams>,
    progress: Rc<Progress>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.streams.in_flight.set(self.streams.in_flight.get().saturating_sub(1));
        self.streams.idle.set(Instant::now());
    }
}

async fn answer(
    gateway: Rc<Gateway>,
    mut request: Request<Incoming>,
    limits: HeadLimits,
    (arrival, flight): (Rc<Arrival>, Flight),
) -> Result<Response<Streamed>, Infallible> {
    let received = received(&mut request, &limits);
    let mut response = Box::pin(gateway.handle(request, received, arrival)).await;
    // It says nothing here, and HTTP/2 knows no such field.
    response.headers_mut().remove(CONNECTION);
    flight.progress.0.set(Some(Instant::now()));
    Ok(response.map(|body| Streamed { body, flight }))
}

/// The request as HTTP/1 would have brought it, or why it is refused.
fn received(request: &mut Request<Incoming>, limits: &HeadLimits) -> Received {
    let target = request.uri().path_and_query().map_or("", |target| target.as_str());
    let target: Rc<[u8]> = Rc::from(target.as_bytes());
    let authority = request.uri().authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    let headers = request.headers_mut();
    let clash = match (authority, headers.get(HOST)) {
        (Some(Ok(authority)), None) => headers.insert(HOST, authority).is_some(),
        (Some(Ok(authority)), Some(host)) => authority != host,
        (Some(Err(_)), _) => true,
        (None, _) => false,
    };
    join_cookies(headers);
    let fields = headers.iter().map(|(name, value)| (name.as_str().as_bytes(), value.as_bytes()));
    let fault = if clash {
        Some(Fault { code: Code::Malformed, reason: "two hosts" })
    } else {
        request_fields(&target, fields, limits).err()
    };
    Received { method: Some(request.method().clone()), target, fault }
}

/// A cookie may come in crumbs, which HTTP/1 does not know (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice()))
    {
        headers.insert(COOKIE, joined);
    }
}

/// An answer's body on its way into a stream.
struct Streamed {
    body: Audited<Answer>,
    flight: Flight,
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        // It is asked for more only where the consumer has taken enough of what it was given.
        this.flight.progress.0.set(polled.is_ready().then(Instant::now));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs each stream as a task of its own, and ends one whose consumer does not take its answer.
#[derive(Clone)]
struct Tasks {
    streams: Rc<Streams>,
    patience: Duration,
}

impl<F: Future + 'static> Executor<F> for Tasks {
    fn execute(&self, stream: F) {
        let progress = self.streams.fresh.borrow_mut().take().unwrap_or_default();
        let (mut stream, mut deadline, patience) = (Box::pin(stream), Deadline::default(), self.patience);
        // Owned by its connection: it ends with it. Dropped, it resets the stream.
        tokio::task::spawn_local(std::future::poll_fn(move |cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(since) = progress.0.get() else { return Poll::Pending };
            deadline.poll(cx, since + patience)
        }));
    }
}

/// A connection, and when it must end.
struct Talk<C> {
    connection: Pin<Box<C>>,
    seen: Rc<Seen>,
    streams: Rc<Streams>,
    gateway: Rc<Gateway>,
    arrival: Rc<Arrival>,
    /// How long a head may take, and how long until one begins.
    pace: (Duration, Duration),
    deadline: Deadline,
    /// Since when there are streams that became no request.
    doubt: Option<Instant>,
    /// Of how many of them the trail was told.
    told: u64,
    ending: Option<Instant>,
}

impl<C> Talk<C> {
    /// Tells the trail of streams that h2 refused by itself.
    fn tell_refused(&mut self, over: bool) {
        let refused = self.seen.begun().saturating_sub(self.streams.served.get() + self.told);
        // Once it ends, what still comes is left for another connection.
        if refused == 0 || self.ending.is_some() {
            self.doubt = None;
            return;
        }
        let since = *self.doubt.get_or_insert_with(Instant::now);
        if over || since.elapsed() >= DOUBT {
            for _ in 0..refused {
                self.gateway.refuse_unread(REFUSED, &self.arrival);
            }
            (self.told, self.doubt) = (self.told + refused, None);
        }
    }

    /// What is due next, and when.
    fn due(&self) -> Option<(Instant, Due)> {
        let quiet = (self.streams.in_flight.get() == 0).then(|| self.streams.idle.get());
        let first = self.seen.unfinished().map(|since| (since + self.pace.0, Due::Slow));
        let next = match (quiet, self.ending) {
            (Some(since), Some(ending)) => Some((since.max(ending) + LINGER, Due::Over)),
            (Some(since), None) => Some((since + self.pace.1, Due::Idle)),
            (None, _) => None,
        };
        let doubt = self.doubt.map(|since| (since + DOUBT, Due::Doubt));
        [first, next, doubt].into_iter().flatten().min_by_key(|(until, _)| *until)
    }
}

#[derive(Clone, Copy)]
enum Due {
    Slow,
    Idle,
    Over,
    Doubt,
}

impl<S, V> Talk<http2::Connection<TokioIo<Frames<S>>, V, Tasks>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: HttpService<Incoming, ResBody = Streamed, Error = Infallible>,
    V::Future: 'static,
{
    /// No more streams, and the end after those in flight.
    fn wind_up(self: Pin<&mut Self>) {
        let this = self.get_mut();
        this.ending.get_or_insert_with(Instant::now);
        this.connection.as_mut().graceful_shutdown();
    }
}

/// What the consumer did that h2 ended the connection for, if it was that.
fn broken(error: &hyper::Error) -> Option<Fault> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    let ours = error.is_library() && !error.is_io();
    ours.then(|| if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) { ABUSED } else { BROKEN })
}

impl<S, V> Future for Talk<http2::Connection<TokioIo<Frames<S>>, V, Tasks>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: HttpService<Incoming, ResBody = Streamed, Error = Infallible>,
    V::Future: 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let polled = this.connection.as_mut().poll(cx);
            let broken = || if let Poll::Ready(Err(error)) = &polled { broken(error) } else { None };
            if let Some(fault) = this.seen.take_fault().or_else(broken) {
                // It tells of what came with it, too.
                this.gateway.refuse_unread(fault, &this.arrival);
            } else {
                this.tell_refused(polled.is_ready());
            }
            if let Poll::Ready(ended) = polled {
                ended.unwrap_or_else(|error| tracing::debug!(%error, "connection ended"));
                return Poll::Ready(());
            }
            let Some((until, due)) = this.due() else { return Poll::Pending };
            ready!(this.deadline.poll(cx, until));
            match due {
                Due::Slow => {
                    this.gateway.refuse_unread(SLOW, &this.arrival);
                    return Poll::Ready(());
                }
                Due::Over => return Poll::Ready(()),
                Due::Idle => Pin::new(&mut *this).wind_up(),
                Due::Doubt => {}
            }
        }
    }
}
