//! Ejection on live traffic, end to end: who is left alone, for how long, how it comes back, what is told.

mod failing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::support::{
    Connection, Events, Origin, Proxy, RawOrigin, Running, Step, refusing_address, send, wait_for,
    wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str =
    "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 4\r\n\r\nbusy";

/// A backend that gives each request a connection of its own, so that those can be counted.
fn always(answer: &str) -> RawOrigin {
    let answer = answer.as_bytes().to_vec();
    RawOrigin::script(move |_| vec![Step::ReadHead, Step::Send(answer.clone())])
}

/// A backend that answers 503 while it is told to, and 200 otherwise; each answer has its connection.
struct Moody {
    origin: RawOrigin,
    bad: Arc<AtomicBool>,
}

impl Moody {
    fn new(bad: bool) -> Self {
        let bad = Arc::new(AtomicBool::new(bad));
        let now = bad.clone();
        let origin = RawOrigin::script(move |_| {
            let answer = if now.load(SeqCst) { BUSY } else { OK };
            vec![Step::ReadHead, Step::Send(answer.into())]
        });
        Self { origin, bad }
    }

    fn is_bad(&self, bad: bool) {
        self.bad.store(bad, SeqCst);
    }
}

/// Without retries: what a client sees is what a backend said.
fn proxy(outlier: &str) -> Proxy {
    Proxy::new()
        .runtime("workers = 1")
        .service("balance = \"round_robin\"\nslow_start = \"0s\"")
        .toml("[service.app.retry]\nattempts = 0")
        .toml(&format!("[service.app.outlier]\n{outlier}"))
}

#[track_caller]
fn backend(proxy: &Running, n: usize) -> Value {
    proxy.service("app")["backends"][n].clone()
}

#[track_caller]
fn is_ejected(proxy: &Running, n: usize) -> bool {
    !backend(proxy, n)["ejected_until"].is_null()
}

#[track_caller]
fn ejections(proxy: &Running, reason: &str) -> f64 {
    proxy.metric("tidegate_ejections_total", &[("reason", reason)])
}

#[track_caller]
fn statuses(proxy: &Running, requests: usize) -> Vec<u16> {
    let mut client = Connection::open(proxy.address("http"));
    (0..requests).map(|_| client.get("/").status).collect()
}

#[test]
fn the_fifth_failure_in_a_row_ejects_at_once_and_everything_says_so() {
    let (bad, good) = (Moody::new(true), always(OK));
    let proxy = proxy("").backend(&bad.origin).backend(&good).run();
    let events = Events::of(&proxy);
    // Every other request goes to it, until it has failed five times.
    let failed = statuses(&proxy, 30).iter().filter(|status| **status == 503).count();
    assert_eq!((failed, bad.origin.connections()), (5, 5));

    let event = events.wait("backend_ejected", |_| true);
    assert_eq!((&event["reason"], &event["times"]), (&"consecutive".into(), &1.into()));
    assert_eq!(event["why"], "5 consecutive failures, last: 503");
    let lasts = event["for_ms"].as_u64().unwrap();
    assert!((8_000..=12_000).contains(&lasts), "{lasts}");

    let shown = backend(&proxy, 0);
    assert_eq!((&shown["state"], &shown["healthy"]), (&"ready".into(), &true.into()));
    assert_eq!(shown["ejected_reason"], "5 consecutive failures, last: 503");
    assert!(shown["ejected_until"].is_string() && !is_ejected(&proxy, 1), "{shown}");
    assert_eq!((ejections(&proxy, "consecutive"), ejections(&proxy, "success_rate")), (1.0, 0.0));
    let state = |state| proxy.metric("tidegate_backend_state", &[("state", state)]);
    assert_eq!((state("ejected"), state("ready")), (1.0, 1.0));
    assert_eq!(proxy.metric("tidegate_backend_up", &[]), 1.0);
    let table = proxy.command(&["status"]).text();
    assert!(table.contains("ejected") && table.contains("5 consecutive failures"), "{table}");
    wait_until("the log has it", || {
        proxy.process.output().contains("5 consecutive failures, last: 503")
    });
}

#[test]
fn failures_that_are_not_in_a_row_do_not_eject() {
    let count = std::sync::atomic::AtomicUsize::new(0);
    let origin = RawOrigin::script(move |_| {
        let answer = if count.fetch_add(1, SeqCst) % 5 == 4 { OK } else { BUSY };
        vec![Step::ReadHead, Step::Send(answer.into())]
    });
    let good = always(OK);
    let proxy = proxy("failure_percent = 0").backend(&origin).backend(&good).run();
    let failed = statuses(&proxy, 60).iter().filter(|status| **status == 503).count();
    assert_eq!((failed, ejections(&proxy, "consecutive")), (24, 0.0));
}

#[test]
fn it_is_tried_with_one_request_and_comes_back_with_the_first_answer() {
    let (bad, good) = (Moody::new(true), always(OK));
    let proxy = proxy("consecutive_failures = 1\nejection_time = \"500ms\"")
        .backend(&bad.origin)
        .backend(&good)
        .run();
    let events = Events::of(&proxy);
    let start = Instant::now();
    let mut client = Connection::open(proxy.address("http"));
    wait_until("it was tried twice, and failed", || {
        client.get("/");
        ejections(&proxy, "probe") >= 2.0
    });
    // 0.5 s and 1 s, each 20 % less at most; nothing but what tried it came there.
    assert!(start.elapsed() >= Duration::from_millis(1200), "{:?}", start.elapsed());
    assert_eq!(bad.origin.connections(), 3);
    let longest = events.wait("backend_ejected", |event| event["times"] == 3);
    assert_eq!(longest["why"], "tried again: 503");

    bad.is_bad(false);
    wait_until("it is back", || {
        client.get("/");
        !is_ejected(&proxy, 0)
    });
    let event = events.wait("backend_unejected", |_| true);
    assert_eq!(event["why"], "it answers again");
    let before = bad.origin.connections();
    assert!(statuses(&proxy, 20).iter().all(|status| *status == 200));
    assert_eq!(bad.origin.connections() - before, 10, "its share, as nothing ramps here");
}

#[test]
fn half_of_the_backends_stay_whatever_they_do() {
    let all: Vec<_> = (0..5).map(|_| Moody::new(true)).collect();
    let mut proxy = proxy("");
    for one in &all {
        proxy = proxy.backend(&one.origin);
    }
    let proxy = proxy.run();
    statuses(&proxy, 200);
    let ejected = (0..5).filter(|n| is_ejected(&proxy, *n)).count();
    assert_eq!((ejected, ejections(&proxy, "consecutive")), (2, 2.0));
    // One alone is never ejected.
    let only = Moody::new(true);
    let proxy = super::outlier::proxy("max_ejected = \"100%\"").backend(&only.origin).run();
    assert!(statuses(&proxy, 30).iter().all(|status| *status == 503));
    assert_eq!(ejections(&proxy, "consecutive"), 0.0);
}

#[test]
fn who_drains_gives_its_place_to_the_next() {
    let (first, second) = (Moody::new(true), Moody::new(false));
    let good: Vec<_> = (0..2).map(|_| always(OK)).collect();
    let proxy = proxy("max_ejected = \"25%\"")
        .backend(&first.origin)
        .backend(&second.origin)
        .backend(&good[0])
        .backend(&good[1])
        .run();
    statuses(&proxy, 40);
    assert!(is_ejected(&proxy, 0));
    second.is_bad(true);
    statuses(&proxy, 40);
    assert!(!is_ejected(&proxy, 1), "one of four is out already");
    let id = backend(&proxy, 0)["id"].as_str().unwrap().to_owned();
    assert_eq!(proxy.admin("POST", &format!("/v1/services/app/backends/{id}/drain")).status, 204);
    assert!(!is_ejected(&proxy, 0), "it drains");
    statuses(&proxy, 40);
    assert!(is_ejected(&proxy, 1));
}

#[test]
fn rates_eject_who_fails_more_than_the_others_and_who_fails_nearly_always() {
    // Never five in a row.
    let failing = |good_of_ten: usize| {
        RawOrigin::script(move |n| {
            let good = (n * good_of_ten) % 10 < good_of_ten;
            vec![Step::ReadHead, Step::Send(if good { OK } else { BUSY }.into())]
        })
    };
    let half = failing(5);
    let good: Vec<_> = (0..5).map(|_| Origin::new().start()).collect();
    let mut with = proxy("failure_percent = 0").backend(&half);
    for one in &good {
        with = with.backend(one);
    }
    let proxy = with.run();
    let mut client = Connection::open(proxy.address("http"));
    wait_until("it is ejected", || {
        (0..300).for_each(|_| _ = client.get("/"));
        ejections(&proxy, "success_rate") > 0.0
    });
    let why = wait_for("it says why", || {
        let why = backend(&proxy, 0)["ejected_reason"].as_str()?.to_owned();
        why.contains(' ').then_some(why)
    });
    let rate: f64 = why.split(' ').nth(2).unwrap().parse().unwrap();
    assert!((45.0..55.0).contains(&rate) && why.contains(" − 1.9 × "), "{why}");
    assert!((1..=5).all(|n| !is_ejected(&proxy, n)));

    let nearly = failing(1);
    let proxy =
        super::outlier::proxy("consecutive_failures = 0").backend(&nearly).backend(&good[0]).run();
    let mut client = Connection::open(proxy.address("http"));
    wait_until("it is ejected", || {
        (0..100).for_each(|_| _ = client.get("/"));
        ejections(&proxy, "failure_percent") > 0.0
    });
    assert!(is_ejected(&proxy, 0) && !is_ejected(&proxy, 1));
}

#[test]
fn retry_after_is_honoured_and_passed_on() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 2\r\ncontent-length: 0\r\n\r\n";
    let polite: Vec<_> = (0..2).map(|_| always(busy)).collect();
    let good = always(OK);
    let proxy = proxy("").backend(&polite[0]).backend(&good).run();
    let start = Instant::now();
    let mut client = Connection::open(proxy.address("http"));
    let answers: Vec<_> = (0..10).map(|_| client.get("/")).collect();
    let busy: Vec<_> = answers.iter().filter(|answer| answer.status == 503).collect();
    assert!(busy.len() == 1 && busy[0].header("retry-after") == Some("2"), "{}", busy.len());
    assert_eq!(ejections(&proxy, "retry_after"), 1.0);
    wait_until("it is asked again", || {
        client.get("/");
        polite[0].connections() == 2
    });
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());

    // If all say so, the cap keeps some: clients get the answer of one that said so.
    let proxy = super::outlier::proxy("").backend(&polite[0]).backend(&polite[1]).run();
    let seen = statuses(&proxy, 10);
    assert!(seen.iter().all(|status| *status == 503), "{seen:?}");
    assert_eq!(ejections(&proxy, "retry_after"), 1.0);
    // With retries another one is asked at once, however long it is to be left alone.
    let later = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(3600));
    let dated = format!(
        "HTTP/1.1 503 Busy\r\nconnection: close\r\nretry-after: {later}\r\ncontent-length: 0\r\n\r\n"
    );
    let dated = always(&dated);
    let proxy = Proxy::new()
        .runtime("workers = 1")
        .service("balance = \"round_robin\"")
        .backend(&dated)
        .backend(&good)
        .run();
    assert!(statuses(&proxy, 20).iter().all(|status| *status == 200));
    assert_eq!(dated.connections(), 1);
    let until = backend(&proxy, 0)["ejected_until"].as_str().unwrap().parse::<jiff::Timestamp>();
    let left = until.unwrap().duration_since(jiff::Timestamp::now()).as_secs();
    assert!((200..=300).contains(&left), "five minutes at most, not {left} s");
}

#[test]
fn a_reload_keeps_ejections_and_what_is_turned_off_lets_back() {
    let (bad, good) = (Moody::new(true), always(OK));
    let mut proxy = proxy("ejection_time = \"1m\"").backend(&bad.origin).backend(&good).run();
    statuses(&proxy, 20);
    let until = backend(&proxy, 0)["ejected_until"].clone();
    assert!(until.is_string());
    assert_eq!(proxy.reload(|p| p.toml("failure_percent = 90")).status, 200);
    assert_eq!(backend(&proxy, 0)["ejected_until"], until);
    let events = Events::of(&proxy);
    assert_eq!(proxy.reload(|p| p.toml("consecutive_failures = 0")).status, 200);
    assert!(!is_ejected(&proxy, 0));
    let event = events.wait("backend_unejected", |_| true);
    assert_eq!(event["why"], "what it was ejected for is off");
    let failed = statuses(&proxy, 40).iter().filter(|status| **status == 503).count();
    assert_eq!(failed, 20);
}

#[test]
fn without_traffic_a_passing_check_brings_it_back_once_its_time_is_over() {
    let (bad, good) = (Moody::new(true), always(OK));
    let start = Instant::now();
    let proxy = proxy("consecutive_failures = 1\nejection_time = \"1s\"")
        .toml("[service.app.health]\nkind = \"tcp\"\ninterval = \"100ms\"")
        .backend(&bad.origin)
        .backend(&good)
        .run();
    let events = Events::of(&proxy);
    statuses(&proxy, 2);
    let event = events.wait("backend_unejected", |_| true);
    assert_eq!(event["why"], "it passes checks");
    assert!(start.elapsed() >= Duration::from_millis(800), "{:?}", start.elapsed());
}

#[test]
fn a_backend_that_was_down_and_passes_checks_again_is_back_at_once() {
    let refusing = refusing_address();
    let good = always(OK);
    let proxy = proxy("ejection_time = \"5m\"")
        .toml("[service.app.health]\nkind = \"tcp\"\ninterval = \"100ms\"\nunhealthy_after = 30")
        .backend(&refusing)
        .backend(&good)
        .run();
    statuses(&proxy, 20);
    assert!(is_ejected(&proxy, 0));
    wait_until("it is down", || backend(&proxy, 0)["healthy"] == false);
    assert!(is_ejected(&proxy, 0));
    let events = Events::of(&proxy);
    // Connections wait in its queue, which is all that a check of TCP asks for.
    let listener = std::net::TcpListener::bind(refusing).unwrap();
    wait_until("it is up", || backend(&proxy, 0)["healthy"] == true);
    assert!(!is_ejected(&proxy, 0));
    let event = events.wait("backend_unejected", |_| true);
    assert_eq!(event["why"], "it passes checks");
    drop(listener);
}

#[test]
fn the_only_one_left_is_used_although_it_is_ejected() {
    let (bad, good) = (Moody::new(true), always(OK));
    let proxy = proxy("ejection_time = \"5m\"").backend(&bad.origin).backend(&good).run();
    statuses(&proxy, 20);
    assert!(is_ejected(&proxy, 0));
    bad.is_bad(false);
    let id = backend(&proxy, 1)["id"].as_str().unwrap().to_owned();
    assert_eq!(proxy.admin("POST", &format!("/v1/services/app/backends/{id}/drain")).status, 204);
    wait_until("it is drained", || backend(&proxy, 1)["state"] == "draining");
    assert!(statuses(&proxy, 20).iter().all(|status| *status == 200));
}

#[test]
fn where_clients_belong_to_backends_nobody_is_sent_elsewhere_to_try_one() {
    let (bad, good) = (Moody::new(true), Moody::new(false));
    let proxy = Proxy::new()
        .runtime("workers = 1")
        .service("balance = \"ip_hash\"\nslow_start = \"0s\"")
        .toml("[service.app.retry]\nattempts = 0")
        .toml("[service.app.outlier]\nejection_time = \"500ms\"")
        .backend(&bad.origin)
        .backend(&good.origin)
        .run();
    // One client, one backend: whichever it is, it is the bad one.
    let first = statuses(&proxy, 1)[0];
    let (bad, good) = if first == 503 { (&bad, &good) } else { (&good, &bad) };
    bad.is_bad(true);
    good.is_bad(false);
    let mut client = Connection::open(proxy.address("http"));
    wait_until("it is ejected", || client.get("/").status == 200);
    assert_eq!(ejections(&proxy, "consecutive"), 1.0);
    wait_until("it is back", || client.get("/").status == 503);
    wait_until("one failure was enough", || ejections(&proxy, "consecutive") == 2.0);
    assert_eq!(ejections(&proxy, "probe"), 0.0);
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn a_session_is_not_sent_elsewhere_to_try_a_backend_but_a_new_client_is() {
    let (bad, good) = (Moody::new(true), always(OK));
    let proxy = Proxy::new()
        .runtime("workers = 1")
        .service("balance = \"round_robin\"\nsticky = { cookie = \"tg\" }")
        .toml("[service.app.retry]\nattempts = 0")
        .toml("[service.app.outlier]\nejection_time = \"500ms\"")
        .backend(&bad.origin)
        .backend(&good)
        .run();
    // New clients, half of whom it gets, until it is ejected.
    let fresh = || send("GET", &proxy.url("/"), &[], b"").unwrap();
    (0..10).for_each(|_| _ = fresh());
    assert!(is_ejected(&proxy, 0));
    let cookie = fresh().header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let before = (bad.origin.connections(), Instant::now());
    let old = || send("GET", &proxy.url("/"), &[("cookie", &cookie)], b"").unwrap().status;
    // Its time is over after 0.6 s at most, and others may try it for as long as that again.
    while before.1.elapsed() < Duration::from_millis(900) {
        assert_eq!(old(), 200);
    }
    assert_eq!(bad.origin.connections(), before.0);
    bad.is_bad(false);
    wait_until("a new client tries it", || {
        fresh();
        bad.origin.connections() > before.0
    });
    assert!(!is_ejected(&proxy, 0));
    assert_eq!(old(), 200);
}
