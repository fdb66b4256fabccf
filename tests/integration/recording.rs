//! A recording of what arrives is a trace for the simulator.

use serde_json::json;

use crate::operator::scaled;
use crate::support::{get, run, wait_until};

#[test]
fn what_is_recorded_is_played_to_the_policies() {
    let proxy = scaled("").run();
    let order = |on: bool| {
        let answer = proxy.admin_json("POST", "/v1/services/app/record", Some(json!({ "on": on })));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["file"].as_str().expect("a path").to_owned()
    };
    let file = order(true);
    for _ in 0..50 {
        assert_eq!(get(&proxy.url("/")).status, 200);
    }
    let rows = || -> Vec<(u64, u64)> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        let row = |line: &str| {
            let (second, requests) = line.split_once(',')?;
            Some((second.parse().ok()?, requests.parse().ok()?))
        };
        text.lines().filter_map(row).collect()
    };
    wait_until("all are written down, and some seconds of calm", || {
        let rows = rows();
        rows.iter().map(|(_, requests)| requests).sum::<u64>() == 50
            && rows.iter().rev().take_while(|(_, requests)| *requests == 0).count() >= 3
    });
    assert_eq!(order(false), file);
    let simulated = run(
        env!("CARGO_BIN_EXE_tidegate"),
        &["simulate", "--trace", &file, "--compare", "slo,kpa", "--seeds", "1"],
    );
    assert_eq!(simulated.code, Some(0), "{}", simulated.stderr);
    assert!(simulated.text().lines().any(|line| line.starts_with("slo ")), "{}", simulated.text());
    let nobody =
        proxy.admin_json("POST", "/v1/services/nobody/record", Some(json!({ "on": true })));
    assert_eq!(nobody.status, 404);
}
