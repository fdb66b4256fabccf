//! Where a tidegate's admin API is, and a connection to it.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use rustls::{ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use crate::tls::trust::{self, Trust};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two reads; longer than the server bounds a reload.
const IO_TIMEOUT: Duration = Duration::from_secs(35);

/// An admin URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `host:port`
    Tcp(String),
    /// `host:port`, over TLS
    Tls(String),
    Unix(PathBuf),
}

/// A connection of any kind, with timeouts set.
pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl FromStr for Target {
    type Err = String;

    fn from_str(url: &str) -> Result<Self, String> {
        if let Some(path) = url.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.strip_prefix("//").unwrap_or(path).into()));
        }
        let uri = url.parse::<Uri>().ok();
        let at = |uri: &Uri, host, port| format!("{host}:{}", uri.port_u16().unwrap_or(port));
        match uri.as_ref().map(|uri| (uri, uri.scheme_str(), uri.host(), uri.path())) {
            Some((uri, Some("http"), Some(host), "/" | "")) => Ok(Self::Tcp(at(uri, host, 80))),
            Some((uri, Some("https"), Some(host), "/" | "")) => Ok(Self::Tls(at(uri, host, 443))),
            _ => Err(format!("--admin {url:?} is neither http(s)://HOST:PORT nor unix:/PATH")),
        }
    }
}

impl Target {
    /// # Errors
    /// Nobody is there, or (with TLS) nobody who is believed.
    pub fn connect(&self, trust: &Trust) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(address) => Ok(Box::new(tcp(address)?)),
            Self::Tls(address) => Ok(Box::new(tls(address, trust)?)),
            Self::Unix(path) => Ok(Box::new(unix(path)?)),
        }
    }
}

fn tcp(address: &str) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(IO_TIMEOUT))?;
                stream.set_write_timeout(Some(IO_TIMEOUT))?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn tls(address: &str, trust: &Trust) -> io::Result<StreamOwned<ClientConnection, TcpStream>> {
    let config = trust::client(trust, None, &[b"http/1.1"]).map_err(io::Error::other)?;
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, tcp(address)?))
}

fn unix(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(IO_TIMEOUT))?;
    stream.set_write_timeout(Some(IO_TIMEOUT))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_http_or_https_or_a_unix_socket() {
        let target = |url: &str| url.parse::<Target>().ok();
        assert_eq!(target("http://127.0.0.1:9900"), Some(Target::Tcp("127.0.0.1:9900".into())));
        assert_eq!(target("http://[::1]:9900/"), Some(Target::Tcp("[::1]:9900".into())));
        assert_eq!(target("http://localhost"), Some(Target::Tcp("localhost:80".into())));
        assert_eq!(target("https://localhost"), Some(Target::Tls("localhost:443".into())));
        assert_eq!(target("https://[::1]:9900/"), Some(Target::Tls("[::1]:9900".into())));
        assert_eq!(target("unix:/run/a.sock"), Some(Target::Unix("/run/a.sock".into())));
        for wrong in ["127.0.0.1:9900", "ftp://localhost", "http://localhost/v1", "", "unix:"] {
            let message = wrong.parse::<Target>().unwrap_err();
            assert!(message.contains("neither http(s)://HOST:PORT nor unix:/PATH"), "{message}");
        }
    }
}
