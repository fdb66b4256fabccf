//! What `slo` learns of backends, and that a restart keeps it.

use serde_json::Value;
use tidegate::load::Protocol;

use crate::support::{Load, Proxy, Running, gets, wait_for};

/// 50 a second each.
const ORIGIN: &str = "--delay 40ms --slots 2";

/// What `slo` said to the first change upwards for which that holds.
fn says(proxy: &Running, what: &str, holds: impl Fn(&str) -> bool) -> Value {
    wait_for(what, || {
        let records = proxy.records("scale");
        let grown = |r: &&Value| r["action"]["to"].as_u64() > r["action"]["from"].as_u64();
        let note = |r: &Value| r["proposals"][0]["note"].as_str().unwrap_or_default().to_owned();
        records.iter().filter(grown).find(|r| holds(&note(r))).cloned()
    })
}

#[test]
fn slots_are_learned_from_load_and_known_after_a_restart() {
    let proxy = Proxy::new().origins(ORIGIN, "").scaling(1, 6, "").run();
    proxy.wait_for_size(1);
    let load = Load::start(gets(&proxy.url("/"), 80.0, Protocol::Http1));
    // A queue that had grown meanwhile is no failure; how long it took is not what is tested.
    let known = |note: &str| !note.contains("not known");
    let before = says(&proxy, "a change that knows the slots", known);
    load.finish_unharmed();
    let formula = before["proposals"][0]["formula"].as_str().expect("a text");
    assert!(formula.contains("slots × "), "{formula}");

    let mut proxy = proxy;
    assert!(proxy.stop().success());
    let (directory, configuration, _) = proxy.into_parts();
    let journal = directory.path().join("state/journal/app.jsonl");
    let lines = std::fs::read_to_string(&journal).expect("a journal");
    let learned: Vec<Value> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON"))
        .filter(|line| line["learned"].is_object())
        .collect();
    assert_eq!(learned.last().expect("a line")["learned"]["limited"], true, "{learned:?}");
    let asked = before["seq"].as_u64();

    let proxy = configuration.start_in(directory);
    proxy.wait_for_size(1);
    let load = Load::start(gets(&proxy.url("/"), 80.0, Protocol::Http1));
    let first = wait_for("the first change after the restart", || {
        let records = proxy.records("scale");
        let grown = |r: &&Value| r["action"]["to"].as_u64() > r["action"]["from"].as_u64();
        records.iter().filter(grown).find(|r| r["seq"].as_u64() > asked).cloned()
    });
    load.finish_unharmed();
    let note = first["proposals"][0]["note"].as_str().unwrap_or_default();
    assert!(known(note), "{first:#}");
}
