//! The open-loop load, against origins that behave and such that do not.

use std::time::Duration;

use tidegate::load::{Cause, Plan, Protocol, Report, Spacing, Stop, run};

use crate::support::{Backend, Origin, RawOrigin, Step, refusing_address};

/// 100 requests in half a second.
fn plan(backend: &impl Backend, path: &str) -> Plan {
    let url = format!("http://{}{path}", backend.address()).parse().unwrap();
    Plan {
        spacing: Spacing::Uniform,
        timeout: Duration::from_secs(50),
        ..Plan::new(url, 200.0, Duration::from_millis(502))
    }
}

fn load(plan: &Plan) -> Report {
    let report = run(plan, &Stop::default(), |_, _| {}).unwrap();
    let failed_without_answer =
        report.failed - report.failures.get(&Cause::Status5xx).copied().unwrap_or(0);
    let not_connected: u64 = report.not_connected.values().sum();
    assert_eq!(report.planned, report.sent + report.not_sent);
    assert_eq!(
        report.sent,
        report.completed + failed_without_answer + not_connected + report.unfinished,
        "every request is in one place: {report:?}"
    );
    assert_eq!(report.planned, report.timeline.iter().map(|s| s.sent + s.not_sent).sum::<u64>());
    report
}

#[test]
fn counts_answers_by_backend_over_both_protocols() {
    let origin = Origin::new().id("one").delay("10ms").start();
    for protocol in [Protocol::Http1, Protocol::Http2] {
        let report = load(&Plan { protocol, connections: 2, ..plan(&origin, "/") });
        assert_eq!((report.planned, report.completed, report.failed), (100, 100, 0));
        assert_eq!((report.backends["one"].answers, report.status[&200]), (100, 100));
        // Three significant digits; an answer cannot come before its delay.
        assert!(report.latency_ms.p50 >= 9.9, "{:?}", report.latency_ms);
        if protocol == Protocol::Http2 {
            assert_eq!(report.connections, 2);
        }
    }
}

/// One slot of 20 ms serves 50 a second; 200 a second for half a second leave the last one
/// waiting for about 1.5 s. A closed loop would report 20 ms.
#[test]
fn latency_contains_the_wait_of_an_overloaded_server() {
    let origin = Origin::new().slots(1).delay("20ms").start();
    let report = load(&plan(&origin, "/"));
    assert_eq!(report.completed, 100);
    assert!(report.latency_ms.max >= 1400.0, "{:?}", report.latency_ms);
}

#[test]
fn what_could_not_be_sent_is_reported() {
    let origin = Origin::new().start();
    let stuck = Plan {
        max_in_flight: 3,
        timeout: Duration::from_millis(600),
        ..plan(&origin, "/?delay=1h")
    };
    let report = load(&stuck);
    assert!(report.not_sent > 0 && report.completed == 0, "{report:?}");
    assert_eq!(report.failures[&Cause::Timeout], report.sent);
    assert!(report.rate_sent < report.rate_planned);
}

#[test]
fn the_log_has_a_line_for_every_request() {
    let origin = Origin::new().id("one").start();
    let file = tempfile::NamedTempFile::new().unwrap();
    let log = Some(file.path().to_owned());
    let report =
        load(&Plan { max_in_flight: 1, log: log.clone(), ..plan(&origin, "/?delay=40ms") });
    let text = std::fs::read_to_string(file.path()).unwrap();
    let count = |what: &str| text.lines().filter(|line| line.contains(what)).count() as u64;
    assert_eq!(text.lines().count() as u64, report.planned + 1, "and a head");
    assert!(report.completed > 0 && report.not_sent > 0, "{report:?}");
    assert_eq!((count(",200,one"), count(",not_sent,")), (report.completed, report.not_sent));
    let nowhere = Some("/nowhere/log".into());
    let error = run(&Plan { log: nowhere, ..plan(&origin, "/") }, &Stop::default(), |_, _| {});
    assert!(error.unwrap_err().to_string().starts_with("/nowhere/log: "));
}

#[test]
fn refused_connections_are_not_failed_requests() {
    let report = load(&plan(&refusing_address(), "/"));
    assert_eq!((report.failed, report.not_connected[&Cause::Refused]), (0, 100));
}

#[test]
fn a_5xx_fails_only_if_no_backend_gave_it() {
    let origin = Origin::new().start();
    let report = load(&plan(&origin, "/?status=503"));
    assert_eq!((report.failed, report.backend_errors, report.status[&503]), (0, 100, 100));
    let proxy = RawOrigin::always("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let report = load(&plan(&proxy, "/"));
    assert_eq!((report.failed, report.failures[&Cause::Status5xx]), (100, 100));
}

#[test]
fn failures_have_their_causes() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc".to_vec();
    for (cause, steps) in [
        (Cause::Incomplete, vec![Step::ReadHead, Step::Send(head)]),
        (Cause::Closed, vec![Step::ReadHead]),
        (Cause::Reset, vec![Step::ReadHead, Step::Reset]),
    ] {
        let origin = RawOrigin::script(move |_| steps.clone());
        let report = load(&plan(&origin, "/"));
        assert_eq!(report.failures.get(&cause), Some(&100), "{cause:?}: {:?}", report.failures);
    }
}

#[test]
fn a_stopped_load_says_what_was_under_way() {
    let origin = Origin::new().start();
    let stop = Stop::default();
    let plan = Plan { duration: Duration::from_secs(3600), ..plan(&origin, "/?delay=1h") };
    let report = run(&plan, &stop, |second, _| {
        if second.second == 0 {
            stop.stop();
        }
    });
    let report = report.unwrap();
    assert!(report.sent > 0 && report.unfinished == report.sent, "{report:?}");
}
