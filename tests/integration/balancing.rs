//! Who gets the requests, seen from outside: that what requests meet reaches the picks.
//!
//! The rules themselves are tested in `src/balance`, with time in hand. Here the time is real, so only counts
//! are asserted that hold however slow the machine is.

use std::collections::BTreeSet;
use std::time::Instant;

use crate::reloads::accepted;
use crate::support::{Connection, Origin, Proxy, RawOrigin, Running, Step, get, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\nbusy";
const NO_RETRY: &str = "[service.app.retry]\nattempts = 0";

/// One after the other, so that nobody has a request in flight when the next is picked.
fn ask(proxy: &Running, times: usize) -> Vec<u16> {
    (0..times).map(|_| get(&proxy.url("/")).status).collect()
}

#[test]
fn by_default_one_that_fails_at_once_is_left_after_two_failures() {
    let (busy, good) = (RawOrigin::always(BUSY), RawOrigin::always(OK));
    let proxy = Proxy::new().runtime("workers = 2").backend(&busy).backend(&good).toml(NO_RETRY);
    let proxy = proxy.run();
    assert_eq!(proxy.service("app")["balance"], "adaptive");
    let began = Instant::now();
    let failed = ask(&proxy, 80).iter().filter(|status| **status == 503).count();
    // Two, and a probe every four seconds at most.
    let probes = began.elapsed().as_secs() as usize / 4;
    assert!((2..=2 + probes).contains(&failed), "{failed} with up to {probes} probes");
}

#[test]
fn by_default_one_that_is_slow_is_left_once_that_is_known() {
    let slow = Origin::new().id("slow").delay("60ms").start();
    let fast = Origin::new().id("fast").start();
    let proxy = Proxy::new().runtime("workers = 1").backend(&slow).backend(&fast).run();
    let answers = |id| {
        let labels = [("service", "app"), ("backend", id)];
        proxy.metric("tidegate_backend_duration_seconds_count", &labels)
    };
    wait_until("both are known", || {
        ask(&proxy, 1);
        answers("slow") >= 8.0 && answers("fast") >= 8.0
    });
    // The next look at all of them comes with the first pick a tenth of a second later.
    ask(&proxy, 4);
    let (before, began) = (answers("slow"), Instant::now());
    ask(&proxy, 60);
    // Those that fell before the look, and a probe every four seconds at most.
    let more = answers("slow") - before;
    assert!(more <= 4.0 + (began.elapsed().as_secs() / 4) as f64, "{more} of 60");
}

#[test]
fn when_every_backend_is_full_it_is_503_and_says_why() {
    let held = RawOrigin::script(|_| vec![Step::ReadHead, Step::Hold, Step::Send(OK.into())]);
    let limit = "max_in_flight = 1\noverload = { queue = 0 }";
    let proxy = Proxy::new().backend(&held).service(limit).run();
    let mut first = Connection::open(proxy.address("http"));
    first.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    wait_until("the first is in flight", || held.connections() == 1);
    let refused = get(&proxy.url("/"));
    assert_eq!(refused.status, 503);
    let why = refused.header("proxy-status").unwrap();
    assert!(why.contains("every backend has max_in_flight requests"), "{why}");
    assert_eq!(refused.header("retry-after"), Some("1"));
    held.release();
    assert_eq!(first.answer().status, 200);
}

#[test]
fn requests_stay_in_the_proxys_zone_and_leave_it_when_nobody_there_answers() {
    let mut near = Origin::new().id("near").start();
    let [far, lost] = ["far", "lost"].map(|id| Origin::new().id(id).start());
    let mut proxy = Proxy::new()
        .runtime("zone = \"a\"")
        .backend_with(&near, "zone = \"a\"")
        .backend_with(&far, "zone = \"b\"")
        .backend(&lost)
        .run();
    let whom = |proxy: &Running| {
        let answer = get(&proxy.url("/"));
        assert_eq!(answer.status, 200);
        answer.header("x-origin-id").unwrap().to_owned()
    };
    assert!((0..30).all(|_| whom(&proxy) == "near"));
    let zones = |proxy: &Running| proxy.service("app")["backends"].clone();
    let shown = zones(&proxy);
    assert_eq!(
        (&shown[0]["zone"], &shown[1]["zone"], &shown[2]["zone"]),
        (&"a".into(), &"b".into(), &serde_json::Value::Null)
    );
    // The proxy moves: a reload is enough.
    accepted(&proxy.reload(|p| {
        let text = p.text(std::path::Path::new("{dir}"));
        p.config(&text.replace("\nzone = \"a\"\n\n[admin]", "\nzone = \"b\"\n\n[admin]"))
    }));
    assert!((0..30).all(|_| whom(&proxy) == "far"));
    drop(far);
    near.process.crash();
    assert_eq!(whom(&proxy), "lost", "whoever is left");
}

/// Answers with its name, and with this of its load.
fn reporter(name: &str, load: &str) -> RawOrigin {
    let n = name.len();
    RawOrigin::always(&format!(
        "HTTP/1.1 200 OK\r\nendpoint-load-metrics: {load}\r\ncontent-length: {n}\r\n\r\n{name}"
    ))
}

/// What follows from reports takes its time, and is tested in `src/balance/tests/reports.rs`.
#[test]
fn what_backends_report_of_their_load_is_for_the_proxy_only() {
    let busy = reporter("busy", "TEXT cpu_utilization=0.9");
    let idle = reporter("idle", r#"JSON {"cpu_utilization": 0.1}"#);
    let odd = reporter("odd", "BIN CZqZmZmZmdk/");
    let proxy = Proxy::new().service("load_report = true");
    let proxy = proxy.backend(&busy).backend(&idle).backend(&odd).run();
    let mut answered = BTreeSet::new();
    wait_until("each has answered", || {
        let answer = get(&proxy.url("/"));
        assert_eq!((answer.status, answer.header("endpoint-load-metrics")), (200, None));
        answered.insert(answer.text());
        answered.len() == 3
    });
    let backends = proxy.service("app")["backends"].clone();
    let said = |i: usize| backends[i]["utilization"].as_f64().map(|u| (u * 10.0).round());
    assert_eq!([said(0), said(1), said(2)], [Some(9.0), Some(1.0), None]);
    assert!(backends[0]["slowness"].as_f64().is_some_and(|s| s >= 1.0), "{backends}");
    // Where nobody asks for it, it is a header like any other.
    let proxy = Proxy::new().backend(&busy).run();
    let answer = get(&proxy.url("/"));
    assert_eq!(answer.header("endpoint-load-metrics"), Some("TEXT cpu_utilization=0.9"));
}
