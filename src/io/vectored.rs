//! Vectored writes: one write of several byte slices.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncWrite, ReadBuf};

/// Size in bytes up to which copying the pieces together is cheaper than a vectored write of the kernel.
const SMALL: usize = 4096;

/// Writes some of `pieces`, as [`AsyncWrite::poll_write_vectored`] does. Copies small pieces together first.
pub fn poll_write<S: AsyncWrite + Unpin>(
    socket: &mut S,
    cx: &mut Context<'_>,
    pieces: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    if let [only] = pieces {
        return Pin::new(socket).poll_write(cx, only);
    }
    if pieces.iter().map(|piece| piece.len()).sum::<usize>() > SMALL {
        return Pin::new(socket).poll_write_vectored(cx, pieces);
    }
    let mut room = [MaybeUninit::uninit(); SMALL];
    let mut together = ReadBuf::uninit(&mut room);
    for piece in pieces {
        together.put_slice(piece);
    }
    Pin::new(socket).poll_write(cx, together.filled())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn writes_every_piece_in_order_whatever_their_size() {
        for sizes in [vec![5], vec![5, 7], vec![0, 5], vec![SMALL - 1, 1], vec![SMALL, 1], vec![]] {
            let whole: Vec<u8> = (0_u8..=255).cycle().take(sizes.iter().sum()).collect();
            let mut rest = whole.as_slice();
            let pieces: Vec<IoSlice<'_>> = sizes
                .iter()
                .map(|size| {
                    let (piece, left) = rest.split_at(*size);
                    rest = left;
                    IoSlice::new(piece)
                })
                .collect();
            let mut written = Vec::new();
            let size = std::future::poll_fn(|cx| poll_write(&mut written, cx, &pieces)).await.unwrap();
            assert_eq!((size, written), (whole.len(), whole), "{sizes:?}");
        }
    }
}
