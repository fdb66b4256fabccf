//! How a WebSocket's opening over HTTP/2 is answered when it is neither simply accepted nor refused.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::ext::Protocol;
use http::Request;

use crate::h2::{block_on, connect, get, whole};
use crate::h2_backends::{early, h2c, ok, status};
use crate::interim::{OK, all_is_given_back, one_worker};
use crate::interim_h2::{all, ask, links};
use crate::support::{Backend, Connection, H2Origin, Origin, Proxy, RawOrigin, Step};
use crate::upgrades::{echoed, frame, idle, upgrade};
use crate::websockets::{NOTHING, open, read, read_to_end};

fn opening(path: &str) -> Request<()> {
    Request::connect(format!("http://a{path}"))
        .header("sec-websocket-version", "13")
        .extension(Protocol::from("websocket"))
        .body(())
        .unwrap()
}

/// To a client over HTTP/2 a 2xx says that it is open (RFC 9110 §9.3.6, RFC 8441 §5).
#[test]
fn a_success_that_opens_nothing_is_a_bad_gateway() {
    for answer in [NOTHING, OK, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"] {
        let origin = RawOrigin::script(move |_| {
            let answer = || vec![Step::ReadHead, Step::Send(answer.into())];
            [vec![Step::ReadHead, Step::Send(NOTHING.into())], answer()].concat()
        });
        let proxy = Proxy::new()
            .runtime("workers = 1")
            .backend(&origin)
            .service("retry = { attempts = 0 }")
            .run();
        block_on(async {
            let client = connect(&proxy, &Builder::new()).await;
            let (refused, _stream) = open(client, "/ws", "websocket").await;
            assert_eq!(refused.status(), 502, "{answer}");
            let said = refused.headers()["proxy-status"].to_str().unwrap();
            assert!(said.contains("with success, but not with 101"), "{said}");
        });
        idle(&proxy);
    }
    // Over HTTP/1.1 it is a refusal like any other.
    let proxy = Proxy::new().backend(&RawOrigin::always(OK)).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send(upgrade("/"));
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
}

#[test]
fn a_success_over_http2_that_opens_nothing_is_one_too() {
    let origin = H2Origin::start(|request, mut reply| async move {
        match *request.method() == http::Method::CONNECT {
            true => drop(reply.send_response(status(204), true)),
            false => ok(&mut reply),
        }
    });
    let proxy = h2c(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        assert_eq!(open(client, "/ws", "websocket").await.0.status(), 502);
    });
    all_is_given_back(&proxy);
}

/// An answer of our own opens nothing, and there is no way to say so with its status.
#[test]
fn a_route_that_answers_itself_opens_nothing() {
    let own = "[[route]]\npath = \"/own\"\nrespond = { status = 200 }";
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).toml(own).run();
    block_on(async {
        let mut client = connect(&proxy, &Builder::new()).await.ready().await.unwrap();
        let (first, _) = client.send_request(get("/"), true).unwrap();
        whole(first.await.unwrap().into_body()).await.unwrap();
        let (answer, _stream) = client.send_request(opening("/own"), false).unwrap();
        let error = answer.await.expect_err("it is reset");
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    });
}

/// An opening, what comes before its answer, and an echo.
async fn hinted_and_echoed(client: SendRequest<Bytes>, sent: &[u8], echo: &[u8]) {
    let (hints, answer) = all(ask(&client, get("/")).await).await;
    assert_eq!((links(&hints), answer.status().as_u16()), (vec!["</a>"], 200));
    let mut ready = client.ready().await.unwrap();
    let (answer, mut stream) = ready.send_request(opening("/ws"), false).unwrap();
    let (hints, answer) = all(answer).await;
    assert_eq!((links(&hints), answer.status().as_u16()), (vec!["</a>"], 200));
    let mut body = answer.into_body();
    stream.send_data(Bytes::copy_from_slice(sent), false).unwrap();
    assert_eq!(read(&mut body, echo.len()).await, echo);
    stream.send_data(Bytes::new(), true).unwrap();
    assert!(read_to_end(&mut body).await.is_empty());
}

#[test]
fn a_hint_before_an_accepted_opening_is_harmless() {
    let origin = Origin::new().start();
    let to = origin.address();
    // Says a hint before whatever the backend answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut proxy, _)) = listener.accept() {
            let mut backend = TcpStream::connect(to).unwrap();
            let (mut from, mut back) = (backend.try_clone().unwrap(), proxy.try_clone().unwrap());
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(n @ 1..) = proxy.read(&mut piece) {
                    if piece.starts_with(b"GET ") {
                        proxy.write_all(b"HTTP/1.1 103 Hint\r\nlink: </a>\r\n\r\n").unwrap();
                    }
                    backend.write_all(&piece[..n]).unwrap();
                }
                let _ = backend.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut back);
                let _ = back.shutdown(Shutdown::Both);
            });
        }
    });
    let proxy = one_worker(&address).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        hinted_and_echoed(client, &frame(1, b"hello"), &echoed(1, b"hello")).await;
    });
    idle(&proxy);
}

#[test]
fn a_hint_before_an_opening_accepted_over_http2_is_too() {
    let over_h2 = H2Origin::start(|request, mut reply| async move {
        reply.send_informational(early("</a>")).unwrap();
        if *request.method() != http::Method::CONNECT {
            return ok(&mut reply);
        }
        let mut sender = reply.send_response(status(200), false).unwrap();
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            sender.send_data(data.unwrap(), false).unwrap();
        }
        sender.send_data(Bytes::new(), true).unwrap();
    });
    let proxy = h2c(&over_h2).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        hinted_and_echoed(client, b"hello", b"hello").await;
    });
    all_is_given_back(&proxy);
}
