//! What `slo` learns of backends, and that restarts and hand-overs keep it.

use std::path::Path;

use serde_json::Value;
use tidegate::load::Protocol;

use crate::handover::{hand_over, stop};
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

/// What one backend cannot take is turned away while others start, however long that is here; nothing else fails.
#[track_caller]
fn finish(load: Load) {
    let report = load.finish();
    let told: u64 = [200, 503].iter().filter_map(|status| report.status.get(status)).sum();
    assert_eq!((told, report.unfinished), (report.sent, 0), "{report:?}");
}

/// The last of what was learned that is in the journal of a proxy in that folder.
fn learned(folder: &Path) -> Option<Value> {
    let lines = std::fs::read_to_string(folder.join("state/journal/app.jsonl")).ok()?;
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter_map(|line| line.get("learned").cloned()).next_back()
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
    finish(load);
    let last = proxy.records("scale").last().and_then(|r| r["seq"].as_u64()).expect("a change");
    assert!(proxy.stop().success());

    let (directory, configuration, _) = proxy.into_parts();
    let learned = learned(directory.path()).expect("a line");
    let service = learned["service_time"].as_f64().expect("a number");
    assert!((0.03..1.0).contains(&service), "{learned}");
    assert!(learned["pace"].as_f64() > Some(0.0), "{learned}");

    let proxy = configuration.start_in(directory);
    proxy.wait_for_size(1);
    let load = Load::start(gets(&proxy.url("/"), RATE, Protocol::Http1));
    // Who knows no service time has requests in flight to go by, and nothing else.
    let again = first_growth(&proxy, last);
    assert!(formula(&again).contains("rps"), "{again:#}");
    finish(load);
}

/// Without the journal nothing but the process before can have told it.
#[test]
fn what_is_learned_is_passed_on_to_the_process_that_takes_over() {
    let mut proxy = Proxy::new().origins(ORIGIN, "").scaling(1, 6, "").run();
    proxy.wait_for_size(1);
    let load = Load::start(gets(&proxy.url("/"), RATE, Protocol::Http1));
    wait_until("much is answered", || {
        proxy.metric("tidegate_requests_total", &[("service", "app")]) >= 15.0 * RATE
    });
    finish(load);
    // Five starts tell a lead time.
    assert_eq!(proxy.command(&["scale", "app", "6"]).code, Some(0));
    proxy.wait_for_size(6);
    let folder = proxy.config_file().parent().expect("it is in a folder").to_owned();
    let before = wait_for("what is learned is written", || learned(&folder));
    std::fs::remove_file(folder.join("state/journal/app.jsonl")).expect("it is there");

    let (old, _) = hand_over(&mut proxy);
    wait_until("the old one ended", || !crate::support::lives(old));
    stop(&proxy);
    let after = learned(&folder).expect("a line of the new process");
    let number = |of: &Value, key: &str| of[key].as_f64().unwrap_or_else(|| panic!("{of}"));
    for key in ["service_time", "quantile", "pace"] {
        // It may have learned more since the line was written, but not another service.
        let (before, after) = (number(&before, key), number(&after, key));
        assert!(after > before / 20.0 && after < before * 20.0, "{key}: {before} {after}");
    }
    assert!(number(&after, "service_time") > 0.03, "{after}");
    assert!(number(&after, "lead_time") > 0.0, "{after}");
}
