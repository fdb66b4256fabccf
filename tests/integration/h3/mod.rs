//! HTTP/3 from clients: the same as over other protocols, and what is its own.

mod floods;
mod hostile;
mod life;
mod peers;

use std::path::PathBuf;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request};
use tempfile::TempDir;

use crate::support::http3::{self, Http3, Peer, Quic, request, within};
use crate::support::{Origin, Proxy, PyPeer, RawOrigin, Running, Step};
use crate::support::{certificate, curl, missing, missing_module, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A certificate for `a.test` and `b.test`, and a proxy that speaks HTTP/3 with it.
pub struct Site {
    keys: TempDir,
    pub proxy: Running,
}

impl Site {
    /// `tls`: more of `[listener.tls]`; `listener`: more of the listener, with tables of its own at its end.
    pub fn new(proxy: Proxy, listener: &str, tls: &str) -> Self {
        let keys = tempfile::tempdir().unwrap();
        certificate(keys.path(), &["a.test", "b.test"]);
        let listener = Self::listener(&keys, listener, tls);
        Self { proxy: proxy.listener(&listener).run(), keys }
    }

    fn listener(keys: &TempDir, listener: &str, tls: &str) -> String {
        let file = |name: &str| keys.path().join(name);
        format!(
            "protocols = [\"http/1.1\", \"h2\", \"h3\"]\n{listener}\n[listener.tls]\n{tls}\n\
             [[listener.tls.certificate]]\ncert = {:?}\nkey = {:?}\n",
            file("certificate.pem"),
            file("key.pem")
        )
    }

    pub fn trust(&self) -> PathBuf {
        self.keys.path().join("certificate.pem")
    }

    pub fn http3(&self) -> Http3 {
        self.try_http3().unwrap()
    }

    pub fn try_http3(&self) -> http3::Result<Http3> {
        Peer::new(self.proxy.address("http"), "a.test", &self.trust()).http3()
    }

    pub fn quic(&self) -> Quic {
        let peer = Peer::new(self.proxy.address("http"), "a.test", &self.trust()).quic().unwrap();
        peer.announce(&http3::SETTINGS);
        peer
    }

    pub fn curl(&self, arguments: &[&str]) -> String {
        let address = self.proxy.address("http");
        let resolve = format!("a.test:{}:{}", address.port(), address.ip());
        let url = format!("https://a.test:{}/", address.port());
        let trust = self.trust().display().to_string();
        let output =
            curl(&[&["--resolve", &resolve, "--cacert", &trust], arguments, &[&url]].concat());
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        output.text()
    }
}

fn trailers(name: &'static str, value: &'static str) -> Option<HeaderMap> {
    Some(HeaderMap::from_iter([(name.parse().unwrap(), HeaderValue::from_static(value))]))
}

#[test]
fn a_backend_gets_it_as_over_other_protocols() {
    let origin = RawOrigin::always(OK);
    let log = "[log.access]\nenabled = true\npath = \"{dir}/access.log\"\n";
    let site = Site::new(Proxy::new().backend(&origin).toml(log), "", "");
    let client = site.http3();
    let asked =
        Request::get("https://a.test/x?y=1").header("cookie", "a=b").header("cookie", "c=d");
    let answer = client.send(asked.body(()).unwrap(), Vec::new()).unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    assert!(answer.header("date").is_some());
    let head = origin.received_text(0).to_lowercase();
    assert!(head.starts_with("get /x?y=1 http/1.1\r\n"), "{head}");
    for line in [
        "host: a.test",
        "via: 3.0 tidegate",
        "x-forwarded-proto: https",
        "x-forwarded-for: 127.0.0.1",
        "cookie: a=b; c=d",
    ] {
        assert!(head.contains(&format!("\r\n{line}\r\n")), "{line}: {head}");
    }
    assert!(!head.contains("transfer-encoding"), "it has no body: {head}");
    let head = client.send(request("HEAD", "https://a.test/"), Vec::new()).unwrap();
    assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("2")));
    wait_until("it is logged", || {
        let log = std::fs::read_to_string(site.proxy.directory().join("access.log"));
        log.is_ok_and(|log| log.contains("\"HTTP/3.0\"") && log.contains("/x?y=1"))
    });
    assert_eq!(site.proxy.metric("tidegate_connections", &[("listener", "http")]), 1.0);
}

#[test]
fn large_bodies_and_trailers_pass_both_ways() {
    let origin = Origin::new().start();
    let site = Site::new(Proxy::new().backend(&origin).route("max_body = \"100MiB\""), "", "");
    let client = site.http3();
    let part = Bytes::from(vec![7; 64 << 10]);
    let mut asked = request("POST", "https://a.test/");
    asked.headers_mut().insert("trailer", HeaderValue::from_static("x-after"));
    let answer = client.exchange(asked, vec![part; 320], trailers("x-after", "all")).unwrap();
    let echo: serde_json::Value = serde_json::from_slice(&answer.into_body().0).unwrap();
    assert_eq!(echo["body"]["bytes"], 20 << 20, "{echo}");
    assert_eq!(echo["trailers"][0], serde_json::json!(["x-after", "all"]));
    let mut asked = request("GET", "https://a.test/?size=20971520&trailers&chunked");
    asked.headers_mut().insert("te", HeaderValue::from_static("trailers"));
    let (body, after) = client.exchange(asked, Vec::new(), None).unwrap().into_body();
    assert_eq!(body.len(), 20 << 20);
    assert_eq!(after.unwrap()["x-origin-bytes"], "20971520");
}

#[test]
fn streams_run_at_once_up_to_their_limit() {
    let origin = Origin::new().delay("300ms").start();
    let proxy = Proxy::new().backend(&origin).runtime("workers = 1");
    let site = Site::new(proxy, "[listener.limit]\nh2_streams = 20", "");
    let client = site.http3();
    let asked = (0..60).map(|_| {
        http3::exchange(client.sender(), request("GET", "https://a.test/"), Vec::new(), None)
    });
    let all = futures_util::future::join_all(asked);
    for answer in within(&client.quic.runtime, all).unwrap() {
        assert_eq!(answer.unwrap().status(), 200);
    }
    let most = origin.stat("most_working");
    assert!((10..=20).contains(&most), "{most} at once");
}

#[test]
fn limits_are_those_of_the_listener() {
    let origin = RawOrigin::always(OK);
    let limits =
        "[listener.limit]\nheader_bytes = \"4KiB\"\nheader_count = 10\nuri_bytes = \"128\"";
    let site = Site::new(Proxy::new().backend(&origin).route("max_body = \"10\""), limits, "");
    let client = site.http3();
    let long = "x".repeat(200);
    let target = format!("https://a.test/{long}");
    assert_eq!(client.get(&target).unwrap().status, 414);
    let mut many = request("GET", "https://a.test/");
    for number in 0..11 {
        let name = http::HeaderName::try_from(format!("x-{number}")).unwrap();
        many.headers_mut().insert(name, HeaderValue::from_static("y"));
    }
    assert_eq!(client.send(many, Vec::new()).unwrap().status, 431);
    let body = vec![Bytes::from_static(b"more than ten bytes")];
    assert_eq!(client.send(request("POST", "https://a.test/"), body).unwrap().status, 413);
    // The h3 crate would not send it, as it was told of the limit.
    let quic = site.quic();
    let fields =
        [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")];
    let value = "y".repeat(5000);
    let large = [&fields[..], &[("x-large", value.as_str())]].concat();
    let asked = http3::frame(1, &http3::section(&large));
    assert_eq!(quic.ask(&asked, true), http3::Came::Status(431));
    assert_eq!(client.get("https://a.test/").unwrap().status, 200, "the connection goes on");
    let names: Vec<_> =
        origin.requests().into_iter().filter(|line| !line.starts_with("POST")).collect();
    assert_eq!(names, ["GET / HTTP/1.1"], "nothing else was passed on");
}

#[test]
fn methods_and_hosts_are_judged_as_elsewhere() {
    let origin = RawOrigin::always(OK);
    let site = Site::new(Proxy::new().backend(&origin), "", "");
    let client = site.http3();
    for (method, uri, status) in [
        ("TRACE", "https://a.test/", 200),
        ("GET", "https://user@a.test/", 400),
        ("GET", "ftp://a.test/", 400),
    ] {
        assert_eq!(client.send(request(method, uri), Vec::new()).unwrap().status, status, "{uri}");
    }
    let connect = http3::section(&[(":method", "CONNECT"), (":authority", "a.test:443")]);
    let came = site.quic().ask(&http3::frame(1, &connect), false);
    assert_eq!(came, http3::Came::Status(405));
    let asked = Request::options("https://a.test/").header("max-forwards", "0");
    let answer = client.send(asked.body(()).unwrap(), Vec::new()).unwrap();
    assert!(answer.header("allow").is_some(), "{answer:?}");
}

#[test]
fn other_protocols_say_where_it_is() {
    if missing("curl") {
        return;
    }
    let offers = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nalt-svc: h3=\":1\"\r\n\r\nok";
    let origin = RawOrigin::always(offers);
    let site = Site::new(Proxy::new().backend(&origin), "", "");
    let port = site.proxy.address("http").port();
    let own = format!("alt-svc: h3=\":{port}\"; ma=86400");
    for protocol in ["--http2", "--http1.1"] {
        let head = site.curl(&["-D", "-", "-o", "/dev/null", protocol]).to_lowercase();
        let said: Vec<_> = head.lines().filter(|line| line.starts_with("alt-svc")).collect();
        assert_eq!(said, [own.as_str()], "{protocol}: {head}");
    }
    assert_eq!(site.http3().get("https://a.test/").unwrap().header("alt-svc"), None);
    let route = "headers_out.set = { alt-svc = \"clear\" }";
    let site = Site::new(Proxy::new().backend(&origin).route(route), "", "");
    let head = site.curl(&["-D", "-", "-o", "/dev/null", "--http2"]).to_lowercase();
    assert!(head.contains("alt-svc: clear\r\n") && !head.contains("h3="), "{head}");
    // Without HTTP/3 nobody says anything of it but the backend.
    let plain = Proxy::new().backend(&origin).run();
    let said = crate::support::get(&plain.url("/"));
    assert_eq!(said.header("alt-svc"), Some("h3=\":1\""));
}

#[test]
fn a_client_that_waits_for_a_100_gets_it() {
    let script = vec![Step::ReadHead, Step::Read(5), Step::Send(OK.into()), Step::ReadAll];
    let origin = RawOrigin::script(move |_| script.clone());
    let site = Site::new(Proxy::new().backend(&origin), "", "");
    let client = site.http3();
    let exchange = async {
        let asked = Request::post("https://a.test/").header("expect", "100-continue");
        let asked = asked.header("content-length", "5").body(()).unwrap();
        let mut stream = client.sender().send_request(asked).await.unwrap();
        assert_eq!(stream.recv_response().await.unwrap().status(), 100);
        stream.send_data(Bytes::from_static(b"hello")).await.unwrap();
        stream.finish().await.unwrap();
        stream.recv_response().await.unwrap().status()
    };
    assert_eq!(within(&client.quic.runtime, exchange).unwrap(), 200);
    assert!(origin.received_text(0).ends_with("\r\n\r\nhello"));
}

#[test]
fn certificates_of_clients_are_asked_for_and_passed_on() {
    let clients = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(clients.path(), &["client.test"]);
    let origin = RawOrigin::always(OK);
    let site = Site::new(Proxy::new().backend(&origin), "", &format!("client_ca = {chain:?}"));
    let trust = site.trust();
    let mut peer = Peer::new(site.proxy.address("http"), "a.test", &trust);
    let nobody = peer.http3().and_then(|client| client.get("https://a.test/"));
    assert!(nobody.is_err(), "{nobody:?}");
    peer.shown = Some((&chain, &key));
    let client = peer.http3().unwrap();
    let asked = Request::get("https://a.test/").header("client-cert", ":forged:");
    assert_eq!(client.send(asked.body(()).unwrap(), Vec::new()).unwrap().status, 200);
    let head = origin.received_text(0).to_lowercase();
    assert!(head.contains("\r\nclient-cert: :mii") && !head.contains("forged"), "{head}");
    // Of another host than the one of the handshake.
    assert_eq!(client.get("https://b.test/").unwrap().status, 421);
}

#[test]
fn grpc_reaches_its_server() {
    if missing_module("grpc") {
        return;
    }
    let server = PyPeer::serve("grpc_peer.py");
    let to = "[service.app.transport]\nprotocol = \"h2c\"";
    let site = Site::new(Proxy::new().backend(&server).toml(to), "", "");
    let client = site.http3();
    let call = |name: &str| {
        let asked = Request::post(format!("https://a.test/test.Test/{name}"));
        let asked = asked.header("content-type", "application/grpc").header("te", "trailers");
        let message = Bytes::from_static(b"\0\0\0\0\x02hi");
        client.exchange(asked.body(()).unwrap(), vec![message], None).unwrap()
    };
    let (body, after) = call("Unary").into_body();
    assert_eq!(body, b"\0\0\0\0\x03hi!");
    assert_eq!(after.unwrap()["grpc-status"], "0");
    let failed = call("Fail");
    // Trailers-Only, or trailers after nothing.
    let status = failed.headers().get("grpc-status").cloned();
    let status = status.or_else(|| failed.body().1.as_ref()?.get("grpc-status").cloned());
    assert_eq!(status.unwrap(), "5");
}

#[test]
fn what_it_cannot_be_without_or_with() {
    let keys = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(keys.path(), &["a.test"]);
    let tls =
        format!("[listener.tls]\n[[listener.tls.certificate]]\ncert = {chain:?}\nkey = {key:?}\n");
    let trusted = "proxy_protocol = \"accept\"\ntrusted_proxies = [\"10.0.0.0/8\"]\n";
    for (protocols, more, message) in [
        ("\"h2\", \"h3\"", "", "\"h3\" is always encrypted"),
        ("\"h3\"", tls.as_str(), "add \"h2\" or \"http/1.1\""),
        ("\"h2\", \"h3\"", &format!("{trusted}{tls}"), "no PROXY header over QUIC"),
    ] {
        let listener = format!("protocols = [{protocols}]\n{more}");
        let (code, text) = Proxy::new().listener(&listener).fail();
        assert!(code != Some(0) && text.contains(message), "{message}: {text}");
    }
}
