//! What backends came to: booked as it happens, told by the API and on the command line, kept over a restart.

use std::time::Duration;

use crate::operator::scaled;
use crate::support::{get, wait_for};

#[test]
fn hours_are_booked_told_and_kept() {
    let price = "[service.app.scaling.cost]\nper_backend_hour = 3600\ncurrency = \"EUR\"\n";
    let mut proxy = scaled("").toml(price).run();
    for _ in 0..20 {
        assert_eq!(get(&proxy.url("/")).status, 200);
    }
    let cost = |proxy: &crate::support::Running| {
        proxy.admin("GET", "/v1/cost?since=1h").json()["services"][0].clone()
    };
    let first = wait_for("requests in the books", || {
        let cost = cost(&proxy);
        (cost["requests"].as_f64()? >= 20.0).then_some(cost)
    });
    assert_eq!(first["service"], "app");
    let hours =
        |cost: &serde_json::Value, what: &str| cost["backend_hours"][what].as_f64().unwrap();
    let (ran, most) = (hours(&first, "ran"), hours(&first, "static_max"));
    // At the very start there was less than `min`, which is needed at least.
    assert!(hours(&first, "least") > 0.0 && ran < most, "{first}");
    let saved = first["saved_ratio"].as_f64().unwrap();
    assert!((saved - (1.0 - ran / most)).abs() < 1e-9, "{first}");
    let spend = &first["spend"];
    assert!((spend["ran"].as_f64().unwrap() - ran * 3600.0).abs() < 1e-6, "{first}");
    assert_eq!(spend["currency"], "EUR");
    let told = proxy.command(&["status", "--cost", "--since", "24h"]);
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let line =
        told.text().lines().find(|line| line.starts_with("app ")).expect("its line").to_owned();
    assert!(line.ends_with(" EUR"), "{line}");
    let bad = proxy.admin("GET", "/v1/cost?since=yesterday");
    assert_eq!(bad.status, 400);
    assert!(bad.text().contains("how long ago"), "{}", bad.text());

    assert!(proxy.stop().success());
    let written = proxy.directory().join("state/cost/app.jsonl");
    assert!(written.is_file(), "{} is not there", written.display());
    let (directory, config, _) = proxy.into_parts();
    let again = config.start_in(directory);
    let after = wait_for("the books as they were", || {
        let cost = cost(&again);
        (cost["requests"].as_f64()? >= 20.0).then_some(cost)
    });
    assert!(hours(&after, "ran") >= ran, "{after} after {first}");
    assert!(
        Duration::from_secs_f64(after["observed_hours"].as_f64().unwrap() * 3600.0)
            < Duration::from_secs(600)
    );
}
