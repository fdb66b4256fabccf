//! Backends that listen on unix sockets.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;

use crate::support::{Connection, Nginx, Proxy, certificate, get, missing, send, wait_until};

/// A service with one backend at this socket.
fn proxy(path: &str, more: &str) -> Proxy {
    Proxy::new().service(&format!("{more}\n[[service.app.backend]]\naddress = \"unix:{path}\""))
}

#[test]
fn nginx_on_a_unix_socket() {
    if missing("nginx") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("nginx.sock").display().to_string();
    let nginx =
        Nginx::start(&format!("listen unix:{path}; location = /host {{ return 200 \"$host\"; }}"));
    nginx.file("a.txt", b"over a file");
    let check = "health = { path = \"/a.txt\", interval = \"100ms\" }";
    let proxy = proxy(&path, check).run();
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..3 {
        assert_eq!(client.get("/a.txt").text(), "over a file");
    }
    let body = vec![b'x'; 300_000];
    let answer = send("POST", &proxy.url("/upload"), &[], &body).unwrap();
    assert_eq!(answer.text(), "received 300000");
    let host = send("GET", &proxy.url("/host"), &[("host", "example.test")], b"").unwrap();
    assert_eq!(host.text(), "example.test");
    let backends = proxy.service("app")["backends"].clone();
    assert_eq!(backends[0]["address"], format!("unix:{path}"), "{backends}");
    let id = format!("unix:{path}").replace([':', '/'], "-");
    assert_eq!(backends[0]["id"], id);
    let labels = [("backend", id.as_str())];
    assert_eq!(proxy.metric("tidegate_backend_up", &labels), 1.0);
    // Its own checks find out that it is gone, and where.
    drop(nginx);
    wait_until("it is found out", || proxy.service("app")["backends"][0]["healthy"] == false);
    assert_eq!(get(&proxy.url("/")).status, 503);
}

#[test]
fn a_socket_that_nobody_made_is_refused_and_the_host_is_localhost() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("late.sock");
    let proxy = proxy(&path.display().to_string(), "host = \"backend\"").run();
    let answer = get(&proxy.url("/"));
    let error = answer.header("proxy-status").unwrap_or_default();
    assert!(answer.status == 502 && error.contains("connection_refused"), "{answer:?}");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
        let head: Vec<_> = lines.take_while(|line| !line.is_empty()).collect();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
        head
    });
    assert_eq!(get(&proxy.url("/")).status, 200);
    let head = server.join().unwrap();
    assert!(head.contains(&"host: localhost".to_owned()), "{head:?}");
}

#[test]
fn tls_and_proxy_headers_over_a_unix_socket() {
    if missing("nginx") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(directory.path(), &["localhost", "app.test"]);
    let secure = format!(
        "ssl_certificate {}; ssl_certificate_key {};",
        certificate.display(),
        key.display()
    );
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (plain, both) = (path("plain.sock"), path("both.sock"));
    let encrypted = path("tls.sock");
    let _nginx = Nginx::start(&format!(
        "listen unix:{plain} proxy_protocol; listen unix:{both} ssl proxy_protocol;
         listen unix:{encrypted} ssl; {secure}
         location = /who {{ return 200 \"$proxy_protocol_addr:$proxy_protocol_port $https $ssl_server_name\"; }}"
    ));
    let tls = |name: &str| format!("tls = {{ ca = {certificate:?}{name} }}");
    for (path, lines, named, said) in [
        (&plain, "proxy_protocol = \"v1\"".to_owned(), true, " "),
        (&plain, "proxy_protocol = \"v2\"".to_owned(), true, " "),
        (&encrypted, tls(""), false, "on localhost"),
        (&encrypted, tls(", server_name = \"app.test\""), false, "on app.test"),
        (&both, format!("proxy_protocol = \"v2\"\n{}", tls("")), true, "on localhost"),
    ] {
        let transport = format!("[service.app.transport]\n{lines}");
        let proxy = proxy(path, "host = \"backend\"").toml(&transport).run();
        for _ in 0..2 {
            let mut client = Connection::open(proxy.address("http"));
            let from = client.socket().local_addr().unwrap();
            let from = if named { from.to_string() } else { ":".to_owned() };
            assert_eq!(client.get("/who").text(), format!("{from} {said}"), "{lines}");
        }
    }
    // A name that the certificate does not have.
    let transport = format!("[service.app.transport]\n{}", tls(", server_name = \"b.test\""));
    let proxy = proxy(&encrypted, "").toml(&transport).run();
    let answer = get(&proxy.url("/who"));
    let error = answer.header("proxy-status").unwrap_or_default();
    assert!(answer.status == 502 && error.contains("tls_certificate_error"), "{answer:?}");
}
