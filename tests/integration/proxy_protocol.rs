//! PROXY headers from those who may send them, on plain and TLS listeners, from real peers.

use crate::support::{
    Backend, Connection, Haproxy, Origin, Proxy, RawOrigin, Running, certificate, curl, get,
    missing, wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const ACCEPT: &str = "proxy_protocol = \"accept\"\ntrusted_proxies = [\"127.0.0.0/8\"]";

fn accepting(origin: &RawOrigin) -> Running {
    Proxy::new().runtime("workers = 1").listener(ACCEPT).backend(origin).run()
}

/// The client that the backend was told of, for the first request that it got.
fn told(origin: &RawOrigin) -> String {
    // Its port may have been another's before, and be asked by strangers.
    let all: String = (0..origin.connections()).map(|n| origin.received_text(n)).collect();
    let head = all.to_lowercase();
    let mut lines = head.lines().filter_map(|line| line.strip_prefix("x-forwarded-for: "));
    lines.next().expect("it is told").to_owned()
}

#[test]
fn the_client_is_whom_the_header_names() {
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0f\xcb\x00\x71\x09\x0a\x00\x00\x01\x10\x00\x00\x50\x04\x00\x00";
    let v6 = b"PROXY TCP6 2001:db8::7 2001:db8::1 4000 80\r\n";
    for (header, client) in [
        (&b"PROXY TCP4 203.0.113.9 10.0.0.1 4000 80\r\n"[..], "203.0.113.9"),
        (v6, "2001:db8::7"),
        (v2, "203.0.113.9"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00", "127.0.0.1"),
    ] {
        // In one piece with the request, and byte by byte.
        for step in [1, 1000] {
            let origin = RawOrigin::always(OK);
            let proxy = accepting(&origin);
            let mut client_side = Connection::open(proxy.address("http"));
            let bytes =
                [header, b"GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: 6.6.6.6\r\n\r\n"].concat();
            for piece in bytes.chunks(step) {
                client_side.send(piece);
            }
            assert_eq!(client_side.answer().status, 200);
            // Its own word is heard only if it is a trusted proxy itself.
            let expected = match client {
                "127.0.0.1" => "6.6.6.6, 127.0.0.1",
                stranger => stranger,
            };
            assert_eq!(told(&origin), expected, "by {step}");
        }
    }
}

#[test]
fn without_a_proper_header_there_is_no_service() {
    let origin = RawOrigin::always(OK);
    let proxy = accepting(&origin);
    for bytes in [
        &b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[..],
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 x\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 1\nGET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xffxxxx",
    ] {
        let mut client = Connection::open(proxy.address("http"));
        client.try_send(bytes);
        assert_eq!(client.rest(), "");
    }
    let refused =
        |reason| proxy.metric("tidegate_connections_refused_total", &[("reason", reason)]);
    assert_eq!(refused("proxy_header"), 4.0);
    assert_eq!(origin.connections(), 0);
}

#[test]
fn strangers_may_not_send_one() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new()
        .listener("proxy_protocol = \"accept\"\ntrusted_proxies = [\"192.0.2.0/24\"]")
        .backend(&origin)
        .run();
    let mut client = Connection::open(proxy.address("http"));
    client.try_send("PROXY TCP4 192.0.2.1 10.0.0.1 4000 80\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.rest(), "");
    wait_until("it is counted", || {
        proxy.metric("tidegate_connections_refused_total", &[("reason", "untrusted")]) == 1.0
    });
}

#[test]
fn connections_are_limited_by_the_client_that_is_named() {
    let origin = Origin::new().start();
    let proxy = Proxy::new()
        .listener(&format!("{ACCEPT}\nmax_connections_per_ip = 1"))
        .backend(&origin)
        .run();
    let open = |client: &str| {
        let mut connection = Connection::open(proxy.address("http"));
        connection.send(format!("PROXY TCP4 {client} 10.0.0.1 4000 80\r\n"));
        connection.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        connection
    };
    let mut first = open("203.0.113.1");
    assert_eq!(first.answer().status, 200);
    assert_eq!(open("203.0.113.2").answer().status, 200, "another client");
    assert_eq!(open("203.0.113.1").rest(), "", "one too many");
    drop(first);
}

#[test]
fn haproxy_is_understood_in_both_versions() {
    if missing("haproxy") {
        return;
    }
    for version in ["send-proxy", "send-proxy-v2"] {
        let origin = RawOrigin::always(OK);
        let proxy = accepting(&origin);
        let server = format!("{} {version}", proxy.address("http"));
        let haproxy = Haproxy::start("", &server);
        assert_eq!(get(&format!("http://{}/", haproxy.address())).status, 200, "{version}");
        assert_eq!(told(&origin), "127.0.0.1");
    }
}

#[test]
fn the_header_comes_before_tls() {
    if missing("curl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(directory.path(), &["localhost"]);
    let origin = Origin::new().start();
    let tls = format!(
        "{ACCEPT}\n[[listener.tls.certificate]]\ncert = \"{}\"\nkey = \"{}\"",
        cert.display(),
        key.display()
    );
    let proxy = Proxy::new().listener(&tls).backend(&origin).run();
    let url = format!("https://localhost:{}/", proxy.address("http").port());
    for version in ["--http1.1", "--http2"] {
        let output = curl(&[
            "--haproxy-protocol",
            "-k",
            version,
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ]);
        assert_eq!((output.code, output.text().as_str()), (Some(0), "200"), "{}", output.stderr);
    }
}
