//! The body of an outbound request, always of known length. JumpServer receives an empty body if it is chunked, so
//! claviger buffers a body of unknown length: up to 64 KiB in memory, beyond that in an unnamed file. It also buffers a
//! body that a token refresh may have to repeat.

use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::fs::File;
use tokio::io::{AsyncRead as _, AsyncSeekExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::Instant;

use crate::audit::Meter;
use crate::code::{Code, Failure};

use super::incoming_body::{self, IncomingBody};
use super::paced_body::{BodyLimits, PacedBody};

/// The maximum number of bytes kept in memory of a buffered body.
const IN_MEMORY: usize = 64 * 1024;
/// The size of one read from a spooled body, in bytes.
const READ: usize = 64 * 1024;

/// A request body of known length.
///
/// Boxed inside, since a request is moved several times and mostly has no body.
pub struct RequestBody {
    content: Option<Box<Content>>,
    meter: Meter,
    /// Whether the gateway waited for the body before it could forward the request.
    awaited: bool,
}

struct Content {
    source: Source,
    length: u64,
    left: u64,
}

enum Source {
    Memory(Bytes),
    Stream(Box<PacedBody>),
    Spool(Box<File>),
}

impl RequestBody {
    /// Creates an empty body.
    #[must_use]
    pub fn empty(meter: Meter) -> Self {
        meter.is_whole.set(true);
        Self { content: None, meter, awaited: false }
    }

    /// Creates a body of the gateway's own.
    #[must_use]
    pub(super) fn from_bytes(bytes: Bytes) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let meter = Meter::default();
        meter.is_whole.set(length == 0);
        Self::of(Source::Memory(bytes), length, meter, false)
    }

    /// Takes the consumer's body for forwarding. The body streams if its length is known. It is buffered if its length
    /// is unknown, or if it `is_buffered` for a repetition. `spool` is the folder for bodies that do not
    /// fit into memory.
    ///
    /// # Errors
    /// [`Failure`] if the body is too long, too slow, truncated, or cannot be buffered.
    pub async fn take(
        body: IncomingBody,
        limits: BodyLimits,
        spool: &Path,
        is_buffered: bool,
        meter: Meter,
    ) -> Result<Self, Failure> {
        let awaited = matches!(body, IncomingBody::Peeked(_));
        let (watched, known) = match body {
            IncomingBody::Unread(incoming) if incoming.is_end_stream() => return Ok(Self::empty(meter)),
            IncomingBody::Unread(incoming) => {
                let known = incoming.size_hint().exact();
                (Box::new(PacedBody::new(incoming, limits, Rc::clone(&meter))), known)
            }
            IncomingBody::Peeked(incoming_body::Peeked { watched, known: Some(length), whole: true })
                if length > 0 =>
            {
                return Ok(Self::of(Source::Memory(watched.front), length, meter, awaited));
            }
            IncomingBody::Peeked(incoming_body::Peeked { watched, known, .. }) => (watched, known),
        };
        match known {
            Some(0) => Ok(Self { awaited, ..Self::empty(meter) }),
            Some(length) if !is_buffered => Ok(Self::of(Source::Stream(watched), length, meter, awaited)),
            // Boxed, since it is rare and large.
            Some(_) | None => Box::pin(buffer(*watched, spool, meter)).await,
        }
    }

    /// Returns the same body again, if there is none or all of it was buffered.
    #[must_use]
    pub fn try_clone(&self) -> Option<Self> {
        let (meter, awaited) = (Rc::clone(&self.meter), self.awaited);
        match self.content.as_deref() {
            None => Some(Self { content: None, meter, awaited }),
            Some(Content { source: Source::Memory(bytes), length, .. }) => {
                Some(Self::of(Source::Memory(bytes.clone()), *length, meter, awaited))
            }
            Some(Content { source: Source::Spool(file), length, .. }) => {
                let same = Source::Spool(Box::new(open_again(file).ok()?));
                Some(Self::of(same, *length, meter, awaited))
            }
            Some(Content { source: Source::Stream(_), .. }) => None,
        }
    }

    /// Returns whether the gateway waited for the body, or its beginning, before it could forward the request.
    #[must_use]
    pub fn was_buffered(&self) -> bool {
        self.awaited
    }

    /// Returns whether the body is forwarded while it arrives, which may take long.
    #[must_use]
    pub fn is_stream(&self) -> bool {
        self.content.as_ref().is_some_and(|content| matches!(content.source, Source::Stream(_)))
    }

    /// Returns the length in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.content.as_ref().map_or(0, |content| content.length)
    }

    fn of(source: Source, length: u64, meter: Meter, awaited: bool) -> Self {
        Self { content: Some(Box::new(Content { source, length, left: length })), meter, awaited }
    }
}

/// Buffers a body to its end.
async fn buffer(mut body: PacedBody, spool: &Path, meter: Meter) -> Result<RequestBody, Failure> {
    let mut memory = BytesMut::new();
    let mut file: Option<File> = None;
    while let Some(frame) = std::future::poll_fn(|cx| body.poll(cx)).await {
        memory.extend_from_slice(&frame?);
        if memory.len() > IN_MEMORY {
            let file = match &mut file {
                Some(file) => file,
                None => file.insert(open_spool(spool).map_err(spool_fault)?),
            };
            file.write_all(&memory).await.map_err(spool_fault)?;
            memory.clear();
        }
    }
    let length = meter.bytes.get();
    let Some(mut file) = file else {
        meter.is_whole.set(length == 0);
        return Ok(RequestBody::of(Source::Memory(memory.freeze()), length, meter, true));
    };
    file.write_all(&memory).await.map_err(spool_fault)?;
    file.flush().await.map_err(spool_fault)?;
    file.rewind().await.map_err(spool_fault)?;
    Ok(RequestBody::of(Source::Spool(Box::new(file)), length, meter, true))
}

/// Opens an unnamed file that no other user can read at any time. If the file system does not support unnamed files,
/// the file has a name for a moment.
fn open_spool(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    match rustix::fs::open(folder, flags, Mode::RUSR | Mode::WUSR) {
        Ok(file) => Ok(File::from_std(file.into())),
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {
            Ok(File::from_std(tempfile::NamedTempFile::new_in(folder)?.into_file()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens the same file with a read position of its own; a duplicated descriptor would share the position.
fn open_again(file: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(File::from_std(std::fs::File::open(path)?))
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn spool_fault(error: io::Error) -> Failure {
    Failure::new(Code::SpoolFailed, format!("spool: {error}"))
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = self.get_mut();
        let Some(content) = this.content.as_deref_mut().filter(|content| content.left > 0) else {
            return Poll::Ready(None);
        };
        let data = match &mut content.source {
            Source::Memory(bytes) => std::mem::take(bytes),
            Source::Stream(stream) => {
                let polled = stream.poll(cx);
                this.meter.is_awaited.set(polled.is_pending());
                let Some(data) = ready!(polled) else {
                    let reason = format!("{} bytes missing", content.left);
                    return Poll::Ready(Some(Err(Failure::new(Code::BodyIncomplete, reason))));
                };
                data?
            }
            Source::Spool(file) => {
                let mut chunk = vec![0; READ.min(usize::try_from(content.left).unwrap_or(READ))];
                let mut buffer = ReadBuf::new(&mut chunk);
                ready!(Pin::new(&mut **file).poll_read(cx, &mut buffer)).map_err(spool_fault)?;
                let read = buffer.filled().len();
                if read == 0 {
                    return Poll::Ready(Some(Err(spool_fault(io::ErrorKind::UnexpectedEof.into()))));
                }
                chunk.truncate(read);
                Bytes::from(chunk)
            }
        };
        content.left = content.left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
        this.meter.last_progress.set(Some(Instant::now()));
        this.meter.is_whole.set(content.left == 0);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.as_ref().is_none_or(|content| content.left == 0)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.as_ref().map_or(0, |content| content.left))
    }
}
