//! Answers before the answer over HTTP/2: on the stream that they belong to, before its answer, and never after.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::ext::Protocol;
use h2::{Reason, RecvStream};
use http::{Request, Response};

use crate::h2::{block_on, connect, get, whole};
use crate::interim::{HINT, OK, all_is_given_back, hinting, one_worker, send};
use crate::support::frames::{DATA, Frames, HEADERS, get_frame};
use crate::support::{Proxy, RawOrigin, Step};

/// What comes for a request.
pub enum Came {
    Hint(Response<()>),
    Answer(Response<RecvStream>),
}

pub async fn next(answer: &mut ResponseFuture) -> Result<Came, h2::Error> {
    poll_fn(|cx| {
        if let Poll::Ready(Some(hint)) = answer.poll_informational(cx) {
            return Poll::Ready(hint.map(Came::Hint));
        }
        Pin::new(&mut *answer).poll(cx).map_ok(Came::Answer)
    })
    .await
}

/// What comes before the answer, and the answer.
pub async fn all(mut answer: ResponseFuture) -> (Vec<Response<()>>, Response<RecvStream>) {
    let mut hints = Vec::new();
    loop {
        match next(&mut answer).await.unwrap() {
            Came::Hint(hint) => hints.push(hint),
            Came::Answer(answer) => return (hints, answer),
        }
    }
}

/// The client's side goes on meanwhile; [`block_on`] has the deadline.
async fn until(mut done: impl FnMut() -> bool) {
    while !done() {
        tokio::task::yield_now().await;
    }
}

pub async fn ask(send: &SendRequest<Bytes>, request: Request<()>) -> ResponseFuture {
    send.clone().ready().await.unwrap().send_request(request, true).unwrap().0
}

#[track_caller]
pub fn hint(came: Result<Came, h2::Error>) -> Response<()> {
    match came.unwrap() {
        Came::Hint(hint) => hint,
        Came::Answer(answer) => panic!("{answer:?}"),
    }
}

pub fn links(hints: &[Response<()>]) -> Vec<&str> {
    hints.iter().map(|hint| hint.headers()["link"].to_str().unwrap()).collect()
}

/// A hint with that link.
fn hinted(link: &str) -> String {
    format!("HTTP/1.1 103 Early Hints\r\nlink: {link}\r\n\r\n")
}

#[test]
fn a_hint_comes_before_the_answer_is_there() {
    let origin = hinting();
    let proxy = one_worker(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let mut answer = ask(&client, get("/")).await;
        let early = hint(next(&mut answer).await);
        assert_eq!((early.status().as_u16(), early.headers().len()), (103, 1));
        assert_eq!(early.headers()["link"], "</a.css>; rel=preload");
        origin.release();
        let (more, answer) = all(answer).await;
        assert!(more.is_empty() && answer.status() == 200);
        assert_eq!(whole(answer.into_body()).await.unwrap(), b"ok");
        // Together with their answers, on streams side by side.
        let mut asked = Vec::new();
        for _ in 0..20 {
            asked.push(ask(&client, get("/")).await);
        }
        for answer in asked {
            let (hints, answer) = all(answer).await;
            assert_eq!((hints.len(), answer.status().as_u16()), (1, 200));
            assert_eq!(whole(answer.into_body()).await.unwrap(), b"ok");
        }
    });
    all_is_given_back(&proxy);
}

#[test]
fn several_come_in_their_order_without_what_belongs_to_a_connection() {
    let origin = RawOrigin::always(&format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n\
         content-length: 0\r\nx-end: 1\r\n\r\n\
         HTTP/1.1 177\r\nx-odd: 1\r\n\r\n{}{}{OK}",
        hinted("</a>"),
        hinted("</b>")
    ));
    let proxy = one_worker(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let (hints, answer) = all(ask(&client, get("/")).await).await;
        let statuses: Vec<_> = hints.iter().map(|hint| hint.status().as_u16()).collect();
        assert_eq!(statuses, [102, 103, 177, 103, 103]);
        let names =
            |of: usize| Vec::from_iter(hints[of].headers().keys().map(|name| name.as_str()));
        assert_eq!((names(0), names(1), names(2)), (vec![], vec!["x-end"], vec!["x-odd"]));
        assert_eq!(links(&hints[3..]), ["</a>", "</b>"]);
        assert_eq!(whole(answer.into_body()).await.unwrap(), b"ok");
    });
}

/// As they are on the wire: a head that ends nothing for the hint, one for the answer, and trailers.
#[test]
fn no_head_follows_the_answers_but_trailers() {
    let trailers = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
        2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    for (answer, heads) in [(OK, 2), (trailers, 3)] {
        let origin = RawOrigin::always(&format!("{HINT}{answer}"));
        let proxy = one_worker(&origin).run();
        let mut client = Frames::open(proxy.address("http"));
        client.hello();
        client.send(&get_frame(1, "/"));
        let mut seen = Vec::new();
        while !seen.iter().any(|(_, _, ends)| *ends) {
            let frame = client.next().expect("it goes on");
            if frame.stream == 1 {
                seen.push((frame.kind, frame.status(), frame.ends()));
            }
        }
        assert_eq!(seen[..2], [(HEADERS, Some(103), false), (HEADERS, Some(200), false)]);
        assert_eq!(seen.iter().filter(|(kind, ..)| *kind == HEADERS).count(), heads, "{seen:?}");
        assert!(seen[2].0 == DATA, "{seen:?}");
        // The stream is over: what comes next is of another one.
        client.send(&get_frame(3, "/"));
        loop {
            let frame = client.next().expect("it goes on");
            assert!(frame.stream != 1, "{frame:?}");
            if frame.stream == 3 && frame.ends() {
                break;
            }
        }
    }
}

#[test]
fn a_try_that_fails_after_its_hint_is_followed_by_another() {
    let (first, second) = (hinted("</first>"), hinted("</second>"));
    let bad = RawOrigin::script(move |_| vec![Step::ReadHead, send(&first), Step::Reset]);
    let good = RawOrigin::always(&format!("{second}{OK}"));
    let proxy = one_worker(&bad)
        .backend(&good)
        .service("balance = \"round_robin\"")
        .toml("[service.app.retry]\nbackoff = \"1ms\"")
        .run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        let mut both = 0;
        for _ in 0..6 {
            let (hints, answer) = all(ask(&client, get("/")).await).await;
            assert_eq!(answer.status(), 200);
            match links(&hints)[..] {
                ["</first>", "</second>"] => both += 1,
                ["</second>"] => {}
                ref other => panic!("{other:?}"),
            }
        }
        assert!(both > 0, "the other was asked first");
    });
    all_is_given_back(&proxy);
}

#[test]
fn a_stream_without_a_window_gets_its_hint() {
    let large = "x".repeat(4 << 20);
    let large = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{large}", large.len());
    let origin = RawOrigin::script(move |n| match n {
        0 => vec![Step::ReadHead, send(&large), Step::ReadAll],
        _ => vec![Step::ReadHead, send(HINT), Step::Hold, send(OK), Step::Again],
    });
    let proxy = one_worker(&origin).run();
    block_on(async {
        // The whole connection's is used up by an answer that nobody reads.
        let mut builder = Builder::new();
        let client = connect(&proxy, builder.initial_window_size(1 << 20)).await;
        let (_, unread) = all(ask(&client, get("/")).await).await;
        let mut unread = unread.into_body();
        let mut came = 0;
        while came < 65_535 {
            came += unread.data().await.unwrap().unwrap().len();
        }
        let mut answer = ask(&client, get("/")).await;
        hint(next(&mut answer).await);
        // Only the stream's own.
        let other = connect(&proxy, builder.initial_window_size(0)).await;
        let mut narrow = ask(&other, get("/")).await;
        hint(next(&mut narrow).await);
        origin.release();
        assert_eq!(all(answer).await.1.status(), 200);
        assert_eq!(all(narrow).await.1.status(), 200);
    });
    all_is_given_back(&proxy);
}

#[test]
fn a_client_that_takes_its_request_back_gets_nothing_more() {
    let origin = RawOrigin::script(|n| match n {
        0 => vec![Step::ReadHead, send(HINT), Step::ReadAll],
        1 => vec![Step::ReadHead, Step::Hold, send(HINT), send(OK)],
        _ => vec![Step::ReadHead, send(HINT), send(OK), Step::Again],
    });
    let proxy = one_worker(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        // After its hint, and before it.
        for wait in [true, false] {
            let mut ready = client.clone().ready().await.unwrap();
            let (mut answer, mut body) = ready.send_request(get("/"), true).unwrap();
            match wait {
                true => drop(hint(next(&mut answer).await)),
                false => until(|| origin.requests().len() == 2).await,
            }
            body.send_reset(Reason::CANCEL);
            drop(answer);
            until(|| proxy.metric("tidegate_in_flight", &[]) == 0.0).await;
        }
        origin.release();
        // The connection is in order.
        let (hints, answer) = all(ask(&client, get("/")).await).await;
        assert_eq!((hints.len(), answer.status().as_u16()), (1, 200));
        assert_eq!(whole(answer.into_body()).await.unwrap(), b"ok");
    });
    all_is_given_back(&proxy);
}

#[test]
fn a_body_is_still_being_sent() {
    let origin = RawOrigin::script(|_| {
        vec![Step::ReadHead, Step::Read(2), send(HINT), Step::Read(2), send(OK), Step::Again]
    });
    let proxy = one_worker(&origin).run();
    block_on(async {
        let mut client = connect(&proxy, &Builder::new()).await;
        let request =
            Request::post("http://a/echo").header("content-length", "4").body(()).unwrap();
        let (mut answer, mut body) = client.send_request(request, false).unwrap();
        body.send_data("ab".into(), false).unwrap();
        hint(next(&mut answer).await);
        body.send_data("cd".into(), true).unwrap();
        let (more, answer) = all(answer).await;
        assert!(more.is_empty() && answer.status() == 200);
    });
    all_is_given_back(&proxy);
}

#[test]
fn only_so_much_is_said_before_an_answer() {
    // Each counts for its status and one field.
    let long = "x".repeat(1000 - 32 - 32 - "link".len());
    let origin = RawOrigin::always(&format!("{}{OK}", hinted(&long).repeat(30)));
    let proxy = one_worker(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        for _ in 0..3 {
            let (hints, answer) = all(ask(&client, get("/")).await).await;
            assert_eq!((hints.len(), answer.status().as_u16()), (16, 200));
        }
    });
}

#[test]
fn a_websocket_that_is_refused_has_its_hint() {
    let refusal = "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    let origin = RawOrigin::always(&format!("{HINT}{refusal}"));
    let proxy = one_worker(&origin).run();
    block_on(async {
        let client = connect(&proxy, &Builder::new()).await;
        assert_eq!(all(ask(&client, get("/")).await).await.1.status(), 403);
        let request = Request::connect("http://a/ws")
            .header("sec-websocket-version", "13")
            .extension(Protocol::from("websocket"))
            .body(())
            .unwrap();
        let mut ready = client.ready().await.unwrap();
        let (answer, _stream) = ready.send_request(request, false).unwrap();
        let (hints, answer) = all(answer).await;
        assert_eq!((hints.len(), answer.status().as_u16()), (1, 403));
    });
    all_is_given_back(&proxy);
}

#[test]
fn a_100_comes_when_the_body_is_wanted_and_only_then() {
    let posts = |expects: &'static str| {
        let post = Request::post("http://a/echo").header("content-length", "4");
        post.header("expect", expects).body(()).unwrap()
    };
    let echo = crate::support::Origin::new().start();
    let refuses = Proxy::new().backend(&echo).route("max_body = \"3\"").run();
    let over_h1 = Proxy::new().backend(&echo).run();
    let over_h2 =
        Proxy::new().backend(&echo).toml("[service.app.transport]\nprotocol = \"h2c\"").run();
    block_on(async {
        for proxy in [&over_h1, &over_h2] {
            let client = connect(proxy, &Builder::new()).await;
            let mut ready = client.clone().ready().await.unwrap();
            let (mut answer, mut body) = ready.send_request(posts("100-Continue"), false).unwrap();
            let early = hint(next(&mut answer).await);
            assert_eq!((early.status().as_u16(), early.headers().len()), (100, 0));
            body.send_data(Bytes::from_static(b"four"), true).unwrap();
            let (more, answer) = all(answer).await;
            assert!(more.is_empty() && answer.status() == 200);
            let echo = whole(answer.into_body()).await.unwrap();
            let echo: serde_json::Value = serde_json::from_slice(&echo).unwrap();
            assert_eq!(echo["body"]["bytes"], 4);
        }
        let client = connect(&refuses, &Builder::new()).await;
        let mut ready = client.clone().ready().await.unwrap();
        let (answer, _body) = ready.send_request(posts("100-continue"), false).unwrap();
        let (hints, answer) = all(answer).await;
        assert_eq!((hints.len(), answer.status().as_u16()), (0, 413));
    });
    assert_eq!(echo.stat("requests"), 2);
}
