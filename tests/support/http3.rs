//! HTTP/3 clients: [`Http3`], by the h3 crate, which says what it is told to, and [`Quic`], which says
//! anything. Both block; QUIC goes on in a thread of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, TransportConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::runtime::Runtime;

use super::{Answer, DEADLINE};

/// Whom to connect to, and who asks.
pub struct Peer<'a> {
    pub address: SocketAddr,
    pub name: &'a str,
    /// Its certificate, which is its own authority.
    pub trust: &'a Path,
    /// The client's certificate and key.
    pub shown: Option<(&'a Path, &'a Path)>,
}

/// A connection that anything can be written to.
pub struct Quic {
    pub runtime: Arc<Runtime>,
    pub endpoint: Endpoint,
    pub connection: Connection,
}

/// A connection for requests.
pub struct Http3 {
    pub quic: Quic,
    send: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
}

/// What became of a request.
pub type Result<T> = std::result::Result<T, String>;

impl<'a> Peer<'a> {
    pub fn new(address: SocketAddr, name: &'a str, trust: &'a Path) -> Self {
        Self { address, name, trust, shown: None }
    }

    /// TLS and QUIC of a client.
    pub fn settings(&self) -> ClientConfig {
        let mut roots = rustls::RootCertStore::empty();
        let trust = CertificateDer::from_pem_file(self.trust).expect("a certificate");
        roots.add(trust).expect("it can be trusted");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots);
        let mut tls = match self.shown {
            None => tls.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = vec![CertificateDer::from_pem_file(chain).expect("a certificate")];
                let key = PrivateKeyDer::from_pem_file(key).expect("a key");
                tls.with_client_auth_cert(chain, key).expect("they fit")
            }
        };
        tls.alpn_protocols = vec![b"h3".to_vec()];
        let tls = QuicClientConfig::try_from(tls).expect("TLS 1.3 has its suites");
        let mut settings = ClientConfig::new(Arc::new(tls));
        let mut transport = TransportConfig::default();
        transport.max_idle_timeout(Some(DEADLINE.try_into().expect("it is short")));
        settings.transport_config(Arc::new(transport));
        settings
    }

    /// Connects, or says why not.
    pub fn quic(&self) -> Result<Quic> {
        let runtime = runtime();
        let _inside = runtime.enter();
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a socket");
        let connecting = endpoint.connect_with(self.settings(), self.address, self.name);
        let connecting = connecting.map_err(|error| error.to_string())?;
        let connection = within(&runtime, connecting)?.map_err(|error| error.to_string())?;
        drop(_inside);
        Ok(Quic { runtime, endpoint, connection })
    }

    /// Connects for requests.
    pub fn http3(&self) -> Result<Http3> {
        let quic = self.quic()?;
        let connection = h3_quinn::Connection::new(quic.connection.clone());
        let (mut driver, send) = within(&quic.runtime, h3::client::new(connection))?
            .map_err(|error| error.to_string())?;
        quic.runtime.spawn(async move { std::future::poll_fn(|cx| driver.poll_close(cx)).await });
        Ok(Http3 { quic, send })
    }
}

pub fn runtime() -> Arc<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    Arc::new(builder.worker_threads(1).enable_all().build().expect("a runtime"))
}

/// The value of a future, if it has one in time.
pub fn within<F: Future>(runtime: &Runtime, future: F) -> Result<F::Output> {
    let timed = async { tokio::time::timeout(DEADLINE, future).await };
    runtime.block_on(timed).map_err(|_| format!("nothing within {DEADLINE:?}"))
}

/// A request to say things with.
pub fn request(method: &str, uri: &str) -> Request<()> {
    Request::builder().method(method).uri(uri).body(()).expect("a request")
}

/// Sends a request with the parts of a body and trailers, and reads all of the answer.
pub async fn exchange(
    mut send: h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>,
    request: Request<()>,
    body: Vec<Bytes>,
    trailers: Option<HeaderMap>,
) -> Result<Response<(Vec<u8>, Option<HeaderMap>)>> {
    let text = |error: h3::error::StreamError| error.to_string();
    let stream = send.send_request(request).await.map_err(text)?;
    let (mut up, mut down) = stream.split();
    let sending = async {
        for part in body {
            up.send_data(part).await?;
        }
        if let Some(trailers) = trailers {
            up.send_trailers(trailers).await?;
        }
        up.finish().await
    };
    let receiving = async {
        let mut response = down.recv_response().await?;
        while response.status().is_informational() {
            response = down.recv_response().await?;
        }
        let mut body = Vec::new();
        while let Some(mut data) = down.recv_data().await? {
            while data.has_remaining() {
                let piece = data.chunk();
                body.extend_from_slice(piece);
                let read = piece.len();
                data.advance(read);
            }
        }
        let trailers = down.recv_trailers().await?;
        Ok::<_, h3::error::StreamError>(response.map(|()| (body, trailers)))
    };
    // What is not wanted any more is no failure, if there is an answer.
    let (_, received) = futures_util::join!(sending, receiving);
    received.map_err(text)
}

impl Http3 {
    pub fn sender(&self) -> h3::client::SendRequest<h3_quinn::OpenStreams, Bytes> {
        self.send.clone()
    }

    /// One exchange without trailers; what it came to as of HTTP/1.
    pub fn send(&self, request: Request<()>, body: Vec<Bytes>) -> Result<Answer> {
        let response = self.exchange(request, body, None)?;
        let status = response.status().as_u16();
        let text =
            |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let fields = response.headers().iter();
        let headers = fields.map(|(name, value)| (name.to_string(), text(value))).collect();
        let (body, _) = response.into_body();
        Ok(Answer { status, headers, body, informational: Vec::new(), trailers: Vec::new() })
    }

    pub fn get(&self, uri: &str) -> Result<Answer> {
        self.send(request("GET", uri), Vec::new())
    }

    pub fn exchange(
        &self,
        request: Request<()>,
        body: Vec<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Result<Response<(Vec<u8>, Option<HeaderMap>)>> {
        within(&self.quic.runtime, exchange(self.sender(), request, body, trailers))?
    }
}

/// What an answer to raw bytes was.
#[derive(Debug, PartialEq, Eq)]
pub enum Came {
    /// An answer with this status.
    Status(u16),
    /// The stream was reset.
    Reset(u64),
    /// The connection was closed.
    Closed(u64),
    /// The stream ended without an answer.
    Nothing,
}

impl Quic {
    /// Opens a stream of one direction with these bytes.
    pub fn announce(&self, bytes: &[u8]) {
        let open = async {
            let mut stream = self.connection.open_uni().await.ok()?;
            let _ = stream.write_all(bytes).await;
            // Ended, it would end the connection.
            std::mem::forget(stream);
            Some(())
        };
        let _ = within(&self.runtime, open);
    }

    /// Sends the bytes as a request's stream, ends it if that is asked for, and says what came of it.
    pub fn ask(&self, bytes: &[u8], end: bool) -> Came {
        let asked = async {
            let (mut up, mut down) = match self.connection.open_bi().await {
                Ok(stream) => stream,
                Err(error) => return closed(&error),
            };
            let _ = up.write_all(bytes).await;
            if end {
                let _ = up.finish();
            }
            let mut all = BytesMut::new();
            loop {
                match down.read_chunk(usize::MAX, true).await {
                    Ok(Some(chunk)) => all.extend_from_slice(&chunk.bytes),
                    Ok(None) => break,
                    Err(quinn::ReadError::Reset(code)) => return Came::Reset(code.into_inner()),
                    Err(quinn::ReadError::ConnectionLost(error)) => return closed(&error),
                    Err(error) => panic!("{error}"),
                }
            }
            status(&all)
        };
        within(&self.runtime, asked).expect("it ends in time")
    }

    /// Closes the connection, and waits until that is said.
    pub fn close(&self) {
        self.connection.close(0x100_u32.into(), b"");
        let _ = within(&self.runtime, self.endpoint.wait_idle());
    }

    /// Waits until the connection is closed: by which code of the application.
    pub fn closed(&self) -> Came {
        closed(&within(&self.runtime, self.connection.closed()).expect("it ends in time"))
    }
}

fn closed(error: &quinn::ConnectionError) -> Came {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            Came::Closed(close.error_code.into_inner())
        }
        error => panic!("{error}"),
    }
}

/// The status of an answer, which begins with its head.
fn status(answer: &[u8]) -> Came {
    let Some(section) = answer.strip_prefix(&[1]) else { return Came::Nothing };
    // Heads of our own answers are shorter than 16 KiB.
    let (length, rest) = match section {
        [first, rest @ ..] if *first < 0x40 => (usize::from(*first), rest),
        [first, second, rest @ ..] => {
            (usize::from(u16::from_be_bytes([*first & 0x3f, *second])), rest)
        }
        _ => panic!("{answer:?}"),
    };
    let mut status = None;
    let read = tidegate::http3::qpack::section(&rest[..length], usize::MAX, |name, value| {
        if name == b":status" {
            status = std::str::from_utf8(value).ok().and_then(|text| text.parse().ok());
        }
        Ok(())
    });
    read.expect("it can be read");
    Came::Status(status.expect("an answer has a status"))
}

/// A frame of that kind; both below 64 or in two bytes.
pub fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend((0x4000 | payload.len() as u16).to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// A section of fields, all literal.
pub fn section(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = BytesMut::from(&[0, 0][..]);
    for (name, value) in fields {
        tidegate::http3::qpack::literal(name.as_bytes(), value.as_bytes(), &mut out);
    }
    out.to_vec()
}

/// A client's control stream with settings that say nothing.
pub const SETTINGS: [u8; 3] = [0, 4, 0];

/// So long a client is patient where nothing is to come.
pub const MOMENT: Duration = Duration::from_millis(200);
