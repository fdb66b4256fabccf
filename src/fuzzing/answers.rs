//! Answers as bytes: what our HTTP/1 codec takes for one is one for hyper's, too, and the same.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Body;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::clock::Clock;
use crate::telemetry::PerWorker;
use crate::upstream::body::RequestBody;
use crate::upstream::counted::Counted;
use crate::upstream::http1::Http1;
use crate::upstream::raw::RawSocket;
use crate::upstream::socket::Socket;
use crate::worker::timers::Timers;

/// An answer to its last byte.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

fn block_on<F: Future>(work: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .expect("a runtime for sockets");
    }
    RUNTIME.with(|runtime| tokio::task::LocalSet::new().block_on(runtime, work))
}

/// The first byte says what is asked, the rest is what a backend answers before it closes. What we accept hyper
/// accepts, with the same status, fields, body and trailers; and how the bytes are cut changes nothing.
///
/// # Panics
/// It does not, or it does.
pub fn answers(data: &[u8]) {
    let Some((asked, bytes)) = data.split_first() else { return };
    let method = if asked & 1 == 0 { Method::GET } else { Method::HEAD };
    block_on(async {
        let whole = ours(&method, bytes, bytes.len().max(1)).await;
        for step in [1, 7] {
            let cut = ours(&method, bytes, step).await;
            assert_eq!(whole, cut, "by {step}: {}", bytes.escape_ascii());
        }
        if let Some(ours) = whole {
            let theirs = theirs(&method, bytes).await;
            assert_eq!(Some(ours), theirs, "{}", bytes.escape_ascii());
        }
    });
}

/// A backend that answers a request with these bytes, so many at a time.
async fn answer(mut socket: UnixStream, bytes: Vec<u8>, step: usize) {
    let mut request = [0; 1024];
    // The request is small: it comes with one read. If nobody reads on, nothing is lost.
    let _ = socket.read(&mut request).await;
    for part in bytes.chunks(step) {
        if socket.write_all(part).await.is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let _ = socket.shutdown().await;
}

async fn ours(method: &Method, bytes: &[u8], step: usize) -> Option<Answer> {
    let (socket, backend) = UnixStream::pair().ok()?;
    let backend = tokio::task::spawn_local(answer(backend, bytes.to_vec(), step));
    let clock = Clock::real();
    let timers = Timers::new(clock.clone());
    let counted = Counted::new(std::sync::Arc::new(PerWorker::new(1)), 0);
    let socket = Socket::Plain(RawSocket::Unix(socket));
    let mut conn =
        Http1::begin(socket, Duration::from_secs(60), &Rc::clone(&timers), clock, counted);
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = method.clone();
    let answer = match conn.send(Box::new(request.into()), false, false).await {
        Ok(answer) => collect(*answer).await,
        Err(_) => None,
    };
    backend.abort();
    answer
}

async fn theirs(method: &Method, bytes: &[u8]) -> Option<Answer> {
    let (socket, backend) = UnixStream::pair().ok()?;
    let backend = tokio::task::spawn_local(answer(backend, bytes.to_vec(), bytes.len().max(1)));
    let io = TokioIo::new(socket);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let driver = tokio::task::spawn_local(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.method_mut() = method.clone();
    let answer = match sender.send_request(request).await {
        Ok(answer) => collect(answer).await,
        Err(_) => None,
    };
    driver.abort();
    backend.abort();
    answer
}

async fn collect<B: Body<Data = Bytes>>(answer: Response<B>) -> Option<Answer> {
    let (mut head, body) = answer.into_parts();
    // How the transfer is framed, and what becomes of the connection, is each one's own business.
    head.headers.remove(header::TRANSFER_ENCODING);
    head.headers.remove(header::CONNECTION);
    let body = body.collect().await.ok()?;
    let trailers = body.trailers().cloned();
    let body = body.to_bytes();
    Some(Answer { status: head.status, headers: head.headers, body, trailers })
}
