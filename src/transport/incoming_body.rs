//! A consumer's body before it is taken for forwarding: how much has arrived, and what was read ahead.

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;

use super::paced_body::{BodyLimits, PacedBody};
use crate::audit::Meter;
use crate::code::Failure;

/// A consumer's body, either unread or with its beginning read.
pub enum IncomingBody {
    /// No byte was read.
    Unread(Incoming),
    /// The beginning was read.
    Peeked(Peeked),
}

/// A body whose beginning was read; the read part is forwarded first.
pub struct Peeked {
    pub(super) watched: Box<PacedBody>,
    /// The length of the whole body in bytes, if it is known.
    pub(crate) known: Option<u64>,
    pub(crate) whole: bool,
}

impl IncomingBody {
    /// Returns whether the whole body has arrived.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Unread(incoming) => incoming.is_end_stream(),
            Self::Peeked(begun) => begun.whole,
        }
    }

    /// Returns whether the body is still unread, and known to have at most `most` bytes.
    #[must_use]
    pub fn is_at_most(&self, most: u64) -> bool {
        let Self::Unread(incoming) = self else { return false };
        !incoming.is_end_stream() && incoming.size_hint().exact().is_some_and(|known| known <= most)
    }

    /// Reads the whole body if it has at most `most` bytes. The part that was read is forwarded in any case. Returns
    /// `None` if the body is longer.
    pub async fn begin(
        self,
        most: usize,
        limits: BodyLimits,
        meter: Meter,
    ) -> (Self, Result<Option<Bytes>, Failure>) {
        let Self::Unread(incoming) = self else { return (self, Ok(None)) };
        let known = incoming.size_hint().exact();
        let mut begun =
            Peeked { watched: Box::new(PacedBody::new(incoming, limits, meter)), known, whole: false };
        let read = begun.read(most).await;
        (Self::Peeked(begun), read)
    }
}

impl Peeked {
    async fn read(&mut self, most: usize) -> Result<Option<Bytes>, Failure> {
        let mut front = BytesMut::new();
        let length = |front: &BytesMut| u64::try_from(front.len()).unwrap_or(u64::MAX);
        // With a known length, the last byte is recognised without another read.
        while !self.whole && front.len() <= most {
            match std::future::poll_fn(|cx| self.watched.poll(cx)).await {
                Some(frame) => front.extend_from_slice(&frame?),
                None => self.whole = true,
            }
            self.whole |= self.known.is_some_and(|known| length(&front) >= known);
        }
        if self.whole {
            self.known = Some(length(&front));
        }
        let front = front.freeze();
        self.watched.front = front.clone();
        Ok((self.whole && front.len() <= most).then_some(front))
    }
}
