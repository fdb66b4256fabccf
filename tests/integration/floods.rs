//! Clients that do too much, or too slowly: how each is ended, under which name it is counted, that others
//! are served meanwhile, and what it costs in memory. docs/floods.md has the table.

use std::sync::Mutex;
use std::time::Instant;

use crate::support::frames::{
    self, ACK, END_HEADERS, END_STREAM, Frames, frame, get_frame, literal,
};
use crate::support::siege::Siege;
use crate::support::{Connection, Origin, Proxy, Running, wait_until};

/// What docs/floods.md has as the bound of one connection, in KiB.
const CONNECTION: usize = 4 * 1024;

fn counted(proxy: &Running, kind: &str) -> f64 {
    proxy.metric("tidegate_floods_total", &[("listener", "http"), ("kind", kind)])
}

/// Runs a flood while somebody else asks politely, and sees that it was counted.
#[track_caller]
fn flood(listener: &str, kind: &str, act: impl FnOnce(&Running)) {
    let origin = Origin::new().start();
    let proxy = Proxy::new().listener(listener).backend(&origin).run();
    let client = Mutex::new(Connection::open(proxy.address("http")));
    Siege::of(&proxy, "/?size=1000").memory(CONNECTION).run(
        |_| assert_eq!(client.lock().unwrap().get("/?size=100").status, 200, "others are served"),
        || act(&proxy),
        || counted(&proxy, kind) >= 1.0,
    );
}

/// The same with frames on one connection, which is ended for them.
#[track_caller]
fn frames(kind: &str, bytes: &[u8]) {
    flood("", kind, |proxy| {
        let mut client = Frames::open(proxy.address("http"));
        client.hello();
        client.send(bytes);
        assert_eq!(client.goaway(), Some("ENHANCE_YOUR_CALM"), "{kind}");
    });
}

fn many(times: usize, bytes: &[u8]) -> Vec<u8> {
    bytes.repeat(times)
}

#[test]
fn rapid_reset() {
    let pair = |n: u32| {
        let reset = frame(frames::RST_STREAM, 0, 2 * n + 1, &8u32.to_be_bytes());
        [get_frame(2 * n + 1, "/?delay=1h"), reset].concat()
    };
    frames("rapid_reset", &(0..1000).flat_map(pair).collect::<Vec<_>>());
}

#[test]
fn made_you_reset() {
    // A window that overflows is an error of the stream.
    let pair = |n: u32| {
        let update = frame(frames::WINDOW_UPDATE, 0, 2 * n + 1, &0x7fff_ffffu32.to_be_bytes());
        [get_frame(2 * n + 1, "/?delay=1h"), update].concat()
    };
    frames("made_you_reset", &(0..1000).flat_map(pair).collect::<Vec<_>>());
}

#[test]
fn what_is_taken_back_at_once_is_not_sent_on() {
    let cancel = 8u32.to_be_bytes();
    let overflow = 0x7fff_ffffu32.to_be_bytes();
    for (kind, payload) in [(frames::RST_STREAM, cancel), (frames::WINDOW_UPDATE, overflow)] {
        let origin = Origin::new().start();
        let proxy = Proxy::new().backend(&origin).run();
        let mut client = Frames::open(proxy.address("http"));
        client.hello();
        let stream = |n: u32| 2 * n + 1;
        let pair = |n| [get_frame(stream(n), "/"), frame(kind, 0, stream(n), &payload)].concat();
        client.send(&(0..90).flat_map(pair).collect::<Vec<_>>());
        // What comes after it on the same connection is served.
        client.send(&get_frame(stream(90), "/"));
        assert_eq!(client.end_of(stream(90)), Some(Ok(200)));
        // A pair may be cut by the end of a read; the other eighty were never asked for.
        let seen = origin.stat("requests");
        assert!((1..=10).contains(&seen), "{seen} of 91 were sent on");
    }
}

#[test]
fn malformed_heads_are_resets_that_the_client_makes() {
    let head = |n: u32| {
        let block = literal(b"te", b"gzip");
        frame(frames::HEADERS, END_STREAM | END_HEADERS, 2 * n + 1, &block)
    };
    frames("made_you_reset", &(0..1000).flat_map(head).collect::<Vec<_>>());
}

#[test]
fn continuation() {
    let begin = frame(frames::HEADERS, END_STREAM, 1, &literal(b":method", b"GET"));
    let part = frame(frames::CONTINUATION, 0, 1, &literal(b"x", b"y"));
    frames("continuation", &[begin, many(10_000, &part)].concat());
}

#[test]
fn settings() {
    frames("settings", &many(1000, &frame(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 255, 255])));
}

#[test]
fn ping() {
    frames("ping", &many(10_000, &frame(frames::PING, 0, 0, &[0; 8])));
    frames("ping", &many(10_000, &frame(frames::PING, ACK, 0, &[0; 8])));
}

#[test]
fn priority() {
    frames("priority", &many(10_000, &frame(frames::PRIORITY, 0, 1, &[0, 0, 0, 0, 16])));
}

#[test]
fn unknown_frames() {
    frames("unknown_frame", &many(10_000, &frame(99, 0, 1, &[])));
}

#[test]
fn empty_data() {
    let mut head = get_frame(1, "/?delay=1h");
    head[4] = END_HEADERS;
    frames("empty_data", &[head, many(10_000, &frame(frames::DATA, 0, 1, &[]))].concat());
}

#[test]
fn windows_that_are_opened_by_one_byte() {
    let none = frame(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let update = frame(frames::WINDOW_UPDATE, 0, 1, &1u32.to_be_bytes());
    let ask = get_frame(1, "/?size=1000000");
    frames("window_update", &[none, ask, many(10_000, &update)].concat());
}

#[test]
fn heads_that_unpack_to_far_more() {
    let mut block = Vec::new();
    for (name, value) in [(":method", "GET"), (":scheme", "http"), (":path", "/")] {
        block.extend(literal(name.as_bytes(), value.as_bytes()));
    }
    // Put into the table once, then named by one byte (RFC 7541 §6.1, §6.2.1).
    let mut entry = literal(b"x", &[b'a'; 4000]);
    entry[0] = 0x40;
    block.extend(entry);
    block.resize(16_000, 0xbe);
    frames("hpack", &frame(frames::HEADERS, END_STREAM | END_HEADERS, 1, &block));
}

#[test]
fn slow_heads() {
    flood("[listener.timeout]\nheader = \"300ms\"", "slow_head", |proxy| {
        let mut client = Connection::open(proxy.address("http"));
        client.send("GET / HTTP/1.1\r\nhost:");
        assert!(client.rest().starts_with("HTTP/1.1 408 "));
        assert_eq!(counted(proxy, "slow_head"), 1.0);
        let mut client = Frames::open(proxy.address("http"));
        client.hello();
        // With a request under way, too.
        client.send(&get_frame(1, "/?delay=1h"));
        client.send(&frame(frames::HEADERS, END_STREAM, 3, &literal(b":method", b"GET")));
        assert_eq!(client.goaway(), Some("ENHANCE_YOUR_CALM"));
        assert_eq!(counted(proxy, "slow_head"), 2.0);
        let mut client = Frames::open(proxy.address("http"));
        client.send(&frames::PREFACE[..7]);
        assert_eq!(client.next(), None);
        assert_eq!(counted(proxy, "slow_head"), 3.0);
    });
}

#[test]
fn slow_bodies() {
    flood("[listener.timeout]\nbody = \"300ms\"", "slow_body", |proxy| {
        let mut client = Connection::open(proxy.address("http"));
        client.send("POST /echo HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
        assert!(client.rest().starts_with("HTTP/1.1 408 "));
    });
}

#[test]
fn slow_readers() {
    flood("[listener.timeout]\nwrite = \"300ms\"", "slow_reader", |proxy| {
        let mut client = Connection::open(proxy.address("http"));
        client.send("GET /?size=200000000 HTTP/1.1\r\nhost: a\r\n\r\n");
        wait_until("it is counted", || counted(proxy, "slow_reader") >= 1.0);
        assert!(client.rest().len() < 200_000_000);
    });
}

#[test]
fn pipelined_requests_whose_answers_nobody_reads() {
    flood("[listener.timeout]\nwrite = \"300ms\"", "slow_reader", |proxy| {
        let mut client = Connection::open(proxy.address("http"));
        let request = "GET /?size=100000 HTTP/1.1\r\nhost: a\r\n\r\n";
        // The proxy reads no more while it cannot write: the rest fills the sockets, or is refused.
        client.socket().set_write_timeout(Some(std::time::Duration::from_secs(1))).unwrap();
        client.try_send(request.repeat(200_000));
        wait_until("it is counted", || counted(proxy, "slow_reader") >= 1.0);
        let asked = proxy.metric("tidegate_requests_total", &[("code", "200")]);
        assert!(asked < 100_000.0, "{asked}");
    });
}

#[test]
fn windows_that_are_never_opened() {
    flood("[listener.timeout]\nwrite = \"300ms\"", "stalled_stream", |proxy| {
        let mut client = Frames::open(proxy.address("http"));
        client.hello();
        client.send(&frame(frames::SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]));
        let start = Instant::now();
        let asks = |n: u32| get_frame(2 * n + 1, "/?size=1000000");
        client.send(&(0..100).flat_map(asks).collect::<Vec<_>>());
        let end = client.end_of(1).expect("the connection goes on");
        assert!(end.is_err() && start.elapsed().as_millis() >= 300, "{end:?}");
        wait_until("all are counted", || counted(proxy, "stalled_stream") == 100.0);
        assert_eq!(proxy.metric("tidegate_in_flight", &[]) as u32 / 2, 0, "but the polite one");
    });
}

#[test]
fn handshakes_that_never_come() {
    let directory = tempfile::tempdir().unwrap();
    let (file, key) = crate::support::certificate(directory.path(), &["a"]);
    let plain = "[listener.timeout]\nhandshake = \"300ms\"";
    let tls =
        format!("[listener.tls]\n[[listener.tls.certificate]]\ncert = {file:?}\nkey = {key:?}");
    let origin = Origin::new().start();
    let proxy = Proxy::new().listener(plain).listener(&tls).backend(&origin).run();
    let mut silent: Vec<_> = (0..50).map(|_| Connection::open(proxy.address("http"))).collect();
    for client in &mut silent {
        assert_eq!(client.rest(), "");
    }
    wait_until("all are counted", || counted(&proxy, "slow_handshake") == 50.0);
    let mut polite = Frames::open_tls(proxy.address("http"), &file);
    polite.hello();
    polite.send(&get_frame(1, "/"));
    assert_eq!(polite.end_of(1), Some(Ok(200)));
}

#[test]
fn more_connections_than_one_address_may_have() {
    flood("max_connections_per_ip = 10", "connections", |proxy| {
        let mut all: Vec<_> = (0..50).map(|_| Connection::open(proxy.address("http"))).collect();
        // One is the polite client's.
        wait_until("they are counted", || counted(proxy, "connections") >= 41.0);
        let served = all
            .iter_mut()
            .filter_map(|client| client.try_send("GET / HTTP/1.0\r\n\r\n").then(|| client.rest()));
        assert_eq!(served.filter(|answer| answer.contains(" 200 OK\r\n")).count(), 9);
    });
}

#[test]
fn what_was_ended_is_told() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let events = crate::support::Events::of(&proxy);
    let mut client = Frames::open(proxy.address("http"));
    client.hello();
    client.send(&many(5000, &frame(frames::PING, 0, 0, &[0; 8])));
    let told = events.wait("flood", |event| event["flood"] == "ping");
    assert_eq!((&told["listener"], &told["ended"]), (&"http".into(), &1.into()));
    assert_eq!(told["step"], "begun");
    let told = events.wait("flood", |event| event["step"] == "ended");
    assert_eq!((&told["flood"], &told["ended"]), (&"ping".into(), &1.into()));
}
