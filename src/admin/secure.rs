//! `[admin.tls]`: the handshake, with a word for clients that speak plain HTTP to it.

use std::io::{Cursor, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use super::socket::Io;

/// The first byte of every TLS connection: a handshake record (RFC 8446 section 5.1).
const HANDSHAKE: u8 = 22;
const PLAIN: &[u8] =
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 38\r\n\
    connection: close\r\n\r\nthis port speaks TLS; ask by https://\n";

/// Whether connections are to be TLS.
#[derive(Debug, Clone)]
pub enum Secure {
    Off,
    /// `None`: the certificate was not read yet; nobody is let in.
    On(Option<Arc<ServerConfig>>),
}

impl Secure {
    /// The connection as it is to be used. `None`: it came to nothing within that time, and is closed.
    pub async fn open(self, io: Box<dyn Io>, within: Duration) -> Option<Box<dyn Io>> {
        match self {
            Self::Off => Some(io),
            Self::On(None) => None,
            Self::On(Some(config)) => {
                let opened = tokio::time::timeout(within, handshake(io, config)).await;
                match opened.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into())) {
                    Ok(io) => Some(io),
                    Err(error) => {
                        tracing::debug!(%error, "a TLS handshake with the admin server failed");
                        None
                    }
                }
            }
        }
    }
}

async fn handshake(mut io: Box<dyn Io>, config: Arc<ServerConfig>) -> std::io::Result<Box<dyn Io>> {
    let first = io.read_u8().await?;
    if first != HANDSHAKE {
        // Closing with something unread could take the answer back.
        let _ = io.read(&mut [0; 4096]).await?;
        io.write_all(PLAIN).await?;
        io.shutdown().await?;
        return Err(std::io::Error::new(ErrorKind::InvalidData, "it is not TLS"));
    }
    let (read, write) = tokio::io::split(io);
    let io = tokio::io::join(Cursor::new([first]).chain(read), write);
    Ok(Box::new(TlsAcceptor::from(config).accept(io).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_http_is_whole() {
        let text = std::str::from_utf8(PLAIN).expect("text");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }

    #[tokio::test]
    async fn nobody_is_let_in_before_there_is_a_certificate() {
        let (mut client, server) = tokio::io::duplex(64);
        assert!(Secure::On(None).open(Box::new(server), Duration::from_secs(1)).await.is_none());
        assert_eq!(client.read(&mut [0; 1]).await.expect("closed"), 0);
    }
}
