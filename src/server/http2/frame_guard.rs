//! Between a consumer's socket and HTTP/2: the head of each frame is looked at as it passes.
//!
//! What h2 bounds by itself is left to it. Here the connection ends whose frames only make work, and
//! those are told that the trail would otherwise not hear of: streams that never become a request.
//!
//! Every frame costs something, unless there is a reason why an honest consumer sends it: it opens a stream
//! that is served, brings some of a body that is wanted, ends that body, or makes room for what we have sent.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::audit::WriteBarrier;
use crate::code::Code;
use crate::framing::Fault;

/// The connection preface (RFC 9113 §3.4), which h2 compares.
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
/// The most frames that one head may come in.
const PIECES: u32 = 16;
/// What may be spent at once, and what is earned each second, on frames that bring nothing.
const AT_ONCE: u32 = 1000 * FRAME;
const A_SECOND: u32 = 100 * FRAME;
/// What a frame costs that brings nothing.
const FRAME: u32 = 10;
/// What a stream reset costs.
const RESET: u32 = 5 * FRAME;
/// What an acknowledgement costs of what was never sent: h2 logs each.
const UNASKED: u32 = 10 * FRAME;
/// What a frame costs that brings a few bytes of a body: fewer than [`FEW`], beside its padding.
const CRUMB: u32 = 1;
const FEW: usize = 16;
/// The most padding of a frame, with its length.
const PADDING: usize = 256;
const KIB: u64 = 1024;
/// Updates of a window and of priorities are free once for each KiB of DATA that was sent, and at least so many
/// times for each frame of it: whoever has small windows widens both the stream's and the connection's each time.
/// They are free as often for each stream that is opened: some libraries widen its window, or say its priority, at
/// once.
const FREE_UPDATES: u64 = 2;
/// Streams at once on one connection.
pub(in crate::server) const STREAMS: u32 = 100;
/// What may come of one stream before more is asked for, in bytes. So much may be on its way when it ends.
pub(in crate::server) const WINDOW: u32 = 64 << 10;

/// What the frames of one connection tell.
#[derive(Debug, Default)]
pub(in crate::server) struct FrameStats {
    /// Heads of new streams that are whole.
    begun: Cell<u64>,
    /// Streams that became a request.
    served: Cell<u64>,
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

impl FrameStats {
    /// Streams whose head is whole.
    pub(in crate::server) fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// Streams that became a request.
    pub(in crate::server) fn stream_count(&self) -> u64 {
        self.served.get()
    }

    /// A stream became a request.
    pub(in crate::server) fn serve(&self) {
        self.served.set(self.served.get() + 1);
    }

    /// Since when something is not whole.
    pub(in crate::server) fn incomplete_since(&self) -> Option<Instant> {
        self.since.get()
    }

    /// Since when the consumer takes nothing at all.
    pub(in crate::server) fn blocked_since(&self) -> Option<Instant> {
        self.stuck.get()
    }

    /// Since when an answer does not wait for those before it on the connection: not at all while it is stuck.
    pub(in crate::server) fn unblocked_since(&self) -> Option<Instant> {
        self.stuck.get().map(|_| Instant::now()).or(self.freed.get())
    }

    /// Takes note of whether something could be written.
    fn note_progress<T>(&self, polled: Poll<T>) -> Poll<T> {
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
    pub(in crate::server) fn take_fault(&self) -> Option<Fault> {
        self.fault.take()
    }
}

/// The socket, watched.
pub(in crate::server) struct FrameGuard<S> {
    socket: S,
    gate: WriteBarrier,
    seen: Rc<FrameStats>,
    reading: At,
    writing: At,
    /// The longest head as it comes, in bytes.
    most: usize,
    /// A head that is not whole: its bytes, its frames, whether it opens a stream.
    head: Option<(usize, u32, bool)>,
    /// The frame under way ends a head that opens a stream.
    opens: bool,
    /// Streams of whose body more is wanted.
    wanted: Vec<u32>,
    /// How much may still come of bodies that nobody wants any more, in bytes.
    late: u64,
    /// Streams that h2 has refused, and that were charged.
    refused: u64,
    /// Settings and pings that were sent and not yet acknowledged.
    asked: u32,
    /// What was sent in DATA and not yet acknowledged, in bytes; a small frame counts as [`FREE_UPDATES`] KiB, and so
    /// does each stream that is opened.
    sent: u64,
    budget: Budget,
}

/// Where one direction stands.
enum At {
    /// Nothing has come.
    Before,
    /// So many bytes of the preface, or of a frame's payload, are to come.
    Within(usize),
    /// The head of a frame, and how much of it came.
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

/// What has passed.
enum Passed {
    Nothing,
    Head(Head),
    /// The preface, or a payload that is not empty, is over.
    Whole,
}

impl At {
    /// Takes what it can at once: how many bytes, and what has passed with them.
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

    /// Whether it may bring fewer than [`FEW`] bytes.
    fn is_crumb(self) -> bool {
        self.len < FEW + if self.flags & PADDED == 0 { 0 } else { PADDING }
    }

    fn bytes(self) -> u64 {
        u64::try_from(self.len).unwrap_or(u64::MAX)
    }
}

/// What may still be spent on frames that bring nothing.
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
    /// Watches `socket`; a head may have `most` bytes as it comes.
    pub(in crate::server) fn new(
        (socket, gate): (S, WriteBarrier),
        seen: Rc<FrameStats>,
        most: usize,
    ) -> Self {
        let (reading, writing) = (At::Before, At::Between([0; 9], 0));
        let budget = Budget { left: AT_ONCE, since: Instant::now() };
        let (head, opens, wanted) = (None, false, Vec::new());
        let (late, refused, asked, sent) = (0, 0, 0, 0);
        Self {
            socket,
            gate,
            seen,
            reading,
            writing,
            most,
            head,
            opens,
            wanted,
            late,
            refused,
            asked,
            sent,
            budget,
        }
    }

    /// Takes what was read.
    fn take(&mut self, mut bytes: &[u8]) -> Result<(), Fault> {
        if matches!(self.reading, At::Before) && !bytes.is_empty() {
            self.seen.since.set(Some(Instant::now()));
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

    /// A frame or the preface is over.
    fn next_frame(&mut self) {
        if self.head.is_none() {
            self.seen.since.set(None);
        }
        if std::mem::take(&mut self.opens) {
            self.seen.begun.set(self.seen.begun.get() + 1);
        }
    }

    /// Judges a frame that comes by its head.
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

    /// Some of a body.
    fn data(&mut self, head: Head) -> Result<(), Fault> {
        let wanted = self.wanted.contains(&head.stream);
        if head.ends_stream() && self.end_of(head.stream) {
            return Ok(());
        }
        if head.len == 0 {
            return self.budget.spend(FRAME, IDLE);
        }
        if !wanted {
            let Some(left) = self.late.checked_sub(head.bytes()) else {
                let kib = u32::try_from(head.bytes() / KIB).unwrap_or(u32::MAX);
                return self
                    .budget
                    .spend(FRAME * (1 + kib), "connection abuse: bodies of streams that ended");
            };
            self.late = left;
        }
        if head.is_crumb() { self.budget.spend(CRUMB, "connection abuse: bodies in crumbs") } else { Ok(()) }
    }

    /// A head begins: that of a stream, or what follows its body.
    fn headers(&mut self, head: Head) -> Result<(), Fault> {
        let opens = head.stream > self.seen.last.get();
        if opens {
            self.seen.last.set(head.stream);
            self.open(head)?;
        } else if !(head.ends_stream() && self.end_of(head.stream)) {
            self.budget.spend(FRAME, IDLE)?;
        }
        self.seen.since.set(Some(Instant::now()));
        self.head = Some((0, 0, opens));
        self.header_fragment(head)
    }

    /// A stream is opened.
    fn open(&mut self, head: Head) -> Result<(), Fault> {
        // h2 refuses streams beyond the limit, and those that are no request.
        let unserved = self.seen.begun().saturating_sub(self.seen.stream_count());
        if unserved > self.refused + u64::from(STREAMS) {
            self.refused += 1;
            self.budget.spend(FRAME, "connection abuse: streams that are refused")?;
        } else {
            self.sent += FREE_UPDATES * KIB;
        }
        if !head.ends_stream() {
            self.wanted.push(head.stream);
            self.late = (self.late + u64::from(WINDOW)).min(u64::from(STREAMS) * u64::from(WINDOW));
        }
        Ok(())
    }

    /// Room for more of what was sent, or another order of it.
    fn update(&mut self) -> Result<(), Fault> {
        match self.sent.checked_sub(KIB) {
            Some(left) => self.sent = left,
            None => self.budget.spend(FRAME, "connection abuse: updates of nothing")?,
        }
        Ok(())
    }

    /// Settings or a ping of ours came, or so it says.
    fn acknowledgement(&mut self) -> Result<(), Fault> {
        match self.asked.checked_sub(1) {
            Some(left) => self.asked = left,
            None => self.budget.spend(UNASKED, "connection abuse: acknowledgements of nothing")?,
        }
        Ok(())
    }

    /// No more is wanted of this stream's body; whether it was until now.
    fn end_of(&mut self, stream: u32) -> bool {
        let at = self.wanted.iter().position(|wanted| *wanted == stream);
        at.is_some_and(|at| self.wanted.swap_remove(at) == stream)
    }

    /// Takes note of what was written.
    fn count_written(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (used, passed) = self.writing.advance(bytes);
            match passed {
                Passed::Head(head) if head.kind == DATA && head.len > 0 => {
                    self.sent += head.bytes().max(FREE_UPDATES * KIB);
                }
                Passed::Head(head) if matches!(head.kind, SETTINGS | PING) && head.flags & ACK == 0 => {
                    self.asked += 1;
                }
                Passed::Head(head) if head.kind == RST_STREAM => {
                    self.end_of(head.stream);
                }
                Passed::Nothing | Passed::Head(_) | Passed::Whole => {}
            }
            bytes = bytes.get(used..).unwrap_or_default();
        }
    }

    /// A part of a head.
    fn header_fragment(&mut self, head: Head) -> Result<(), Fault> {
        // h2 ends a connection that continues nothing.
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

/// Why a connection ends whose frames bring nothing.
const IDLE: &str = "connection abuse: frames that bring nothing";

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
            this.seen.fault.set(Some(fault));
            io::Error::new(io::ErrorKind::InvalidData, fault.reason)
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for FrameGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.gate.poll(cx));
        let polled = Pin::new(&mut self.socket).poll_write(cx, bytes);
        if let Poll::Ready(Ok(written)) = polled {
            self.count_written(bytes.get(..written).unwrap_or_default());
        }
        self.seen.note_progress(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.gate.poll(cx));
        let polled = Pin::new(&mut self.socket).poll_write_vectored(cx, slices);
        if let Poll::Ready(Ok(mut written)) = polled {
            for slice in slices {
                let part = slice.get(..written.min(slice.len())).unwrap_or_default();
                self.count_written(part);
                written -= part.len();
            }
        }
        self.seen.note_progress(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.socket).poll_flush(cx);
        self.seen.note_progress(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.gate.poll(cx));
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
