//! Upgraded connections: WebSocket with the origin's echo, over TCP and over TLS.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use crate::support::{
    Connection, Origin, Proxy, RawOrigin, Running, Step, certificate, missing, wait_until,
};

/// The key of RFC 6455 section 1.3, and what has to come back for it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: {KEY}\r\n\r\n"
    )
}

/// A masked frame with an extended length of 8 bytes.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 0xff];
    frame.extend((payload.len() as u64).to_be_bytes());
    let mask = [1, 2, 3, 4];
    frame.extend(mask);
    frame.extend(payload.iter().enumerate().map(|(i, byte)| byte ^ mask[i % 4]));
    frame
}

/// What an echo of [`frame`] looks like.
pub fn echoed(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode, 127];
    frame.extend((payload.len() as u64).to_be_bytes());
    frame.extend(payload);
    frame
}

#[track_caller]
pub fn idle(proxy: &Running) {
    wait_until("nothing is in flight", || {
        proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_upstream_connections", &[]) == 0.0
    });
}

#[test]
fn a_websocket_is_relayed_both_ways_until_it_closes() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    // A frame may come with the request, before the 101.
    client.send([upgrade("/ws").into_bytes(), frame(1, b"early")].concat());
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("sec-websocket-accept")), (101, Some(ACCEPT)));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("connection").map(str::to_lowercase).as_deref(), Some("upgrade"));
    assert_eq!(client.read(10 + 5), echoed(1, b"early"));
    assert_eq!(proxy.metric("tidegate_in_flight", &[]), 1.0, "a tunnel is in flight");
    let large = vec![b'x'; 3 << 20];
    let mut writer = client.socket().try_clone().unwrap();
    let sent = frame(2, &large);
    let sending = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    assert!(client.read(10 + large.len()) == echoed(2, &large), "three MiB come back as they were");
    sending.join().unwrap();
    client.send(frame(8, b""));
    assert_eq!(client.read(10), echoed(8, b""));
    assert_eq!(client.rest(), "");
    drop(client);
    idle(&proxy);
}

#[test]
fn the_end_of_either_side_ends_the_tunnel() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    for reset in [false, true] {
        let mut client = Connection::open(proxy.address("http"));
        client.send(upgrade("/ws"));
        assert_eq!(client.answer().status, 101);
        if reset {
            client.reset()
        } else {
            drop(client)
        }
        idle(&proxy);
    }
    let backend = RawOrigin::script(|_| {
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\nhi";
        vec![Step::ReadHead, Step::Send(head.into())]
    });
    let proxy = Proxy::new().backend(&backend).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    assert_eq!(client.answer().status, 101);
    assert_eq!(client.rest(), "hi", "what came with the 101 is not lost");
    drop(client);
    idle(&proxy);
}

#[test]
fn an_idle_tunnel_is_closed_not_before_its_time() {
    let origin = Origin::new().start();
    let proxy = Proxy::new()
        .listener(
            "[listener.timeout]\ntunnel = \"300ms\"\nkeep_alive = \"100ms\"\nbody = \"100ms\"",
        )
        .backend(&origin)
        .toml("[service.app.transport]\nread_timeout = \"100ms\"")
        .run();
    let mut client = Connection::open(proxy.address("http"));
    client.send(upgrade("/ws"));
    let start = std::time::Instant::now();
    assert_eq!(client.answer().status, 101);
    assert_eq!(client.rest(), "");
    assert!(start.elapsed().as_millis() >= 300, "{:?}", start.elapsed());
    idle(&proxy);
}

#[test]
fn a_refused_upgrade_is_an_ordinary_answer() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send(upgrade("/other"));
    assert_eq!(client.answer().status, 200);
    // Without the Upgrade header the origin answers 426, and the connection goes on.
    assert_eq!(client.get("/ws").status, 426);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_101_that_nobody_asked_for_is_a_bad_gateway() {
    let backend = RawOrigin::script(|_| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
        vec![Step::ReadHead, Step::Send(head.into()), Step::ReadAll]
    });
    let proxy = Proxy::new().backend(&backend).run();
    let mut client = Connection::open(proxy.address("http"));
    assert_eq!(client.get("/").status, 502);
    drop(client);
    idle(&proxy);
}

#[test]
fn upgrades_to_http2_are_never_passed_on() {
    let origin = RawOrigin::always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send(
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\
         http2-settings: AAMAAABkAAQAAP__\r\n\r\n",
    );
    assert_eq!(client.answer().status, 200);
    let received = origin.received_text(0).to_lowercase();
    assert!(!received.contains("upgrade") && !received.contains("http2-settings"), "{received}");
}

#[test]
fn a_websocket_over_tls() {
    if missing("openssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (cert, key) = certificate(directory.path(), &["a"]);
    let origin = Origin::new().start();
    let proxy = Proxy::new()
        .listener(&format!(
            "[listener.tls]\n[[listener.tls.certificate]]\ncert = {cert:?}\nkey = {key:?}"
        ))
        .backend(&origin)
        .run();
    let address = proxy.address("http").to_string();
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", &address, "-servername", "a", "-alpn", "http/1.1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(&[upgrade("/ws").into_bytes(), frame(2, b"hello")].concat()).unwrap();
    stdin.flush().unwrap();
    let mut got = Vec::new();
    let mut stdout = client.stdout.take().unwrap();
    let wanted = echoed(2, b"hello");
    while !got.ends_with(&wanted) {
        let mut byte = [0];
        stdout.read_exact(&mut byte).unwrap_or_else(|e| panic!("{e} after {got:?}"));
        got.push(byte[0]);
    }
    stdin.write_all(&frame(8, b"")).unwrap();
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, echoed(8, b""));
    let _ = client.kill();
    client.wait().unwrap();
    idle(&proxy);
}
