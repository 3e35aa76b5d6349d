//! A consumer's body before it is taken: how much of it has come, and what is read of it first.

use bytes::{Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;

use super::request_body::{BodyFault, BodyLimits, PacedBody};
use crate::audit::Meter;

/// A consumer's body before it is taken: untouched, or with its beginning read.
pub enum IncomingBody {
    /// Nothing was read.
    Unread(Incoming),
    /// The beginning was read.
    Peeked(Peeked),
}

/// A body whose beginning was read, and will be handed on first.
pub struct Peeked {
    pub(super) watched: Box<PacedBody>,
    /// The length of all of it, where that is known.
    pub(crate) known: Option<u64>,
    pub(crate) whole: bool,
}

impl IncomingBody {
    /// Whether all of it has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Unread(incoming) => incoming.is_end_stream(),
            Self::Peeked(begun) => begun.whole,
        }
    }

    /// Whether it is still to come, and known to have no more than `most` bytes.
    #[must_use]
    pub fn is_at_most(&self, most: u64) -> bool {
        let Self::Unread(incoming) = self else { return false };
        !incoming.is_end_stream() && incoming.size_hint().exact().is_some_and(|known| known <= most)
    }

    /// Reads all of it, but no more than `most` bytes; what was read is handed on all the same. `None` where
    /// there is more.
    pub async fn begin(
        self,
        most: usize,
        limits: BodyLimits,
        meter: Meter,
    ) -> (Self, Result<Option<Bytes>, BodyFault>) {
        let Self::Unread(incoming) = self else { return (self, Ok(None)) };
        let known = incoming.size_hint().exact();
        let mut begun =
            Peeked { watched: Box::new(PacedBody::new(incoming, limits, meter)), known, whole: false };
        let read = begun.read(most).await;
        (Self::Peeked(begun), read)
    }
}

impl Peeked {
    async fn read(&mut self, most: usize) -> Result<Option<Bytes>, BodyFault> {
        let mut front = BytesMut::new();
        let length = |front: &BytesMut| u64::try_from(front.len()).unwrap_or(u64::MAX);
        // Of a known length it is known which byte is the last.
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
