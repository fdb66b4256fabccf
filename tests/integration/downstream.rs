//! Backends before something that they share: when that is full, more of them are not added, and the record says so.

use serde_json::Value;
use tidegate::load::Protocol;

use crate::support::{Events, Load, Proxy, gets, wait_for, wait_until};

/// Three times what gets done, of 50 ms one after the other.
const RATE: f64 = 60.0;
/// More than are ordered until it is clear: while nothing is known, twice as many each time that some are ready.
const MOST: u32 = 24;

fn grows(record: &Value) -> bool {
    record["action"]["to"].as_u64() > record["action"]["from"].as_u64()
}

#[test]
fn backends_that_wait_for_the_same_thing_are_not_added_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let lock = folder.path().join("database");
    let options = format!("--delay 50ms --start-delay 12s --shared {}", lock.display());
    let proxy = Proxy::new().origins(&options, "").scaling(1, MOST, "").run();
    proxy.wait_for_size(1);
    let events = Events::of(&proxy);
    let load = Load::start(gets(&proxy.url("/"), RATE, Protocol::Http1));
    wait_until("more are tried", || proxy.records("scale").iter().filter(|r| grows(r)).count() > 1);
    let bound = wait_for("what is behind them is named", || {
        let records = proxy.records("refuse");
        records.into_iter().find(|record| record["action"]["reason"] == "downstream_bound")
    });
    // It wanted more, after more had been tried.
    let at = bound["action"]["at"].as_u64().expect("a number");
    assert!(bound["action"]["wanted"].as_u64() > Some(at), "{bound:#}");
    assert!((2..u64::from(MOST)).contains(&at), "{bound:#}");
    let note = bound["proposals"][0]["note"].as_str().unwrap_or_default();
    assert!(note.contains("while requests wait in both cases"), "{bound:#}");
    events.wait("scale_blocked", |blocked| {
        blocked["reason"].as_str().is_some_and(|why| why.contains("downstream_bound"))
    });
    let told = proxy.command(&["explain", "app"]).text();
    assert!(told.contains("what is full is behind them"), "{told}");

    // For a minute of its own clock nothing is added, whatever waits.
    let before = proxy.metric("tidegate_requests_total", &[("service", "app")]);
    wait_until("it goes on", || {
        proxy.metric("tidegate_requests_total", &[("service", "app")]) >= before + 10.0 * RATE
    });
    let grown: Vec<Value> = proxy.records("scale").into_iter().filter(grows).collect();
    let before = |record: &Value| record["seq"].as_u64() < bound["seq"].as_u64();
    assert!(!grown.is_empty() && grown.iter().all(before), "{grown:#?}");
    drop(load);
}
