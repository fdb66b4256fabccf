//! A connection to a backend below HTTP, with or without TLS.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::HeaderValue;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::types::Address;
use crate::tls::origin::OriginClient;

use super::raw::RawSocket;

/// See the module.
pub enum Socket {
    Plain(RawSocket),
    Tls(Box<TlsStream<RawSocket>>),
}

/// Where a backend is, and how it is spoken to.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    pub address: &'a Address,
    /// Whose name its certificate has to prove.
    pub authority: &'a HeaderValue,
    pub tls: Option<&'a Arc<OriginClient>>,
    /// Nothing but HTTP/1.1 may be agreed on.
    pub http1: bool,
    /// A PROXY header, or nothing.
    pub preamble: &'a [u8],
}

impl Socket {
    /// Connects, and shakes hands. The caller bounds the wait.
    ///
    /// # Errors
    /// The socket's; `InvalidData` where TLS failed, `InvalidInput` where the backend has no name to prove.
    pub async fn connect(target: Target<'_>) -> io::Result<Self> {
        let mut raw = RawSocket::connect(target.address).await?;
        if !target.preamble.is_empty() {
            raw.write_all(target.preamble).await?;
        }
        let Some(tls) = target.tls else { return Ok(Self::Plain(raw)) };
        let Some((config, name)) = tls.of(target.authority, target.http1) else {
            let message =
                "the backend's host is no name for a certificate; set transport.tls.server_name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        let stream = Box::pin(TlsConnector::from(config).connect(name, raw)).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    /// Whether there is nothing to be read: no bytes, no end, no error. What there is may be lost.
    pub fn is_quiet(&mut self) -> bool {
        match self {
            Self::Plain(raw) => raw.is_quiet(),
            Self::Tls(tls) => {
                let (mut one, mut cx) = ([0], Context::from_waker(Waker::noop()));
                Pin::new(tls).poll_read(&mut cx, &mut ReadBuf::new(&mut one)).is_pending()
            }
        }
    }

    /// What was agreed on by ALPN is HTTP/2.
    pub fn speaks_h2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(raw) => Pin::new(raw).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(raw) => Pin::new(raw).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Plain(raw) => Pin::new(raw).poll_write_vectored(cx, bufs),
            Self::Tls(tls) => Pin::new(tls).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(raw) => raw.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Plain(raw) => Pin::new(raw).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
