//! What backends came to: booked as it happens, told by the API and on the command line, kept over a restart.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;

use crate::openapi::described;
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
    // A decision says what an hour costs before and after it, in the same words.
    assert_eq!(proxy.command(&["scale", "app", "3"]).code, Some(0));
    let pinned = wait_for("the pin's record", || proxy.records("scale").pop());
    let (backends, spend) = (&pinned["cost"]["backend_hours"], &pinned["cost"]["spend"]);
    assert_eq!((&backends["before"], &backends["after"]), (&json!(2.0), &json!(3.0)), "{pinned}");
    assert_eq!((&spend["before"], &spend["after"]), (&json!(7200.0), &json!(10800.0)), "{pinned}");
    let decisions = proxy.admin("GET", "/v1/services/app/decisions");
    described("GET", "/v1/services/{name}/decisions", &decisions);
    let why = proxy.command(&["explain", "app", "--at", pinned["time"].as_str().unwrap()]);
    assert!(why.text().contains("10800.00 EUR an hour, 7200.00 before"), "{}", why.text());
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

/// Three weeks of working days that begin at eight: what is said of them is a configuration.
#[test]
fn weeks_become_hints_that_can_be_taken_as_they_are() {
    let directory = tempfile::tempdir().unwrap();
    let books = directory.path().join("state/cost");
    std::fs::create_dir_all(&books).unwrap();
    let now = Timestamp::now().as_second() / 3600;
    let lines = (now - 21 * 24..now).map(|hour| {
        // 0 = Monday.
        let (day, clock) = ((hour / 24 + 3) % 7, hour % 24);
        let need = if day < 5 && (8..18).contains(&clock) { 4 } else { 2 };
        let start = Timestamp::from_second(hour * 3600).unwrap().to_string();
        let seconds = f64::from(need) * 3600.0;
        let line = json!({
            "start": start, "seen": 3600.0, "ran": seconds, "most": 4.0 * 3600.0, "least": seconds,
            "at_max": 0.0, "requests": 1000.0, "peak": need, "demand": need, "cores": 0.113,
            "memory": 80 << 20,
        });
        format!("{line}\n")
    });
    std::fs::write(books.join("app.jsonl"), lines.collect::<String>()).unwrap();
    let mut proxy = scaled("").start_in(directory);
    let told = proxy.command(&["status", "--cost", "--since", "30d"]).text();
    assert!(told.contains("no backend used more than 12 % of a core and 80 MiB"), "{told}");
    let said = "app: mon-fri from 08:00 UTC for 10 h four of five days need 4 or more";
    let after = told.lines().skip_while(|line| !line.starts_with(said)).skip(1);
    let toml: String =
        after.take_while(|line| line.starts_with("  ")).flat_map(|line| [line, "\n"]).collect();
    assert!(toml.contains("[[service.app.scaling.schedule]]"), "{told}");
    let taken = proxy.reload(|_| scaled("").toml(&toml));
    assert_eq!(taken.status, 200, "{}\n{toml}", taken.text());
}
