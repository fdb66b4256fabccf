//! One health check: connect, ask, judge the answer. Each check has its own connection, because
//! whether a new connection can be made is part of the question.
//!
//! Thresholds and timing are left to `judge` and `mod`.

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{HeaderValue, Request, Response, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::config::types::{Health, Protocol};
use crate::upstream::socket::{Socket, Target};

/// Bytes of a body looked at for `expect_body`.
const BODY_LIMIT: usize = 64 * 1024;

/// Who asks.
pub(super) const AGENT: &str = "tidegate-health";

/// Why a check failed, for people.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("connect: {0}")]
    Connect(std::io::Error),
    #[error("http: {0}")]
    Http(#[from] hyper::Error),
    #[error("status {0}")]
    Status(u16),
    #[error("the answer's body does not contain the expected text")]
    Body,
    #[error("no answer within {0:?}")]
    Timeout(std::time::Duration),
    #[error("request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error(
        "the backend agreed on HTTP/1.1, and a gRPC check needs HTTP/2; set transport.protocol to \"h2\""
    )]
    NotHttp2,
    #[error("the answer is not gRPC")]
    NotGrpc,
    #[error("grpc-status {0}")]
    GrpcStatus(String),
    #[error("it says {0}")]
    NotServing(&'static str),
}

/// A connection can be made.
pub async fn tcp(target: Target<'_>) -> Result<(), Failure> {
    let bare = Target { tls: None, ..target };
    Socket::connect(bare).await.map(drop).map_err(Failure::Connect)
}

/// A request is answered with an expected status and, if asked for, an expected text.
pub async fn http(target: Target<'_>, config: &Health, protocol: Protocol) -> Result<(), Failure> {
    let (authority, secure) = (target.authority, target.tls.is_some());
    let stream = Socket::connect(target).await.map_err(Failure::Connect)?;
    let path = if config.path.is_empty() { "/" } else { &config.path };
    let request = Request::builder().method(&config.method).header(USER_AGENT, AGENT);
    let host = config.host.as_ref().unwrap_or(authority);
    if protocol == Protocol::H2c || stream.speaks_h2() {
        let request = request.uri(uri(secure, host, path)?).body(Empty::<Bytes>::new())?;
        let (mut sender, connection) =
            http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let exchange = async { judge(sender.send_request(request).await?, config).await };
        return drive(connection, exchange).await;
    }
    let request = request.uri(path).header(HOST, host).header(CONNECTION, "close");
    let request = request.body(Empty::<Bytes>::new())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async { judge(sender.send_request(request).await?, config).await };
    drive(connection, exchange).await
}

/// What HTTP/2 needs of a target.
pub(super) fn uri(secure: bool, host: &HeaderValue, path: &str) -> Result<Uri, http::Error> {
    let scheme = if secure { "https" } else { "http" };
    Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(path).build()
}

async fn judge(response: Response<Incoming>, config: &Health) -> Result<(), Failure> {
    let status = response.status().as_u16();
    if !config.expect_status.iter().any(|&(from, to)| (from..=to).contains(&status)) {
        return Err(Failure::Status(status));
    }
    if config.expect_body.is_empty() {
        return Ok(());
    }
    find(response.into_body(), config.expect_body.as_bytes()).await
}

/// Runs a connection as long as the exchange on it takes.
pub(super) async fn drive(
    connection: impl Future<Output = hyper::Result<()>>,
    exchange: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    tokio::pin!(connection);
    tokio::pin!(exchange);
    tokio::select! {
        biased;
        result = &mut exchange => result,
        ended = &mut connection => {
            // The connection may end (with a complete answer) before the exchange is looked at.
            match exchange.await {
                Err(Failure::Http(error)) if error.is_canceled() => Err(ended.err().unwrap_or(error).into()),
                result => result,
            }
        }
    }
}

/// Reads up to [`BODY_LIMIT`] bytes and looks for `text`.
async fn find(mut body: Incoming, text: &[u8]) -> Result<(), Failure> {
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        let room = BODY_LIMIT - seen.len();
        seen.extend_from_slice(&data[..data.len().min(room)]);
        if memchr::memmem::find(&seen, text).is_some() {
            return Ok(());
        }
        if seen.len() >= BODY_LIMIT {
            break;
        }
    }
    Err(Failure::Body)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    use crate::config::types::{Address, Check, HealthKind};

    fn at<'a>(address: &'a Address, authority: &'a HeaderValue) -> Target<'a> {
        Target { address, authority, tls: None, http1: true, preamble: &[] }
    }

    fn config(expect_body: &str) -> Health {
        Health {
            kind: HealthKind { fixed: Check::Http, orchestrated: Check::Http },
            path: "/health".into(),
            method: http::Method::GET,
            port: 0,
            host: None,
            expect_status: vec![(200, 399)],
            expect_body: expect_body.into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy_after: 2,
            unhealthy_after: 3,
            start_period: Duration::ZERO,
            max_parallel: 256,
        }
    }

    /// Answers one connection with `answer`, and gives back what was asked.
    async fn check(answer: &'static [u8], config: &Health) -> (Result<(), Failure>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound").into();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("a connection");
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                if stream.read(&mut byte).await.unwrap_or(0) == 0 {
                    break;
                }
                head.push(byte[0]);
            }
            let _ = stream.write_all(answer).await;
            String::from_utf8_lossy(&head).into_owned()
        });
        let authority = HeaderValue::from_static("app.test:80");
        let limit = Duration::from_secs(60);
        let result =
            tokio::time::timeout(limit, http(at(&address, &authority), config, Protocol::Http1))
                .await;
        let asked = tokio::time::timeout(limit, server).await.expect("in time").expect("no panic");
        (result.expect("in time"), asked)
    }

    #[tokio::test]
    async fn status_and_body_decide() {
        const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\nall fine";
        let (result, asked) = check(OK, &config("")).await;
        assert!(result.is_ok(), "{result:?}");
        assert!(asked.starts_with("GET /health HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains("host: app.test:80\r\n"), "{asked}");
        assert!(asked.contains("connection: close\r\n"), "{asked}");
        assert!(check(OK, &config("fine")).await.0.is_ok());
        assert!(matches!(check(OK, &config("broken")).await.0, Err(Failure::Body)));
        let bad = b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n";
        assert!(matches!(check(bad, &config("")).await.0, Err(Failure::Status(500))));
        assert!(matches!(check(b"nonsense\r\n\r\n", &config("")).await.0, Err(Failure::Http(_))));
        assert!(matches!(check(b"", &config("")).await.0, Err(Failure::Http(_))));
    }

    #[tokio::test]
    async fn an_expected_text_is_looked_for_in_a_bounded_part_of_the_body() {
        let (result, _) = check(
            // Without a length the body would go on until the connection closes.
            b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nno such words",
            &config("absent"),
        )
        .await;
        assert!(matches!(result, Err(Failure::Body)), "{result:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_a_connect_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("bound").into();
        drop(listener);
        let authority = HeaderValue::from_static("app");
        assert!(matches!(tcp(at(&address, &authority)).await, Err(Failure::Connect(_))));
        assert!(matches!(
            http(at(&address, &authority), &config(""), Protocol::Http1).await,
            Err(Failure::Connect(_))
        ));
    }
}
