//! What an upgraded connection is relayed over on the backend's side: a socket of its own, or a stream of a shared
//! HTTP/2 connection.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::http2::Tunnel;

use super::http2::Stream;
use super::socket::Socket;

/// See the module.
pub enum Link {
    Socket(Socket),
    Stream(Box<Tunnelled>),
}

/// A stream, and its place on the connection.
pub struct Tunnelled {
    io: Tunnel,
    _stream: Stream,
}

impl Tunnelled {
    pub fn new(io: Tunnel, stream: Stream) -> Self {
        Self { io, _stream: stream }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Socket(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Stream(stream) => Pin::new(&mut stream.io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Socket(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Stream(stream) => Pin::new(&mut stream.io).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Socket(socket) => Pin::new(socket).poll_flush(cx),
            Self::Stream(stream) => Pin::new(&mut stream.io).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Socket(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Stream(stream) => Pin::new(&mut stream.io).poll_shutdown(cx),
        }
    }
}
