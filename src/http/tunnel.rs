//! An upgraded connection or stream (WebSocket): bytes both ways until both sides are done or it idles.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2;
use crate::listener::stream::ClientStream;
use crate::proxy::exchange::Exchange;
use crate::upstream::link::Link;

use super::client::Client;

/// The backend's end of an upgraded connection.
pub struct Tunnel {
    pub backend: Link,
    /// Read from the backend beyond its 101.
    pub early: Bytes,
    /// In flight until the tunnel ends.
    pub exchange: Box<Exchange>,
}

/// Relays until both directions have ended, one breaks, nothing moves for `timeout.tunnel`, the
/// backend has drained for `tunnel_drain_timeout`, or the process stops.
pub async fn relay<S>(client: &Client, mut stream: S, early: Bytes, tunnel: Tunnel)
where
    S: AsyncRead + AsyncWrite + Closes + Unpin,
{
    let Tunnel { mut backend, early: first, mut exchange } = tunnel;
    let mut up = Direction::new(early);
    let mut down = Direction::new(first);
    let idle = client.listener.config.timeout.tunnel;
    let timer = &exchange.timer;
    timer.arm_in(client.worker.now(), idle);
    let counted = exchange.backend().map(|backend| backend.tunnel());
    let backend = &mut backend;
    poll_fn(|cx| {
        if counted.as_ref().is_some_and(|tunnel| tunnel.is_cut()) {
            return Poll::Ready(());
        }
        let before = up.moved + down.moved;
        let mut scratch = client.worker.scratch.borrow_mut();
        let up_done = up.poll(cx, &mut scratch, &mut stream, backend);
        let down_done = down.poll(cx, &mut scratch, backend, &mut stream);
        drop(scratch);
        match (up_done, down_done) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            _ => {}
        }
        if up.moved + down.moved != before {
            timer.arm_in(client.worker.now(), idle);
        }
        timer.poll_expired(cx)
    })
    .await;
    exchange.tunnelled(up.moved, down.moved);
}

/// One direction of a tunnel. It is read into a buffer that all tunnels of the worker share;
/// only what the other side does not take at once is kept, so a silent tunnel holds no buffer.
struct Direction {
    /// Read and not yet written: at most one buffer full.
    left: Bytes,
    state: State,
    /// Bytes written.
    moved: u64,
}

#[derive(PartialEq)]
enum State {
    Open,
    /// The reading side ended; the writing side is told once all is written.
    Ending,
    Ended,
}

impl Direction {
    /// `early` is written first.
    fn new(early: Bytes) -> Self {
        Self { left: early, state: State::Open, moved: 0 }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        scratch: &mut [u8],
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Closes + Unpin,
    {
        loop {
            if !self.left.is_empty() {
                let mut left = std::mem::take(&mut self.left);
                let written = self.write(cx, &left, writer)?;
                self.left = left.split_off(written);
                if !self.left.is_empty() {
                    return Poll::Pending;
                }
            }
            if self.state == State::Ending {
                match writer.poll_close(cx)? {
                    Poll::Ready(()) => self.state = State::Ended,
                    Poll::Pending => return Poll::Pending,
                }
            }
            if self.state == State::Ended {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(scratch);
            match Pin::new(&mut *reader).poll_read(cx, &mut buf)? {
                Poll::Ready(()) if buf.filled().is_empty() => self.state = State::Ending,
                Poll::Ready(()) => {
                    let written = self.write(cx, buf.filled(), writer)?;
                    self.left = Bytes::copy_from_slice(&buf.filled()[written..]);
                }
                Poll::Pending => {
                    // TLS keeps what was written until it is flushed.
                    let _ = Pin::new(&mut *writer).poll_flush(cx)?;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Writes what is taken at once; how much that was.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        writer: &mut W,
    ) -> io::Result<usize> {
        let mut from = 0;
        while from < bytes.len() {
            match Pin::new(&mut *writer).poll_write(cx, &bytes[from..])? {
                Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(n) => {
                    from += n;
                    self.moved += n as u64;
                }
                Poll::Pending => break,
            }
        }
        Ok(from)
    }
}

/// Something whose sending side can be closed for good.
pub trait Closes {
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Closes for Link {
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }
}

impl Closes for http2::Tunnel {
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }
}

impl Closes for ClientStream {
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ClientStream::poll_close(self, cx)
    }
}
