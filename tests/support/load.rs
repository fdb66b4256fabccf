//! A load that runs beside a test, until the test has seen enough.

use std::thread::JoinHandle;
use std::time::Duration;

use tidegate::load::{Plan, Protocol, Report, Spacing, Stop, Trust, run};

use super::DEADLINE;

/// A running load.
pub struct Load {
    stop: Stop,
    thread: JoinHandle<Report>,
}

/// GETs, evenly spaced, on as many connections as they need (two for HTTP/2), over TLS to any
/// certificate, with a minute for each, and an hour long: the test ends it.
pub fn gets(url: &str, rate: f64, protocol: Protocol) -> Plan {
    Plan {
        protocol,
        spacing: Spacing::Uniform,
        trust: Trust::Anyone,
        timeout: DEADLINE,
        connections: 2,
        ..Plan::new(url.parse().expect("a good URL"), rate, Duration::from_secs(3600))
    }
}

impl Load {
    pub fn start(plan: Plan) -> Self {
        let stop = Stop::default();
        let ours = stop.clone();
        let thread = std::thread::spawn(move || {
            run(&plan, &ours, |_, _| {}).expect("the plan can be carried out")
        });
        Self { stop, thread }
    }

    /// No more requests; waits until each has its end.
    #[track_caller]
    pub fn finish(self) -> Report {
        self.stop.enough();
        self.thread.join().expect("the load does not panic")
    }

    /// The same, and fails unless there were answers and every request had a complete one.
    #[track_caller]
    pub fn finish_unharmed(self) -> Report {
        let report = self.finish();
        assert!(report.completed > 0, "no answer at all: {report:?}");
        assert_eq!((report.failed, report.unfinished), (0, 0), "{report:?}");
        report
    }
}
