//! What a listener does not let in, and how it says so.

use crate::support::{Connection, Origin, Proxy, RawOrigin, get, missing, run, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_head_that_is_too_large_is_431() {
    let origin = RawOrigin::always(OK);
    let proxy =
        Proxy::new().listener("[listener.limit]\nheader_bytes = \"8KiB\"").backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.try_send(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(9000)));
    let answer = client.answer();
    assert_eq!(answer.status, 431);
    assert_eq!(client.rest(), "");
    let mut client = Connection::open(proxy.address("http"));
    client.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "y".repeat(7000)));
    assert_eq!(client.answer().status, 200);
}

#[test]
fn too_many_headers_are_431_over_both_protocols() {
    let origin = RawOrigin::always(OK);
    for limit in [20, 100] {
        let proxy = Proxy::new()
            .listener(&format!("[listener.limit]\nheader_count = {limit}"))
            .backend(&origin)
            .run();
        let request = |count| {
            let more: String = (1..count).map(|n| format!("x-{n}: y\r\n")).collect();
            let mut client = Connection::open(proxy.address("http"));
            client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n{more}\r\n"));
            client.answer().status
        };
        assert_eq!((request(limit), request(limit + 1)), (200, 431));
        if !missing("curl") {
            let headers: Vec<String> = (0..=limit).map(|n| format!("x-{n}: y")).collect();
            let mut arguments = vec!["--http2-prior-knowledge", "-o", "/dev/null"];
            arguments.extend(["-w", "%{http_code}"]);
            arguments.extend(headers.iter().flat_map(|header| ["-H", header]));
            let url = proxy.url("/");
            arguments.push(&url);
            assert_eq!(crate::support::curl(&arguments).text(), "431");
        }
    }
}

#[test]
fn an_address_that_is_too_long_is_414() {
    let origin = RawOrigin::always(OK);
    let proxy =
        Proxy::new().listener("[listener.limit]\nuri_bytes = \"1KiB\"").backend(&origin).run();
    assert_eq!(get(&proxy.url(&format!("/{}", "a".repeat(1023)))).status, 200);
    let answer = get(&proxy.url(&format!("/?{}", "a".repeat(1023))));
    assert_eq!((answer.status, answer.header("connection")), (414, Some("close")));
}

#[test]
fn what_is_not_http_is_400() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().backend(&origin).run();
    for request in [
        "nonsense\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nbroken header: x\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nfolded: x\r\n y\r\n\r\n",
        "GET /%2f HTTP/1.1\r\nhost: a\r\n\r\n",
        "GET /a%00b HTTP/1.1\r\nhost: a\r\n\r\n",
        // Framing that two readers could take for different things (RFC 9112 section 6.3).
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\nx",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ] {
        let mut client = Connection::open(proxy.address("http"));
        client.send(request);
        let answer = client.answer();
        assert_eq!(answer.status, 400, "{request:?}");
        assert_eq!(client.rest(), "", "{request:?}");
    }
    assert_eq!(origin.connections(), 0, "nothing of it reaches a backend");
}

#[test]
fn a_length_beside_chunks_is_no_way_past_us() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send(
        "POST /first HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n\
         0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n",
    );
    // RFC 9112 section 6.3: refused, or served by its chunks alone and the connection closed.
    let answer = client.answer();
    client.rest();
    let received = origin.received_text(0);
    assert!(answer.status == 400 || !received.contains("content-length"), "{received}");
    assert!(!received.contains("/smuggled"), "{received}");
}

#[test]
fn connect_and_asterisk() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n");
    assert_eq!(client.answer().status, 405);
    let mut client = Connection::open(proxy.address("http"));
    client.send("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert!(origin.received_text(0).starts_with("OPTIONS * HTTP/1.1\r\n"));
}

#[test]
fn connections_above_the_limit_wait_for_a_place() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().listener("max_connections = 2").backend(&origin).run();
    let address = proxy.address("http");
    let mut first: Vec<_> = (0..2).map(|_| Connection::open(address)).collect();
    for client in &mut first {
        assert_eq!(client.get("/").status, 200);
    }
    let mut third = Connection::open(address);
    third.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    // Others go on; the third one is not among them.
    for client in &mut first {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(proxy.metric("tidegate_connections", &[]), 2.0);
    assert_eq!(proxy.metric("tidegate_requests_total", &[]), 4.0);
    first.pop();
    assert_eq!(third.answer().status, 200);
}

#[test]
fn one_address_gets_only_its_share() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().listener("max_connections_per_ip = 2").backend(&origin).run();
    let address = proxy.address("http");
    let mut first: Vec<_> = (0..2).map(|_| Connection::open(address)).collect();
    for client in &mut first {
        assert_eq!(client.get("/").status, 200);
    }
    let mut third = Connection::open(address);
    third.try_send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(third.rest(), "", "it is closed at once");
    assert_eq!(proxy.metric("tidegate_connections_refused_total", &[]), 1.0);
    first.pop();
    wait_until("its place is free", || proxy.metric("tidegate_connections", &[]) == 1.0);
    assert_eq!(Connection::open(address).get("/").status, 200);
}

#[test]
fn running_out_of_descriptors_is_survived() {
    if missing("prlimit") {
        return;
    }
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let address = proxy.address("http");
    let pid = format!("--pid={}", proxy.process.pid());
    let open = std::fs::read_dir(format!("/proc/{}/fd", proxy.process.pid())).unwrap().count();
    // Room for the admin and a few connections.
    let limit = format!("--nofile={}", open + 20);
    assert_eq!(run("prlimit", &[&pid, &limit]).code, Some(0));
    let clients: Vec<_> = (0..100).map(|_| Connection::open(address)).collect();
    wait_until("it says so", || proxy.process.output().contains("cannot accept for now"));
    drop(clients);
    wait_until("it serves again", || {
        let mut client = Connection::open(address);
        client.try_send("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        client.rest().starts_with("HTTP/1.1 200")
    });
    assert!(proxy.metric("tidegate_connections_refused_total", &[("reason", "descriptors")]) > 0.0);
}
