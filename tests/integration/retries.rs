//! Trying again: what is hidden from the client, what is not, and what it costs.

use std::time::{Duration, Instant};

use crate::support::{
    Backend, Connection, Origin, Proxy, RawOrigin, Running, Step, get, refusing_address, send,
    wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
/// What may pass between a request on a pooled connection and its end for the two to have crossed.
const STALE: Duration = Duration::from_millis(20);
const RETRY: &str = "[service.app.retry]\nbackoff = \"1ms\"";

#[track_caller]
fn retries(proxy: &Running, reason: &str) -> f64 {
    proxy.metric("tidegate_retries_total", &[("reason", reason)])
}

fn balanced(backends: &[&dyn Fn(Proxy) -> Proxy], retry: &str) -> Running {
    let mut proxy = Proxy::new().runtime("workers = 1").service("balance = \"round_robin\"");
    for backend in backends {
        proxy = backend(proxy);
    }
    proxy.toml(retry).run()
}

#[test]
fn a_503_of_one_backend_is_hidden() {
    let (busy, good) = (RawOrigin::always(BUSY), RawOrigin::always(OK));
    let proxy = balanced(&[&|p| p.backend(&busy), &|p| p.backend(&good)], RETRY);
    for _ in 0..6 {
        assert_eq!(get(&proxy.url("/")).text(), "ok");
    }
    let tried = busy.connections();
    assert!(tried > 0, "it was asked");
    assert_eq!(retries(&proxy, "status"), tried as f64);
    assert_eq!(proxy.metric("tidegate_requests_total", &[("code", "200")]), 6.0);
}

#[test]
fn the_503_of_the_last_backend_is_passed_on_as_it_is() {
    let (first, second) = (RawOrigin::always(BUSY), RawOrigin::always(BUSY));
    let proxy = balanced(&[&|p| p.backend(&first), &|p| p.backend(&second)], RETRY);
    let answer = get(&proxy.url("/"));
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    assert_eq!(answer.header("proxy-status"), None, "it is the backend's answer, not ours");
    // Each was asked once: a backend that was tried is not tried again.
    assert_eq!((first.connections(), second.connections()), (1, 1));
}

#[test]
fn refused_connections_are_hidden_and_cost_no_budget() {
    let good = RawOrigin::always(OK);
    let retry = "[service.app.retry]\nbudget = 0.0\nbudget_min = 0";
    let refusing = refusing_address();
    let proxy = balanced(&[&|p| p.backend(&refusing), &|p| p.backend(&good)], retry);
    for _ in 0..6 {
        // What is provably unsent is resent whatever its method.
        assert_eq!(send("POST", &proxy.url("/"), &[], b"x").unwrap().text(), "ok");
    }
    assert!(retries(&proxy, "connect") >= 1.0);
    assert_eq!(proxy.metric("tidegate_retries_denied_total", &[]), 0.0);
}

#[test]
fn a_connection_that_breaks_before_the_answer_is_tried_elsewhere() {
    for end in [Step::Reset, Step::ReadAll] {
        let broken = RawOrigin::script(move |_| match &end {
            Step::Reset => vec![Step::ReadHead, Step::Reset],
            _ => vec![Step::ReadHead],
        });
        let good = RawOrigin::always(OK);
        let proxy = balanced(&[&|p| p.backend(&broken), &|p| p.backend(&good)], RETRY);
        for _ in 0..2 {
            assert_eq!(get(&proxy.url("/")).text(), "ok");
        }
        assert!(broken.connections() > 0, "it was asked");
        assert_eq!(retries(&proxy, "reset"), broken.connections() as f64);
    }
}

#[test]
fn a_post_that_may_have_been_seen_is_not_sent_again() {
    let broken = RawOrigin::script(|_| vec![Step::ReadHead, Step::Read(5)]);
    let good = RawOrigin::always(OK);
    let proxy = balanced(&[&|p| p.backend(&broken), &|p| p.backend(&good)], RETRY);
    let statuses: Vec<u16> =
        (0..2).map(|_| send("POST", &proxy.url("/"), &[], b"hello").unwrap().status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 1, "{statuses:?}");
    assert_eq!((broken.connections(), retries(&proxy, "reset")), (1, 0.0));
}

#[test]
fn a_connection_closed_in_the_pool_costs_nothing() {
    // One answer a connection, and then it is closed without having said so.
    let origin = RawOrigin::script(|_| vec![Step::ReadHead, Step::Send(OK.into())]);
    let proxy = balanced(&[&|p| p.backend(&origin)], "[service.app.retry]\nattempts = 0");
    for number in 1..=20 {
        // The pool must have noticed, or it is a race between the close and the next request.
        wait_until("nothing is open", || {
            proxy.metric("tidegate_upstream_connections", &[("state", "active")]) == 0.0
        });
        let answer = send("POST", &proxy.url("/"), &[], b"").unwrap();
        assert!(matches!(answer.status, 200 | 502), "{}", answer.status);
        assert!(origin.connections() >= number / 2);
    }
    assert_eq!(proxy.service("app")["backends"][0]["healthy"], true);
}

#[test]
fn a_pooled_connection_closed_on_the_way_costs_an_idempotent_request_nothing() {
    // The first connection answers once and closes when the next request is on it.
    let origin = RawOrigin::script(|connection| {
        let mut steps = vec![Step::ReadHead, Step::Send(OK.into())];
        if connection == 0 {
            steps.push(Step::ReadHead);
        }
        steps
    });
    let proxy = balanced(&[&|p| p.backend(&origin)], "[service.app.retry]\nattempts = 1");
    for _ in 0..2 {
        assert_eq!(send("GET", &proxy.url("/"), &[], b"").unwrap().status, 200);
    }
    assert_eq!((origin.connections(), retries(&proxy, "stale")), (2, 1.0));
    // It is no retry: no other backend was needed, and none was blamed.
    assert_eq!(retries(&proxy, "reset"), 0.0);
    assert_eq!(proxy.service("app")["backends"][0]["errors"], 0);
}

#[test]
fn a_backend_that_gives_a_request_up_after_a_while_is_left_for_another() {
    // It answers once, keeps the connection, and drops the next request long after it got it.
    let dying = RawOrigin::script(|_| {
        vec![Step::ReadHead, Step::Send(OK.into()), Step::ReadHead, Step::Hold]
    });
    let good = RawOrigin::always(OK);
    let backup = |p: Proxy| p.backend_with(&good, "backup = true");
    let proxy = balanced(&[&|p| p.backend(&dying), &backup], RETRY);
    assert_eq!(get(&proxy.url("/")).status, 200);
    let answer = std::thread::scope(|scope| {
        let asked = scope.spawn(|| get(&proxy.url("/")));
        wait_until("it has the request", || dying.requests().len() == 2);
        let since = Instant::now();
        wait_until("nobody takes it for a race", || since.elapsed() > 2 * STALE);
        dying.release();
        asked.join().expect("it is answered")
    });
    assert_eq!((answer.status, good.connections(), dying.connections()), (200, 1, 1));
    assert_eq!((retries(&proxy, "reset"), retries(&proxy, "stale")), (1.0, 0.0));
    assert_eq!(proxy.service("app")["backends"][0]["errors"], 1, "it is blamed");
}

#[test]
fn a_body_up_to_64_kib_is_sent_again_and_a_larger_one_is_not() {
    let broken = RawOrigin::script(|_| vec![Step::ReadHead, Step::Read(1), Step::Reset]);
    let good = Origin::new().start();
    let backup = |p: Proxy| p.backend_with(&good, "backup = true");
    for (size, chunked) in [(1, false), (65_536, false), (65_536, true), (65_537, false)] {
        let retry = "[service.app.retry]\nattempts = 1\nbackoff = \"1ms\"";
        // The second is asked only once the first was tried: it is a backup.
        let proxy = balanced(&[&|p| p.backend(&broken), &backup], retry);
        let body: Vec<u8> = (0..size).map(|i| (i * 7 + i / 251) as u8).collect();
        let before = broken.connections();
        let mut client = Connection::open(proxy.address("http"));
        let framing = match chunked {
            true => "transfer-encoding: chunked".to_owned(),
            false => format!("content-length: {size}"),
        };
        client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n"));
        if chunked {
            for part in body.chunks(1000) {
                client.try_send(format!("{:x}\r\n", part.len()));
                client.try_send([part, b"\r\n"].concat());
            }
            client.try_send("0\r\n\r\n");
        } else {
            client.try_send(&body);
        }
        let answer = client.answer();
        assert_eq!(broken.connections(), before + 1);
        if size > 65_536 && answer.status == 502 {
            continue;
        }
        assert_eq!(answer.status, 200, "{size} {chunked}");
        let echo = answer.json();
        assert_eq!(echo["body"]["bytes"], size, "{chunked}");
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let hash: String = hash.as_ref().iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(echo["body"]["sha256"], hash, "{size} {chunked}");
    }
}

#[test]
fn the_budget_bounds_what_is_sent_again() {
    let origins: Vec<_> = (0..2).map(|_| RawOrigin::always(BUSY)).collect();
    let retry = "[service.app.retry]\nbudget = \"20%\"\nbudget_min = 0\nbackoff = \"1ms\"\n\
                 [service.app.outlier]\nmax_ejected = 0";
    let proxy = balanced(&[&|p| p.backend(&origins[0]), &|p| p.backend(&origins[1])], retry);
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..100 {
        assert_eq!(client.get("/").status, 503);
    }
    let denied = proxy.metric("tidegate_retries_denied_total", &[]);
    let sent = retries(&proxy, "status");
    assert_eq!(sent + denied, 100.0, "each request wished for one retry");
    assert!((1.0..=20.0).contains(&sent), "{sent} of 100 were sent again, not a fifth");
    let asked: usize = origins
        .iter()
        .flat_map(|o| (0..o.connections()).map(|n| o.received_text(n).matches("GET").count()))
        .sum();
    assert_eq!(asked as f64, 100.0 + sent);
}

#[test]
fn no_backend_is_503_and_says_why() {
    let refusing = refusing_address();
    let proxy = Proxy::new()
        .backend(&refusing)
        .toml("[service.app.health]\nkind = \"tcp\"\ninterval = \"100ms\"\nunhealthy_after = 1")
        .start();
    wait_until("it is found down", || {
        proxy.service("app")["backends"][0]["healthy"] == serde_json::json!(false)
    });
    let answer = get(&proxy.url("/"));
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    let why = answer.header("proxy-status").unwrap();
    assert!(
        why.starts_with("tidegate; error=destination_unavailable; details=\"app: 0 of 1 healthy"),
        "{why}"
    );
    assert_eq!(proxy.metric("tidegate_errors_total", &[("reason", "no_backend")]), 1.0);
}

#[test]
fn a_refused_connection_without_another_backend_is_502() {
    let refusing = refusing_address();
    let proxy = Proxy::new().backend_with(&refusing, "id = \"api-1\"").run();
    let answer = get(&proxy.url("/"));
    assert_eq!(answer.status, 502);
    let why = answer.header("proxy-status").unwrap();
    let pattern = r#"^tidegate; error=connection_refused; next-hop="api-1"; details="app: connecting, after \d+\.\d{3} s"$"#;
    assert!(regex::Regex::new(pattern).unwrap().is_match(why), "{why}");
    let labels = [("service", "app"), ("backend", "api-1"), ("reason", "connect")];
    assert_eq!(proxy.metric("tidegate_backend_failures_total", &labels), 1.0);
    wait_until("the log says so", || {
        proxy.process.output().contains("1 request failed: 1 connect; last: api-1")
    });
    assert!(!answer.text().contains(&refusing.address().to_string()), "{}", answer.text());
}

#[test]
fn what_is_not_http_is_502() {
    let origin = RawOrigin::script(|_| vec![Step::ReadHead, Step::Send("SSH-2.0\r\n\r\n".into())]);
    let proxy = Proxy::new().backend(&origin).run();
    let answer = get(&proxy.url("/"));
    assert_eq!(answer.status, 502);
    assert!(answer.header("proxy-status").unwrap().contains("error=http_protocol_error"));
}
