//! Bodies on their way: who waits for whom, who is cut off, and what is left of it afterwards.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::{
    Connection, DEADLINE, Origin, Proxy, RawOrigin, Running, Step, send, wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[track_caller]
fn idle(proxy: &Running) {
    wait_until("nothing is in flight", || {
        proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
    });
}

/// What the proxy holds against its one backend.
#[track_caller]
fn errors(proxy: &Running) -> u64 {
    proxy.service("app")["backends"][0]["errors"].as_u64().unwrap()
}

#[test]
fn the_100_comes_before_the_body_and_is_ours() {
    let origin = RawOrigin::script(|_| {
        vec![Step::ReadHead, Step::Read(5), Step::Send(OK.into()), Step::Again]
    });
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    assert_eq!(client.line(), "HTTP/1.1 100 Continue");
    assert_eq!(client.line(), "");
    client.send("hello");
    assert_eq!(client.answer().status, 200);
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nworld");
    assert_eq!(client.answer().status, 200, "the connection is still good");
    let received = origin.received_text(0);
    assert!(received.contains("\r\n\r\nhello") && !received.contains("expect"), "{received}");
}

#[test]
fn a_refused_request_gets_no_100() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).route("max_body = \"4\"").run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.informational), (413, vec![]));
    assert_eq!(
        (answer.headers.iter().filter(|h| h.0 == "connection").count(), client.rest()),
        (1, String::new())
    );
    assert_eq!(origin.stat("requests"), 0);
}

#[test]
fn an_early_answer_reaches_a_client_that_still_sends() {
    for status in ["413 Content Too Large", "200 OK"] {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 5\r\n\r\nearly");
        // The second reads nothing of the body and closes: the answer must not be lost in a reset.
        for close in [false, true] {
            let answer = answer.clone().into_bytes();
            let origin = RawOrigin::script(move |_| {
                let mut steps = vec![Step::ReadHead, Step::Send(answer.clone())];
                if !close {
                    steps.push(Step::Hold);
                }
                steps
            });
            let proxy = Proxy::new().backend(&origin).route("max_body = \"0\"").run();
            let mut client = Connection::open(proxy.address("http"));
            client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 100000000\r\n\r\n");
            let mut writer = client.socket().try_clone().unwrap();
            let sending = std::thread::spawn(move || {
                let chunk = vec![b'x'; 64 * 1024];
                // Never all of it: nobody reads it.
                while writer.write_all(&chunk).is_ok() {}
            });
            let got = client.answer();
            assert_eq!(got.status.to_string(), status[..3]);
            assert_eq!(got.text(), "early", "close {close}");
            client.rest();
            sending.join().unwrap();
            idle(&proxy);
            assert_eq!(errors(&proxy), 0, "{status}, close {close}");
            origin.release();
        }
    }
}

#[test]
fn a_client_that_leaves_its_download_leaves_nothing_behind() {
    let origin = RawOrigin::script(|_| {
        let mut steps = vec![Step::ReadHead];
        steps.push(Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".into()));
        // More than all buffers on the way hold.
        steps.extend((0..400).map(|_| Step::Send(vec![b'x'; 1 << 20])));
        steps
    });
    let proxy = Proxy::new().backend(&origin).run();
    for reset in [false, true] {
        let mut client = Connection::open(proxy.address("http"));
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client.read(100_000);
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        idle(&proxy);
    }
    wait_until("the connections to the backend are closed", || {
        proxy.metric("tidegate_upstream_connections", &[]) == 0.0
    });
    assert_eq!(errors(&proxy), 0);
    assert_eq!(proxy.metric("tidegate_cancelled_total", &[]), 2.0);
}

#[test]
fn a_client_that_leaves_its_upload_leaves_nothing_behind() {
    let origin = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let proxy = Proxy::new().backend(&origin).run();
    for (number, framing) in
        ["content-length: 10", "transfer-encoding: chunked"].into_iter().enumerate()
    {
        let mut client = Connection::open(proxy.address("http"));
        client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n"));
        client.send(if number == 0 { "hello" } else { "5\r\nhello\r\n" });
        wait_until("the backend has the first part", || {
            origin.received_text(number).contains("hello")
        });
        drop(client);
        idle(&proxy);
        wait_until("the connection to the backend is closed", || {
            proxy.metric("tidegate_upstream_connections", &[]) == 0.0
        });
    }
    assert_eq!((origin.connections(), errors(&proxy)), (2, 0), "nothing is sent again");
}

#[test]
fn a_client_that_leaves_an_http2_stream_leaves_nothing_behind() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    if crate::support::missing("curl") {
        return;
    }
    let url = proxy.url("/?delay=1h");
    let output = crate::support::curl(&["--http2-prior-knowledge", "-m", "1", &url]);
    assert_eq!(output.code, Some(28), "curl gave up: {output:?}");
    idle(&proxy);
    wait_until("the backend noticed", || origin.stat("working") == 0);
    assert_eq!(errors(&proxy), 0);
}

#[test]
fn trailers_pass_both_ways() {
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
        2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n";
    let origin = RawOrigin::script(move |_| {
        vec![Step::ReadHead, Step::Read(10), Step::ReadHead, Step::Send(answer.into())]
    });
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send(
        "POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: te\r\ntrailer: x-check\r\n\
         transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nx-check: 9\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!(
        (answer.text().as_str(), answer.trailers),
        ("ok", vec![("x-sum".into(), "7".into())])
    );
    let received = origin.received_text(0).to_lowercase();
    assert!(received.contains("\r\n5\r\nhello\r\n0\r\nx-check: 9\r\n\r\n"), "{received}");
    assert!(received.contains("\r\nte: trailers\r\n"), "{received}");
}

#[test]
fn a_body_over_the_limit_is_413_whether_declared_or_not() {
    let origin = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let proxy = Proxy::new().backend(&origin).route("max_body = \"1KiB\"").run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1025\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    assert_eq!(origin.connections(), 0, "it is refused by what it declares");
    let mut client = Connection::open(proxy.address("http"));
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n400\r\n");
    client.send(vec![b'x'; 1024]);
    client.send("\r\n1\r\nx\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));
    client.rest();
    idle(&proxy);
    // Nothing may have been sent on it before the limit was passed.
    wait_until("it was connected to", || origin.connections() == 1);
    assert_eq!(errors(&proxy), 0);
    assert!(!origin.received_body(0).ends_with("0\r\n\r\n"), "the backend sees that it is cut");
}

#[test]
fn a_body_of_exactly_the_limit_passes() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).route("max_body = \"1KiB\"").run();
    let answer = send("POST", &proxy.url("/"), &[], &[b'x'; 1024]).unwrap();
    assert_eq!((answer.status, answer.json()["body"]["bytes"].as_u64()), (200, Some(1024)));
}

#[test]
fn a_broken_chunk_is_400_and_not_the_backends_fault() {
    let origin = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
    wait_until("the backend has the first chunk", || origin.received_text(0).contains("hello"));
    client.send("what is this\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (400, Some("close")));
    client.rest();
    idle(&proxy);
    assert_eq!((origin.connections(), errors(&proxy)), (1, 0));
}

#[test]
fn an_answer_that_breaks_off_is_cut_for_the_client_too() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
    ] {
        let origin = RawOrigin::script(move |_| vec![Step::ReadHead, Step::Send(answer.into())]);
        let proxy = Proxy::new().backend(&origin).run();
        let mut client = Connection::open(proxy.address("http"));
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        let all = client.rest();
        assert!(all.contains("hello") && !all.contains("0\r\n\r\n"), "{all}");
        idle(&proxy);
        assert_eq!(errors(&proxy), 1);
    }
}

#[test]
fn an_answer_until_the_close_is_relayed() {
    let origin = RawOrigin::script(|_| {
        vec![Step::ReadHead, Step::Send("HTTP/1.0 200 OK\r\n\r\nuntil the end".into())]
    });
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    let answer = client.get("/");
    assert_eq!(answer.text(), "until the end");
    assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "the connection is kept");
    assert_eq!(client.get("/").text(), "until the end");
}

#[test]
fn a_client_that_does_not_read_holds_the_backend_back() {
    const WHOLE: usize = 256 << 20;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, stalled) = mpsc::channel();
    let origin = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            request.read_line(&mut line).unwrap();
        }
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {WHOLE}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // Nothing taken for that long: every buffer up to the client is full.
        stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let part = vec![b'x'; 1 << 16];
        let mut taken = 0;
        while taken < WHOLE {
            match stream.write(&part[..part.len().min(WHOLE - taken)]) {
                Ok(n) => taken += n,
                Err(_) => break,
            }
        }
        tell.send(taken).unwrap();
        stream.set_write_timeout(None).unwrap();
        while taken < WHOLE {
            taken += stream.write(&part[..part.len().min(WHOLE - taken)]).unwrap();
        }
    });
    let proxy = Proxy::new().backend(&address).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    while !client.line().is_empty() {}
    client.read(1000);
    let held_back_at = stalled.recv_timeout(DEADLINE).unwrap();
    assert!(held_back_at < WHOLE / 2, "{held_back_at} bytes were taken for nobody");
    // And nothing of it is lost once the client reads.
    let mut left = WHOLE - 1000;
    while left > 1 << 20 {
        left -= client.read(1 << 20).len();
    }
    assert!(client.read(left).iter().all(|byte| *byte == b'x'));
    origin.join().unwrap();
}
