//! The strict HTTP/1 framer, between a consumer's socket and hyper.
//!
//! hyper cuts targets at `#`, and answers some bytes with an empty 400 before the gateway sees them. It prefers one of
//! two conflicting framings, and accepts a missing `Host`. The framer therefore judges each head as received. It
//! replaces the target of a valid head by `/` and queues the real target beside it. It replaces an invalid head by a
//! harmless one. The gateway then answers it in order with its own response, the trail records the outcome, and
//! the connection closes.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::Method;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::bad_head::audit_excerpt;
use super::lingering_close::LingeringClose;
use super::pipeline::Pipeline;
use crate::audit::WriteBarrier;
use crate::code::{Code, Fault};
use crate::framing::{self, Body, Chunks, HeadLimits, RequestHead};
use crate::gateway::RawHead;
use crate::io::timer::LazyTimer;
use crate::io::vectored;
use crate::server::timeouts::Timeouts;

/// The size of one read from the socket while a head is incomplete, in bytes.
const READ: usize = 16 * 1024;
/// The head that hyper sees in place of a refused one.
const PLACEHOLDER_HEAD: &[u8] = b"GET / HTTP/1.1\r\nhost: refused\r\nconnection: close\r\n\r\n";

/// A socket whose request heads are checked and rewritten.
pub(crate) struct Framer<S> {
    socket: S,
    /// Makes the socket reset the connection when it is dropped.
    reset: fn(&S),
    barrier: WriteBarrier,
    shared: Rc<Pipeline>,
    limits: HeadLimits,
    timeouts: Timeouts,
    state: State,
    inbox: Vec<u8>,
    /// The head for hyper, and the number of bytes that hyper has read of it.
    rewritten_head: (Vec<u8>, usize),
    eof: bool,
    /// Whether a head has begun and is incomplete.
    partial: bool,
    /// When the head began, or the wait for it.
    since: Instant,
    reading: LazyTimer,
    writing: LazyTimer,
    linger: LingeringClose,
    /// Whether a part of the response could not be written yet.
    is_blocked: bool,
}

enum State {
    /// Between requests; `skipped` is set once an empty line was skipped.
    Head {
        skipped: bool,
    },
    Length(u64),
    Chunked(Chunks),
    Refused,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framer<S> {
    pub(crate) fn new(
        (socket, reset): (S, fn(&S)),
        barrier: WriteBarrier,
        shared: Rc<Pipeline>,
        limits: HeadLimits,
        timeouts: Timeouts,
    ) -> Self {
        Self {
            socket,
            reset,
            barrier,
            shared,
            limits,
            timeouts,
            state: State::Head { skipped: false },
            inbox: Vec::new(),
            rewritten_head: (Vec::new(), 0),
            eof: false,
            partial: false,
            since: Instant::now(),
            reading: LazyTimer::default(),
            writing: LazyTimer::default(),
            linger: LingeringClose::default(),
            is_blocked: false,
        }
    }

    /// Reads from the socket into the inbox. Returns `Ready(false)` at the end of the stream.
    fn fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        let mut room = [std::mem::MaybeUninit::uninit(); READ];
        let mut buffer = ReadBuf::uninit(&mut room);
        ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
        self.inbox.extend_from_slice(buffer.filled());
        self.eof = buffer.filled().is_empty();
        Poll::Ready(Ok(!self.eof))
    }

    /// Ready once a byte has arrived or the idle time-out has passed; hyper must then continue.
    pub(crate) fn poll_first_byte(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.inbox.is_empty() && !self.eof {
            match self.fill(cx) {
                Poll::Pending => {
                    ready!(self.reading.poll(cx, self.since + self.timeouts.idle));
                    self.eof = true;
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(_)) => self.eof = true,
            }
        }
        Poll::Ready(())
    }

    /// Releases the buffers. Returns whether they were empty and no request is in flight.
    pub(crate) fn release_buffers(&mut self) -> bool {
        let between = matches!(self.state, State::Head { .. }) && !self.shared.in_flight.get();
        let empty = self.inbox.is_empty() && self.rewritten_head.1 == self.rewritten_head.0.len();
        (self.inbox, self.rewritten_head) = (Vec::new(), (Vec::new(), 0));
        if let Some(end) = self.shared.last_end.take() {
            self.since = end;
        }
        between && empty
    }

    /// Reduces the wait for the next request to `patience`, from now on.
    pub(crate) fn shorten_idle(&mut self, patience: Duration) {
        (self.since, self.timeouts.idle) = (Instant::now(), patience);
    }

    /// Reads the next head. Ready when `rewritten_head` holds one, or at the end of the connection.
    fn poll_head(&mut self, cx: &mut Context<'_>, mut skipped: bool) -> Poll<io::Result<()>> {
        if let Some(end) = self.shared.last_end.take() {
            self.since = end;
        }
        loop {
            if !skipped && self.inbox.starts_with(b"\r\n") {
                self.inbox.drain(..2);
                skipped = true;
                self.state = State::Head { skipped };
            }
            match framing::request_head(&self.inbox, &self.limits) {
                Ok(Some(head)) => {
                    self.forward_head(head);
                    return Poll::Ready(Ok(()));
                }
                Ok(None) if self.eof && self.inbox.is_empty() => return Poll::Ready(Ok(())),
                Ok(None) if self.eof => {
                    self.refuse(Fault { code: Code::Malformed, reason: "head cut short" });
                    return Poll::Ready(Ok(()));
                }
                Ok(None) => {}
                Err(fault) => {
                    self.refuse(fault);
                    return Poll::Ready(Ok(()));
                }
            }
            match self.fill(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(error)) if self.inbox.is_empty() => return Poll::Ready(Err(error)),
                // A reset in the middle of a head: nobody reads the response, but the trail records the refusal.
                Poll::Ready(Err(_)) => {
                    self.eof = true;
                    continue;
                }
            }
            let idle = self.inbox.is_empty();
            if !idle && !std::mem::replace(&mut self.partial, true) {
                self.since = Instant::now();
            }
            if idle {
                self.shared.idle.begin(self.since);
            } else {
                self.shared.idle.end();
            }
            let until = self.since + if idle { self.timeouts.idle } else { self.timeouts.head };
            ready!(self.reading.poll(cx, until));
            if idle {
                self.eof = true;
            } else {
                self.refuse(Fault { code: Code::HeaderTimeout, reason: "head too slow" });
            }
            return Poll::Ready(Ok(()));
        }
    }

    /// Passes nothing while a response is being written; only detects that the consumer disconnects.
    fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let room = self.limits.headers;
        while !self.eof && self.inbox.len() < room {
            if self.fill(cx)?.is_pending() {
                break;
            }
        }
        // After the call, the socket wakes this task for new data, and the timer for its absence. Neither does if the
        // next head has already arrived or the timer has expired, so a waker is stored.
        let until = self.since + self.timeouts.idle;
        let silent = self.reading.poll(cx, until).is_ready() || self.eof || !self.inbox.is_empty();
        self.shared.set_waker(silent.then(|| cx.waker().clone()));
        Poll::Pending
    }

    /// Passes a valid head to hyper, with its target replaced.
    fn forward_head(&mut self, head: RequestHead) {
        let part = |range: std::ops::Range<usize>| self.inbox.get(range).unwrap_or_default();
        let target_end = head.target_at + head.target_len;
        let received = RawHead {
            method: Method::from_bytes(part(0..head.target_at - 1)).ok(),
            target: Rc::from(part(head.target_at..target_end)),
            fault: None,
        };
        let mut passing = std::mem::take(&mut self.rewritten_head.0);
        passing.clear();
        passing.extend_from_slice(part(0..head.target_at));
        passing.push(b'/');
        passing.extend_from_slice(part(target_end..head.len));
        self.rewritten_head = (passing, 0);
        self.inbox.drain(..head.len);
        self.partial = false;
        self.state = match head.body {
            Body::Length(0) | Body::UntilClose => State::Head { skipped: false },
            Body::Length(length) => State::Length(length),
            Body::Chunked => State::Chunked(Chunks::default()),
        };
        self.shared.queue(received);
    }

    /// Passes a harmless head to hyper in place of a refused one.
    fn refuse(&mut self, fault: Fault) {
        let (method, target) = audit_excerpt(&self.inbox);
        let refused = RawHead { method, target: Rc::from(target), fault: Some(fault) };
        self.rewritten_head = (PLACEHOLDER_HEAD.to_vec(), 0);
        self.state = State::Refused;
        self.shared.queue(refused);
    }

    fn copy_out(&mut self, buf: &mut ReadBuf<'_>) {
        let (head, done) = &mut self.rewritten_head;
        let left = head.get(*done..).unwrap_or_default();
        let size = left.len().min(buf.remaining());
        buf.put_slice(left.get(..size).unwrap_or_default());
        *done += size;
    }

    fn poll_length(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
        left: u64,
    ) -> Poll<io::Result<()>> {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buf.remaining());
        let size = if self.inbox.is_empty() {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut part))?;
            let size = part.filled().len();
            buf.advance(size);
            size
        } else {
            let size = most.min(self.inbox.len());
            buf.put_slice(self.inbox.get(..size).unwrap_or_default());
            self.inbox.drain(..size);
            size
        };
        let left = left - u64::try_from(size).unwrap_or(left);
        self.eof |= size == 0;
        self.state = if left == 0 { self.next_state() } else { State::Length(left) };
        Poll::Ready(Ok(()))
    }

    fn poll_chunked(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.inbox.is_empty() && !ready!(self.fill(cx))? {
            return Poll::Ready(Ok(()));
        }
        let State::Chunked(chunks) = &mut self.state else { return Poll::Ready(Ok(())) };
        let most = self.inbox.len().min(buf.remaining());
        let bytes = self.inbox.get(..most).unwrap_or_default();
        let used = chunks
            .advance(bytes)
            .map_err(|fault| io::Error::new(io::ErrorKind::InvalidData, fault.reason))?;
        buf.put_slice(bytes.get(..used).unwrap_or_default());
        let is_done = chunks.is_done();
        self.inbox.drain(..used);
        if is_done {
            self.state = self.next_state();
        }
        Poll::Ready(Ok(()))
    }

    fn next_state(&mut self) -> State {
        self.since = Instant::now();
        State::Head { skipped: false }
    }
}

impl<S> Drop for Framer<S> {
    fn drop(&mut self) {
        if self.shared.may_truncate.get() {
            (self.reset)(&self.socket);
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Framer<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rewritten_head.1 < this.rewritten_head.0.len() {
            this.copy_out(buf);
            return Poll::Ready(Ok(()));
        }
        match this.state {
            // hyper discards unwritten data when it reads the end of the stream.
            State::Head { .. } if this.shared.in_flight.get() || this.is_blocked => this.poll_disconnect(cx),
            State::Head { skipped } => {
                ready!(this.poll_head(cx, skipped))?;
                this.copy_out(buf);
                Poll::Ready(Ok(()))
            }
            State::Length(left) => this.poll_length(cx, buf, left),
            State::Chunked(_) => this.poll_chunked(cx, buf),
            State::Refused => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Framer<S> {
    /// Ready once all outcomes so far are written to the trail's file.
    fn poll_barrier(&mut self, cx: &Context<'_>) -> Poll<()> {
        let polled = self.barrier.poll(cx);
        self.is_blocked |= polled.is_pending();
        polled
    }

    /// Applies the write time-out: a consumer that accepts nothing for too long is disconnected.
    fn with_write_timeout<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing.clear();
            if std::mem::take(&mut self.is_blocked) {
                self.shared.wake();
            }
            return polled;
        }
        self.is_blocked = true;
        self.shared.idle.end();
        let until = self.writing.start() + self.timeouts.write;
        ready!(self.writing.poll(cx, until));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Framer<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_barrier(cx));
        let polled = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.with_write_timeout(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_barrier(cx));
        let polled = vectored::poll_write(&mut this.socket, cx, slices);
        this.with_write_timeout(cx, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.socket).poll_flush(cx);
        this.with_write_timeout(cx, polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_barrier(cx));
        this.shared.idle.end();
        // Everything was written, so this close is the end that the response needs.
        this.shared.may_truncate.set(false);
        let clean = this.eof || (matches!(this.state, State::Head { .. }) && this.inbox.is_empty());
        this.linger.poll(cx, &mut this.socket, clean)
    }
}
