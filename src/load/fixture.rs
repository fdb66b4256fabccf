//! Reports for tests, made as real ones are.

use std::time::{Duration, Instant};

use http::StatusCode;

use super::outcome::{Done, Outcome};
use super::record::Recorder;
use super::report::Totals;
use super::{Look, Report};

/// Of so many seconds, with good answers after `latency_ms` and answers with 500, spread evenly.
pub(super) fn report(seconds: u64, good: u64, bad: u64, latency_ms: u64) -> Report {
    let mut recorder = Recorder::new(Duration::from_secs(1));
    let all = good + bad;
    for i in 0..all {
        let due = Duration::from_secs_f64((seconds * i) as f64 / all as f64);
        let status = if i < good { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        recorder.due(due, true);
        recorder.done(Done {
            due,
            latency: Duration::from_millis(latency_ms),
            late: Duration::ZERO,
            outcome: Outcome::Answer { status, backend: None, bytes: 1, own_error: false },
        });
    }
    let totals = Totals {
        start: Instant::now(),
        url: "http://127.0.0.1:8080/?a=1&b=<2>".into(),
        seconds: seconds as f64,
        unfinished: 0,
        resent: 0,
        connections: 1,
    };
    Report::new(&recorder, totals)
}

pub(super) fn look(at_s: f64, ready: u32, desired: u32) -> Look {
    Look { at_s, ready, total: ready.max(desired), desired, max: Some(8) }
}
