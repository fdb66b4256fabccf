//! While the scaler brings capacity requests wait for it, longer than they would for a place.

use serde_json::{Value, json};

use crate::support::{Answer, Connection, Proxy, Running, wait_until};

/// One request at a time for each of at most `max` backends that need five seconds to start.
fn scaled(max: u32) -> Running {
    let slow = "[\"/bin/sh\", \"-c\", \"sleep 5; exec {self} origin --port {port}\"]";
    Proxy::new()
        .processes(slow, "")
        .service("max_in_flight = 1")
        .scaling(1, max, "[service.app.scaling.concurrency]\ntarget = 1")
        .toml("[service.app.overload]\nqueue_timeout = \"3s\"")
        .run()
}

fn ask(proxy: &Running, path: &str) -> Connection {
    let mut client = Connection::open(proxy.address("http"));
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    client
}

/// Asks twice; the first has the only place for an hour. `then`: in between. The answer to the second.
fn second(proxy: &Running, then: impl FnOnce()) -> Answer {
    let _first = ask(proxy, "/?delay=1h");
    let in_flight = || proxy.metric("tidegate_backend_in_flight", &[]);
    wait_until("the place is taken", || in_flight() == 1.0);
    then();
    ask(proxy, "/").answer()
}

/// How many times the present capacity is expected; null: no more than there is.
fn expected(proxy: &Running) -> Value {
    proxy.service("app")["limits"]["expected"].clone()
}

fn is_served_by_another(proxy: &Running) {
    let scaled = proxy.records("scale");
    assert_eq!(scaled.last().map(|record| &record["action"]["to"]), Some(&json!(2)), "{scaled:?}");
    assert_eq!(proxy.metric("tidegate_shed_total", &[]), 0.0);
}

#[test]
fn a_request_waits_for_a_backend_that_is_coming() {
    let proxy = scaled(2);
    proxy.wait_for_size(1);
    let coming = || wait_until("one is coming", || proxy.records("scale").len() == 1);
    assert_eq!(second(&proxy, coming).status, 200);
    is_served_by_another(&proxy);
}

#[test]
fn a_request_waits_for_a_backend_that_the_next_decision_brings() {
    let proxy = scaled(2);
    proxy.wait_for_size(1);
    wait_until("it could grow", || expected(&proxy) == 2.0);
    assert_eq!(second(&proxy, || ()).status, 200);
    is_served_by_another(&proxy);
}

#[test]
fn where_none_can_come_it_is_turned_away() {
    let full = scaled(1);
    full.wait_for_size(1);
    let paused = scaled(2);
    paused.wait_for_size(1);
    wait_until("it could grow", || expected(&paused) == 2.0);
    assert_eq!(paused.command(&["scale", "app", "pause"]).code, Some(0));
    wait_until("nothing is expected any more", || expected(&paused).is_null());
    for proxy in [full, paused] {
        let answer = second(&proxy, || ());
        assert_eq!(answer.status, 503);
        // And not as long as one waits for what is expected, which is ten times that.
        let why = answer.header("proxy-status").unwrap_or_default();
        assert!(why.contains("app: waited 3s in the queue"), "{why}");
        let late = proxy.metric("tidegate_shed_total", &[("reason", "queue_timeout")]);
        assert_eq!(late, 1.0);
    }
}
