//! The connection of one request: a name to addresses, each tried in its turn, then TLS.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::config::types::Url;
use crate::tls::trust::{self, Trust};

use super::FetchError;

/// Plain or TLS.
pub enum Connection {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub async fn connect(url: &Url) -> Result<Connection, FetchError> {
    let tls = match url.scheme.as_str() {
        "https" => Some(believed(url, &HTTPS, &[b"http/1.1"]).await?),
        "rediss" => Some(believed(url, &REDIS, &[]).await?),
        _ => None,
    };
    let failed = |error| FetchError::Connect(url.to_string(), error);
    let stream = TcpStream::connect((url.host.as_str(), url.port())).await.map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let Some(config) = tls else { return Ok(Connection::Plain(stream)) };
    let name = ServerName::try_from(url.host.clone())
        .map_err(|error| FetchError::Tls(url.to_string(), error.to_string()))?;
    let stream = TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| FetchError::Tls(url.to_string(), error.to_string()))?;
    Ok(Connection::Tls(Box::new(stream)))
}

/// The system's certificates, read once for each protocol (ALPN).
type Once = OnceLock<Arc<ClientConfig>>;
static HTTPS: Once = OnceLock::new();
static REDIS: Once = OnceLock::new();

async fn believed(
    url: &Url,
    once: &Once,
    alpn: &'static [&'static [u8]],
) -> Result<Arc<ClientConfig>, FetchError> {
    if let Some(config) = once.get() {
        return Ok(config.clone());
    }
    let failed = |error: String| FetchError::Tls(url.to_string(), error);
    // Files, hundreds of certificates: not on a thread that serves requests.
    let reading = tokio::task::spawn_blocking(|| trust::client(&Trust::System, None, alpn));
    let config = reading
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|error| failed(error.to_string()))?;
    Ok(once.get_or_init(|| Arc::new(config)).clone())
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
