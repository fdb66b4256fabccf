//! Requests as bytes: where they begin and end, for us and for the codecs, and what a backend gets of them.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::rc::Rc;

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::framing::Scanner;
use crate::http::forwarded::Peer;
use crate::http::{headers, hops, host};
use crate::listener::frames::{Frames, Limits, PREFACE};
use crate::route::path::normalise;
use crate::upstream::received::Streamed;

const HEAD_BYTES: usize = 8 * 1024;
/// More than any input: nobody waits for room.
const ROOM: usize = 1 << 20;

fn block_on<F: Future>(work: F) -> F::Output {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime without a driver");
    }
    RUNTIME.with(|runtime| {
        let local = tokio::task::LocalSet::new();
        local.block_on(runtime, work)
    })
}

/// What passes: so many bytes, with so many whole requests in them. The rest is wrong, or not whole.
fn passes(data: &[u8], step: usize) -> (usize, usize) {
    let mut scanner = Scanner::new(HEAD_BYTES);
    let (mut fine, mut whole, mut end) = (0, 0, 0);
    let mut inside = false;
    while end < data.len() {
        end = (end + step).min(data.len());
        let scanned = scanner.scan(&data[fine..end]);
        let wrong = scanned.is_err();
        let passed = scanned.unwrap_or_else(|(passed, _)| passed);
        fine += passed;
        inside |= passed > 0;
        // With steps of one byte every end of a request is seen.
        if inside && (scanner.is_between() || scanner.is_asked()) {
            whole += 1;
            inside = false;
        }
        if wrong || scanner.is_asked() {
            break;
        }
    }
    (fine, whole)
}

/// Where requests end does not depend on how bytes come in, and hyper sees as many requests in what
/// passes as we do; what it refuses besides is the last of it.
///
/// # Panics
/// It does, or it does not.
pub fn framing(data: &[u8]) {
    let (fine, whole) = passes(data, 1);
    for step in [3, 100, data.len().max(1)] {
        let (other, _) = passes(data, step);
        assert_eq!(fine, other, "by {step}: {}", data.escape_ascii());
    }
    let seen = Rc::new(RefCell::new((0, 0)));
    block_on(serve(&data[..fine], |request| {
        let seen = seen.clone();
        async move {
            seen.borrow_mut().0 += 1;
            if request.into_body().collect().await.is_ok() {
                seen.borrow_mut().1 += 1;
            }
            // Whatever it asks for, the connection goes on as far as it can.
            Response::new(Empty::new())
        }
    }));
    let (begun, ended) = *seen.borrow();
    let text = data[..fine].escape_ascii();
    assert!(ended <= whole && begun <= whole + 1, "{begun} begun, {ended} of {whole}: {text}");
}

/// hyper's server on some bytes, as the proxy builds it.
async fn serve<F>(bytes: &[u8], answer: impl Fn(Request<Incoming>) -> F)
where
    F: Future<Output = Response<Empty<Bytes>>>,
{
    let (mut client, server) = tokio::io::duplex(ROOM);
    if client.write_all(bytes).await.is_err() || client.shutdown().await.is_err() {
        return;
    }
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).header_read_timeout(None).max_header_size(HEAD_BYTES);
    let service = service_fn(|request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let _ = builder.serve_connection(TokioIo::new(server), service).await;
    drop(client);
}

/// Frames are counted alike however they come in, and what is counted never panics; what passes of them
/// is served by the codec to its end.
///
/// # Panics
/// They are not.
pub fn frames(data: &[u8]) {
    let bytes = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0], data].concat();
    let passed = |step: usize| {
        let mut frames = Frames::new(Limits::new(10, HEAD_BYTES, 100));
        let mut fine = 0;
        for piece in bytes.chunks(step) {
            match frames.received(piece, || 0) {
                Ok(()) => fine += piece.len(),
                // A head that was cut is taken back from its last piece only.
                Err((_, ended)) => return (fine, Some(ended)),
            }
            let _ = frames.sent(piece, || 0);
        }
        (fine, None)
    };
    let (fine, ended) = passed(1);
    for step in [2, 9, 50, bytes.len()] {
        assert_eq!(passed(step).1, ended, "by {step}: {}", data.escape_ascii());
    }
    block_on(async {
        let (mut client, server) = tokio::io::duplex(ROOM);
        if client.write_all(&bytes[..fine]).await.is_err() || client.shutdown().await.is_err() {
            return;
        }
        let opening = h2::server::Builder::new().handshake::<_, Bytes>(server);
        let Ok(mut connection) = opening.await else { return };
        while let Some(Ok((request, mut reply))) = connection.accept().await {
            tokio::task::spawn_local(async move {
                let _ = Streamed::new(request.into_body(), None, None).collect().await;
                let _ = reply.send_response(Response::new(()), true);
            });
        }
    });
}

/// Bytes of a client through framing, hyper's server, what the proxy does with a head, and hyper's client:
/// a backend sees no more requests than were passed on, each framed without a doubt.
///
/// # Panics
/// It does.
pub fn request(data: &[u8]) {
    let (fine, _) = passes(data, 1);
    let passed_on = Rc::new(RefCell::new(0));
    let seen = block_on(async {
        let (ours, theirs) = tokio::io::duplex(ROOM);
        let origin = tokio::task::spawn_local(record(theirs));
        let Ok((send, connection)) =
            hyper::client::conn::http1::handshake(TokioIo::new(ours)).await
        else {
            return Vec::new();
        };
        let connection = tokio::task::spawn_local(async { drop(connection.await) });
        let send = Rc::new(tokio::sync::Mutex::new(send));
        serve(&data[..fine], |request| {
            let (send, passed_on) = (send.clone(), passed_on.clone());
            async move {
                let mut answer = Response::new(Empty::new());
                *answer.status_mut() = match rewritten(request) {
                    Some(request) => {
                        *passed_on.borrow_mut() += 1;
                        match send.lock().await.send_request(request).await {
                            Ok(answer) => answer.status(),
                            Err(_) => StatusCode::BAD_GATEWAY,
                        }
                    }
                    None => StatusCode::BAD_REQUEST,
                };
                if answer.status() != StatusCode::OK {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(header::CONNECTION, close);
                }
                answer
            }
        })
        .await;
        drop(send);
        let _ = connection.await;
        origin.await.unwrap_or_default()
    });
    let mut scanner = Scanner::new(ROOM);
    let text = seen.escape_ascii();
    assert!(scanner.scan(&seen).is_ok(), "ambiguous: {text}");
    let (_, whole) = passes(&seen, 1);
    assert!(whole <= *passed_on.borrow(), "{whole} of {}: {text}", passed_on.borrow());
}

/// A backend that takes down what it gets, and answers each request that is whole.
async fn record(mut socket: DuplexStream) -> Vec<u8> {
    let (mut seen, mut answered) = (Vec::new(), 0);
    while socket.read_buf(&mut seen).await.is_ok_and(|n| n > 0) {
        let (_, whole) = passes(&seen, 1);
        for _ in answered..whole {
            let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            let _ = socket.write_all(ok).await;
        }
        answered = whole;
    }
    seen
}

/// What the proxy makes of a request on its way to a backend; `None` where it answers itself.
fn rewritten(request: Request<Incoming>) -> Option<Request<Incoming>> {
    let (mut head, body) = request.into_parts();
    let peer = Peer::new(Ipv4Addr::LOCALHOST.into(), false, &[]);
    let mut rng = fastrand::Rng::with_seed(1);
    let _ = headers::receive(&mut head.headers, Version::HTTP_10, &peer, &[], &mut rng);
    let own = host::of_request(head.version, &head.uri, &head.headers).ok()?;
    let own = own.map_or("a", |host| host.written).to_owned();
    if head.method == Method::CONNECT || hops::is_last(&head.method, &mut head.headers).ok()? {
        return None;
    }
    let whole = head.method == Method::OPTIONS && head.uri.path() == "*";
    normalise(if whole { "/" } else { head.uri.path() }).ok()?;
    let target = head.uri.path_and_query().cloned();
    head.uri = Uri::from(target.unwrap_or(PathAndQuery::from_static("/")));
    head.headers.remove(header::EXPECT);
    head.headers.insert(header::HOST, HeaderValue::from_str(&own).ok()?);
    hops::via(&mut head.headers, head.version, true);
    head.version = Version::HTTP_11;
    Some(Request::from_parts(head, body))
}
