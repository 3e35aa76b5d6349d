//! The frame guard, between a consumer's socket and HTTP/2. It inspects the head of each frame as it passes.
//!
//! It leaves to h2 what h2 limits itself. It ends a connection whose frames only cause work, and counts streams that
//! never become a request, so that the trail records them.
//!
//! Every frame costs budget unless an honest consumer has a reason to send it. Free frames open a served stream, carry
//! or end a wanted body, or grant flow-control credit for data that claviger has sent.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::audit::WriteBarrier;
use crate::code::{Code, Fault};

/// The length of the connection preface in bytes (RFC 9113 §3.4); h2 checks its contents.
const PREFACE: usize = 24;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
/// The maximum number of frames for one request head.
const PIECES: u32 = 16;
/// The size of the budget for useless frames, and how much of it is restored each second.
const AT_ONCE: u32 = 1000 * FRAME;
const A_SECOND: u32 = 100 * FRAME;
/// The cost of a useless frame.
const FRAME: u32 = 10;
/// The cost of a stream reset.
const RESET: u32 = 5 * FRAME;
/// The cost of an acknowledgement of something never sent; h2 logs each.
const UNASKED: u32 = 10 * FRAME;
/// The cost of a DATA frame with fewer than [`FEW`] bytes of payload, besides padding.
const CRUMB: u32 = 1;
const FEW: usize = 16;
/// The maximum padding of a frame, including its length field, in bytes.
const PADDING: usize = 256;
const KIB: u64 = 1024;
/// The free updates of windows and priorities: one per KiB of sent DATA, and at least this many per DATA frame. A
/// consumer with small windows updates both the stream's and the connection's window each time. Each opened stream
/// grants as many, since some libraries update its window or send its priority at once.
const FREE_UPDATES: u64 = 2;
/// The maximum number of concurrent streams on one connection.
pub(crate) const STREAMS: u32 = 100;
/// The flow-control window of one stream, in bytes. As many bytes may still arrive after a stream has ended.
pub(crate) const WINDOW: u32 = 64 << 10;

/// Observations on the frames of one connection.
#[derive(Debug, Default)]
pub(crate) struct FrameStats {
    /// The number of new streams whose head is complete.
    pub(crate) opened_streams: Cell<u64>,
    /// The number of streams that became a request.
    pub(crate) served_streams: Cell<u64>,
    /// The id of the last stream that the consumer opened.
    last: Cell<u32>,
    /// When the incomplete preface or head began.
    pub(crate) incomplete_since: Cell<Option<Instant>>,
    /// Since when the socket accepts no data to write.
    pub(crate) blocked_since: Cell<Option<Instant>>,
    /// When the socket last became writable again.
    freed: Cell<Option<Instant>>,
    /// Why the connection was ended.
    pub(crate) fault: Cell<Option<Fault>>,
}

impl FrameStats {
    /// Returns since when a response is not delayed by the connection. While the connection is blocked, this is now.
    pub(crate) fn unblocked_since(&self) -> Option<Instant> {
        self.blocked_since.get().map(|_| Instant::now()).or(self.freed.get())
    }

    /// Records whether a write made progress.
    fn note_progress<T>(&self, polled: Poll<T>) -> Poll<T> {
        match (&polled, self.blocked_since.get()) {
            (Poll::Pending, None) => self.blocked_since.set(Some(Instant::now())),
            (Poll::Ready(_), Some(_)) => {
                self.blocked_since.set(None);
                self.freed.set(Some(Instant::now()));
            }
            (Poll::Pending, Some(_)) | (Poll::Ready(_), None) => {}
        }
        polled
    }
}

/// A socket whose frames are inspected.
pub(crate) struct FrameGuard<S> {
    socket: S,
    barrier: WriteBarrier,
    stats: Rc<FrameStats>,
    reading: At,
    writing: At,
    /// The maximum length of an encoded head, in bytes.
    most: usize,
    /// The incomplete head: its bytes so far, its frames so far, and whether it opens a stream.
    head: Option<(usize, u32, bool)>,
    /// Whether the current frame completes a head that opens a stream.
    opens: bool,
    /// The ids of streams whose body is still wanted.
    open_bodies: Vec<u32>,
    /// The number of bytes that may still arrive for bodies that are no longer wanted.
    late: u64,
    /// The number of streams that h2 refused and that were charged.
    refused: u64,
    /// The number of settings and pings that were sent and not yet acknowledged.
    unacknowledged: u32,
    /// The credit for free updates, in bytes of sent DATA. A small frame counts as [`FREE_UPDATES`] KiB, and so does
    /// each opened stream.
    sent: u64,
    budget: Budget,
}

/// The parser's position in one direction.
enum At {
    /// Nothing has arrived.
    Before,
    /// Inside the preface or a payload, with this many bytes left.
    Within(usize),
    /// Inside a frame head, with this many of its bytes filled.
    Between([u8; 9], usize),
}

/// The head of a frame (RFC 9113 §4.1).
#[derive(Clone, Copy)]
struct Head {
    len: usize,
    kind: u8,
    flags: u8,
    stream: u32,
}

/// The element that was completed.
enum Passed {
    Nothing,
    Head(Head),
    /// The preface, or a payload that is not empty, is complete.
    Whole,
}

impl At {
    /// Advances over the bytes up to the end of one element. Returns the number of bytes used and
    /// the completed element.
    fn advance(&mut self, bytes: &[u8]) -> (usize, Passed) {
        match self {
            Self::Before => {
                *self = Self::Within(PREFACE);
                (0, Passed::Nothing)
            }
            Self::Within(left) => {
                let used = bytes.len().min(*left);
                *left -= used;
                if *left > 0 {
                    return (used, Passed::Nothing);
                }
                *self = Self::Between([0; 9], 0);
                (used, Passed::Whole)
            }
            Self::Between(head, filled) => {
                let used = bytes.len().min(head.len() - *filled);
                for (to, from) in head.iter_mut().skip(*filled).zip(bytes) {
                    *to = *from;
                }
                *filled += used;
                if *filled < head.len() {
                    return (used, Passed::Nothing);
                }
                let head = Head::of(*head);
                *self = if head.len == 0 { Self::Between([0; 9], 0) } else { Self::Within(head.len) };
                (used, Passed::Head(head))
            }
        }
    }
}

impl Head {
    fn of([l0, l1, l2, kind, flags, s0, s1, s2, s3]: [u8; 9]) -> Self {
        let len = usize::from(l0) << 16 | usize::from(l1) << 8 | usize::from(l2);
        Self { len, kind, flags, stream: u32::from_be_bytes([s0, s1, s2, s3]) & (u32::MAX >> 1) }
    }

    fn ends_stream(self) -> bool {
        self.flags & END_STREAM != 0
    }

    /// Returns whether the frame may carry fewer than [`FEW`] bytes.
    fn is_crumb(self) -> bool {
        self.len < FEW + if self.flags & PADDED == 0 { 0 } else { PADDING }
    }

    fn bytes(self) -> u64 {
        u64::try_from(self.len).unwrap_or(u64::MAX)
    }
}

/// The remaining budget for useless frames.
struct Budget {
    left: u32,
    since: Instant,
}

impl Budget {
    fn spend(&mut self, cost: u32, reason: &'static str) -> Result<(), Fault> {
        if self.left < cost {
            let now = Instant::now();
            let earned = now.saturating_duration_since(self.since).as_secs_f64() * f64::from(A_SECOND);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
            let earned = earned.min(f64::from(AT_ONCE)) as u32;
            (self.left, self.since) = ((self.left + earned).min(AT_ONCE), now);
        }
        self.left = self.left.checked_sub(cost).ok_or(abuse_fault(reason))?;
        Ok(())
    }
}

impl<S> FrameGuard<S> {
    /// Creates a guard for `socket`; `most` is the maximum length of an encoded head, in bytes.
    pub(crate) fn new(socket: S, barrier: WriteBarrier, stats: Rc<FrameStats>, most: usize) -> Self {
        Self {
            socket,
            barrier,
            stats,
            reading: At::Before,
            writing: At::Between([0; 9], 0),
            most,
            head: None,
            opens: false,
            open_bodies: Vec::new(),
            late: 0,
            refused: 0,
            unacknowledged: 0,
            sent: 0,
            budget: Budget { left: AT_ONCE, since: Instant::now() },
        }
    }

    /// Inspects the bytes that were read.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        if matches!(self.reading, At::Before) && !bytes.is_empty() {
            self.stats.incomplete_since.set(Some(Instant::now()));
        }
        while !bytes.is_empty() {
            let (used, passed) = self.reading.advance(bytes);
            match passed {
                Passed::Nothing => {}
                Passed::Head(head) => {
                    self.judge(head)?;
                    if head.len == 0 {
                        self.next_frame();
                    }
                }
                Passed::Whole => self.next_frame(),
            }
            bytes = bytes.get(used..).unwrap_or_default();
        }
        Ok(())
    }

    /// Handles the end of a frame or of the preface.
    fn next_frame(&mut self) {
        if self.head.is_none() {
            self.stats.incomplete_since.set(None);
        }
        if std::mem::take(&mut self.opens) {
            self.stats.opened_streams.update(|count| count + 1);
        }
    }

    /// Judges an incoming frame by its head.
    fn judge(&mut self, head: Head) -> Result<(), Fault> {
        match head.kind {
            DATA => self.data(head),
            HEADERS => self.headers(head),
            CONTINUATION => self.header_fragment(head),
            WINDOW_UPDATE | PRIORITY | PRIORITY_UPDATE => self.update(),
            RST_STREAM => {
                self.end_of(head.stream);
                self.budget.spend(RESET, "connection abuse: streams reset")
            }
            SETTINGS | PING if head.flags & ACK != 0 => self.acknowledgement(),
            _ => self.budget.spend(FRAME, IDLE),
        }
    }

    /// Judges a DATA frame.
    fn data(&mut self, head: Head) -> Result<(), Fault> {
        let is_expected = self.open_bodies.contains(&head.stream);
        if head.ends_stream() && self.end_of(head.stream) {
            return Ok(());
        }
        if head.len == 0 {
            return self.budget.spend(FRAME, IDLE);
        }
        if !is_expected {
            let Some(left) = self.late.checked_sub(head.bytes()) else {
                let kib = u32::try_from(head.bytes() / KIB).unwrap_or(u32::MAX);
                let cost = FRAME * (1 + kib);
                return self.budget.spend(cost, "connection abuse: bodies of streams that ended");
            };
            self.late = left;
        }
        if head.is_crumb() {
            self.budget.spend(CRUMB, "connection abuse: bodies in tiny frames")
        } else {
            Ok(())
        }
    }

    /// Judges a HEADERS frame: it opens a stream, or carries trailers.
    fn headers(&mut self, head: Head) -> Result<(), Fault> {
        let opens = head.stream > self.stats.last.get();
        if opens {
            self.stats.last.set(head.stream);
            self.open(head)?;
        } else if !(head.ends_stream() && self.end_of(head.stream)) {
            self.budget.spend(FRAME, IDLE)?;
        }
        self.stats.incomplete_since.set(Some(Instant::now()));
        self.head = Some((0, 0, opens));
        self.header_fragment(head)
    }

    /// Judges the opening of a stream.
    fn open(&mut self, head: Head) -> Result<(), Fault> {
        // h2 refuses streams beyond the limit, and streams that are no request.
        let unserved = self.stats.opened_streams.get().saturating_sub(self.stats.served_streams.get());
        if unserved > self.refused + u64::from(STREAMS) {
            self.refused += 1;
            self.budget.spend(FRAME, "connection abuse: streams that are refused")?;
        } else {
            self.sent += FREE_UPDATES * KIB;
        }
        if !head.ends_stream() {
            self.open_bodies.push(head.stream);
            self.late = (self.late + u64::from(WINDOW)).min(u64::from(STREAMS) * u64::from(WINDOW));
        }
        Ok(())
    }

    /// Judges an update of a window or a priority.
    fn update(&mut self) -> Result<(), Fault> {
        let Some(left) = self.sent.checked_sub(KIB) else {
            return self.budget.spend(FRAME, "connection abuse: updates without data");
        };
        self.sent = left;
        Ok(())
    }

    /// Judges an acknowledgement of settings or a ping.
    fn acknowledgement(&mut self) -> Result<(), Fault> {
        let Some(left) = self.unacknowledged.checked_sub(1) else {
            return self.budget.spend(UNASKED, "connection abuse: acknowledgements without a request");
        };
        self.unacknowledged = left;
        Ok(())
    }

    /// Marks a stream's body as no longer wanted. Returns whether it was wanted.
    fn end_of(&mut self, stream: u32) -> bool {
        let at = self.open_bodies.iter().position(|open| *open == stream);
        at.is_some_and(|at| self.open_bodies.swap_remove(at) == stream)
    }

    /// Counts the frames that were written.
    fn count_written(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (used, passed) = self.writing.advance(bytes);
            match passed {
                Passed::Head(head) if head.kind == DATA && head.len > 0 => {
                    self.sent += head.bytes().max(FREE_UPDATES * KIB);
                }
                Passed::Head(head) if matches!(head.kind, SETTINGS | PING) && head.flags & ACK == 0 => {
                    self.unacknowledged += 1;
                }
                Passed::Head(head) if head.kind == RST_STREAM => {
                    self.end_of(head.stream);
                }
                Passed::Nothing | Passed::Head(_) | Passed::Whole => {}
            }
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// Judges a fragment of a head.
    fn header_fragment(&mut self, head: Head) -> Result<(), Fault> {
        // h2 ends a connection whose CONTINUATION frame continues nothing.
        let Some((size, pieces, opens)) = self.head else { return Ok(()) };
        let (size, pieces) = (size + head.len, pieces + 1);
        if size > self.most || pieces > PIECES {
            return Err(abuse_fault("connection abuse: a head without end"));
        }
        let whole = head.flags & END_HEADERS != 0;
        (self.head, self.opens) = ((!whole).then_some((size, pieces, opens)), whole && opens);
        Ok(())
    }
}

/// The reason recorded when a connection ends because of useless frames.
const IDLE: &str = "connection abuse: frames without effect";

const fn abuse_fault(reason: &'static str) -> Fault {
    Fault { code: Code::Malformed, reason }
}

impl<S: AsyncRead + Unpin> AsyncRead for FrameGuard<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.socket).poll_read(cx, buf))?;
        let read = buf.filled().get(before..).unwrap_or_default();
        Poll::Ready(this.take(read).map_err(|fault| {
            this.stats.fault.set(Some(fault));
            io::Error::new(io::ErrorKind::InvalidData, fault.reason)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.barrier.poll(cx));
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.count_written(bytes.get(..written).unwrap_or_default());
        }
        self.stats.note_progress(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.barrier.poll(cx));
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut written)) = polled {
            for slice in slices {
                let part = slice.get(..written.min(slice.len())).unwrap_or_default();
                self.count_written(part);
                written -= part.len();
            }
        }
        self.stats.note_progress(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        self.stats.note_progress(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.barrier.poll(cx));
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
