//! The body of a request on its way up. Always of known length: a chunked body would reach
//! JumpServer empty, so that one is kept, in memory to 64 KiB, then in a file without a name.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::fs::File;
use tokio::io::{AsyncRead as _, AsyncSeekExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::audit::Meter;
use crate::code::Code;

/// How much of a chunked body is kept in memory.
const IN_MEMORY: usize = 64 * 1024;
/// How much is read of a spooled body at a time.
const READ: usize = 64 * 1024;
/// A body that brings less than this within the time-out is cut off.
const LEAST_PROGRESS: u64 = 1024;

/// Why a consumer's body did not arrive.
#[derive(Debug, thiserror::Error)]
#[error("{reason}")]
pub struct BodyFault {
    /// What the consumer is told.
    pub code: Code,
    /// What the trail is told.
    pub reason: String,
}

/// Limits of a consumer's body.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// The longest, in bytes.
    pub most: u64,
    /// In each such time at least 1 KiB must come, or the end.
    pub patience: Duration,
}

/// A request body of known length.
pub struct RequestBody {
    source: Source,
    length: u64,
    left: u64,
    meter: Meter,
}

/// Boxed where large: a request is moved a few times on its way, mostly without a body.
enum Source {
    Memory(Bytes),
    Stream(Box<Watched>),
    Spool(Box<File>),
}

impl RequestBody {
    /// No body.
    #[must_use]
    pub fn empty(meter: Meter) -> Self {
        meter.set_whole(true);
        Self { source: Source::Memory(Bytes::new()), length: 0, left: 0, meter }
    }

    /// A body of ours.
    #[must_use]
    pub(super) fn own(bytes: Bytes) -> Self {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let meter = Meter::default();
        meter.set_whole(length == 0);
        Self { source: Source::Memory(bytes), length, left: length, meter }
    }

    /// Takes the consumer's body: as a stream where its length is known, else whole.
    /// `spool` is the folder for what does not fit into memory.
    ///
    /// # Errors
    /// [`BodyFault`] where it is too long, too slow, broken off, or cannot be kept.
    pub async fn take(
        incoming: Incoming,
        limits: BodyLimits,
        spool: &Path,
        meter: Meter,
    ) -> Result<Self, BodyFault> {
        if incoming.is_end_stream() {
            return Ok(Self::empty(meter));
        }
        let known = incoming.size_hint().exact();
        let watched = Watched::new(incoming, limits, meter.clone());
        match known {
            Some(length) => {
                Ok(Self { source: Source::Stream(Box::new(watched)), length, left: length, meter })
            }
            // Boxed, since it is rare and large.
            None => Box::pin(keep(watched, spool, meter)).await,
        }
    }

    /// The same body once more, where that can be had: there is none.
    #[must_use]
    pub fn again(&self) -> Option<Self> {
        (self.length == 0).then(|| Self::empty(self.meter.clone()))
    }

    /// Whether it was read to its end before it could be passed on.
    #[must_use]
    pub fn was_kept(&self) -> bool {
        match &self.source {
            Source::Memory(bytes) => !bytes.is_empty(),
            Source::Spool(_) => true,
            Source::Stream(_) => false,
        }
    }

    /// The length, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }
}

/// Reads a body of unknown length to its end.
async fn keep(mut body: Watched, spool: &Path, meter: Meter) -> Result<RequestBody, BodyFault> {
    let mut memory = BytesMut::new();
    let mut file: Option<File> = None;
    while let Some(frame) = std::future::poll_fn(|cx| body.poll(cx)).await {
        memory.extend_from_slice(&frame?);
        if memory.len() > IN_MEMORY {
            let file = match &mut file {
                Some(file) => file,
                None => file.insert(open_spool(spool).map_err(unkept)?),
            };
            file.write_all(&memory).await.map_err(unkept)?;
            memory.clear();
        }
    }
    let length = meter.bytes();
    let Some(mut file) = file else {
        return Ok(RequestBody { source: Source::Memory(memory.freeze()), length, left: length, meter });
    };
    file.write_all(&memory).await.map_err(unkept)?;
    file.flush().await.map_err(unkept)?;
    file.rewind().await.map_err(unkept)?;
    Ok(RequestBody { source: Source::Spool(Box::new(file)), length, left: length, meter })
}

/// A file without a name, readable by nobody else.
fn open_spool(folder: &Path) -> io::Result<File> {
    let file = tempfile::tempfile_in(folder)?;
    // Made without a name it has the mode that the umask leaves.
    file.set_permissions(Permissions::from_mode(0o600))?;
    Ok(File::from_std(file))
}

#[expect(clippy::needless_pass_by_value, reason = "used as the argument of map_err")]
fn unkept(error: io::Error) -> BodyFault {
    BodyFault { code: Code::SpoolFailed, reason: format!("spool: {error}") }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        let data = match &mut this.source {
            Source::Memory(bytes) => std::mem::take(bytes),
            Source::Stream(stream) => {
                let polled = stream.poll(cx);
                this.meter.set_awaited(polled.is_pending());
                let Some(data) = ready!(polled) else {
                    let reason = format!("{} bytes missing", this.left);
                    return Poll::Ready(Some(Err(BodyFault { code: Code::BodyIncomplete, reason })));
                };
                data?
            }
            Source::Spool(file) => {
                let mut chunk = vec![0; READ.min(usize::try_from(this.left).unwrap_or(READ))];
                let mut buffer = ReadBuf::new(&mut chunk);
                ready!(Pin::new(&mut **file).poll_read(cx, &mut buffer)).map_err(unkept)?;
                let read = buffer.filled().len();
                if read == 0 {
                    return Poll::Ready(Some(Err(unkept(io::ErrorKind::UnexpectedEof.into()))));
                }
                chunk.truncate(read);
                Bytes::from(chunk)
            }
        };
        this.left = this.left.saturating_sub(u64::try_from(data.len()).unwrap_or(u64::MAX));
        this.meter.set_whole(this.left == 0);
        Poll::Ready(Some(Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// A consumer's body under limits of size and pace.
struct Watched {
    incoming: Incoming,
    limits: BodyLimits,
    meter: Meter,
    window: u64,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    fn new(incoming: Incoming, limits: BodyLimits, meter: Meter) -> Self {
        Self { incoming, limits, meter, window: 0, patience: None }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        loop {
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                return self.poll_patience(cx);
            };
            let data = match frame {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(broken(&error)))),
                // Trailers end here: they are never forwarded.
                Some(Ok(frame)) => {
                    let Ok(data) = frame.into_data() else { continue };
                    data
                }
            };
            let size = u64::try_from(data.len()).unwrap_or(u64::MAX);
            self.window += size;
            let bytes = self.meter.bytes() + size;
            self.meter.set_bytes(bytes);
            if bytes > self.limits.most {
                let reason = format!("more than {} bytes", self.limits.most);
                return Poll::Ready(Some(Err(BodyFault { code: Code::BodyTooLarge, reason })));
            }
            return Poll::Ready(Some(Ok(data)));
        }
    }

    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyFault>>> {
        let until = || Instant::now() + self.limits.patience;
        let sleep = self.patience.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until())));
        while sleep.as_mut().poll(cx).is_ready() {
            if self.window < LEAST_PROGRESS {
                let reason = format!("{} bytes in {:?}", self.window, self.limits.patience);
                return Poll::Ready(Some(Err(BodyFault { code: Code::BodyTimeout, reason })));
            }
            self.window = 0;
            sleep.as_mut().reset(Instant::now() + self.limits.patience);
        }
        Poll::Pending
    }
}

/// Why a consumer's body ended before its end: its framing broke, or it broke off.
fn broken(error: &hyper::Error) -> BodyFault {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(found) = cause {
        if found.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            return BodyFault { code: Code::Malformed, reason: root(error) };
        }
        cause = found.source();
    }
    let reason = format!("the consumer's body broke off: {}", root(error));
    BodyFault { code: Code::BodyIncomplete, reason }
}

/// The innermost cause of an error, in words.
pub(super) fn root(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}
