//! Attacks by requests: many from one address, many from many, on what is expensive, and with bombs for heads. Each has
//! its answer, its counter and its event (docs/floods.md), and others are served meanwhile. What is done to the
//! protocols is in `floods`.

use std::sync::Mutex;

use crate::support::frames::{END_HEADERS, END_STREAM, Frames, HEADERS, frame, get_frame, literal};
use crate::support::siege::Siege;
use crate::support::{
    Backend, Connection, Crowd, Events, Origin, Proxy, RawOrigin, Running, Step, wait_until,
};

/// What docs/floods.md has as the bound of one connection, in KiB.
const CONNECTION: usize = 4 * 1024;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// A polite client on one kept connection.
fn polite(proxy: &Running, path: &'static str, status: u16) -> impl Fn(usize) + Sync + use<> {
    let client = Mutex::new(Connection::open(proxy.address("http")));
    move |_| assert_eq!(client.lock().unwrap().get(path).status, status, "others are served")
}

fn limited(proxy: &Running, limit: &str) -> f64 {
    proxy.metric("tidegate_rate_limited_total", &[("route", "app"), ("limit", limit)])
}

fn floods(proxy: &Running, kind: &str) -> f64 {
    proxy.metric("tidegate_floods_total", &[("listener", "http"), ("kind", kind)])
}

fn count(statuses: &[Vec<u16>], status: u16) -> usize {
    statuses.iter().flatten().filter(|one| **one == status).count()
}

#[test]
fn requests_from_one_address() {
    let limit = "[[route.rate_limit]]\nname = \"per-client\"\nkey = \"client_ip\"\nrate = \"1/h\"\n\
                 burst = 5\nban_after = 100";
    let origin = Origin::new().start();
    let free = "[[route]]\nname = \"free\"\npath = \"=/free\"\nservice = \"app\"";
    let proxy = Proxy::new().backend(&origin).route(limit).toml(free).run();
    let events = Events::of(&proxy);
    let crowd = Crowd::direct(proxy.address("http"));
    let refused = || proxy.metric("tidegate_connections_refused_total", &[("reason", "banned")]);
    Siege::of(&proxy, "/free").memory(CONNECTION).run(
        // Each with an address of its own, and within its limit.
        |before| {
            let number = 1000 + before as u32;
            let statuses = crowd.clone().asking(GET, 3).ask(number..number + 1);
            assert_eq!(statuses, [[200; 3]], "others are served");
        },
        || {
            let flood = crowd.clone().asking(GET, 20);
            let (mut passed, mut over, mut connections) = (0, 0, 0);
            wait_until("it is not let in any more", || {
                let statuses = flood.ask(0..1);
                connections += 1;
                passed += count(&statuses, 200);
                over += count(&statuses, 429);
                statuses.concat().is_empty()
            });
            assert_eq!((passed, over, connections), (5, 100, 7), "105 requests, and nothing");
        },
        || limited(&proxy, "per-client") == 100.0 && refused() == 1.0,
    );
    assert_eq!(proxy.metric("tidegate_bans", &[]), 1.0);
    events.wait("ban", |event| event["step"] == "begun" && event["address"] == "127.1.0.0/32");
    let begun = events.wait("request_flood", |event| event["step"] == "begun");
    assert_eq!((&begun["route"], &begun["limit"]), (&"app".into(), &"per-client".into()));
    let ended = events.wait("request_flood", |event| event["step"] == "ended");
    assert_eq!(ended["refused"], 100);
}

#[test]
fn requests_from_many_addresses() {
    let search = "[[route]]\nname = \"search\"\npath = \"=/search\"\nservice = \"app\"\n\
                  [[route.rate_limit]]\nname = \"all\"\nkey = \"route\"\nrate = \"1/h\"\nburst = 10";
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).toml(search).run();
    let events = Events::of(&proxy);
    let refused = || proxy.metric("tidegate_rate_limited_total", &[("route", "search")]);
    Siege::of(&proxy, "/").memory(CONNECTION).run(
        polite(&proxy, "/?size=100", 200),
        || {
            let request = "GET /search HTTP/1.1\r\nhost: a\r\n\r\n";
            let statuses = Crowd::direct(proxy.address("http")).asking(request, 3).ask(0..2000);
            assert_eq!((count(&statuses, 200), count(&statuses, 429)), (10, 5990));
        },
        || refused() == 5990.0,
    );
    let begun = events.wait("request_flood", |event| event["step"] == "begun");
    assert_eq!((&begun["route"], &begun["limit"]), (&"search".into(), &"all".into()));
    let asked = origin.stat("requests");
    assert!(asked >= 10, "{asked}");
}

#[test]
fn requests_for_what_is_expensive() {
    let origin = Origin::new().start();
    let held =
        RawOrigin::script(|_| vec![Step::ReadHead, Step::Hold, Step::Send(OK.into()), Step::Again]);
    let report = format!(
        "[[route]]\nname = \"report\"\npath = \"=/report\"\nservice = \"reports\"\n\
         [route.concurrency_limit]\nmax = 2\n[[service.reports.backend]]\naddress = \"{}\"",
        held.address()
    );
    let proxy = Proxy::new().backend(&origin).toml(&report).run();
    let events = Events::of(&proxy);
    let shed = || proxy.metric("tidegate_shed_total", &[("reason", "route_limit")]);
    Siege::of(&proxy, "/").memory(4 * CONNECTION).run(
        polite(&proxy, "/?size=100", 200),
        || {
            let ask = |_| {
                let mut client = Connection::open(proxy.address("http"));
                client.send("GET /report HTTP/1.1\r\nhost: a\r\n\r\n");
                client
            };
            let mut working: Vec<_> = (0..2).map(ask).collect();
            wait_until("two are worked on", || held.requests().len() == 2);
            let mut flood: Vec<_> = (0..500).map(ask).collect();
            let mut full = || flood.iter_mut().all(|client| client.answer().status == 503);
            assert!(full(), "all others are refused");
            assert_eq!(held.requests().len(), 2);
            held.release();
            assert!(working.iter_mut().all(|client| client.answer().status == 200));
        },
        || shed() == 500.0,
    );
    let begun = events.wait("request_flood", |event| event["step"] == "begun");
    assert_eq!((&begun["route"], &begun["limit"]), (&"report".into(), &"concurrency_limit".into()));
    wait_until("the places are free again", || {
        let mut client = Connection::open(proxy.address("http"));
        client.get("/report").status == 200
    });
}

#[test]
fn heads_that_are_bombs() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let events = Events::of(&proxy);
    Siege::of(&proxy, "/").memory(4 * CONNECTION).run(
        polite(&proxy, "/?size=100", 200),
        || {
            let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(100_000));
            let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(1000));
            // What never ends is refused as soon as it is too long.
            let endless = "GET / HTTP/1.1\r\nhost: a\r\n".to_owned() + &"x: y\r\n".repeat(30_000);
            for bomb in [long, many, endless] {
                // Nothing of them is kept while their connections end.
                for _ in 0..300 {
                    let mut client = Connection::open(proxy.address("http"));
                    client.try_send(&bomb);
                    assert!(client.rest().starts_with("HTTP/1.1 431 "));
                }
            }
        },
        || floods(&proxy, "large_head") == 900.0,
    );
    events.wait("flood", |event| event["flood"] == "large_head" && event["step"] == "begun");
}

#[test]
fn heads_that_are_bombs_over_http2() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/")];
    let pseudo = || fields.iter().flat_map(|(n, v)| literal(n.as_bytes(), v.as_bytes()));
    let head = |stream, block: &[u8]| frame(HEADERS, END_STREAM | END_HEADERS, stream, block);
    Siege::of(&proxy, "/").memory(CONNECTION).run(
        polite(&proxy, "/?size=100", 200),
        || {
            let many: Vec<u8> = pseudo().chain(literal(b"x", b"y").repeat(500)).collect();
            let mut client = Frames::open(proxy.address("http"));
            client.hello_without_table();
            client.send(&head(1, &many));
            assert_eq!(client.end_of(1), Some(Ok(431)));
            client.send(&head(3, &many));
            assert_eq!(client.goaway(), Some("ENHANCE_YOUR_CALM"));
            client = Frames::open(proxy.address("http"));
            client.hello_without_table();
            // Above header_bytes when unpacked: answered by the codec.
            let mut entry = literal(b"x", &[b'a'; 4000]);
            entry[0] = 0x40;
            let large: Vec<u8> = pseudo().chain(entry).chain([0xbe; 15]).collect();
            for stream in (101..301).step_by(2) {
                client.send(&head(stream, &large));
                assert_eq!(client.end_of(stream), Some(Ok(431)));
            }
            client.send(&get_frame(301, "/"));
            assert_eq!(client.end_of(301), Some(Ok(200)), "the connection goes on");
        },
        || floods(&proxy, "large_head") == 2.0,
    );
}
