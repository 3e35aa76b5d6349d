//! Lingering close: ends a connection so that its last response arrives.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::io::timer::LazyTimer;

/// The maximum number of bytes that are discarded of a request that was answered early.
const DISCARDED: usize = 1 << 20;
/// The time-out for the whole close.
const PATIENCE: Duration = Duration::from_secs(2);

/// The lingering close of a connection. Closing a socket with unread bytes resets the connection, and the response may
/// be lost. Incoming bytes are therefore read for a while and discarded, without parsing.
#[derive(Default)]
pub(crate) struct LingeringClose {
    was_shut_down: bool,
    discarded: usize,
    deadline: LazyTimer,
}

impl LingeringClose {
    /// Ends the connection. `clean` means that nothing is left to read.
    pub(crate) fn poll<S>(
        &mut self,
        cx: &mut Context<'_>,
        socket: &mut S,
        clean: bool,
    ) -> Poll<io::Result<()>>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let until = self.deadline.start() + PATIENCE;
        if !self.was_shut_down {
            if Pin::new(&mut *socket).poll_shutdown(cx)?.is_pending() {
                return self.deadline.poll(cx, until).map(Ok);
            }
            self.was_shut_down = true;
        }
        if clean {
            return Poll::Ready(Ok(()));
        }
        let mut room = [std::mem::MaybeUninit::uninit(); 8192];
        while self.discarded < DISCARDED {
            let mut buffer = ReadBuf::uninit(&mut room);
            if Pin::new(&mut *socket).poll_read(cx, &mut buffer)?.is_pending() {
                return self.deadline.poll(cx, until).map(Ok);
            }
            if buffer.filled().is_empty() {
                break;
            }
            self.discarded += buffer.filled().len();
        }
        Poll::Ready(Ok(()))
    }
}
