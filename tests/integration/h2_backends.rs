//! Backends over HTTP/2, stream by stream: what they say before their answers, and how streams begin and end.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use h2::client::Builder;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Request, Response};
use tokio::sync::Notify;

use crate::h2::{block_on, connect, get, whole};
use crate::interim::{all_is_given_back, one_worker};
use crate::interim_h2::{Came, all, ask, hint, links, next};
use crate::support::frames::{
    DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, frame, literal,
};
use crate::support::{Backend, Connection, H2Origin, Proxy, send, wait_until};

type Reply = SendResponse<Bytes>;

pub fn h2c(origin: &impl Backend) -> Proxy {
    one_worker(origin).toml("[service.app.transport]\nprotocol = \"h2c\"")
}

pub fn status(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

/// A 103 with that link.
pub fn early(link: &str) -> Response<()> {
    Response::builder().status(103).header("link", link).body(()).unwrap()
}

pub fn ok(reply: &mut Reply) {
    reply.send_response(status(200), false).unwrap().send_data("ok".into(), true).unwrap();
}

#[test]
fn a_hint_comes_before_the_answer_is_there() {
    let go = Arc::new(Notify::new());
    let goes = go.clone();
    let origin = H2Origin::start(move |_, mut reply| {
        let go = goes.clone();
        async move {
            reply.send_informational(early("</a.css>; rel=preload")).unwrap();
            go.notified().await;
            ok(&mut reply);
        }
    });
    let proxy = h2c(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let mut answer = ask(&client, get("/")).await;
        let early = hint(next(&mut answer).await);
        assert_eq!((early.status().as_u16(), early.headers().len()), (103, 1));
        assert_eq!(links(&[early]), ["</a.css>; rel=preload"]);
        go.notify_one();
        let (more, answer) = all(answer).await;
        assert!(more.is_empty() && answer.status() == 200);
        assert_eq!(whole(answer.into_body()).await.unwrap(), b"ok");
    });
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.line(), "HTTP/1.1 103 Early Hints");
    assert_eq!(client.line().to_lowercase(), "link: </a.css>; rel=preload");
    assert_eq!(client.line(), "");
    go.notify_one();
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    // Together with the answer, too, and the connections stay in order.
    for _ in 0..3 {
        go.notify_one();
        let answer = client.get("/");
        assert_eq!((answer.status, &answer.informational[..]), (200, &[103][..]));
    }
    assert_eq!(origin.connections(), 1);
    all_is_given_back(&proxy);
}

#[test]
fn several_come_in_their_order_but_none_that_is_for_us() {
    let origin = H2Origin::start(|_, mut reply| async move {
        for code in [100, 102] {
            reply.send_informational(status(code)).unwrap();
        }
        for link in ["</a>", "</b>"] {
            reply.send_informational(early(link)).unwrap();
        }
        ok(&mut reply);
    });
    let proxy = h2c(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let (hints, answer) = all(ask(&client, get("/")).await).await;
        let statuses: Vec<_> = hints.iter().map(|hint| hint.status().as_u16()).collect();
        assert_eq!(statuses, [102, 103, 103]);
        assert_eq!(links(&hints[1..]), ["</a>", "</b>"]);
        assert_eq!(whole(answer.into_body()).await.unwrap(), b"ok");
    });
}

#[test]
fn more_than_enough_and_a_101_are_no_answers() {
    let origin = H2Origin::start(|request, mut reply| async move {
        let (code, times) = if request.uri().path() == "/many" { (103, 101) } else { (101, 1) };
        for _ in 0..times {
            reply.send_informational(status(code)).unwrap();
        }
        // It is reset meanwhile, or not: nobody waits for this.
        let _ = reply.send_response(status(200), true);
    });
    let proxy = h2c(&origin).service("retry = { attempts = 0 }").run();
    for (path, why) in [("/many", "too many informational answers"), ("/", "not valid HTTP/2")] {
        let mut client = Connection::open(proxy.address("http"));
        let answer = client.get(path);
        assert_eq!(answer.status, 502, "{path}");
        let said = answer.header("proxy-status").unwrap_or_default();
        assert!(said.contains(why), "{path}: {said}");
    }
    all_is_given_back(&proxy);
}

#[test]
fn bodies_and_trailers_go_both_ways_at_once() {
    let origin = H2Origin::start(|request, mut reply| async move {
        let mut sender = reply.send_response(status(200), false).unwrap();
        let mut body = request.into_body();
        while let Some(data) = body.data().await {
            let data = data.unwrap();
            body.flow_control().release_capacity(data.len()).unwrap();
            sender.send_data(data, false).unwrap();
        }
        let trailers = body.trailers().await.unwrap().expect("they came");
        sender.send_trailers(trailers).unwrap();
    });
    let proxy = h2c(&origin).run();
    block_on(async {
        let mut client = connect(&proxy, &Builder::new()).await;
        let post = Request::post("http://a/").body(()).unwrap();
        let (answer, mut sender) = client.send_request(post, false).unwrap();
        // The answer has begun before there is any body.
        let mut body = answer.await.unwrap().into_body();
        for piece in ["one", "two", "three"] {
            sender.send_data(piece.into(), false).unwrap();
            assert_eq!(body.data().await.unwrap().unwrap(), piece);
        }
        let sum = HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("7"))]);
        sender.send_trailers(sum.clone()).unwrap();
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap(), Some(sum));
    });
    all_is_given_back(&proxy);
}

/// Before its answer, within it, and while the client's body is on its way.
#[test]
fn what_a_client_takes_back_is_reset() {
    let seen = Arc::new(AtomicUsize::new(0));
    let count = seen.clone();
    let origin = H2Origin::start(move |request, mut reply| {
        let seen = count.clone();
        async move {
            let begun = request.uri().path() == "/begun";
            let whole = request.body().is_end_stream();
            let reason = if begun {
                let mut sender = reply.send_response(status(200), false).unwrap();
                sender.send_data("x".into(), false).unwrap();
                std::future::poll_fn(|cx| sender.poll_reset(cx)).await
            } else {
                reply.send_informational(early("</a>")).unwrap();
                std::future::poll_fn(|cx| reply.poll_reset(cx)).await
            };
            match reason.unwrap() {
                Reason::CANCEL => {}
                // Its body broke off.
                Reason::INTERNAL_ERROR if !whole => {}
                other => panic!("{other:?}"),
            }
            seen.fetch_add(1, Ordering::Relaxed);
        }
    });
    let proxy = h2c(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        for (path, whole) in [("/", true), ("/begun", true), ("/", false), ("/begun", false)] {
            let mut ready = client.clone().ready().await.unwrap();
            let request = Request::post(format!("http://a{path}")).body(()).unwrap();
            let (mut answer, mut sender) = ready.send_request(request, whole).unwrap();
            match next(&mut answer).await.unwrap() {
                Came::Hint(_) => assert_eq!(path, "/"),
                Came::Answer(answer) => {
                    assert_eq!(answer.into_body().data().await.unwrap().unwrap(), "x");
                }
            }
            sender.send_reset(Reason::CANCEL);
        }
    });
    wait_until("all are reset", || seen.load(Ordering::Relaxed) == 4);
    all_is_given_back(&proxy);
    assert_eq!(origin.connections(), 1, "no other stream was harmed");
}

#[test]
fn a_stream_that_is_refused_is_begun_again() {
    let refuses = Arc::new(AtomicBool::new(true));
    let origin = H2Origin::start(move |request: Request<RecvStream>, mut reply: Reply| {
        let refused = refuses.swap(false, Ordering::Relaxed);
        async move {
            if refused {
                return reply.send_reset(Reason::REFUSED_STREAM);
            }
            assert_eq!(whole(request.into_body()).await.unwrap(), b"");
            ok(&mut reply);
        }
    });
    let proxy = h2c(&origin).service("retry = { attempts = 0 }").run();
    let answer = send("DELETE", &proxy.url("/"), &[], b"").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert_eq!(proxy.metric("tidegate_retries_total", &[("reason", "refused")]), 1.0);
    assert_eq!(proxy.metric("tidegate_requests_total", &[("code", "502")]), 0.0);
}

/// RFC 9113 §8.1: the answer is whole, and the rest of the request is not wanted.
#[test]
fn an_answer_without_the_whole_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = h2c(&listener.local_addr().unwrap()).run();
    let origin = std::thread::spawn(move || {
        let mut proxy = Frames::accept(&listener);
        for (stream, length, last) in [(1, "2", END_STREAM), (3, "10", 0)] {
            proxy.until(DATA, stream);
            let head =
                [&literal(b":status", b"413")[..], &literal(b"content-length", length.as_bytes())];
            let no_error = frame(RST_STREAM, 0, stream, &[0; 4]);
            let head = frame(HEADERS, END_HEADERS, stream, &head.concat());
            proxy.send(&[head, frame(DATA, last, stream, b"no"), no_error].concat());
        }
        while proxy.next().is_some() {}
    });
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        for is_whole in [true, false] {
            let mut ready = client.clone().ready().await.unwrap();
            let request = Request::post("http://a/").body(()).unwrap();
            let (answer, mut sender) = ready.send_request(request, false).unwrap();
            sender.send_data("begun".into(), false).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 413);
            let body = whole(answer.into_body()).await;
            assert_eq!(body.is_ok_and(|body| body == b"no"), is_whole);
        }
    });
    all_is_given_back(&proxy);
    drop(proxy);
    origin.join().unwrap();
}

/// GOAWAY: what it names is answered, what it does not is sent again, and nothing else goes over that connection.
#[test]
fn a_connection_that_says_goodbye() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = h2c(&listener.local_addr().unwrap()).service("retry = { attempts = 0 }").run();
    let origin = std::thread::spawn(move || {
        let answer = |stream| frame(HEADERS, END_STREAM | END_HEADERS, stream, b"\x88");
        let mut first = Frames::accept(&listener);
        first.until(HEADERS, 1);
        first.until(HEADERS, 3);
        first.send(&frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
        // The second is sent again before the first is answered.
        let mut second = Frames::accept(&listener);
        second.until(HEADERS, 1);
        second.send(&answer(1));
        first.send(&answer(1));
        while let Some(frame) = first.next() {
            assert_ne!(frame.kind, HEADERS, "it is not used any more");
        }
        second.until(HEADERS, 3);
        second.send(&answer(3));
        while second.next().is_some() {}
    });
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let answers = [ask(&client, get("/")).await, ask(&client, get("/")).await];
        for answer in answers {
            assert_eq!(answer.await.unwrap().status(), 200);
        }
        assert_eq!(ask(&client, get("/")).await.await.unwrap().status(), 200);
    });
    assert_eq!(proxy.metric("tidegate_retries_total", &[("reason", "refused")]), 1.0);
    all_is_given_back(&proxy);
    drop(proxy);
    origin.join().unwrap();
}

/// A backend whose connections serve one request each: whoever came with others waits for its turn, however often it is
/// told that nobody looked at it.
#[test]
fn connections_that_end_after_one_request_each() {
    const MANY: u32 = 6;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = h2c(&listener.local_addr().unwrap()).service("retry = { attempts = 0 }").run();
    let origin = std::thread::spawn(move || {
        let serve = |waiting: u32| {
            let mut connection = Frames::accept(&listener);
            connection.until(HEADERS, 2 * waiting - 1);
            connection.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x88"));
            connection.send(&frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]));
            connection
        };
        let connections: Vec<Frames> = (1..=MANY).rev().map(serve).collect();
        for mut connection in connections {
            while connection.next().is_some() {}
        }
    });
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let mut answers = Vec::new();
        for _ in 0..MANY {
            answers.push(ask(&client, get("/")).await);
        }
        for answer in answers {
            assert_eq!(answer.await.unwrap().status(), 200);
        }
    });
    let refused = f64::from(MANY * (MANY - 1) / 2);
    assert_eq!(proxy.metric("tidegate_retries_total", &[("reason", "refused")]), refused);
    all_is_given_back(&proxy);
    drop(proxy);
    origin.join().unwrap();
}

/// Its backend is gone from the configuration: what runs on it goes on, and then it ends in order.
#[test]
fn a_connection_that_nobody_needs_any_more() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut proxy = h2c(&listener.local_addr().unwrap()).run();
    let (began, begins) = std::sync::mpsc::channel();
    let (go, goes) = std::sync::mpsc::channel();
    let origin = std::thread::spawn(move || {
        let mut proxy = Frames::accept(&listener);
        proxy.until(HEADERS, 1);
        began.send(()).unwrap();
        goes.recv().unwrap();
        proxy.send(&frame(HEADERS, END_STREAM | END_HEADERS, 1, b"\x88"));
        assert_eq!(proxy.until(GOAWAY, 0).code(), Some("NO_ERROR"));
        assert!(proxy.next().is_none());
    });
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    begins.recv().unwrap();
    let other = H2Origin::start(|_, mut reply| async move { ok(&mut reply) });
    assert_eq!(proxy.reload(|_| h2c(&other)).status, 200);
    go.send(()).unwrap();
    assert_eq!(client.answer().status, 200);
    origin.join().unwrap();
    wait_until("it is closed", || proxy.metric("tidegate_upstream_connections", &[]) == 0.0);
}
