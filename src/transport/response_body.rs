//! The body of an upstream's response on its way to the consumer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use zeroize::Zeroizing;

use super::connect::{Connection, Endpoint};
use super::endpoint_state::InFlight;
use super::pool::Pool;
use crate::audit::Meter;
use crate::code::{Code, Failure};
use crate::io::timer::LazyTimer;
use crate::scanner::{Scanner, Stream};

/// A response body. At its end, its connection returns to the pool. If it is dropped earlier, the connection is closed,
/// so that no response can reach another caller.
///
/// Boxed inside, since it is large and moved with its response.
pub struct UpstreamBody(Box<Inner>);

struct Inner {
    /// The pieces already read from the upstream, to be handed over first.
    front: VecDeque<Bytes>,
    incoming: Incoming,
    /// The stream scanner that masks the credential, if the body may contain it.
    scrub: Option<Box<Stream>>,
    /// Whether the end of the upstream's body was seen. A chunked body does not announce it.
    ended: bool,
    /// The length of the prepended text minus the length of the text it replaces, in bytes.
    grown: i64,
    owner: Option<(Box<Connection>, Rc<Pool>)>,
    /// Counts the call as in flight at its endpoint until the response has ended.
    _load: Option<InFlight>,
    endpoint: u64,
    pool_idle: Duration,
    timeout: Duration,
    patience: LazyTimer,
    meter: Meter,
}

impl UpstreamBody {
    pub(super) fn new(
        incoming: Incoming,
        owner: (Box<Connection>, Rc<Pool>),
        (endpoint, load): (&Endpoint, Option<InFlight>),
        meter: Meter,
    ) -> Self {
        Self(Box::new(Inner {
            front: VecDeque::new(),
            incoming,
            scrub: None,
            ended: false,
            grown: 0,
            owner: Some(owner),
            _load: load,
            endpoint: endpoint.id,
            pool_idle: endpoint.pool_idle,
            timeout: endpoint.timeout,
            patience: LazyTimer::default(),
            meter,
        }))
    }

    /// Returns the next piece of the body. Prepended pieces come first.
    ///
    /// # Errors
    /// [`Failure`] if the body breaks off or stalls.
    pub async fn next(&mut self) -> Option<Result<Bytes, Failure>> {
        if let Some(bytes) = self.0.front.pop_front() {
            return Some(Ok(bytes));
        }
        std::future::poll_fn(|cx| self.0.poll_incoming(cx)).await
    }

    /// Returns whether the body has no more data.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        self.0.front.is_empty() && self.0.is_exhausted()
    }

    /// Masks every match of `scanner` in the rest of the body, including pieces prepended earlier.
    pub fn scrub(&mut self, scanner: Scanner) {
        let this = &mut *self.0;
        this.scrub = Some(Box::new(Stream::new(scanner)));
        let front = std::mem::take(&mut this.front);
        let pieces = front.len();
        for (at, piece) in front.into_iter().enumerate() {
            let last = at + 1 == pieces && this.has_come();
            let clean = this.scrub_piece(piece, last);
            if !clean.is_empty() {
                this.front.push_back(clean);
            }
        }
    }

    /// Reads the body to its end, or until it exceeds `most` bytes.
    ///
    /// # Errors
    /// [`Failure`] if the body breaks off or stalls.
    pub async fn read(&mut self, most: usize) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let mut read = Zeroizing::new(Vec::new());
        while read.len() <= most
            && let Some(more) = self.next().await
        {
            let more = more?;
            if read.capacity() < read.len() + more.len() {
                // Grown by hand: a vector that reallocates leaves its old contents in memory.
                let mut larger = Zeroizing::new(Vec::with_capacity((read.len() + more.len()) * 2));
                larger.extend_from_slice(&read);
                read = larger;
            }
            read.extend_from_slice(&more);
        }
        Ok(read)
    }

    /// Prepends `bytes` to the rest of the body. They replace `taken` bytes that [`next`](Self::next) returned.
    pub fn prepend(&mut self, bytes: Bytes, replaced: usize) {
        let length = |bytes: usize| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.0.grown = length(bytes.len()) - length(replaced);
        if !bytes.is_empty() {
            self.0.front.push_back(bytes);
        }
    }

    /// Excludes the connection from reuse.
    pub fn retire(&self) {
        if let Some((connection, _)) = &self.0.owner {
            connection.watch.is_retired.set(true);
        }
    }

    /// Returns how many bytes longer the body became by [`prepend`](Self::prepend).
    #[must_use]
    pub fn length_delta(&self) -> i64 {
        self.0.grown
    }
}

impl Inner {
    /// Returns whether the whole upstream body was handed over.
    fn is_exhausted(&self) -> bool {
        self.has_come() && self.pending_bytes() == 0
    }

    /// Returns whether the upstream has sent the whole body.
    fn has_come(&self) -> bool {
        self.ended || self.incoming.is_end_stream()
    }

    fn pending_bytes(&self) -> usize {
        self.scrub.as_ref().map_or(0, |scrub| scrub.pending())
    }

    fn scrub_piece(&mut self, piece: Bytes, last: bool) -> Bytes {
        let Some(scrub) = &mut self.scrub else { return piece };
        let (clean, found) = scrub.take(piece, last);
        if found > 0 {
            self.meter.scrubbed.update(|times| times.saturating_add(found));
        }
        clean
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        loop {
            if self.ended {
                return Poll::Ready(None);
            }
            let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
                return self.poll_stall(cx);
            };
            self.patience.clear();
            return Poll::Ready(match frame {
                None => {
                    self.ended = true;
                    let rest = self.scrub_piece(Bytes::new(), true);
                    (!rest.is_empty()).then_some(Ok(rest))
                }
                // Trailers are dropped here, as for request bodies.
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let last = self.incoming.is_end_stream();
                        let clean = self.scrub_piece(data, last);
                        // The whole piece may be the beginning of the credential.
                        if clean.is_empty() && !last {
                            continue;
                        }
                        Some(Ok(clean))
                    }
                    Err(_) => continue,
                },
                Some(Err(error)) => Some(Err(match &self.owner {
                    Some((connection, _)) => connection.failure(&error),
                    None => Failure::new(Code::UpstreamClosed, error.to_string()),
                })),
            });
        }
    }

    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Failure>>> {
        let timeout = self.timeout;
        let until = self.patience.start() + timeout;
        ready!(self.patience.poll(cx, until));
        let reason = format!("no progress within {timeout:?}");
        Poll::Ready(Some(Err(Failure::new(Code::UpstreamTimeout, reason))))
    }
}

impl Body for UpstreamBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        let this = &mut *self.get_mut().0;
        if let Some(bytes) = this.front.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        this.poll_incoming(cx).map(|next| next.map(|data| data.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.front.is_empty() && self.is_exhausted()
    }

    fn size_hint(&self) -> SizeHint {
        let front = self.0.front.iter().map(Bytes::len).sum::<usize>() + self.0.pending_bytes();
        match self.0.incoming.size_hint().exact() {
            Some(left) => SizeHint::with_exact(left.saturating_add(u64::try_from(front).unwrap_or(u64::MAX))),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some((connection, pool)) = self.owner.take()
            && self.has_come()
            && self.meter.is_whole.get()
            && connection.watch.may_serve_again()
        {
            pool.release(self.endpoint, self.pool_idle, connection);
        }
    }
}
