//! The response guard, between an upstream's socket and hyper. It checks responses by strict framing rules first. A
//! violation never reaches the consumer, and its connection is never reused.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::code::{Code, Fault};
use crate::framing::{self, Body, Chunks, HeadLimits};
use crate::io::vectored;

/// The limits of a response head.
const LIMITS: HeadLimits = HeadLimits { target: 0, headers: 64 * 1024, lines: 100 };
/// The maximum number of interim responses (1xx) before the final one.
const INTERIM: u8 = 8;

/// The state shared by a connection's owner and its guard.
#[derive(Debug, Default)]
pub(super) struct ConnState {
    /// Whether a request was sent whose response has no complete head.
    is_expected: Cell<bool>,
    /// Whether the method of the request is HEAD.
    to_head: Cell<bool>,
    /// Whether any byte of the response has arrived.
    pub(super) has_begun: Cell<bool>,
    /// The upstream's framing violation, if any.
    pub(super) fault: Cell<Option<Fault>>,
    /// Whether the connection must not be reused, and nothing more is read from it.
    pub(super) is_poisoned: Cell<bool>,
    /// Whether the current response is the connection's last.
    pub(super) is_retired: Cell<bool>,
}

impl ConnState {
    /// Announces the next request. `to_head` means that its method is HEAD.
    pub(super) fn begin_request(&self, to_head: bool) {
        self.is_expected.set(true);
        self.has_begun.set(false);
        self.to_head.set(to_head);
    }

    /// Returns whether another request may be sent after the current response.
    pub(super) fn may_serve_again(&self) -> bool {
        !self.is_poisoned.get() && !self.is_retired.get()
    }
}

/// A socket whose responses are checked.
pub(super) struct Guard<S> {
    socket: S,
    watch: Rc<ConnState>,
    at: ReadState,
    /// The received part of an incomplete head.
    head: Vec<u8>,
    interim: u8,
}

enum ReadState {
    Head,
    Length(u64),
    Chunked(Chunks),
    UntilClose,
}

impl<S> Guard<S> {
    pub(super) fn new(socket: S, watch: Rc<ConnState>) -> Self {
        Self { socket, watch, at: ReadState::Head, head: Vec::new(), interim: 0 }
    }

    /// Checks the bytes that were read. Returns how many of them hyper may see.
    fn take(&mut self, mut bytes: &[u8]) -> Result<usize, Fault> {
        let whole = bytes.len();
        self.watch.has_begun.set(true);
        while !bytes.is_empty() {
            let used = match &mut self.at {
                ReadState::Head => self.take_head(bytes)?,
                ReadState::Length(left) => {
                    let used = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= u64::try_from(used).unwrap_or(0);
                    if *left == 0 {
                        self.at = ReadState::Head;
                    }
                    used
                }
                ReadState::Chunked(chunks) => {
                    let used = chunks.advance(bytes)?;
                    if chunks.is_done() {
                        self.at = ReadState::Head;
                    }
                    used
                }
                ReadState::UntilClose => bytes.len(),
            };
            bytes = bytes.get(used..).unwrap_or_default();
            if matches!(self.at, ReadState::Head) && !self.watch.is_expected.get() && !bytes.is_empty() {
                // The upstream sent more than was requested: the complete response is valid, the connection is not.
                self.watch.is_poisoned.set(true);
                return Ok(whole - bytes.len());
            }
        }
        Ok(whole)
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, Fault> {
        let before = self.head.len();
        let whole = if before == 0 {
            bytes
        } else {
            self.head.extend_from_slice(bytes);
            self.head.as_slice()
        };
        let Some(head) = framing::answer_head(whole, self.watch.to_head.get(), &LIMITS)? else {
            if before == 0 {
                self.head.extend_from_slice(bytes);
            }
            return Ok(bytes.len());
        };
        let after = u64::try_from(whole.len() - head.len).unwrap_or(u64::MAX);
        self.head = Vec::new();
        if head.status == 101 {
            return Err(invalid_response("101 unasked"));
        }
        if head.status < 200 {
            self.interim += 1;
            if self.interim > INTERIM {
                return Err(invalid_response("interim answers without end"));
            }
            return Ok(head.len - before);
        }
        self.watch.is_expected.set(false);
        self.interim = 0;
        self.at = match head.body {
            Body::Length(length) if after > length => return Err(invalid_response("bytes after the answer")),
            Body::Length(0) => ReadState::Head,
            Body::Length(length) => ReadState::Length(length),
            Body::Chunked => ReadState::Chunked(Chunks::default()),
            Body::UntilClose => ReadState::UntilClose,
        };
        Ok(head.len - before)
    }

    /// Filters the result of a write. A write error while a response is pending is hidden, so that the reader reports
    /// the outcome: the upstream may have responded before it closed, or sent a TLS alert with the reason.
    fn note_written<T>(&self, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let failed = matches!(written, Poll::Ready(Err(_)));
        if failed && self.watch.is_expected.get() { Poll::Pending } else { written }
    }
}

const fn invalid_response(reason: &'static str) -> Fault {
    Fault { code: Code::UpstreamInvalid, reason }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.watch.is_poisoned.get() {
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        if read.is_empty() {
            this.watch.is_poisoned.set(true);
            return Poll::Ready(Ok(()));
        }
        if matches!(this.at, ReadState::Head) && !this.watch.is_expected.get() {
            this.watch.is_poisoned.set(true);
            buf.set_filled(before);
            return Poll::Ready(Ok(()));
        }
        match this.take(read) {
            Ok(visible) => {
                buf.set_filled(before + visible);
                Poll::Ready(Ok(()))
            }
            Err(fault) => {
                this.watch.fault.set(Some(fault));
                this.watch.is_poisoned.set(true);
                buf.set_filled(before);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, fault.reason)))
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.note_written(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = vectored::poll_write(&mut this.socket, cx, slices);
        this.note_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.socket).poll_flush(cx);
        this.note_written(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn feed(parts: &[&str], to_head: bool) -> (Vec<Result<usize, &'static str>>, bool) {
        let watch = Rc::new(ConnState::default());
        watch.begin_request(to_head);
        let mut guard = Guard::new((), Rc::clone(&watch));
        let visible =
            parts.iter().map(|part| guard.take(part.as_bytes()).map_err(|fault| fault.reason)).collect();
        (visible, watch.is_poisoned.get())
    }

    #[test]
    fn lets_a_plain_answer_through_in_any_pieces() {
        let whole = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";
        assert_eq!(feed(&[whole], false), (vec![Ok(whole.len())], false));
        let (head, tail) = whole.split_at(20);
        assert_eq!(feed(&[head, tail], false), (vec![Ok(20), Ok(whole.len() - 20)], false));
        let interim = format!("HTTP/1.1 103 Early Hints\r\n\r\n{whole}");
        assert_eq!(feed(&[&interim], false), (vec![Ok(interim.len())], false));
        assert_eq!(feed(&["HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"], true).0.len(), 1);
    }

    #[test]
    fn refuses_what_two_readers_could_take_differently() {
        for (answer, reason) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
                "content-length with transfer-encoding",
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi", "two content-length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi", "content-length"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhix", "bytes after the answer"),
            ("HTTP/1.1 99 X\r\n\r\n", "head"),
            ("HTTP/1.1 2000 X\r\n\r\n", "head"),
            ("HTTP/1.1 600 X\r\n\r\n", "status"),
            ("HTTP/1.1 101 X\r\n\r\n", "101 unasked"),
            ("HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n", "control byte"),
            ("SSH-2.0-OpenSSH_9\r\n", "no HTTP answer"),
        ] {
            assert_eq!(feed(&[answer], false).0.pop().unwrap(), Err(reason), "{answer:?}");
        }
    }

    #[test]
    fn keeps_bytes_that_nobody_asked_for_from_the_next_caller() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let (visible, is_poisoned) = feed(&[&format!("{chunked}HTTP/1.1 200 OK\r\n\r\n")], false);
        assert_eq!((visible, is_poisoned), (vec![Ok(chunked.len())], true));
    }
}
