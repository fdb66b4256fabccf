//! `tidegate origin` seen from outside, with the peers that are installed.

use std::io::{BufReader, Read, Write};

use nix::sys::signal::Signal;

use crate::support::{
    Backend, Nginx, Origin, connect, curl, get, missing, read_answer, send, wait_until,
};

#[test]
fn echoes_what_it_received() {
    let origin = Origin::new().id("one").start();
    let answer = send("POST", &origin.url("/a/b?c=d"), &[("x-test", "1")], b"hello").unwrap();
    assert_eq!((answer.status, answer.header("x-origin-id")), (200, Some("one")));
    let echo = answer.json();
    assert_eq!(
        (&echo["method"], &echo["path"], &echo["query"]),
        (&"POST".into(), &"/a/b".into(), &"c=d".into())
    );
    assert_eq!(echo["body"]["bytes"], 5);
    // sha256sum of "hello".
    let hash = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(echo["body"]["sha256"], hash);
    assert!(echo["headers"].as_array().unwrap().contains(&serde_json::json!(["x-test", "1"])));
}

#[test]
fn requests_above_the_slots_wait_and_health_does_not() {
    let origin = Origin::new().slots(2).delay("50ms").start();
    let requests: Vec<_> = (0..6)
        .map(|_| {
            let url = origin.url("/");
            std::thread::spawn(move || get(&url).status)
        })
        .collect();
    wait_until("requests wait", || origin.stat("waiting") > 0);
    assert_eq!(get(&origin.url("/health")).status, 200);
    assert!(requests.into_iter().all(|request| request.join().unwrap() == 200));
    assert_eq!((origin.stat("requests"), origin.stat("most_working")), (6, 2));
    wait_until("all slots are free", || origin.stat("working") == 0);
}

#[test]
fn a_client_that_leaves_gives_its_slot_back() {
    let origin = Origin::new().slots(1).start();
    let mut stream = connect(origin.address()).unwrap();
    stream.write_all(b"GET /?delay=1h HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    wait_until("it works", || origin.stat("working") == 1);
    drop(stream);
    assert_eq!(get(&origin.url("/")).status, 200);
}

#[test]
fn answers_as_it_is_asked_to() {
    let origin = Origin::new().start();
    let answer = get(&origin.url("/?status=503&size=30&header=x-a:b"));
    assert_eq!((answer.status, answer.header("x-a"), answer.body.len()), (503, Some("b"), 30));
    assert_eq!(answer.text(), "abcdefghijklmnopqrstuvwxyzabcd");
    let answer = get(&origin.url("/?chunked&size=200000"));
    assert_eq!((answer.header("content-length"), answer.body.len()), (None, 200_000));
    let asking = [("te", "trailers")];
    let answer = send("GET", &origin.url("/?trailers&size=7"), &asking, b"").unwrap();
    assert_eq!(answer.trailers, [("x-origin-bytes".to_owned(), "7".to_owned())]);
    let answer = get(&origin.url("/?status=204"));
    assert_eq!((answer.status, answer.body.len()), (204, 0));
    assert_eq!(get(&origin.url("/?status=17")).status, 400);
}

#[test]
fn cuts_connections_as_it_is_asked_to() {
    let origin = Origin::new().start();
    assert!(send("GET", &origin.url("/?abort=head"), &[], b"").is_err());
    let mut stream = connect(origin.address()).unwrap();
    stream.write_all(b"GET /?abort=5&size=100 HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.contains("content-length: 100") && all.ends_with("\r\n\r\nabcde"), "{all}");
}

#[test]
fn stops_without_losing_what_runs() {
    let mut origin = Origin::new().start();
    let mut stream = connect(origin.address()).unwrap();
    stream.write_all(b"GET /?delay=200ms HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    wait_until("it works", || origin.stat("working") == 1);
    origin.process.signal(Signal::SIGTERM);
    assert_eq!(read_answer(&mut BufReader::new(&stream), false).unwrap().status, 200);
    assert_eq!(origin.process.wait().code(), Some(0));
    assert!(connect(origin.address()).is_err(), "nobody listens any more");
}

#[test]
fn speaks_with_curl() {
    if missing("curl") {
        return;
    }
    let origin = Origin::new().start();
    let output =
        curl(&["--http2-prior-knowledge", "-w", " %{http_version}", &origin.url("/?size=5")]);
    assert_eq!((output.code, output.text()), (Some(0), "abcde 2".into()), "{}", output.stderr);
    let output = curl(&["-I", &origin.url("/?size=5")]);
    assert!(output.text().contains("content-length: 5"), "{output:?}");
}

/// The harness itself: nginx as a backend.
#[test]
fn nginx_serves_files_and_reads_bodies() {
    if missing("nginx") {
        return;
    }
    let nginx = Nginx::start("location /moved { return 302 /; }");
    nginx.file("a.txt", b"from a file");
    let url = |path: &str| format!("http://{}{path}", nginx.address());
    assert_eq!(get(&url("/a.txt")).text(), "from a file");
    assert_eq!(get(&url("/moved")).status, 302);
    let body = vec![b'x'; 300_000];
    let answer = send("POST", &url("/upload"), &[], &body).unwrap();
    assert_eq!(
        (answer.text().as_str(), answer.header("x-origin-id")),
        ("received 300000", Some("nginx"))
    );
}
