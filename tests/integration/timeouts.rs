//! Every wait has an end: what happens then, and that it does not happen sooner.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use crate::support::{Connection, Origin, Proxy, RawOrigin, Running, Step, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// The configured time of everything that is to run out.
const SHORT: Duration = Duration::from_millis(300);

/// Nothing was counted against the backend.
#[track_caller]
fn blameless(proxy: &Running) {
    assert_eq!(proxy.service("app")["backends"][0]["errors"], 0);
}

#[track_caller]
fn idle(proxy: &Running) {
    wait_until("nothing is in flight", || {
        proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
    });
}

#[test]
fn a_slow_head_gets_408_whatever_the_connection_did_before() {
    let origin = RawOrigin::always(OK);
    let proxy =
        Proxy::new().listener("[listener.timeout]\nheader = \"300ms\"").backend(&origin).run();
    for used in [false, true] {
        let mut client = Connection::open(proxy.address("http"));
        if used {
            assert_eq!(client.get("/").status, 200);
        }
        let start = Instant::now();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n");
        // Bytes that keep coming do not help: the whole head has that time.
        for number in 0..50 {
            client.send(format!("x-{number}: "));
            client.send("y\r\n");
        }
        let answer = client.answer();
        assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
        assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
        assert_eq!(client.rest(), "");
    }
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let origin = RawOrigin::always(OK);
    let proxy =
        Proxy::new().listener("[listener.timeout]\nkeep_alive = \"300ms\"").backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    let start = Instant::now();
    assert_eq!(client.get("/").status, 200);
    assert_eq!(client.rest(), "");
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    let start = Instant::now();
    let mut silent = Connection::open(proxy.address("http"));
    assert_eq!(silent.rest(), "");
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
}

#[test]
fn a_body_that_stops_coming_is_408_and_not_the_backends_fault() {
    let origin = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let proxy =
        Proxy::new().listener("[listener.timeout]\nbody = \"300ms\"").backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    let start = Instant::now();
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    client.rest();
    idle(&proxy);
    blameless(&proxy);
    assert_eq!(origin.connections(), 1, "it is not sent again");
}

#[test]
fn a_backend_that_does_not_answer_is_504() {
    let origin = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let proxy = Proxy::new()
        .backend(&origin)
        .toml("[service.app.transport]\nresponse_timeout = \"300ms\"")
        .run();
    let start = Instant::now();
    let mut client = Connection::open(proxy.address("http"));
    let answer = client.get("/");
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    assert_eq!(answer.status, 504);
    assert!(answer.header("proxy-status").unwrap().contains("error=http_response_timeout"));
    assert_eq!(client.get("/").status, 504, "the client's connection goes on");
    idle(&proxy);
    assert_eq!(proxy.service("app")["backends"][0]["errors"], 2);
    assert_eq!(proxy.metric("tidegate_errors_total", &[("reason", "response_timeout")]), 2.0);
}

#[test]
fn the_wait_for_an_answer_counts_from_the_end_of_the_request() {
    let origin = RawOrigin::script(|_| {
        vec![Step::ReadHead, Step::Read(10), Step::Send(OK.into()), Step::Again]
    });
    let proxy = Proxy::new()
        .backend(&origin)
        .toml("[service.app.transport]\nresponse_timeout = \"300ms\"")
        .run();
    let mut client = Connection::open(proxy.address("http"));
    let start = Instant::now();
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
    while start.elapsed() < SHORT * 3 {
        std::thread::yield_now();
    }
    client.send("world");
    assert_eq!(client.answer().status, 200);
}

#[test]
fn an_answer_that_stops_coming_is_cut() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello";
    let origin =
        RawOrigin::script(move |_| vec![Step::ReadHead, Step::Send(head.into()), Step::ReadAll]);
    let proxy = Proxy::new()
        .backend(&origin)
        .toml("[service.app.transport]\nread_timeout = \"300ms\"")
        .run();
    let start = Instant::now();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(client.rest().ends_with("hello"));
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    idle(&proxy);
    assert_eq!(proxy.service("app")["backends"][0]["errors"], 1);
}

#[test]
fn a_backend_that_does_not_read_is_504() {
    let origin = RawOrigin::script(|_| vec![Step::ReadHead, Step::Hold]);
    let proxy = Proxy::new()
        .backend(&origin)
        .route("max_body = \"0\"")
        .toml("[service.app.transport]\nwrite_timeout = \"300ms\"")
        .run();
    let start = Instant::now();
    let mut client = Connection::open(proxy.address("http"));
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n");
    let mut writer = client.socket().try_clone().unwrap();
    let sending = std::thread::spawn(move || while writer.write_all(&[b'x'; 65536]).is_ok() {});
    let answer = client.answer();
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    assert_eq!(answer.status, 504);
    assert!(answer.header("proxy-status").unwrap().contains("error=connection_write_timeout"));
    client.rest();
    sending.join().unwrap();
    idle(&proxy);
    origin.release();
}

#[test]
fn a_client_that_does_not_read_is_let_go() {
    let origin = RawOrigin::script(|_| {
        let mut steps = vec![Step::ReadHead];
        steps.push(Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n".into()));
        steps.extend((0..900).map(|_| Step::Send(vec![b'x'; 1 << 20])));
        steps
    });
    let proxy =
        Proxy::new().listener("[listener.timeout]\nwrite = \"300ms\"").backend(&origin).run();
    let start = Instant::now();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.read(10);
    wait_until("it is let go", || proxy.metric("tidegate_connections", &[]) == 0.0);
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    idle(&proxy);
    blameless(&proxy);
}

#[test]
fn a_connection_that_does_not_come_about_is_504() {
    // A full queue drops what comes next without a word: connecting hangs.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, SHORT) {
        waiting.push(stream);
    }
    let proxy = Proxy::new()
        .backend(&address)
        .toml("[service.app.transport]\nconnect_timeout = \"300ms\"")
        .run();
    let start = Instant::now();
    let answer = Connection::open(proxy.address("http")).get("/");
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    assert_eq!(answer.status, 504);
    let why = answer.header("proxy-status").unwrap();
    assert!(
        why.contains("error=connection_timeout") && why.contains("app: connecting, after "),
        "{why}"
    );
    assert_eq!(proxy.metric("tidegate_connect_errors_total", &[("reason", "timeout")]), 1.0);
}

#[test]
fn the_routes_timeout_bounds_the_whole_exchange() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).route("timeout = \"300ms\"").run();
    let start = Instant::now();
    let answer = Connection::open(proxy.address("http")).get("/?delay=1h");
    assert!(start.elapsed() >= SHORT, "{:?}", start.elapsed());
    assert_eq!(answer.status, 504);
    let why = answer.header("proxy-status").unwrap();
    assert!(
        why.contains("app: waiting, after ") && why.contains("the route's timeout is over"),
        "{why}"
    );
    wait_until("the backend noticed", || origin.stat("working") == 0);
    idle(&proxy);
}

#[test]
fn the_routes_timeout_also_ends_an_answer_that_never_pauses() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let origin = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = [0; 4096];
        assert!(stream.read(&mut head).unwrap() > 0);
        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 99000000000000\r\n\r\n";
        stream.write_all(head).unwrap();
        // Until it is cut.
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let proxy = Proxy::new().backend(&address).route("timeout = \"1s\"").run();
    let start = Instant::now();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    // Read and thrown away: it may be much.
    let end = std::io::copy(&mut client.socket(), &mut std::io::sink());
    assert!(end.is_ok_and(|bytes| bytes > 1000) && start.elapsed().as_millis() >= 1000);
    origin.join().unwrap();
    idle(&proxy);
}
