//! Over real sockets, with answers that are written by hand.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const LIMITS: Limits = Limits { timeout: Duration::from_secs(60), bytes: 1000 };

/// Answers one connection with `bytes`, closes it, and gives back what was asked.
async fn answered(user: &str, bytes: &str, limits: Limits) -> (Result<Answer, FetchError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    let url: Url = format!("http://{user}{at}/metric?name=a%20b").parse().expect("a URL");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("asked");
        let mut asked = Vec::new();
        while !asked.ends_with(b"\r\n\r\n") {
            assert_ne!(stream.read_buf(&mut asked).await.expect("a head"), 0);
        }
        stream.write_all(bytes.as_bytes()).await.expect("taken");
        String::from_utf8(asked).expect("text")
    };
    tokio::join!(fetch(Ask::get(url), limits), serve)
}

#[tokio::test]
async fn asks_as_any_client_and_reads_all() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    let (answer, asked) = answered("me:pass%21@", chunked, LIMITS).await;
    let answer = answer.expect("an answer");
    assert_eq!((answer.status.as_u16(), &answer.body[..]), (200, &b"abcde"[..]));
    assert!(asked.starts_with("GET /metric?name=a%20b HTTP/1.1\r\n"), "{asked}");
    assert!(asked.contains("\r\nhost: 127.0.0.1:"), "{asked}");
    assert!(asked.contains("\r\nuser-agent: tidegate/"), "{asked}");
    assert!(asked.contains(&format!("authorization: Basic {}", base64::encode(b"me:pass!"))));
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let moved = "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n";
    let (answer, _) = answered("", moved, LIMITS).await;
    assert_eq!(answer.expect("an answer").status.as_u16(), 302);
}

#[tokio::test]
async fn what_is_too_large_broken_or_silent_is_an_error() {
    let large = format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(1001));
    let (answer, _) = answered("", &large, LIMITS).await;
    assert!(matches!(answer, Err(FetchError::TooLarge(_, 1000))), "{answer:?}");
    let (answer, _) = answered("", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", LIMITS).await;
    assert!(matches!(answer, Err(FetchError::Http(..))), "{answer:?}");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url: Url = format!("http://u:p@{}/secret", listener.local_addr().unwrap()).parse().unwrap();
    let short = Limits { timeout: Duration::from_millis(50), ..LIMITS };
    let error = fetch(Ask::get(url), short).await.expect_err("nobody accepts").to_string();
    assert!(error.contains("no answer within 50ms") && !error.contains("secret"), "{error}");
}

#[tokio::test]
async fn a_certificate_of_nobody_is_not_believed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let url: Url = format!("https://localhost:{port}/").parse().expect("a URL");
    let serve = async {
        let (mut stream, _) = listener.accept().await.expect("asked");
        // No TLS at all.
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let _ = stream.read(&mut [0; 1]).await;
    };
    let (answer, ()) = tokio::join!(fetch(Ask::get(url), LIMITS), serve);
    assert!(matches!(answer, Err(FetchError::Tls(..))), "{answer:?}");
}
