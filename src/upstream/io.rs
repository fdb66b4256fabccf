//! The socket below an HTTP/2 connection to a backend: notices one that reads nothing, and one that takes nothing more.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::socket::Socket;

/// What the socket tells the owner of the connection.
#[derive(Debug, Default)]
pub struct Wire {
    /// A write would block.
    blocked: Cell<bool>,
    /// Grows with every write that took something.
    progress: Cell<u32>,
    /// The backend takes nothing more; see [`Wire::failed`].
    broken: Cell<bool>,
    /// Grows with every read that brought something.
    reads: Cell<u32>,
}

impl Wire {
    /// While a write would block: a number that changes when the peer has read something.
    pub fn blocked(&self) -> Option<u32> {
        self.blocked.get().then(|| self.progress.get())
    }

    /// A number that changes when something was read.
    pub fn reads(&self) -> u32 {
        self.reads.get()
    }

    /// The backend closed its receiving side.
    pub fn broken(&self) -> bool {
        self.broken.get()
    }

    /// What a write came to.
    fn wrote(&self, result: Poll<io::Result<usize>>, bytes: usize) -> Poll<io::Result<usize>> {
        self.blocked.set(result.is_pending());
        match result {
            Poll::Ready(Ok(n)) => {
                self.progress.set(self.progress.get().wrapping_add(1));
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => self.failed(error, bytes),
            Poll::Pending => Poll::Pending,
        }
    }

    /// A write failed. A backend that answers, says GOAWAY and closes breaks our writes while that waits to be
    /// read. So what was to be written is thrown away, and reading finds it, or the end.
    fn failed(&self, error: io::Error, bytes: usize) -> Poll<io::Result<usize>> {
        use io::ErrorKind::{BrokenPipe, ConnectionReset};
        self.blocked.set(false);
        if self.progress.get() > 0 && matches!(error.kind(), BrokenPipe | ConnectionReset) {
            self.broken.set(true);
            return Poll::Ready(Ok(bytes));
        }
        Poll::Ready(Err(error))
    }
}

/// A connection to a backend, watched.
pub struct UpstreamIo {
    pub socket: Socket,
    pub wire: Rc<Wire>,
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let result = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.wire.reads.set(self.wire.reads.get().wrapping_add(1));
        }
        result
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wire.wrote(result, buf.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wire.wrote(result, bufs.iter().map(|buf| buf.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Socket::Plain(_) = self.socket {
            return Poll::Ready(Ok(()));
        }
        match Pin::new(&mut self.socket).poll_flush(cx) {
            Poll::Pending => {
                // What TLS made of a write that was taken.
                self.wire.blocked.set(true);
                Poll::Pending
            }
            Poll::Ready(Ok(())) => {
                self.wire.blocked.set(false);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => self.wire.failed(error, 0).map(|result| result.map(drop)),
        }
    }

    /// Does nothing: the connection is closed when it is dropped.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
