//! What a consumer is sent: nothing before its outcome is recorded, and not for ever.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Framer, State};
use crate::vectored;

impl<S: AsyncRead + AsyncWrite + Unpin> Framer<S> {
    /// Ready once the outcomes so far are in the trail's file.
    fn poll_gate(&mut self, cx: &Context<'_>) -> Poll<()> {
        let polled = self.gate.poll(cx);
        self.held |= polled.is_pending();
        polled
    }

    /// A consumer that takes nothing of its answer for too long is cut off.
    fn with_write_timeout<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.writing.clear();
            if std::mem::take(&mut self.held) {
                self.shared.wake();
            }
            return polled;
        }
        self.held = true;
        self.shared.quiet.end();
        let until = self.writing.start() + self.pace.write;
        ready!(self.writing.poll(cx, until));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Framer<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_gate(cx));
        let polled = Pin::new(&mut this.socket).poll_write(cx, bytes);
        this.with_write_timeout(cx, polled)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_gate(cx));
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
        ready!(this.poll_gate(cx));
        this.shared.quiet.end();
        // All was written: the end that the answer needs.
        this.shared.mark_complete();
        let clean = this.eof || (matches!(this.state, State::Head { .. }) && this.inbox.is_empty());
        this.linger.poll(cx, &mut this.socket, clean)
    }
}
