//! HTTP/2 with a consumer (RFC 9113): hyper on watched frames, with an end to whatever is slow.

pub(super) mod frame_guard;
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
use super::http1::framer::Timeouts;
use super::idle::IdleState;
use crate::audit::{Audited, Broken, Peer};
use crate::code::Code;
use crate::framing::{Fault, HeadLimits, request_fields};
use crate::gateway::{Gateway, RawHead};
use crate::io::timer::LazyTimer;
use crate::transport::UpstreamBody;
use frame_guard::{FrameGuard, FrameStats, STREAMS, WINDOW};

/// What a consumer may send before it is asked for more, over all streams of a connection: so much that
/// some whose upstream reads nothing leave room for others.
const WINDOWS: u32 = 2 << 20;
/// What is kept of an answer that the consumer does not take, but for the last piece of it.
const UNSENT: usize = 32 << 10;
/// The most of an answer that is handed over at once: a frame.
const PIECE: usize = 16 << 10;
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
const LEFT: Fault = Fault { code: Code::Malformed, reason: "a stream that ended with its connection" };

/// One connection, from its first byte to its last.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    gateway: Rc<Gateway>,
    socket: S,
    arrival: Rc<Peer>,
    drain: Rc<Drain>,
) {
    let limits = gateway.snapshot.load().limits.clone();
    let (seen, streams) = Streams::watched();
    // Twice what we take, so that we are the ones who refuse, and the trail hears of it.
    let most = limits.head.headers.saturating_mul(2);
    let frames = FrameGuard::new((socket, gateway.journal.gate()), Rc::clone(&seen), most);
    let (asked, begun, from) = (Rc::clone(&gateway), Rc::clone(&streams), Rc::clone(&arrival));
    let answers = service_fn(move |request: Request<Incoming>| {
        answer(Rc::clone(&asked), request, limits.head, (Rc::clone(&from), begun.begin()))
    });
    let tasks = StreamExecutor {
        streams: Rc::clone(&streams),
        seen: Rc::clone(&seen),
        patience: limits.body_timeout,
    };
    let mut builder = Builder::new(tasks);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(u32::try_from(most).unwrap_or(u32::MAX))
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOWS)
        .max_send_buf_size(UNSENT)
        .max_local_error_reset_streams(RESETS)
        .max_pending_accept_reset_streams(RESETS);
    let connection = Box::pin(builder.serve_connection(TokioIo::new(frames), answers));
    let pace =
        Timeouts { head: limits.header_timeout, idle: limits.idle_timeout, write: limits.body_timeout };
    let (deadline, told) = (LazyTimer::default(), 0);
    let quiet = Rc::new(IdleState::new(Rc::clone(&arrival)));
    let waits = Rc::clone(&quiet);
    let mut talk =
        Http2Conn { connection, seen, streams, gateway, arrival, pace, deadline, quiet, doubt: None, told };
    // Its state is small beside that of TLS, and stays.
    drain.run(Pin::new(&mut talk), waits, Http2Conn::graceful_shutdown).await;
}

/// The requests of one connection.
struct Streams {
    seen: Rc<FrameStats>,
    in_flight: Cell<u32>,
    /// When the last one ended.
    idle: Cell<Instant>,
    /// Of the one that came last, until its task has it.
    fresh: RefCell<Option<Rc<Progress>>>,
    /// Since when no more are wanted.
    ending: Cell<Option<Instant>>,
}

impl Streams {
    /// None yet, and what watches their frames.
    fn watched() -> (Rc<FrameStats>, Rc<Self>) {
        let seen = Rc::new(FrameStats::default());
        let streams = Self {
            seen: Rc::clone(&seen),
            in_flight: Cell::default(),
            idle: Cell::new(Instant::now()),
            fresh: RefCell::default(),
            ending: Cell::default(),
        };
        (seen, Rc::new(streams))
    }

    fn begin(self: &Rc<Self>) -> Flight {
        self.seen.serve();
        // Whoever was told to go, and asks on, does not keep the connection.
        let counts = self.ending.get().is_none_or(|ending| ending.elapsed() < LINGER);
        self.in_flight.set(self.in_flight.get() + u32::from(counts));
        let progress = Rc::new(Progress::default());
        *self.fresh.borrow_mut() = Some(Rc::clone(&progress));
        Flight { streams: Rc::clone(self), progress, counts }
    }
}

/// Since when the consumer takes nothing of an answer that it could have.
#[derive(Default)]
struct Progress(Cell<Option<Instant>>);

/// A request in flight, until its whole answer is handed over.
struct Flight {
    streams: Rc<Streams>,
    progress: Rc<Progress>,
    counts: bool,
}

impl Drop for Flight {
    fn drop(&mut self) {
        if !self.counts {
            return;
        }
        self.streams.in_flight.set(self.streams.in_flight.get().saturating_sub(1));
        self.streams.idle.set(Instant::now());
    }
}

async fn answer(
    gateway: Rc<Gateway>,
    mut request: Request<Incoming>,
    limits: HeadLimits,
    (arrival, flight): (Rc<Peer>, Flight),
) -> Result<Response<StreamBody>, Infallible> {
    let received = received(&mut request, &limits);
    let mut response = Box::pin(gateway.handle(request, received, arrival)).await;
    // It says nothing here, and HTTP/2 knows no such field.
    response.headers_mut().remove(CONNECTION);
    flight.progress.0.set(Some(Instant::now()));
    Ok(response.map(|body| StreamBody { body, rest: Bytes::new(), flight }))
}

/// The request as HTTP/1 would have brought it, or why it is refused.
fn received(request: &mut Request<Incoming>, limits: &HeadLimits) -> RawHead {
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
    RawHead { method: Some(request.method().clone()), target, fault }
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
struct StreamBody {
    body: Audited<UpstreamBody>,
    /// What came of it and was not handed over yet.
    rest: Bytes,
    flight: Flight,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        // It is asked for more only where the consumer has taken enough of what it was given.
        while this.rest.is_empty() {
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            this.flight.progress.0.set(polled.is_ready().then(Instant::now));
            match ready!(polled) {
                None => return Poll::Ready(None),
                Some(frame) => this.rest = frame?.into_data().unwrap_or_default(),
            }
        }
        this.flight.progress.0.set(Some(Instant::now()));
        // h2 keeps whatever it is given, at once, for as long as the consumer takes nothing.
        let piece = this.rest.split_to(this.rest.len().min(PIECE));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = u64::try_from(self.rest.len()).unwrap_or(u64::MAX);
        let left = self.body.size_hint().exact();
        left.map_or_else(SizeHint::default, |left| SizeHint::with_exact(left.saturating_add(rest)))
    }
}

/// Runs each stream as a task of its own, and ends one whose consumer does not take its answer.
#[derive(Clone)]
struct StreamExecutor {
    streams: Rc<Streams>,
    seen: Rc<FrameStats>,
    patience: Duration,
}

impl<F: Future + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let progress = self.streams.fresh.borrow_mut().take().unwrap_or_default();
        let (seen, patience) = (Rc::clone(&self.seen), self.patience);
        let (mut stream, mut deadline) = (Box::pin(stream), LazyTimer::default());
        // Owned by its connection: it ends with it. Dropped, it resets the stream.
        tokio::task::spawn_local(std::future::poll_fn(move |cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(since) = progress.0.get() else { return Poll::Pending };
            // While the connection is stuck, or slow, they all wait: that has a time-out of its own.
            deadline.poll(cx, seen.unblocked_since().map_or(since, |flows| flows.max(since)) + patience)
        }));
    }
}

/// A connection, and when it must end.
struct Http2Conn<C> {
    connection: Pin<Box<C>>,
    seen: Rc<FrameStats>,
    streams: Rc<Streams>,
    gateway: Rc<Gateway>,
    arrival: Rc<Peer>,
    pace: Timeouts,
    deadline: LazyTimer,
    quiet: Rc<IdleState>,
    /// Since when there are streams that became no request.
    doubt: Option<Instant>,
    /// Of how many of them the trail was told.
    told: u64,
}

impl<C> Http2Conn<C> {
    /// Tells the trail of streams that h2 refused by itself.
    fn record_refused_streams(&mut self, over: bool) {
        let refused = self.seen.begun().saturating_sub(self.seen.stream_count() + self.told);
        // Once it ends, what still comes is left for another connection. While nothing can be written, h2 may
        // not have read what we have seen.
        if refused == 0
            || self.streams.ending.get().is_some()
            || (self.seen.blocked_since().is_some() && !over)
        {
            self.doubt = None;
            return;
        }
        let since = *self.doubt.get_or_insert_with(Instant::now);
        if over || since.elapsed() >= DOUBT {
            for _ in 0..refused {
                self.gateway.refuse_unread(if over { LEFT } else { REFUSED }, &self.arrival);
            }
            (self.told, self.doubt) = (self.told + refused, None);
        }
    }

    /// What is due next, and when.
    fn due(&self) -> Option<(Instant, Timeout)> {
        let quiet = (self.streams.in_flight.get() == 0).then(|| self.streams.idle.get());
        let first = self.seen.incomplete_since().map(|since| (since + self.pace.head, Timeout::Stalled));
        let stuck = self.seen.blocked_since().map(|since| (since + self.pace.write, Timeout::Expired));
        let next = match (quiet, self.streams.ending.get()) {
            (Some(since), Some(ending)) => Some((since.max(ending) + LINGER, Timeout::Expired)),
            (Some(since), None) => Some((since + self.pace.idle, Timeout::Idle)),
            (None, _) => None,
        };
        let doubt = self.doubt.map(|since| (since + DOUBT, Timeout::Doubt));
        [first, stuck, next, doubt].into_iter().flatten().min_by_key(|(until, _)| *until)
    }
}

#[derive(Clone, Copy)]
enum Timeout {
    Stalled,
    Idle,
    Expired,
    Doubt,
}

impl<S, V> Http2Conn<http2::Connection<TokioIo<FrameGuard<S>>, V, StreamExecutor>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: HttpService<Incoming, ResBody = StreamBody, Error = Infallible>,
    V::Future: 'static,
{
    /// No more streams, and the end after those in flight.
    fn graceful_shutdown(self: Pin<&mut Self>) {
        let this = self.get_mut();
        this.streams.ending.set(this.streams.ending.get().or_else(|| Some(Instant::now())));
        this.connection.as_mut().graceful_shutdown();
    }
}

/// What the consumer did that h2 ended the connection for, if it was that.
fn fault_of(error: &hyper::Error) -> Option<Fault> {
    let error = error.source()?.downcast_ref::<h2::Error>()?;
    let ours = error.is_library() && !error.is_io();
    ours.then(|| if error.reason() == Some(Reason::ENHANCE_YOUR_CALM) { ABUSED } else { BROKEN })
}

impl<S, V> Future for Http2Conn<http2::Connection<TokioIo<FrameGuard<S>>, V, StreamExecutor>>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
    V: HttpService<Incoming, ResBody = StreamBody, Error = Infallible>,
    V::Future: 'static,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        loop {
            let polled = this.connection.as_mut().poll(cx);
            let broken = || if let Poll::Ready(Err(error)) = &polled { fault_of(error) } else { None };
            if let Some(fault) = this.seen.take_fault().or_else(broken) {
                // It tells of what came with it, too.
                this.gateway.refuse_unread(fault, &this.arrival);
            } else {
                this.record_refused_streams(polled.is_ready());
            }
            if let Poll::Ready(ended) = polled {
                ended.unwrap_or_else(|error| tracing::debug!(%error, "connection ended"));
                return Poll::Ready(());
            }
            if this.quiet.is_unwanted() {
                this.record_refused_streams(true);
                return Poll::Ready(());
            }
            let Some((until, due)) = this.due() else { return Poll::Pending };
            ready!(this.deadline.poll(cx, until));
            match due {
                Timeout::Stalled => {
                    this.gateway.refuse_unread(SLOW, &this.arrival);
                    return Poll::Ready(());
                }
                Timeout::Expired => return Poll::Ready(()),
                Timeout::Idle => Pin::new(&mut *this).graceful_shutdown(),
                Timeout::Doubt => {}
            }
        }
    }
}
