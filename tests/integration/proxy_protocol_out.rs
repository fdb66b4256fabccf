//! PROXY headers to backends: nginx and HAProxy are told who the client is.

use std::net::{IpAddr, SocketAddr};

use crate::support::{
    Backend, Connection, Haproxy, Nginx, Proxy, RawOrigin, Running, Step, certificate, missing,
    wait_until,
};

const WHO: &str = "location = /who {
    return 200 \"$proxy_protocol_addr $proxy_protocol_port $proxy_protocol_server_addr $proxy_protocol_server_port\"; }";

fn proxy(backend: &impl Backend, version: &str, address: &str) -> Running {
    Proxy::new()
        .listener(&format!("address = \"{address}\""))
        .backend(backend)
        .toml(&format!("[service.app.transport]\nproxy_protocol = \"{version}\""))
        .run()
}

/// What a backend has to know of a client's connection.
fn ends(client: &Connection) -> String {
    let socket = client.socket();
    let (from, to) = (socket.local_addr().unwrap(), socket.peer_addr().unwrap());
    format!("{} {} {} {}", from.ip(), from.port(), to.ip(), to.port())
}

#[test]
fn nginx_knows_each_client_by_both_versions_and_families() {
    if missing("nginx") {
        return;
    }
    let nginx = Nginx::listening("proxy_protocol", WHO);
    for version in ["v1", "v2"] {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let proxy = proxy(&nginx, version, address);
            let mut clients: Vec<_> =
                (0..3).map(|_| Connection::open(proxy.address("http"))).collect();
            // In turns: a connection that was kept would name another client.
            for _ in 0..3 {
                for client in &mut clients {
                    let wanted = ends(client);
                    assert_eq!(client.get("/who").text(), wanted, "{version} {address}");
                }
            }
        }
    }
}

#[test]
fn haproxy_knows_each_client_by_both_versions_and_families() {
    if missing("haproxy") {
        return;
    }
    let haproxy = Haproxy::start(
        "accept-proxy\n http-request return status 200 content-type text/plain \
         lf-string \"%[src] %[src_port] %[dst] %[dst_port]\"",
        "127.0.0.1:1",
    );
    for version in ["v1", "v2"] {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let proxy = proxy(&haproxy, version, address);
            for _ in 0..2 {
                let mut client = Connection::open(proxy.address("http"));
                let wanted = ends(&client);
                assert_eq!(client.get("/").text(), wanted, "{version} {address}");
            }
        }
    }
}

#[test]
fn over_tls_the_header_comes_before_it() {
    if missing("nginx") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    certificate(directory.path(), &["localhost"]);
    let certs = directory.path().display();
    let nginx = Nginx::listening(
        "ssl proxy_protocol",
        &format!(
            "ssl_certificate {certs}/certificate.pem; ssl_certificate_key {certs}/key.pem; {WHO}"
        ),
    );
    let proxy = Proxy::new()
        .backend(&nginx)
        .toml("[service.app.transport]\nproxy_protocol = \"v2\"\ntls = { verify = false }")
        .run();
    let mut client = Connection::open(proxy.address("http"));
    let wanted = ends(&client);
    assert_eq!(client.get("/who").text(), wanted);
}

#[test]
fn who_a_trusted_proxy_names_is_passed_on() {
    if missing("nginx") {
        return;
    }
    let nginx = Nginx::listening("proxy_protocol", WHO);
    let proxy = Proxy::new()
        .listener("proxy_protocol = \"accept\"\ntrusted_proxies = [\"127.0.0.0/8\"]")
        .backend(&nginx)
        .toml("[service.app.transport]\nproxy_protocol = \"v2\"")
        .run();
    let to = proxy.address("http");
    let mut client = Connection::open(to);
    client.send("PROXY TCP6 2001:db8::1 2001:db8::2 4000 80\r\n");
    // Where it was accepted is an IPv4 address, which goes within IPv6.
    let text = client.get("/who").text();
    let mut words = text.split(' ');
    assert_eq!((words.next(), words.next()), (Some("2001:db8::1"), Some("4000")), "{text}");
    let accepted: IpAddr = words.next().unwrap().parse().unwrap();
    assert_eq!(SocketAddr::new(accepted.to_canonical(), to.port()), to);
}

#[test]
fn checks_speak_for_nobody() {
    for (version, wanted) in
        [("v1", &b"PROXY UNKNOWN\r\nGET "[..]), ("v2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET ")]
    {
        let origin = RawOrigin::script(|_| vec![Step::ReadAll]);
        let proxy = Proxy::new()
            .backend(&origin)
            .service("health = { path = \"/check\", interval = \"100ms\" }")
            .toml(&format!("[service.app.transport]\nproxy_protocol = \"{version}\""))
            .run();
        wait_until("a check came", || origin.received(0).len() >= wanted.len());
        assert!(origin.received(0).starts_with(wanted), "{:?}", origin.received_text(0));
        drop(proxy);
    }
}
