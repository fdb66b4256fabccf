//! `[route.concurrency_limit]` and `[route.access]`.

use std::time::{Duration, Instant};

use crate::support::{
    Connection, Origin, Proxy, RawOrigin, Step, curl, get, missing, send, wait_until,
};
use crate::upgrades::{idle, upgrade};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

#[test]
fn a_route_has_so_many_requests_in_flight_until_their_bodies_end() {
    let origin = RawOrigin::script(|_| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no";
        vec![
            Step::ReadHead,
            Step::Send(head.into()),
            Step::Hold,
            Step::Send("k".into()),
            Step::Again,
        ]
    });
    let other = "[[route]]\nname = \"own\"\npath = \"=/own\"\nrespond = { status = 204 }";
    let proxy =
        Proxy::new().backend(&origin).route("[route.concurrency_limit]\nmax = 2").toml(other).run();
    let ask = || {
        let mut client = Connection::open(proxy.address("http"));
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
        client
    };
    let mut held = [ask(), ask()];
    for client in &mut held {
        while client.line() != "" {}
        assert_eq!(client.read(1), b"o");
    }
    let answer = ask().answer();
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(
        answer.header("proxy-status"),
        Some("tidegate; error=connection_limit_reached; details=\"app: 2 requests in flight\"")
    );
    let shed = [("service", "app"), ("reason", "route_limit")];
    assert_eq!(proxy.metric("tidegate_shed_total", &shed), 1.0);
    assert_eq!(get(&proxy.url("/own")).status, 204, "others have their own");
    let [mut first, second] = held;
    second.reset();
    origin.release();
    assert_eq!(first.read(1), b"k");
    // One ended, one was gone before its end: both places are free, and stay so.
    wait_until("both places are free", || {
        let answers = [ask(), ask()].map(|mut client| client.answer().status);
        answers == [200, 200]
    });
    for _ in 0..5 {
        assert_eq!(ask().answer().status, 200);
    }
    idle(&proxy);
}

#[test]
fn a_tunnel_keeps_its_place_to_its_end() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).route("[route.concurrency_limit]\nmax = 1").run();
    for _ in 0..3 {
        let mut client = Connection::open(proxy.address("http"));
        client.send(upgrade("/ws"));
        assert_eq!(client.answer().status, 101);
        assert_eq!(get(&proxy.url("/")).status, 503);
        drop(client);
        wait_until("its end gives the place back", || get(&proxy.url("/")).status == 200);
    }
    idle(&proxy);
}

/// The status for a client that a trusted proxy speaks for.
fn as_client(proxy: &crate::support::Running, client: &str) -> u16 {
    send("GET", &proxy.url("/"), &[("x-forwarded-for", client)], b"").expect("an answer").status
}

#[test]
fn lists_of_networks_say_who_may_use_a_route() {
    let origin = RawOrigin::always(OK);
    let directory = tempfile::tempdir().unwrap();
    let list = directory.path().join("blocked.txt");
    std::fs::write(&list, "# known\n10.0.0.0/24  # a network\n\n2001:db8::/32\n").unwrap();
    let deny = format!("[route.access]\ndeny = [\"192.0.2.1\", \"file:{}\"]", list.display());
    let proxy = Proxy::new()
        .runtime("watch = true")
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .backend(&origin)
        .route(&deny)
        .run();
    for (client, status) in [
        ("10.0.0.7", 403),
        ("10.0.1.7", 200),
        ("192.0.2.1", 403),
        ("192.0.2.2", 200),
        ("2001:db8:7::1", 403),
        ("2001:db9::1", 200),
    ] {
        assert_eq!(as_client(&proxy, client), status, "{client}");
    }
    let answer = send("GET", &proxy.url("/"), &[("x-forwarded-for", "10.0.0.7")], b"").unwrap();
    assert_eq!(answer.header("proxy-status"), Some("tidegate; error=http_request_denied"));
    std::fs::write(&list, "10.0.1.0/24\n").unwrap();
    wait_until("the new list is in use", || as_client(&proxy, "10.0.1.7") == 403);
    assert_eq!(as_client(&proxy, "10.0.0.7"), 200);
    std::fs::write(&list, "10.0.0.0/24\nnonsense\n").unwrap();
    wait_until("the mistake is told", || {
        proxy.status()["last_reload"]["error"].as_str().is_some_and(|error| {
            error.contains("blocked.txt:2:1: deny: \"nonsense\" is not a network")
        })
    });
    assert_eq!(as_client(&proxy, "10.0.1.7"), 403, "what was good stays");
}

#[test]
fn only_those_who_are_allowed_get_in_and_a_denial_within_goes_first() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new()
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .backend(&origin)
        .route("[route.access]\nallow = [\"10.0.0.0/8\"]\ndeny = [\"10.1.0.0/16\"]")
        .run();
    for (client, status) in [("10.0.0.1", 200), ("10.1.0.1", 403), ("192.0.2.1", 403)] {
        assert_eq!(as_client(&proxy, client), status, "{client}");
    }
    assert_eq!(get(&proxy.url("/")).status, 403, "the proxy itself is not among them");
}

#[test]
fn bodies_of_answers_have_a_rate() {
    let body = "0123456789abcdef".repeat(1024);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let origin = RawOrigin::always(&answer);
    let proxy = Proxy::new().backend(&origin).route("rate_bytes = \"8KiB\"").run();
    for length in [true, false] {
        let began = Instant::now();
        let text = match length {
            true => get(&proxy.url("/")).text(),
            // Chunks for HTTP/1.1, DATA frames here.
            false if missing("curl") => continue,
            false => curl(&["--http2-prior-knowledge", &proxy.url("/")]).text(),
        };
        assert!(text == body, "{} bytes as they were", text.len());
        // All but the first piece, an eighth of a second's, has to be waited for.
        let least = Duration::from_millis(1875 - 10);
        assert!(began.elapsed() >= least, "{:?}", began.elapsed());
    }
    assert_eq!(origin.requests().len(), if missing("curl") { 1 } else { 2 });
    idle(&proxy);
}

#[test]
fn bodies_of_requests_have_a_rate_and_can_be_sent_again() {
    let body = "0123456789abcdef".repeat(512);
    let broken = RawOrigin::script(|_| vec![Step::ReadHead]);
    let good = Origin::new().start();
    let proxy = Proxy::new()
        .backend(&broken)
        .backend_with(&good, "backup = true")
        .route("rate_bytes = \"8KiB\"\nmax_body = \"8KiB\"")
        .run();
    let began = Instant::now();
    let answer = send("PUT", &proxy.url("/"), &[], body.as_bytes()).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(875 - 10), "{:?}", began.elapsed());
    let direct = send("PUT", &good.url("/"), &[], body.as_bytes()).unwrap().json();
    assert_eq!((answer.status, &answer.json()["body"]), (200, &direct["body"]));
    let again = proxy.metric("tidegate_retries_total", &[("service", "app")]);
    assert!(again >= 1.0, "it was sent twice");
}
