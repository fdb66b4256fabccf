//! The page as a whole, also judged by Prometheus' own `promtool` where it is installed.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::*;
use crate::telemetry::Failure;
use crate::telemetry::histogram::{Histogram, Reading};

fn merged(values: &[u64]) -> Merged {
    let histogram = Histogram::default();
    values.iter().for_each(|us| histogram.record(*us));
    let mut merged = Merged::default();
    merged.add(&Reading::of([&histogram]).since(&Reading::default()));
    merged
}

/// A page with every family on it.
fn page(openmetrics: bool) -> String {
    let route: PerWorker<RouteStats> = PerWorker::new(2);
    route.of(0).record(&http::Method::GET, 200, 1000);
    route.of(1).record(&http::Method::GET, 200, 1000);
    route.of(1).record(&http::Method::POST, 503, 1000);
    let stats: PerWorker<ServiceStats> = PerWorker::new(2);
    stats.of(1).retries.inc(crate::telemetry::RetryReason::Reset);
    let listener = Arc::new(ListenerStats::default());
    let _open = listener.admit(10);
    let durations = merged(&[400, 1000, 2_000_000, 90_000_000]);
    let services = vec![Service {
        held: 2,
        name: "app",
        stats: &stats,
        in_flight: 3,
        queued: 1,
        rate: 250.0,
        tunnels: 0,
        queue_wait: Some(&durations),
        desired: Some(4),
        proposals: vec![("concurrency", 4.0)],
        events: vec![("up", "concurrency", 2)],
        limited: vec![("max", true), ("cooldown", false)],
        start: Some(&durations),
        ejections: vec![("consecutive", 1)],
    }];
    let backend = PerWorker::<BackendStats>::new(2);
    backend.of(0).failed(Failure::Connect, 1);
    backend.of(1).failed(Failure::Connect, 2);
    let backends = vec![Backend {
        service: "app",
        id: "odd \"name\"\\\n",
        state: "ready",
        up: true,
        in_flight: 3,
        limit: 6,
        duration: Some(&durations),
        stats: Some(&backend),
        cpu: Some(0.25),
        memory_bytes: Some(1 << 20),
    }];
    let routes = vec![Route {
        name: "all",
        service: "app",
        is_mirror: true,
        stats: &route,
        duration: Some(&durations),
    }];
    Metrics {
        version: "0.1.0",
        listeners: vec![Listener { name: "http", stats: &listener }],
        routes,
        limits: vec![Limit {
            route: "all",
            name: "per-client",
            refused: 5,
            dry_run: 0,
            keys: 2,
            overflowed: 1,
        }],
        together: Some(Together { up: true, failures: 1, alone: 2 }),
        memory: Some(Memory { bytes: 1 << 29, limit_bytes: 1 << 30, level: 2, given_back: 3 }),
        bans: Bans { active: 2, begun: 3, requests: 5 },
        services,
        backends,
        certificates: vec![("example.com", 86_400.5)],
        reloads_ok: 2,
        reloads_failed: 1,
        handovers_ok: 1,
        handovers_failed: 0,
        log_dropped: 7,
        panics: 0,
        worker_stall: Some(&durations),
        process: Process::read(1_700_000_000.5),
        notifications: vec![("ops".into(), [("sent", 3), ("failed", 0), ("dropped", 1)])],
    }
    .encode(openmetrics)
}

#[test]
fn counts_of_all_workers_are_one_series() {
    let page = page(false);
    let line = r#"tidegate_requests_total{service="app",route="all",code="200",method="GET"} 2"#;
    assert!(page.lines().any(|l| l == line), "{page}");
    let line = r#"tidegate_backend_failures_total{service="app",backend="odd \"name\"\\\n",reason="connect"} 2"#;
    assert!(page.lines().any(|l| l == line), "{page}");
    assert!(!page.contains(r#"backend="odd \"name\"\\\n",reason="reset""#), "none, no series");
    let line = r#"tidegate_retries_total{service="app",reason="reset"} 1"#;
    assert!(page.lines().any(|l| l == line), "{page}");
    let line = r#"tidegate_rate_limited_total{route="all",limit="per-client"} 5"#;
    assert!(page.lines().any(|l| l == line), "{page}");
    let line = r#"tidegate_notifications_total{name="ops",result="sent"} 3"#;
    assert!(page.lines().any(|l| l == line), "{page}");
    let line = r#"tidegate_backends{service="app",state="ready"} 1"#;
    assert!(page.lines().any(|l| l == line), "{page}");
}

#[test]
fn labels_are_escaped() {
    let line = r#"tidegate_backend_up{service="app",backend="odd \"name\"\\\n"} 1"#;
    assert!(page(false).lines().any(|l| l == line));
}

#[test]
fn histograms_grow_to_their_count() {
    let page = page(false);
    let prefix = r#"tidegate_request_duration_seconds_bucket{service="app",route="all",le=""#;
    let buckets: Vec<(&str, u64)> = page
        .lines()
        .filter_map(|line| line.strip_prefix(prefix)?.split_once("\"} "))
        .map(|(le, n)| (le, n.parse().expect("a whole number")))
        .collect();
    assert_eq!(buckets.len(), 17);
    assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{buckets:?}");
    assert_eq!(buckets.first(), Some(&("0.0005", 1)));
    assert!(buckets.contains(&("1.0", 2)) && buckets.contains(&("2.5", 3)), "{buckets:?}");
    assert_eq!(buckets.last(), Some(&("+Inf", 4)));
    let sum = r#"tidegate_request_duration_seconds_sum{service="app",route="all"} 92.0014"#;
    assert!(page.lines().any(|l| l == sum), "{page}");
}

#[test]
fn openmetrics_names_counters_without_their_suffix_and_ends() {
    let page = page(true);
    assert!(page.ends_with("\n# EOF\n"));
    assert!(page.contains("# TYPE tidegate_requests counter\n"));
    assert!(page.contains("\ntidegate_requests_total{"));
    assert!(!page.contains("# TYPE tidegate_requests_total"));
}

#[test]
fn a_family_without_samples_is_not_there() {
    let empty = Metrics::default().encode(false);
    assert!(!empty.contains("tidegate_backend_up"));
    assert!(empty.contains("tidegate_build_info"));
}

#[test]
fn promtool_has_nothing_to_say() {
    let check = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut check = match check {
        Ok(check) => check,
        Err(error) => {
            eprintln!("skipped: promtool cannot be run: {error}");
            return;
        }
    };
    let mut input = check.stdin.take().expect("it is piped");
    input.write_all(page(false).as_bytes()).expect("promtool reads");
    drop(input);
    let output = check.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
