//! A stream that became a connection of another protocol (extended CONNECT, RFC 8441), as bytes both ways.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One end of a tunnel. Dropped before both directions have ended, it is reset with CANCEL, which stands for
/// TCP's RST (RFC 8441 §5).
pub struct Tunnel {
    sender: SendStream<Bytes>,
    received: RecvStream,
    /// Received and not yet read.
    left: Bytes,
}

impl Tunnel {
    pub fn new(sender: SendStream<Bytes>, received: RecvStream) -> Self {
        Self { sender, received, left: Bytes::new() }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        while this.left.is_empty() {
            match ready!(this.received.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => this.left = data,
                Some(Err(error)) => {
                    return Poll::Ready(match error.reason() {
                        // It wants no more, and has no more to say.
                        Some(Reason::NO_ERROR | Reason::CANCEL) => Ok(()),
                        _ => Err(io::Error::other(error)),
                    });
                }
            }
        }
        let count = this.left.len().min(buf.remaining());
        buf.put_slice(&this.left[..count]);
        this.left.advance(count);
        // It fails only where more is released than was received.
        let _ = this.received.flow_control().release_capacity(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let sender = &mut self.sender;
        sender.reserve_capacity(buf.len());
        let mut room = sender.capacity();
        while room == 0 {
            room = match ready!(sender.poll_capacity(cx)) {
                Some(room) => room.map_err(io::Error::other)?,
                None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            };
        }
        let count = room.min(buf.len());
        let data = Bytes::copy_from_slice(&buf[..count]);
        sender.send_data(data, false).map_err(io::Error::other)?;
        Poll::Ready(Ok(count))
    }

    /// The codec writes by itself; this fails when the other side has reset the stream, and wakes when it does.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(match self.sender.poll_reset(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(_)) => Err(io::ErrorKind::ConnectionReset.into()),
            Poll::Ready(Err(error)) => Err(io::Error::other(error)),
        })
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.sender.send_data(Bytes::new(), true).map_err(io::Error::other))
    }
}
