//! To zero and back: what becomes of requests while nothing runs.

use std::io::Write as _;
use std::time::Instant;

use crate::support::{
    Answer, Connection, Proxy, PyTalk, Running, connect, curl, get, missing, missing_module,
    read_answer, send, wait_until,
};
use crate::upgrades::{echoed, frame};

/// A service that sleeps after a moment; `more`: of `[service.app.scaling.hold]`.
fn sleeping(max: u32, policy: &str, more: &str) -> Proxy {
    let idle = if more.contains("idle_after") { "" } else { "idle_after = \"1s\"" };
    let hold = format!("{policy}\n[service.app.scaling.hold]\n{idle}\n{more}");
    Proxy::new().scaling(0, max, &hold)
}

/// The same, whose backends never become ready.
fn never(hold: &str) -> Running {
    sleeping(1, "", hold).processes("[\"/bin/sleep\", \"3600\"]", "start_timeout = \"1h\"").run()
}

fn held(proxy: &Running) -> f64 {
    proxy.metric("tidegate_held_requests", &[("service", "app")])
}

fn shed(proxy: &Running, reason: &str) -> f64 {
    proxy.metric("tidegate_shed_total", &[("reason", reason)])
}

/// Sends a request and leaves its answer for later.
fn ask(proxy: &Running, path: &str) -> Connection {
    let mut client = Connection::open(proxy.address("http"));
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    client
}

#[track_caller]
fn refused(answer: &Answer, why: &str) {
    let status = answer.header("proxy-status").unwrap_or_default();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(status.contains(why) && status.contains("destination_unavailable"), "{status}");
    let after = answer.header("retry-after").and_then(|after| after.parse::<u32>().ok());
    assert!(after.is_some_and(|after| after >= 1), "{answer:?}");
}

/// As many as what waits needs, three times, and not one request fails.
#[test]
fn from_nothing_to_three_and_back_nothing_fails() {
    const EACH: usize = 6;
    let slow = "[\"/bin/sh\", \"-c\", \"sleep 2; exec {self} origin --port {port} --delay 20ms\"]";
    let slots = "[service.app.scaling.slo]\nslots = 2";
    let proxy = sleeping(3, slots, "").processes(slow, "").run();
    for round in 1..=3 {
        proxy.wait_for_size(0);
        let clients: Vec<_> = (0..EACH).map(|_| ask(&proxy, "/")).collect();
        for mut client in clients {
            assert_eq!(client.answer().status, 200, "round {round}");
        }
        let scaled = proxy.records("scale");
        let largest = scaled.iter().rev().take_while(|record| record["action"]["to"] != 0);
        let largest = largest.filter_map(|record| record["action"]["to"].as_u64()).max();
        assert_eq!(largest, Some(3), "6 waiting, 2 slots: {scaled:#?}");
    }
    proxy.wait_for_size(0);
    let all = proxy.metric("tidegate_requests_total", &[]);
    let good = proxy.metric("tidegate_requests_total", &[("code", "200")]);
    assert_eq!((all, good), (3.0 * EACH as f64, 3.0 * EACH as f64));
    assert_eq!(proxy.metric("tidegate_shed_total", &[]), 0.0);
}

#[test]
fn from_nothing_to_one_and_back_nothing_fails() {
    let proxy = sleeping(3, "", "").origins("--delay 5ms", "").run();
    assert_eq!(proxy.service("app")["scaling"]["min"], 0);
    for round in 1..=3 {
        proxy.wait_for_size(0);
        let answers: Vec<_> = (0..4).map(|_| ask(&proxy, "/")).collect();
        for mut client in answers {
            assert_eq!(client.answer().status, 200);
        }
        assert_eq!(get(&proxy.url("/")).status, 200);
        assert_eq!(held(&proxy), 0.0);
        // Who is slow may be given more than one, or be asleep again by the last request.
        let scaled = proxy.records("scale");
        let woken = scaled.iter().filter(|record| record["action"]["from"] == 0).count();
        assert!(woken >= round, "{woken} times in {round} rounds: {scaled:#?}");
    }
    proxy.wait_for_size(0);
    let scaled = proxy.records("scale");
    assert_eq!(scaled.last().unwrap()["action"]["reason"], "idle");
    assert_eq!(proxy.metric("tidegate_shed_total", &[]), 0.0);
    assert_eq!(proxy.metric("tidegate_requests_total", &[("code", "200")]), 15.0);
    assert!(!proxy.process.output().contains("no_healthy_backends"), "sleep is no illness");
}

#[test]
fn a_burst_is_let_go_as_there_are_slots() {
    const REQUESTS: usize = 30;
    let proxy =
        sleeping(1, "[service.app.scaling.slo]\nslots = 3", "").origins("--delay 20ms", "").run();
    let mut clients: Vec<_> = (0..REQUESTS).map(|_| ask(&proxy, "/")).collect();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    let most = get(&proxy.url("/stats")).json()["most_working"].as_u64().unwrap();
    assert!((1..=3).contains(&most), "{most} at the same time");
    assert_eq!(proxy.metric("tidegate_shed_total", &[]), 0.0);
}

#[test]
fn what_waits_is_bounded_by_number_client_bytes_and_time() {
    let proxy = never("queue = 3\ntimeout = \"1h\"");
    let waiting: Vec<_> = (0..3).map(|_| ask(&proxy, "/")).collect();
    wait_until("they are held", || held(&proxy) == 3.0);
    refused(&get(&proxy.url("/")), "app: nothing runs yet, and 3 wait already");
    assert_eq!(shed(&proxy, "queue_full"), 1.0);
    drop(waiting);

    let proxy = never("per_client = 2\ntimeout = \"1h\"");
    let _waiting: Vec<_> = (0..2).map(|_| ask(&proxy, "/")).collect();
    wait_until("they are held", || held(&proxy) == 2.0);
    refused(&get(&proxy.url("/")), "2 of this client wait already");

    let proxy = never("bytes = \"8KiB\"\ntimeout = \"1h\"");
    let _waiting = ask(&proxy, "/");
    wait_until("it is held", || held(&proxy) == 1.0);
    let long = "x".repeat(7000);
    refused(&send("GET", &proxy.url("/"), &[("x-long", &long)], b"").unwrap(), "1 wait already");

    let proxy = never("timeout = \"200ms\"");
    refused(&get(&proxy.url("/")), "nothing was ready within 200ms (1 waiting)");
    assert_eq!((held(&proxy), shed(&proxy, "queue_timeout")), (0.0, 1.0));
}

#[test]
fn one_that_is_given_up_waits_no_more() {
    if missing("curl") {
        return;
    }
    let proxy = never("timeout = \"1h\"");
    let given_up = curl(&["--http2-prior-knowledge", "--max-time", "1", &proxy.url("/")]);
    assert_eq!(given_up.code, Some(28), "{}", given_up.stderr);
    wait_until("nothing is held", || held(&proxy) == 0.0);
    assert_eq!(proxy.metric("tidegate_in_flight", &[]), 0.0);
}

/// Over HTTP/1 too, where nobody reads meanwhile, and whatever it had sent before.
#[test]
fn who_closes_the_connection_waits_no_more() {
    let proxy = never("timeout = \"1h\"");
    let next = "GET /next HTTP/1.1\r\nhost: a\r\n\r\n";
    let half = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhalf";
    for (round, sent) in [(1.0, ""), (2.0, next), (3.0, half)] {
        let mut client = Connection::open(proxy.address("http"));
        match sent.starts_with("POST") {
            true => client.send(sent),
            false => client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n\r\n{sent}")),
        }
        wait_until("it is held", || held(&proxy) == 1.0);
        drop(client);
        wait_until("nothing is held", || held(&proxy) == 0.0);
        wait_until("it is recorded as gone", || {
            proxy.metric("tidegate_requests_total", &[("code", "499")]) == round
        });
    }
    assert_eq!(proxy.metric("tidegate_in_flight", &[]), 0.0);
    // What is only sent meanwhile is no end: it is answered in its turn.
    let proxy = sleeping(1, "", "").origins("--delay 5ms", "").run();
    let mut client = Connection::open(proxy.address("http"));
    client.send(format!("GET / HTTP/1.1\r\nhost: a\r\n\r\n{next}"));
    assert_eq!([client.answer().status, client.answer().status], [200, 200]);
}

#[test]
fn paths_of_checks_wake_nobody() {
    let proxy = sleeping(1, "", "ignore_paths = [\"/health\", \"/internal/\"]")
        .origins("--delay 5ms", "")
        .run();
    for path in ["/health", "/health?x=1", "/internal/a/b"] {
        refused(&get(&proxy.url(path)), "this path wakes nobody");
    }
    assert_eq!(proxy.service("app")["backends"].as_array().map(Vec::len), Some(0));
    assert!(proxy.records("scale").is_empty());
    assert_eq!(get(&proxy.url("/healthy")).status, 200);
    assert_eq!(get(&proxy.url("/health")).status, 200, "it runs, so it can be asked");
    // They are no reason to stay awake either.
    wait_until("it sleeps", || {
        get(&proxy.url("/health")).status == 503 && proxy.ready().is_empty()
    });
}

#[test]
fn browsers_are_shown_a_page_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("starting.html");
    std::fs::File::create(&page).unwrap().write_all(b"<p>One moment").unwrap();
    let proxy = sleeping(1, "", &format!("page = {page:?}")).origins("--delay 5ms", "").run();
    let asked = [("accept", "text/html,*/*;q=0.8"), ("sec-fetch-mode", "navigate")];
    let answer = send("GET", &proxy.url("/"), &asked, b"").unwrap();
    refused(&answer, "it is being started");
    assert_eq!(answer.text(), "<p>One moment");
    assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(answer.header("refresh"), answer.header("retry-after"));
    wait_until("it runs", || send("GET", &proxy.url("/"), &asked, b"").unwrap().status == 200);
    // Programs wait, and what a page fetches.
    for other in [
        &[("accept", "*/*")][..],
        &[("accept", "application/json, text/html;q=0.5")],
        &[("accept", "text/html,*/*;q=0.8"), ("sec-fetch-mode", "cors")],
    ] {
        proxy.wait_for_size(0);
        assert_eq!(send("GET", &proxy.url("/"), other, b"").unwrap().status, 200, "{other:?}");
    }
}

#[test]
fn a_start_that_fails_is_told_to_those_who_wait() {
    let command = "[\"/bin/sh\", \"-c\", \"echo no licence >&2; exit 7\"]";
    let proxy = sleeping(1, "", "timeout = \"1h\"").processes(command, "").run();
    let mut clients: Vec<_> = (0..3).map(|_| ask(&proxy, "/")).collect();
    for client in &mut clients {
        let answer = client.answer();
        refused(&answer, "app: it could not be started: ");
        assert!(answer.header("proxy-status").unwrap().contains("exit"), "{answer:?}");
        assert_eq!(
            answer.text().lines().next().unwrap().split(" (").next(),
            Some("The service could not be started.")
        );
    }
    assert_eq!(held(&proxy), 0.0);
    if missing("curl") {
        return;
    }
    let call = ["-i", "--http2-prior-knowledge", "-H", "content-type: application/grpc", "-d", "x"];
    let seen = curl(&[&call[..], &[&proxy.url("/a.B/C")]].concat()).text();
    assert!(seen.starts_with("HTTP/2 200") && seen.contains("grpc-status: 14"), "{seen}");
}

#[test]
fn bodies_and_calls_are_held_as_they_are() {
    if missing("curl") {
        return;
    }
    let proxy = sleeping(1, "", "").origins("--delay 5ms", "").run();
    let body = vec![b'x'; 3 << 20];
    let mut stream = connect(proxy.address("http")).unwrap();
    let head = format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&body).unwrap();
    let answer = read_answer(&mut std::io::BufReader::new(&stream), false).unwrap();
    assert_eq!(answer.status, 200);
    drop(stream);
    proxy.wait_for_size(0);
    let call = ["--http2-prior-knowledge", "-H", "content-type: application/grpc", "-d", "hello"];
    let answered = curl(&[&call[..], &["-w", "%{http_code}", &proxy.url("/a.B/C")]].concat());
    assert!(answered.text().ends_with("200"), "{answered:?}");
}

#[test]
fn a_websocket_is_held_and_keeps_its_backend_awake() {
    if missing_module("websockets") {
        return;
    }
    let proxy = sleeping(1, "", "").origins("--delay 5ms", "").run();
    let url = format!("ws://{}/ws", proxy.address("http"));
    let mut socket = PyTalk::start("across.py", &["websocket", &url]);
    assert_eq!(socket.ask("hello"), "hello");
    let opened = Instant::now();
    wait_until("it would long be asleep", || opened.elapsed().as_secs() >= 3);
    assert_eq!(socket.ask("again"), "again");
    assert_eq!(proxy.ready().len(), 1);
    assert_eq!(socket.finish(), "done 1000");
    proxy.wait_for_size(0);
    // And in HTTP/1.1's own words.
    let mut client = Connection::open(proxy.address("http"));
    client.send(
        "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.answer().status, 101);
    client.send(frame(1, b"hi"));
    assert_eq!(client.read(12), echoed(1, b"hi"));
}

#[test]
fn a_request_in_the_moment_of_falling_asleep_is_answered() {
    let hold = "idle_after = \"1ms\"";
    let proxy = Proxy::new()
        .scaling(0, 1, &format!("[service.app.scaling.hold]\n{hold}"))
        .origins("--delay 1ms", "")
        .run();
    let mut client = Connection::open(proxy.address("http"));
    let begun = Instant::now();
    let (mut asked, mut slept) = (0, 0);
    while begun.elapsed().as_secs() < 8 {
        assert_eq!(client.get("/").status, 200, "the {asked}th");
        asked += 1;
        // Now and then long enough for it to fall asleep.
        if asked % 20 == 0 {
            let before = proxy.records("scale").len();
            wait_until("something changes", || {
                proxy.records("scale").len() > before || begun.elapsed().as_secs() >= 8
            });
            slept += 1;
        }
    }
    assert!(slept > 1, "{slept} of {asked}");
    assert_eq!(proxy.metric("tidegate_shed_total", &[]), 0.0);
}

#[test]
fn a_hand_over_waits_for_what_is_held() {
    let slow = "[\"/bin/sh\", \"-c\", \"sleep 1; exec {self} origin --port {port}\"]";
    let mut proxy = sleeping(1, "", "idle_after = \"1h\"").processes(slow, "").run();
    let mut client = ask(&proxy, "/");
    wait_until("it is held", || held(&proxy) == 1.0);
    crate::handover::hand_over(&mut proxy);
    assert_eq!(client.answer().status, 200, "of the process that it came to");
    assert_eq!(get(&proxy.url("/")).status, 200, "by the same backend");
    assert_eq!(proxy.ready().len(), 1);
    assert!(proxy.records("scale").iter().all(|record| record["action"]["to"] == 1));
    crate::handover::stop(&proxy);
}
