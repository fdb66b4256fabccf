//! More load than the backends can answer: what they can do is found out, and who goes first.

use http::HeaderValue;

use tidegate::load::{Plan, Protocol};

use crate::handover::{hand_over, stop};
use crate::support::{Backend, Load, Origin, Proxy, Running, get, gets, lives, send, wait_until};

/// Four slots of 40 ms: 100 requests a second at most, less on a busy machine.
fn origins() -> [impl Backend + use<>; 2] {
    ["a", "b"].map(|id| Origin::new().id(id).slots(2).delay("40ms").start())
}

const CLASSES: &str = "[[route]]\nname = \"critical\"\npath = \"/critical\"\nservice = \"app\"\npriority = \"critical\"\n\
                       [[route]]\nname = \"sheddable\"\npath = \"/sheddable\"\nservice = \"app\"\npriority = \"sheddable\"\n";

fn before(origins: &[impl Backend; 2], overload: &str) -> Running {
    let overload = format!("{CLASSES}[service.app.overload]\n{overload}");
    let proxy = Proxy::new().listener("trusted_proxies = [\"127.0.0.1\"]").toml(&overload);
    origins.iter().fold(proxy, Proxy::backend).run()
}

/// Of a client that a trusted proxy names.
fn of(plan: Plan, client: &str) -> Plan {
    let mut plan = plan;
    let client = HeaderValue::from_str(client).expect("an address");
    plan.headers.insert("x-forwarded-for", client);
    plan
}

fn ask(proxy: &Running, path: &str, rate: f64, client: &str) -> Load {
    Load::start(of(gets(&proxy.url(path), rate, Protocol::Http1), client))
}

fn shed(proxy: &Running, reason: &str) -> f64 {
    proxy.metric("tidegate_shed_total", &[("reason", reason)])
}

fn is_limited(proxy: &Running) -> bool {
    proxy.metric("tidegate_admitted_rate", &[("service", "app")]) > 0.0
}

/// Four times what the backends can do, until that was found out and they have no more than they can do.
fn overload(proxy: &Running, path: &str, client: &str) -> Load {
    let load = ask(proxy, path, 400.0, client);
    wait_until("the overload is seen", || is_limited(proxy));
    let in_flight = || proxy.metric("tidegate_backend_in_flight", &[]);
    wait_until("what they had taken on is done", || {
        in_flight() <= proxy.metric("tidegate_backend_limit", &[])
    });
    load
}

#[test]
fn what_backends_can_do_is_found_out_and_critical_requests_go_first() {
    let origins = origins();
    let proxy = before(&origins, "");
    let rest = overload(&proxy, "/sheddable", "192.0.2.1");
    let limits = ["a", "b"].map(|id| proxy.metric("tidegate_backend_limit", &[("backend", id)]));
    assert!(limits.iter().all(|limit| (1.0..100.0).contains(limit)), "{limits:?}");
    let told = proxy.service("app");
    assert!(
        told["limits"]["places"].as_u64().is_some() && told["limits"]["rate"].as_f64().is_some()
    );

    let critical = ask(&proxy, "/critical", 10.0, "192.0.2.1");
    wait_until("both were asked a while", || {
        let count = |route: &str| proxy.metric("tidegate_requests_total", &[("route", route)]);
        count("critical") >= 50.0 && shed(&proxy, "rate") > 200.0
    });
    let (critical, rest) = (critical.finish(), rest.finish());
    let refused = rest.status.get(&503).copied().unwrap_or(0);
    assert!(refused > 200 && rest.status.get(&200).is_some_and(|n| *n > 0), "{rest:?}");
    assert_eq!(critical.status.keys().copied().collect::<Vec<_>>(), [200], "{critical:?}");
}

#[test]
fn who_is_refused_is_told_when_to_come_again() {
    let origins = origins();
    let proxy = before(&origins, "");
    let load = overload(&proxy, "/sheddable", "192.0.2.1");
    let mut answer = None;
    wait_until("one is refused", || {
        let from = [("x-forwarded-for", "192.0.2.1")];
        let one = send("GET", &proxy.url("/sheddable"), &from, b"").expect("there is an answer");
        answer = Some(one).filter(|one| one.status == 503);
        answer.is_some()
    });
    load.finish();
    let answer = answer.expect("it was waited for");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let status = answer.header("proxy-status").unwrap_or_default();
    assert!(status.starts_with("tidegate; error=connection_limit_reached"), "{status}");
}

#[test]
fn a_greedy_client_takes_nothing_from_a_polite_one() {
    let origins = origins();
    let proxy = before(&origins, "");
    let greedy = overload(&proxy, "/", "192.0.2.1");
    let polite = ask(&proxy, "/", 5.0, "192.0.2.2");
    wait_until("the greedy one has its share", || shed(&proxy, "share") > 200.0);
    let (greedy, polite) = (greedy.finish(), polite.finish());
    assert!(greedy.status.get(&503).is_some_and(|n| *n > 200), "{greedy:?}");
    assert_eq!(polite.status.keys().copied().collect::<Vec<_>>(), [200], "{polite:?}");
}

#[test]
fn what_is_off_limits_nothing() {
    let origins = origins();
    let proxy = before(&origins, "concurrency = \"off\"");
    let load = ask(&proxy, "/", 400.0, "192.0.2.1");
    wait_until("far more came than is answered", || {
        proxy.metric("tidegate_in_flight", &[("service", "app")]) > 1000.0
    });
    assert!(!is_limited(&proxy));
    let report = load.finish();
    assert_eq!(report.status.keys().copied().collect::<Vec<_>>(), [200], "{report:?}");
}

#[test]
fn a_trusted_peer_may_say_what_class_a_request_is_of() {
    let origins = origins();
    let proxy = before(&origins, "");
    let rest = overload(&proxy, "/", "192.0.2.1");
    let mut plan = of(gets(&proxy.url("/sheddable"), 10.0, Protocol::Http1), "192.0.2.1");
    plan.headers.insert("x-request-priority", HeaderValue::from_static("critical"));
    let named = Load::start(plan);
    wait_until("it was asked a while", || {
        proxy.metric("tidegate_requests_total", &[("route", "sheddable")]) >= 50.0
    });
    let (named, rest) = (named.finish(), rest.finish());
    assert!(rest.status.get(&503).is_some_and(|n| *n > 0), "{rest:?}");
    assert_eq!(named.status.keys().copied().collect::<Vec<_>>(), [200], "{named:?}");
}

/// In the middle of an overload it cannot be learned, so it is told.
#[test]
fn what_requests_take_in_calm_is_known_after_a_hand_over_without_a_request() {
    let origins = [20, 60].map(|ms| Origin::new().delay(&format!("{ms}ms")).start());
    let balance = "balance = \"round_robin\"\nslow_start = \"0s\"";
    let mut proxy = origins.iter().fold(Proxy::new().service(balance), Proxy::backend).run();
    let calm = |proxy: &Running| -> Option<[f64; 2]> {
        let backends = proxy.service("app")["backends"].clone();
        let [a, b] = [0, 1].map(|i| backends[i]["latency_ms"]["calm"].as_f64());
        Some([a?, b?])
    };
    assert_eq!(calm(&proxy), None, "nothing was seen yet");
    wait_until("it is learned", || {
        assert_eq!(get(&proxy.url("/")).status, 200);
        calm(&proxy).is_some()
    });
    let passed_on = |proxy: &mut Running| {
        let (old, _) = hand_over(proxy);
        wait_until("the old one ended", || !lives(old));
        assert_eq!(proxy.metric("tidegate_requests_total", &[]), 0.0, "nobody asked");
        calm(proxy).expect("it was told")
    };
    let told = passed_on(&mut proxy);
    assert!(told[0] >= 20.0 && told[1] >= 60.0, "{told:?}");
    // Of who has learned nothing since the same is passed on.
    let again = passed_on(&mut proxy);
    assert!((0..2).all(|i| (again[i] / told[i] - 1.0).abs() < 1e-9), "{again:?}, {told:?} before");
    stop(&proxy);
}
