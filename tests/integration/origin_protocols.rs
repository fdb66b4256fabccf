//! TLS and HTTP/2 to backends, with nginx as the backend.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::support::{
    Backend, Load, Nginx, Proxy, Running, certificate, curl, get, gets, missing, send, wait_until,
};

/// What a backend says of the connection that it is asked on.
const SAYS: &str = "add_header x-protocol $server_protocol always;
    add_header x-connection $connection always;
    add_header x-host $http_host always;
    add_header x-length $http_content_length always;
    add_header x-subject $ssl_client_s_dn always;
    location /ok { return 200 ok; }";

/// A directory with a certificate for `localhost`, which is its own authority.
struct Identity {
    directory: TempDir,
}

impl Identity {
    fn new(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        certificate(directory.path(), names);
        Self { directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn cert(&self) -> PathBuf {
        self.file("certificate.pem")
    }

    fn nginx(&self, options: &str, more: &str) -> Nginx {
        let (cert, key) = (self.cert(), self.file("key.pem"));
        let server = format!(
            "ssl_certificate {}; ssl_certificate_key {}; {SAYS} {more}",
            cert.display(),
            key.display()
        );
        Nginx::listening(options, &server)
    }
}

/// A proxy whose backend is `localhost`, by name.
fn proxy(origin: &impl Backend, transport: &str) -> Running {
    let port = origin.address().port();
    Proxy::new()
        .toml(&format!("[[service.app.backend]]\nid = \"origin\"\naddress = \"localhost:{port}\""))
        .toml(&format!("[service.app.transport]\n{transport}"))
        .run()
}

fn trusting(ca: &Path, more: &str) -> String {
    format!("tls = {{ ca = {ca:?}{more} }}")
}

#[test]
fn a_backend_has_to_prove_its_name() {
    if missing("nginx") {
        return;
    }
    let identity = Identity::new(&["localhost"]);
    let other = Identity::new(&["localhost"]);
    let origin = identity.nginx("ssl", "");

    let trusted = proxy(&origin, &trusting(&identity.cert(), ""));
    let answer = get(&trusted.url("/ok"));
    assert_eq!((answer.status, answer.header("x-protocol")), (200, Some("HTTP/1.1")));

    for (transport, why) in [
        (trusting(&other.cert(), ""), "another authority"),
        (trusting(&identity.cert(), ", server_name = \"elsewhere.test\""), "another name"),
        ("tls = true".to_owned(), "the system does not know it"),
    ] {
        let wary = proxy(&origin, &transport);
        let answer = get(&wary.url("/ok"));
        assert_eq!(answer.status, 502, "{why}");
        let status = answer.header("proxy-status").unwrap();
        assert!(status.contains("error=tls_certificate_error"), "{why}: {status}");
        assert_eq!(
            wary.metric("tidegate_connect_errors_total", &[("reason", "tls")]),
            1.0,
            "{why}"
        );
    }
    let careless = proxy(&origin, "tls = { verify = false, server_name = \"elsewhere.test\" }");
    assert_eq!(get(&careless.url("/ok")).status, 200);

    // What does not speak TLS at all.
    let plain = Nginx::start(SAYS);
    let answer = get(&proxy(&plain, "tls = { verify = false }").url("/ok"));
    assert_eq!(answer.status, 502);
    assert!(answer.header("proxy-status").unwrap().contains("error=tls_protocol_error"));
}

#[test]
fn a_backend_that_asks_for_a_certificate_gets_ours() {
    if missing("nginx") {
        return;
    }
    let (identity, ours) = (Identity::new(&["localhost"]), Identity::new(&["tidegate.test"]));
    let verify = format!("ssl_verify_client on; ssl_client_certificate {};", ours.cert().display());
    let origin = identity.nginx("ssl", &verify);
    let own = format!(", cert = {:?}, key = {:?}", ours.cert(), ours.file("key.pem"));
    let known = proxy(&origin, &trusting(&identity.cert(), &own));
    let answer = get(&known.url("/ok"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.header("x-subject").is_some_and(|subject| !subject.is_empty()));
    // nginx answers 400 to whoever has none.
    assert_eq!(get(&proxy(&origin, &trusting(&identity.cert(), "")).url("/ok")).status, 400);
}

#[test]
fn checks_go_over_tls_too() {
    if missing("nginx") {
        return;
    }
    let identity = Identity::new(&["localhost"]);
    let origin = identity.nginx("ssl", "");
    let check = "[service.app.health]\npath = \"/ok\"\ninterval = \"100ms\"\nunhealthy_after = 1\nhealthy_after = 1";
    let other = Identity::new(&["localhost"]);
    for (ca, healthy) in [(identity.cert(), true), (other.cert(), false)] {
        let proxy = proxy(&origin, &format!("{}\n{check}", trusting(&ca, "")));
        wait_until("it is judged", || {
            let backend = &proxy.service("app")["backends"][0];
            backend["healthy"] == healthy && backend["since"].is_string()
        });
        let up = || proxy.metric("tidegate_backend_up", &[("service", "app")]);
        wait_until("the metric agrees", || up() == f64::from(u8::from(healthy)));
    }
}

#[test]
fn checks_are_sent_over_what_requests_are_sent_over() {
    if missing("nginx") {
        return;
    }
    let identity = Identity::new(&["localhost"]);
    let trust = trusting(&identity.cert(), "");
    for (listen, transport, healthy) in [
        ("http2", "protocol = \"h2c\"".to_owned(), true),
        ("ssl http2", format!("protocol = \"h2\"\n{trust}"), true),
        // Nobody speaks HTTP/2 there.
        ("", "protocol = \"h2c\"".to_owned(), false),
    ] {
        let origin = identity.nginx(listen, "");
        let check = "[service.app.health]\npath = \"/ok\"\ninterval = \"100ms\"\n\
                     unhealthy_after = 1\nhealthy_after = 1";
        let proxy = proxy(&origin, &format!("{transport}\n{check}"));
        wait_until("it is judged", || {
            let backend = &proxy.service("app")["backends"][0];
            backend["healthy"] == healthy && backend["since"].is_string()
        });
    }
}

#[test]
fn alpn_decides_where_it_may() {
    if missing("nginx") {
        return;
    }
    let identity = Identity::new(&["localhost"]);
    for (listen, protocol, spoken) in [
        ("ssl http2", "auto", "HTTP/2.0"),
        ("ssl", "auto", "HTTP/1.1"),
        ("ssl http2", "http/1.1", "HTTP/1.1"),
        ("ssl http2", "h2", "HTTP/2.0"),
    ] {
        let origin = identity.nginx(listen, "");
        let transport = format!("protocol = \"{protocol}\"\n{}", trusting(&identity.cert(), ""));
        let proxy = proxy(&origin, &transport);
        for _ in 0..3 {
            let answer = get(&proxy.url("/ok"));
            assert_eq!(answer.status, 200, "{listen} {protocol}");
            assert_eq!(answer.header("x-protocol"), Some(spoken), "{listen} {protocol}");
            let host = proxy.address("http").to_string();
            assert_eq!(answer.header("x-host"), Some(&*host), "the client's own");
        }
    }
}

#[test]
fn many_requests_share_few_connections() {
    if missing("nginx") {
        return;
    }
    let origin = Nginx::listening("http2", SAYS);
    let proxy = proxy(&origin, "protocol = \"h2c\"");
    let connections: BTreeSet<String> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..20)
            .map(|_| {
                scope.spawn(|| {
                    let answers = (0..20).map(|_| get(&proxy.url("/ok"))).inspect(|answer| {
                        assert_eq!(answer.header("x-protocol"), Some("HTTP/2.0"));
                    });
                    answers
                        .map(|a| a.header("x-connection").unwrap().to_owned())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    });
    // Two workers, each with one of its own.
    assert!(connections.len() <= 2, "{connections:?}");
}

#[test]
fn a_connection_that_ends_takes_no_request_with_it() {
    if missing("nginx") {
        return;
    }
    // GOAWAY after every seventh request.
    let origin = Nginx::listening("http2", &format!("keepalive_requests 7; {SAYS}"));
    let proxy = proxy(&origin, "protocol = \"h2c\"");
    let load = Load::start(gets(&proxy.url("/ok"), 200.0, tidegate::load::Protocol::Http1));
    wait_until("many have been answered", || {
        proxy.metric("tidegate_requests_total", &[("code", "200")]) >= 400.0
    });
    load.finish_unharmed();
    assert_eq!(proxy.metric("tidegate_requests_total", &[("code", "502")]), 0.0);
}

#[test]
fn bodies_go_both_ways_in_every_combination() {
    if missing("nginx") || missing("curl") {
        return;
    }
    let origin = Nginx::listening("http2", SAYS);
    let big = vec![b'x'; 3 << 20];
    origin.file("big", &big);
    let proxy = proxy(&origin, "protocol = \"h2c\"");
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let output = curl(&[version, &proxy.url("/big")]);
        assert_eq!((output.code, output.stdout.len()), (Some(0), big.len()), "{}", output.stderr);
    }
    let answer = send("POST", &proxy.url("/ok"), &[], &big).unwrap();
    assert_eq!((answer.status, answer.header("x-length")), (200, Some("3145728")));
    let answer = send("HEAD", &proxy.url("/big"), &[], b"").unwrap();
    assert_eq!((answer.status, answer.body.len()), (200, 0));
}
