//! An upgraded connection (WebSocket): bytes both ways until both sides are done or it idles.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use crate::listener::stream::ClientStream;
use crate::proxy::exchange::Exchange;

use super::serve::Client;

/// One buffer for each direction.
const BUFFER: usize = 16 * 1024;

/// The backend's end of an upgraded connection.
pub struct Tunnel {
    pub backend: TcpStream,
    /// Read from the backend beyond its 101.
    pub early: Bytes,
    /// In flight until the tunnel ends.
    pub exchange: Box<Exchange>,
}

/// Relays until both directions have ended, one breaks, nothing moves for `timeout.tunnel`, the
/// backend has drained for `tunnel_drain_timeout`, or the process stops.
pub async fn relay(client: &Client, mut stream: ClientStream, early: Bytes, mut tunnel: Tunnel) {
    let mut up = Direction::new(early);
    let mut down = Direction::new(std::mem::take(&mut tunnel.early));
    let idle = client.listener.config.timeout.tunnel;
    client.timer.arm_in(client.worker.now(), idle);
    let counted = tunnel.exchange.backend().map(|backend| backend.tunnel());
    let backend = &mut tunnel.backend;
    poll_fn(|cx| {
        if counted.as_ref().is_some_and(|tunnel| tunnel.is_cut()) {
            return Poll::Ready(());
        }
        let before = up.moved + down.moved;
        let up_done = up.poll(cx, &mut stream, backend);
        let down_done = down.poll(cx, backend, &mut stream);
        match (up_done, down_done) {
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(()),
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => return Poll::Ready(()),
            _ => {}
        }
        if up.moved + down.moved != before {
            client.timer.arm_in(client.worker.now(), idle);
        }
        client.timer.poll_expired(cx)
    })
    .await;
    tunnel.exchange.tunnelled(up.moved, down.moved);
}

/// One direction of a tunnel.
struct Direction {
    buffer: Box<[u8]>,
    /// What is read and not yet written: `buffer[from..to]`.
    from: usize,
    to: usize,
    early: Bytes,
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
    fn new(early: Bytes) -> Self {
        let buffer = vec![0; BUFFER].into_boxed_slice();
        Self { buffer, from: 0, to: 0, early, state: State::Open, moved: 0 }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Closes + Unpin,
    {
        loop {
            while !self.early.is_empty() {
                match Pin::new(&mut *writer).poll_write(cx, &self.early)? {
                    Poll::Ready(n) => {
                        self.early = self.early.split_off(n);
                        self.moved += n as u64;
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            while self.from < self.to {
                match Pin::new(&mut *writer).poll_write(cx, &self.buffer[self.from..self.to])? {
                    Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    Poll::Ready(n) => {
                        self.from += n;
                        self.moved += n as u64;
                    }
                    Poll::Pending => return Poll::Pending,
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
            let mut buf = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *reader).poll_read(cx, &mut buf)? {
                Poll::Ready(()) => {
                    (self.from, self.to) = (0, buf.filled().len());
                    if self.to == 0 {
                        self.state = State::Ending;
                    }
                }
                Poll::Pending => {
                    // TLS keeps what was written until it is flushed.
                    let _ = Pin::new(&mut *writer).poll_flush(cx)?;
                    return Poll::Pending;
                }
            }
        }
    }
}

/// Something whose sending side can be closed for good.
trait Closes {
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

impl Closes for TcpStream {
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self).poll_shutdown(cx)
    }
}

impl Closes for ClientStream {
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ClientStream::poll_close(self, cx)
    }
}
