//! HTTP/2 with a consumer (RFC 9113): hyper on inspected frames, with time-outs for everything slow.

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
use super::idle::IdleState;
use super::timeouts::Timeouts;
use crate::audit::{Audited, Peer, WriteBarrier};
use crate::code::{Code, Failure, Fault};
use crate::framing::{HeadLimits, request_fields};
use crate::gateway::{Gateway, RawHead};
use crate::io::timer::LazyTimer;
use crate::transport::UpstreamBody;
use frame_guard::{FrameGuard, FrameStats, STREAMS, WINDOW};

/// The flow-control window of a connection, over all its streams, in bytes. It is large enough that streams whose
/// upstream reads nothing leave room for others.
const WINDOWS: u32 = 2 << 20;
/// The maximum number of response bytes buffered for a consumer that reads nothing, besides the last piece.
const UNSENT: usize = 32 << 10;
/// The maximum number of response bytes handed over at once: one frame.
const PIECE: usize = 16 << 10;
/// The number of finished streams that are remembered, since frames may still arrive for them.
const RESETS: usize = 100;
/// The time-out for a connection's shutdown.
const LINGER: Duration = Duration::from_secs(2);
/// The time after which a stream without a request counts as refused.
const DOUBT: Duration = Duration::from_secs(1);

const SLOW: Fault = Fault { code: Code::HeaderTimeout, reason: "head too slow" };
const BROKEN: Fault = Fault { code: Code::Malformed, reason: "HTTP/2 protocol violation" };
const ABUSED: Fault = Fault { code: Code::Malformed, reason: "connection abuse: HTTP/2 flood" };
const REFUSED: Fault = Fault { code: Code::Malformed, reason: "a stream that HTTP/2 refuses" };
const LEFT: Fault = Fault { code: Code::Malformed, reason: "a stream that ended with its connection" };

/// Serves one connection from its first byte to its last.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    gateway: Rc<Gateway>,
    socket: S,
    arrival: Rc<Peer>,
    drain: Rc<Drain>,
) {
    let limits = gateway.forwarder.snapshot.load().limits.clone();
    let (stats, streams) = Streams::new();
    // Twice the gateway's limit, so that the gateway refuses the head and the trail records it.
    let most = limits.head.headers.saturating_mul(2);
    let frames = FrameGuard::new(socket, WriteBarrier::new(&gateway.journal), Rc::clone(&stats), most);
    let timeouts = Timeouts::of(&limits);
    let (service, begun, from) = (Rc::clone(&gateway), Rc::clone(&streams), Rc::clone(&arrival));
    let answers = service_fn(move |request: Request<Incoming>| {
        answer(Rc::clone(&service), request, limits.head, Rc::clone(&from), begun.begin())
    });
    let executor = StreamExecutor {
        streams: Rc::clone(&streams),
        stats: Rc::clone(&stats),
        patience: limits.body_timeout,
    };
    let mut builder = Builder::new(executor);
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
    let idle = Rc::new(IdleState::new(Rc::clone(&arrival)));
    let mut connection = Http2Conn {
        connection,
        stats,
        streams,
        gateway,
        arrival,
        timeouts,
        deadline: LazyTimer::default(),
        idle: Rc::clone(&idle),
        doubt: None,
        recorded: 0,
    };
    // Not boxed: its state is small beside that of TLS, and does not move.
    drain.run(Pin::new(&mut connection), idle, Http2Conn::graceful_shutdown).await;
}

/// The streams of one connection.
struct Streams {
    stats: Rc<FrameStats>,
    in_flight: Cell<u32>,
    /// When the last request in flight ended.
    idle: Cell<Instant>,
    /// The progress of the latest stream, until its task takes it.
    fresh: RefCell<Option<Rc<Progress>>>,
    /// When the shutdown began.
    ending: Cell<Option<Instant>>,
}

impl Streams {
    /// Creates the streams of a new connection, and the statistics of their frames.
    fn new() -> (Rc<FrameStats>, Rc<Self>) {
        let stats = Rc::new(FrameStats::default());
        let streams = Self {
            stats: Rc::clone(&stats),
            in_flight: Cell::default(),
            idle: Cell::new(Instant::now()),
            fresh: RefCell::default(),
            ending: Cell::default(),
        };
        (stats, Rc::new(streams))
    }

    fn begin(self: &Rc<Self>) -> Flight {
        self.stats.served_streams.update(|count| count + 1);
        // A client that keeps sending requests after GOAWAY does not keep the connection open.
        let counts = self.ending.get().is_none_or(|ending| ending.elapsed() < LINGER);
        self.in_flight.set(self.in_flight.get() + u32::from(counts));
        let progress = Rc::new(Progress::default());
        *self.fresh.borrow_mut() = Some(Rc::clone(&progress));
        Flight { streams: Rc::clone(self), progress, counts }
    }
}

/// Since when the consumer has not read a response that is available.
#[derive(Default)]
struct Progress(Cell<Option<Instant>>);

/// A request in flight, until its whole response is handed over.
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
    arrival: Rc<Peer>,
    flight: Flight,
) -> Result<Response<StreamBody>, Infallible> {
    let received = raw_head(&mut request, &limits);
    let mut response = Box::pin(gateway.handle(request, received, arrival)).await;
    // `Connection` has no meaning here, and HTTP/2 forbids the field.
    response.headers_mut().remove(CONNECTION);
    flight.progress.0.set(Some(Instant::now()));
    Ok(response.map(|body| StreamBody { body, rest: Bytes::new(), flight }))
}

/// Converts the request to what HTTP/1 would have delivered, or to the reason for a refusal.
fn raw_head(request: &mut Request<Incoming>, limits: &HeadLimits) -> RawHead {
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

/// Joins a cookie that was split into several fields, which HTTP/1 does not allow (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let crumbs: Vec<_> = headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if crumbs.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(b"; ".as_slice()))
    {
        headers.insert(COOKIE, joined);
    }
}

/// A response body on its way into a stream.
struct StreamBody {
    body: Audited<UpstreamBody>,
    /// The part of a piece that was not handed over yet.
    rest: Bytes,
    flight: Flight,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        // The body is polled only if the consumer has read enough of the data before.
        while this.rest.is_empty() {
            let polled = Pin::new(&mut this.body).poll_frame(cx);
            this.flight.progress.0.set(polled.is_ready().then(Instant::now));
            match ready!(polled) {
                None => return Poll::Ready(None),
                Some(frame) => this.rest = frame?.into_data().unwrap_or_default(),
            }
        }
        this.flight.progress.0.set(Some(Instant::now()));
        // h2 buffers everything that it is given for as long as the consumer reads nothing.
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

/// Spawns a task for each stream, and ends a stream whose consumer does not read its response.
#[derive(Clone)]
struct StreamExecutor {
    streams: Rc<Streams>,
    stats: Rc<FrameStats>,
    patience: Duration,
}

impl<F: Future + 'static> Executor<F> for StreamExecutor {
    fn execute(&self, stream: F) {
        let progress = self.streams.fresh.borrow_mut().take().unwrap_or_default();
        let (stats, patience) = (Rc::clone(&self.stats), self.patience);
        let (mut stream, mut deadline) = (Box::pin(stream), LazyTimer::default());
        // The stream belongs to its connection and ends with it. Dropping it resets the stream.
        tokio::task::spawn_local(std::future::poll_fn(move |cx| {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(since) = progress.0.get() else { return Poll::Pending };
            // While the connection is blocked or slow, all its streams wait; the connection has its own time-out for
            // that.
            deadline.poll(cx, stats.unblocked_since().map_or(since, |flows| flows.max(since)) + patience)
        }));
    }
}

/// A connection with its time-outs.
struct Http2Conn<C> {
    connection: Pin<Box<C>>,
    stats: Rc<FrameStats>,
    streams: Rc<Streams>,
    gateway: Rc<Gateway>,
    arrival: Rc<Peer>,
    timeouts: Timeouts,
    deadline: LazyTimer,
    idle: Rc<IdleState>,
    /// Since when there are streams that became no request.
    doubt: Option<Instant>,
    /// The number of such streams that the trail has recorded.
    recorded: u64,
}

impl<C> Http2Conn<C> {
    /// Records the streams that h2 refused on its own.
    fn record_refused_streams(&mut self, has_ended: bool) {
        let refused =
            self.stats.opened_streams.get().saturating_sub(self.stats.served_streams.get() + self.recorded);
        // During the shutdown, new streams are left for another connection. While nothing can be written, h2 may not
        // have read what the guard has seen.
        if refused == 0
            || self.streams.ending.get().is_some()
            || (self.stats.blocked_since.get().is_some() && !has_ended)
        {
            self.doubt = None;
            return;
        }
        let since = *self.doubt.get_or_insert_with(Instant::now);
        if has_ended || since.elapsed() >= DOUBT {
            for _ in 0..refused {
                self.gateway.refuse_unread(if has_ended { LEFT } else { REFUSED }, &self.arrival);
            }
            (self.recorded, self.doubt) = (self.recorded + refused, None);
        }
    }

    /// Returns the next time-out, and when it is due.
    fn due(&self) -> Option<(Instant, Timeout)> {
        let idle = (self.streams.in_flight.get() == 0).then(|| self.streams.idle.get());
        let first =
            self.stats.incomplete_since.get().map(|since| (since + self.timeouts.head, Timeout::Stalled));
        let stuck =
            self.stats.blocked_since.get().map(|since| (since + self.timeouts.write, Timeout::Expired));
        let next = match (idle, self.streams.ending.get()) {
            (Some(since), Some(ending)) => Some((since.max(ending) + LINGER, Timeout::Expired)),
            (Some(since), None) => Some((since + self.timeouts.idle, Timeout::Idle)),
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
    /// Accepts no more streams, and ends the connection after those in flight.
    fn graceful_shutdown(self: Pin<&mut Self>) {
        let this = self.get_mut();
        this.streams.ending.set(this.streams.ending.get().or_else(|| Some(Instant::now())));
        this.connection.as_mut().graceful_shutdown();
    }
}

/// Returns the consumer's fault for which h2 ended the connection, if there was one.
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
            if let Some(fault) = this.stats.fault.take().or_else(broken) {
                // This record also covers the streams that arrived together with the fault.
                this.gateway.refuse_unread(fault, &this.arrival);
            } else {
                this.record_refused_streams(polled.is_ready());
            }
            if let Poll::Ready(ended) = polled {
                ended.unwrap_or_else(|error| tracing::debug!(%error, "connection ended"));
                return Poll::Ready(());
            }
            if this.idle.is_unwanted() {
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
