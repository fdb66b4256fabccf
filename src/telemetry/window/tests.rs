//! Windows on recorders that are written by hand, with time passed in.

use super::*;
use crate::clock::Clock;
use crate::telemetry::InFlight;

const SECOND: Micros = 1_000_000;

fn clock() -> Clock {
    Clock::manual(std::time::SystemTime::UNIX_EPOCH)
}

#[test]
fn mean_in_flight_is_exact_whenever_one_looks() {
    let clock = clock();
    let stats: Arc<PerWorker<ServiceStats>> = Arc::new(PerWorker::new(2));
    let name: Arc<str> = "app".into();
    let mut windows = Windows::default();
    windows.tick(clock.now()).service(&name, &stats, SERVICE_SPAN);
    assert!(windows.service("app", SERVICE_SPAN).is_none());

    // One request for 1.5 s on each worker, half a second apart: 3 request-seconds in 2 s.
    let first = InFlight::enter(&stats, 0, &clock, clock.now());
    clock.advance(Duration::from_millis(500));
    let second = InFlight::enter(&stats, 1, &clock, clock.now());
    clock.advance(Duration::from_millis(500));
    windows.tick(clock.now()).service(&name, &stats, SERVICE_SPAN);
    let reading = windows.service("app", SERVICE_SPAN).expect("two ticks");
    assert_eq!((reading.in_flight, reading.in_flight_now, reading.rps), (1.5, 2, 2.0));

    clock.advance(Duration::from_millis(500));
    first.stats().finished(200, 1_500_000);
    drop(first);
    clock.advance(Duration::from_millis(500));
    second.stats().finished(503, 1_500_000);
    drop(second);
    windows.tick(clock.now()).service(&name, &stats, SERVICE_SPAN);
    let reading = windows.service("app", SERVICE_SPAN).expect("three ticks");
    assert_eq!((reading.in_flight, reading.in_flight_now, reading.rps), (1.5, 0, 1.0));
    assert_eq!(reading.error_ratio(), Some(0.5));
    assert_eq!(reading.duration.count(), 2);
    let last = windows.service("app", Duration::from_secs(1)).expect("three ticks");
    assert_eq!((last.span, last.rps), (Duration::from_secs(1), 0.0));
}

#[test]
fn who_was_given_up_finished_and_is_told_apart() {
    let stats: Arc<PerWorker<ServiceStats>> = Arc::new(PerWorker::new(1));
    let name: Arc<str> = "app".into();
    let mut windows = Windows::default();
    windows.tick(0).service(&name, &stats, SERVICE_SPAN);
    stats.of(0).finished(200, 10_000);
    stats.of(0).finished(499, 1_000_000);
    stats.of(0).abandoned.inc();
    for second in 1..=2 {
        windows.tick(second * SECOND).service(&name, &stats, SERVICE_SPAN);
    }
    let reading = windows.service("app", SERVICE_SPAN).expect("two ticks");
    assert_eq!((reading.finished, reading.abandoned, reading.failed), (2, 1, 0));
    assert_eq!((reading.client_errors, reading.ratio_of(reading.client_errors)), (1, Some(0.5)));
    let last = windows.service("app", Duration::from_secs(1)).expect("two ticks");
    assert_eq!(last.abandoned, 0);
}

#[test]
fn quantiles_forget_what_left_the_window() {
    let stats: Arc<PerWorker<ServiceStats>> = Arc::new(PerWorker::new(1));
    let name: Arc<str> = "app".into();
    let mut windows = Windows::default();
    windows.tick(0).service(&name, &stats, SERVICE_SPAN);
    stats.of(0).finished(200, 2_000_000);
    windows.tick(SECOND).service(&name, &stats, SERVICE_SPAN);
    for second in 2..400 {
        stats.of(0).finished(200, 10_000);
        windows.tick(second * SECOND).service(&name, &stats, SERVICE_SPAN);
    }
    let all = windows.service("app", SERVICE_SPAN * 10).expect("ticked");
    assert_eq!(all.span, SERVICE_SPAN);
    assert_eq!(all.duration.count(), 300);
    let p100 = all.duration.quantile(1.0).expect("requests");
    assert!((9_000.0..12_000.0).contains(&p100), "{p100}");
}

#[test]
fn a_service_that_came_back_starts_anew() {
    let name: Arc<str> = "app".into();
    let mut windows = Windows::default();
    let old: Arc<PerWorker<ServiceStats>> = Arc::new(PerWorker::new(1));
    old.of(0).finished(200, 1);
    windows.tick(0).service(&name, &old, SERVICE_SPAN);
    windows.tick(SECOND).service(&name, &old, SERVICE_SPAN);
    let new: Arc<PerWorker<ServiceStats>> = Arc::new(PerWorker::new(1));
    windows.tick(2 * SECOND).service(&name, &new, SERVICE_SPAN);
    assert!(windows.service("app", SERVICE_SPAN).is_none());
    windows.tick(3 * SECOND).service(&name, &new, SERVICE_SPAN);
    let reading = windows.service("app", SERVICE_SPAN).expect("two ticks");
    assert_eq!((reading.finished, reading.duration.count()), (0, 0));
}

#[test]
fn what_is_not_ticked_is_forgotten() {
    let stats: PerWorker<BackendStats> = PerWorker::new(1);
    let route: Arc<PerWorker<RouteStats>> = Arc::new(PerWorker::new(1));
    let mut windows = Windows::default();
    for second in 0..2 {
        stats.of(0).requests.inc();
        stats.of(0).ttfb.record(1000);
        stats.of(0).duration.record(2000);
        route.of(0).record(&http::Method::GET, 200, 2000);
        let mut tick = windows.tick(second * SECOND);
        tick.backend(7, &stats);
        tick.route(&route);
    }
    let reading = windows.backend(7, BACKEND_SPAN).expect("two ticks");
    assert_eq!((reading.rps, reading.ttfb.count()), (1.0, 1));
    assert_eq!(windows.backend_total(7).map(Merged::count), Some(2));
    assert_eq!(windows.route_total(&route).map(Merged::count), Some(2));
    drop(windows.tick(2 * SECOND));
    assert!(windows.backend(7, BACKEND_SPAN).is_none());
    assert!(windows.backend_total(7).is_none());
    assert!(windows.route_total(&route).is_none());
    assert_eq!(Arc::strong_count(&route), 1);
}

#[test]
fn what_is_idle_keeps_nothing_but_its_last_counts() {
    let stats: Arc<PerWorker<ServiceStats>> = Arc::new(PerWorker::new(1));
    let backend: PerWorker<BackendStats> = PerWorker::new(1);
    let name: Arc<str> = "app".into();
    let mut windows = Windows::default();
    let run = |windows: &mut Windows, seconds: std::ops::Range<u64>| {
        for second in seconds {
            let mut tick = windows.tick(second * SECOND);
            tick.service(&name, &stats, SERVICE_SPAN);
            tick.backend(7, &backend);
        }
    };
    run(&mut windows, 0..200);
    assert_eq!(windows.kept(), (1, 0));
    assert!(windows.backend_total(7).is_none());
    let quiet = windows.service("app", Duration::from_secs(10)).expect("ticked");
    assert_eq!((quiet.span, quiet.rps), (Duration::from_secs(10), 0.0));

    // One request, and what it left is gone when its window is over.
    stats.of(0).finished(200, 10);
    backend.of(0).requests.inc();
    backend.of(0).ttfb.record(10);
    run(&mut windows, 200..205);
    assert_eq!(windows.kept(), (3, 1));
    let reading = windows.service("app", Duration::from_secs(60)).expect("ticked");
    assert_eq!((reading.span, reading.finished), (Duration::from_secs(60), 1));
    run(&mut windows, 205..600);
    assert_eq!(windows.kept(), (1, 0));
}

#[test]
fn a_service_keeps_no_longer_windows_than_are_asked_for() {
    let stats: Arc<PerWorker<ServiceStats>> = Arc::new(PerWorker::new(1));
    let name: Arc<str> = "app".into();
    let mut windows = Windows::default();
    for second in 0..100 {
        stats.of(0).finished(200, 10);
        windows.tick(second * SECOND).service(&name, &stats, Duration::from_secs(15));
    }
    assert_eq!(windows.kept(), (15, 0));
    let reading = windows.service("app", SERVICE_SPAN).expect("ticked");
    assert_eq!(reading.span, Duration::from_secs(15));
}
