//! Between a consumer's socket and HTTP/2: the head of each frame is looked at as it passes.
//!
//! What h2 bounds by itself is left to it. Here the connection ends whose frames only make work, and
//! those are told that the trail would otherwise not hear of: streams that never become a request.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::audit::Gate;
use crate::code::Code;
use crate::framing::Fault;

/// The connection preface (RFC 9113 §3.4), which h2 compares.
const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The most frames that one head may come in.
const PIECES: u32 = 16;
/// Frames that bring nothing: so many may come at once, and so many more each second.
const AT_ONCE: u32 = 1000;
const A_SECOND: u32 = 100;
/// A stream reset costs as much as so many of them.
const RESET: u32 = 5;

/// What the frames of one connection tell.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Heads of new streams that are whole.
    begun: Cell<u64>,
    /// The last stream that the consumer opened.
    last: Cell<u32>,
    /// When what is not whole yet began: the preface, or a head.
    since: Cell<Option<Instant>>,
    /// Since when the socket takes nothing of what is to be written.
    stuck: Cell<Option<Instant>>,
    /// When it last took something again.
    freed: Cell<Option<Instant>>,
    fault: Cell<Option<Fault>>,
}

impl Seen {
    /// Streams whose head is whole.
    pub(super) fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// Since when something is not whole.
    pub(super) fn unfinished(&self) -> Option<Instant> {
        self.since.get()
    }

    /// Since when the consumer takes nothing at all.
    pub(super) fn stuck(&self) -> Option<Instant> {
        self.stuck.get()
    }

    /// Since when an answer does not wait for those before it on the connection: not at all while it is stuck.
    pub(super) fn flows(&self) -> Option<Instant> {
        self.stuck.get().map(|_| Instant::now()).or(self.freed.get())
    }

    /// Takes note of whether something could be written.
    fn wrote<T>(&self, polled: Poll<T>) -> Poll<T> {
        match (&polled, self.stuck.get()) {
            (Poll::Pending, None) => self.stuck.set(Some(Instant::now())),
            (Poll::Ready(_), Some(_)) => {
                self.stuck.set(None);
                self.freed.set(Some(Instant::now()));
            }
            (Poll::Pending, Some(_)) | (Poll::Ready(_), None) => {}
        }
        polled
    }

    /// Why the connection was ended, told once.
    pub(super) fn take_fault(&self) -> Option<Fault> {
        self.fault.take()
    }
}

/// The socket, watched.
pub(super) struct Frames<S> {
    socket: S,
    gate: Gate,
    seen: Rc<Seen>,
    at: At,
    /// The longest head as it comes, in bytes.
    most: usize,
    /// A head that is not whole: its bytes, its frames, whether it opens a stream.
    head: Option<(usize, u32, bool)>,
    /// The frame under way ends a head that opens a stream.
    opens: bool,
    budget: Budget,
}

enum At {
    /// Nothing has come.
    Before,
    /// So many bytes of the preface, or of a frame's payload, are to come.
    Within(usize),
    /// The head of a frame, and how much of it came.
    Between([u8; 9], usize),
}

/// How many frames that bring nothing may still come.
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn spend(&mut self, cost: u32) -> Option<()> {
        if self.left < cost {
            let now = Instant::now();
            let earned = now.saturating_duration_since(self.since).as_secs_f64() * f64::from(A_SECOND);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
            let earned = earned.min(f64::from(AT_ONCE)) as u32;
            (self.left, self.since) = ((self.left + earned).min(AT_ONCE), now);
        }
        self.left = self.left.checked_sub(cost)?;
        Some(())
    }
}

impl<S> Frames<S> {
    /// Watches `socket`; a head may have `most` bytes as it comes.
    pub(super) fn new((socket, gate): (S, Gate), seen: Rc<Seen>, most: usize) -> Self {
        let budget = Budget { left: AT_ONCE, since: Instant::now() };
        Self { socket, gate, seen, at: At::Before, most, head: None, opens: false, budget }
    }

    /// Takes what was read.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        while !bytes.is_empty() {
            let used = match &mut self.at {
                At::Before => {
                    self.seen.since.set(Some(Instant::now()));
                    self.at = At::Within(PREFACE);
                    0
                }
                At::Within(left) => {
                    let used = bytes.len().min(*left);
                    *left -= used;
                    if *left == 0 {
                        self.between();
                    }
                    used
                }
                At::Between(head, filled) => {
                    let used = bytes.len().min(head.len() - *filled);
                    for (to, from) in head.iter_mut().skip(*filled).zip(bytes) {
                        *to = *from;
                    }
                    *filled += used;
                    if *filled == head.len() {
                        let head = *head;
                        self.frame(head)?;
                    }
                    used
                }
            };
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// A frame or the preface is over.
    fn between(&mut self) {
        if self.head.is_none() {
            self.seen.since.set(None);
        }
        if std::mem::take(&mut self.opens) {
            self.seen.begun.set(self.seen.begun.get() + 1);
        }
        self.at = At::Between([0; 9], 0);
    }

    /// Judges a frame by its head (RFC 9113 §4.1).
    fn frame(&mut self, [l0, l1, l2, kind, flags, s0, s1, s2, s3]: [u8; 9]) -> Result<(), Fault> {
        let len = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        let stream = u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1);
        match kind {
            DATA if len > 0 || flags & END_STREAM != 0 => {}
            HEADERS => {
                let opens = stream > self.seen.last.get();
                if opens {
                    self.seen.last.set(stream);
                }
                self.seen.since.set(Some(Instant::now()));
                self.head = Some((0, 0, opens));
                self.piece(len, flags)?;
            }
            CONTINUATION => self.piece(len, flags)?,
            WINDOW_UPDATE => {}
            RST_STREAM => self.budget.spend(RESET).ok_or(abuse("connection abuse: streams reset"))?,
            _ => self.budget.spend(1).ok_or(abuse("connection abuse: frames that bring nothing"))?,
        }
        self.at = At::Within(len);
        if len == 0 {
            self.between();
        }
        Ok(())
    }

    /// A part of a head.
    fn piece(&mut self, len: usize, flags: u8) -> Result<(), Fault> {
        // h2 ends a connection that continues nothing.
        let Some((size, pieces, opens)) = self.head else { return Ok(()) };
        let (size, pieces) = (size + len, pieces + 1);
        if size > self.most || pieces > PIECES {
            return Err(abuse("connection abuse: a head without end"));
        }
        let whole = flags & END_HEADERS != 0;
        (self.head, self.opens) = ((!whole).then_some((size, pieces, opens)), whole && opens);
        Ok(())
    }
}

const fn abuse(reason: &'static str) -> Fault {
    Fault { code: Code::Malformed, reason }
}

impl<S: AsyncRead + Unpin> AsyncRead for Frames<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(this.take(read).map_err(|fault| {
            this.seen.fault.set(Some(fault));
            io::Error::new(io::ErrorKind::InvalidData, fault.reason)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Frames<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.gate.poll(cx));
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        self.seen.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.gate.poll(cx));
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        self.seen.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        self.seen.wrote(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.gate.poll(cx));
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
