//! HTTP/2 on the client's side: streams side by side, limits, and streams that are left standing.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use h2::{Reason, RecvStream};
use http::Request;

use crate::support::{
    Connection, DEADLINE, Origin, Proxy, RawOrigin, Running, Step, curl, missing, run, wait_until,
};

pub fn block_on<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await.expect("in time") })
}

/// A connection with prior knowledge, driven in the background.
pub async fn connect(proxy: &Running, builder: &Builder) -> SendRequest<Bytes> {
    let tcp = tokio::net::TcpStream::connect(proxy.address("http")).await.unwrap();
    let (send, connection) = builder.handshake(tcp).await.unwrap();
    // How it ends is for the streams to see.
    tokio::spawn(async { drop(connection.await) });
    send
}

pub fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a{path}")).body(()).unwrap()
}

pub async fn whole(mut body: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut all = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        all.extend_from_slice(&data);
    }
    Ok(all)
}

#[track_caller]
fn idle(proxy: &Running) {
    wait_until("nothing is in flight", || {
        proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
    });
}

#[test]
fn a_hundred_streams_at_once_on_one_connection() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    block_on(async {
        // Answers are read one after the other: the others must not be held up by the connection.
        let mut builder = Builder::new();
        builder.initial_window_size(1 << 20).initial_connection_window_size(16 << 20);
        let mut send = connect(&proxy, &builder).await;
        let mut answers = Vec::new();
        for number in 0..100 {
            send = send.ready().await.unwrap();
            let size = number * 1000;
            let path = format!("/?size={size}&delay=200ms");
            answers.push((size, send.send_request(get(&path), true).unwrap().0));
        }
        for (size, answer) in answers {
            let (head, body) = answer.await.unwrap().into_parts();
            assert_eq!(head.status, 200);
            assert_eq!(whole(body).await.unwrap().len(), size);
        }
    });
    assert_eq!(origin.stat("most_working"), 100, "all of them were under way at once");
    assert_eq!(proxy.metric("tidegate_connections_accepted_total", &[]), 1.0);
    idle(&proxy);
}

#[test]
fn h2load_with_a_hundred_streams() {
    if missing("h2load") {
        return;
    }
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let url = proxy.url("/?size=2000");
    let output = run("h2load", &["-n", "2000", "-c", "1", "-m", "100", &url]);
    let text = output.text();
    assert!(text.contains("2000 succeeded, 0 failed, 0 errored, 0 timeout"), "{text}");
    assert!(text.contains("status codes: 2000 2xx"), "{text}");
    idle(&proxy);
}

#[test]
fn one_listener_speaks_both_protocols_or_one() {
    if missing("curl") {
        return;
    }
    let origin = RawOrigin::always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let version = |proxy: &Running, protocol: &str| {
        let output = curl(&[protocol, "-o", "/dev/null", "-w", "%{http_version}", &proxy.url("/")]);
        (output.code == Some(0)).then(|| output.text())
    };
    let both = Proxy::new().backend(&origin).run();
    assert_eq!(version(&both, "--http1.1").as_deref(), Some("1.1"));
    assert_eq!(version(&both, "--http2-prior-knowledge").as_deref(), Some("2"));
    let only = |protocol| {
        Proxy::new().listener(&format!("protocols = [\"{protocol}\"]")).backend(&origin).run()
    };
    let first = only("http/1.1");
    assert_eq!(version(&first, "--http1.1").as_deref(), Some("1.1"));
    assert_eq!(version(&first, "--http2-prior-knowledge"), None);
    let second = only("h2");
    assert_eq!(version(&second, "--http2-prior-knowledge").as_deref(), Some("2"));
    assert_eq!(version(&second, "--http1.1"), None);
}

#[test]
fn the_backend_sees_an_ordinary_request() {
    let origin = RawOrigin::script(|_| {
        let answer = "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\n\
            keep-alive: timeout=5\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
            2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
        vec![Step::ReadHead, Step::Read(10), Step::ReadHead, Step::Send(answer.into())]
    });
    let proxy = Proxy::new().backend(&origin).run();
    block_on(async {
        let mut send = connect(&proxy, &Builder::new()).await;
        let request = Request::put("http://shop.example/a?b")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("te", "trailers")
            // HTTP/1.1 sends those that were announced.
            .header("trailer", "x-check");
        let (answer, mut body) = send.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), false).unwrap();
        let trailers = [("x-check", "9")].map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()));
        body.send_trailers(trailers.into_iter().collect()).unwrap();
        let (head, mut body) = answer.await.unwrap().into_parts();
        assert_eq!(head.status, 200);
        for gone in ["connection", "x-hop", "keep-alive", "transfer-encoding"] {
            assert!(!head.headers.contains_key(gone), "{gone} in {:?}", head.headers);
        }
        assert_eq!(body.data().await.unwrap().unwrap(), "ok");
        assert_eq!(body.trailers().await.unwrap().unwrap()["x-sum"], "7");
    });
    let head = origin.received_text(0).to_lowercase();
    assert!(head.starts_with("put /a?b http/1.1\r\n"), "{head}");
    assert_eq!(
        head.matches("host: shop.example\r\n").count(),
        2,
        "Host and X-Forwarded-Host: {head}"
    );
    assert!(head.contains("cookie: a=1; b=2\r\n"), "RFC 9113 section 8.2.3: {head}");
    assert!(head.contains("5\r\nhello\r\n0\r\nx-check: 9\r\n\r\n"), "{head}");
}

#[test]
fn a_stream_that_its_client_leaves_standing_is_reset() {
    let origin = Origin::new().start();
    let proxy =
        Proxy::new().listener("[listener.timeout]\nwrite = \"300ms\"").backend(&origin).run();
    block_on(async {
        let mut builder = Builder::new();
        let mut send = connect(&proxy, builder.initial_window_size(1000)).await;
        let start = Instant::now();
        let (stuck, _) = send.send_request(get("/?size=10000000"), true).unwrap();
        let (_, mut stuck) = stuck.await.unwrap().into_parts();
        // The connection itself goes on, so that no socket ever blocks.
        let (other, _) = send.send_request(get("/?size=500"), true).unwrap();
        assert_eq!(whole(other.await.unwrap().into_body()).await.unwrap().len(), 500);
        let mut got = 0;
        let end = loop {
            match stuck.data().await {
                Some(Ok(data)) => got += data.len(),
                end => break end,
            }
        };
        assert!(start.elapsed().as_millis() >= 300, "{:?}", start.elapsed());
        let error = end.expect("not a regular end").expect_err("but a reset");
        assert!(error.is_reset() && got == 1000, "{error} after {got} bytes");
        // The connection is still good.
        let (other, _) = send.send_request(get("/?size=500"), true).unwrap();
        assert_eq!(whole(other.await.unwrap().into_body()).await.unwrap().len(), 500);
    });
    idle(&proxy);
    assert_eq!(proxy.service("app")["backends"][0]["errors"], 0);
}

#[test]
fn a_client_that_resets_too_many_streams_is_sent_away() {
    let origin = Origin::new().start();
    let proxy =
        Proxy::new().listener("[listener.limit]\nh2_resets_per_second = 10").backend(&origin).run();
    block_on(async {
        let mut send = connect(&proxy, &Builder::new()).await;
        for _ in 0..100_000 {
            let Ok(ready) = send.clone().ready().await else { break };
            send = ready;
            let Ok((answer, mut body)) = send.send_request(get("/?delay=1h"), false) else { break };
            body.send_reset(Reason::CANCEL);
            drop(answer);
            tokio::task::yield_now().await;
        }
        let error = loop {
            match send.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert!(error.is_go_away() || error.is_io(), "{error}");
    });
    assert!(proxy.metric("tidegate_floods_total", &[("kind", "rapid_reset")]) >= 1.0);
    idle(&proxy);
}

#[test]
fn an_answer_that_breaks_off_resets_its_stream_only() {
    let origin = Origin::new().start();
    let proxy =
        Proxy::new().listener("[listener.limit]\nh2_resets_per_second = 5").backend(&origin).run();
    block_on(async {
        let mut send = connect(&proxy, &Builder::new()).await;
        for _ in 0..30 {
            send = send.ready().await.unwrap();
            let (answer, _) = send.send_request(get("/?abort=5&size=100"), true).unwrap();
            let error = whole(answer.await.unwrap().into_body()).await.expect_err("it breaks off");
            assert!(error.is_reset(), "{error}");
        }
        // And a backend that breaks off is not taken for a client that resets.
        let (answer, _) = send.ready().await.unwrap().send_request(get("/?size=9"), true).unwrap();
        assert_eq!(whole(answer.await.unwrap().into_body()).await.unwrap().len(), 9);
    });
    assert_eq!(proxy.metric("tidegate_cancelled_total", &[]), 0.0);
}

#[test]
fn a_stop_finishes_the_streams_and_says_goaway() {
    let origin = RawOrigin::script(|_| {
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        vec![Step::ReadHead, Step::Hold, Step::Send(answer.into())]
    });
    let mut proxy = Proxy::new().backend(&origin).run();
    block_on(async {
        let mut send = connect(&proxy, &Builder::new()).await;
        let (answer, _) = send.send_request(get("/"), true).unwrap();
        while origin.received(0).is_empty() {
            tokio::task::yield_now().await;
        }
        proxy.signal(nix::sys::signal::Signal::SIGTERM);
        let error = loop {
            match send.clone().ready().await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break error,
            }
        };
        assert!(error.is_go_away(), "{error}");
        origin.release();
        assert_eq!(whole(answer.await.unwrap().into_body()).await.unwrap(), b"ok");
    });
    assert_eq!(proxy.process.wait().code(), Some(0));
}

#[test]
fn a_preface_in_pieces_is_understood() {
    let origin = RawOrigin::always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("PRI * HT");
    client.send("TP/2.0\r\n\r\nSM\r\n\r\n");
    // An empty SETTINGS frame (RFC 9113 section 6.5); the proxy's own comes back.
    client.send([0, 0, 0, 4, 0, 0, 0, 0, 0]);
    let frame = client.read(9);
    assert_eq!((frame[3], frame[4] & 1), (4, 0), "SETTINGS, not an acknowledgement");
    let mut client = Connection::open(proxy.address("http"));
    client.send("PO");
    client.send("ST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
    assert_eq!(client.answer().status, 200);
}
