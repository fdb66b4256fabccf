//! What `slo` learns of backends, and that a restart keeps it.

use serde_json::Value;
use tidegate::load::Protocol;

use crate::support::{Load, Proxy, Running, gets, wait_for, wait_until};

/// 50 a second each.
const ORIGIN: &str = "--delay 40ms --slots 2";
/// More than one serves.
const RATE: f64 = 80.0;

/// The first change upwards after the record with that number.
fn first_growth(proxy: &Running, after: u64) -> Value {
    wait_for("a change upwards", || {
        let records = proxy.records("scale");
        let grown = |r: &&Value| r["action"]["to"].as_u64() > r["action"]["from"].as_u64();
        records.iter().filter(grown).find(|r| r["seq"].as_u64() > Some(after)).cloned()
    })
}

fn formula(record: &Value) -> &str {
    record["proposals"][0]["formula"].as_str().unwrap_or_else(|| panic!("{record:#}"))
}

#[test]
fn what_is_learned_of_backends_is_known_after_a_restart() {
    let mut proxy = Proxy::new().origins(ORIGIN, "").scaling(1, 6, "").run();
    proxy.wait_for_size(1);
    let load = Load::start(gets(&proxy.url("/"), RATE, Protocol::Http1));
    first_growth(&proxy, 0);
    // Until it is calm, and ten seconds longer: then the service time is known.
    wait_until("much is answered", || {
        proxy.metric("tidegate_requests_total", &[("service", "app")]) >= 25.0 * RATE
    });
    load.finish_unharmed();
    let last = proxy.records("scale").last().and_then(|r| r["seq"].as_u64()).expect("a change");
    assert!(proxy.stop().success());

    let (directory, configuration, _) = proxy.into_parts();
    let journal = directory.path().join("state/journal/app.jsonl");
    let lines = std::fs::read_to_string(&journal).expect("a journal");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let mut learned = lines.filter_map(|line| line.get("learned").cloned());
    let learned = learned.next_back().expect("a line");
    let service = learned["service_time"].as_f64().expect("a number");
    assert!((0.03..1.0).contains(&service), "{learned}");
    assert!(learned["pace"].as_f64() > Some(0.0), "{learned}");

    let proxy = configuration.start_in(directory);
    proxy.wait_for_size(1);
    let load = Load::start(gets(&proxy.url("/"), RATE, Protocol::Http1));
    // Who knows no service time has requests in flight to go by, and nothing else.
    let again = first_growth(&proxy, last);
    assert!(formula(&again).contains("rps"), "{again:#}");
    load.finish_unharmed();
}
