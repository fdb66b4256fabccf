//! Point 2: three times what two backends of the quickstart serve, half of it over HTTP/2.

use std::time::{Duration, Instant};

use tidegate::load::{Plan, Protocol, Rate, Report};

use super::support::{Load, Running, gets, quickstart, wait_until};
use super::{Extent, Table, completed, failed};

/// Two backends with 4 slots of 40 ms serve 200 a second; three times that needs six.
const RATE: f64 = 600.0;
const NEEDED: usize = 6;
/// A load that two backends hardly notice.
const CALM: f64 = 20.0;
/// The longest p99, and the longest it may be longer.
const P99: f64 = 250.0;
const GROWN: Duration = Duration::from_secs(15);
/// Panic mode of the policy (60 s after the last burst), then the stabilization window.
const SHRUNK: Duration = Duration::from_secs(180);

pub fn run(extent: Extent, table: &mut Table) {
    let proxy = quickstart().run();
    proxy.wait_for_size(2);
    let busy = extent.busy;
    let load = |protocol| {
        let rate = move |at| if at < busy { RATE / 2.0 } else { CALM / 2.0 };
        let plan = gets(&proxy.url("/"), 0.0, protocol);
        Load::start(Plan { rate: Rate::varying(rate), connections: 8, ..plan })
    };
    let start = Instant::now();
    let loads = [Protocol::Http1, Protocol::Http2].map(load);
    let grown = grows(&proxy, start, busy);
    std::thread::sleep(busy.saturating_sub(start.elapsed()));
    let end = Instant::now();
    let shrunk = extent.shrink.then(|| shrinks(&proxy, end));
    let reports = loads.map(Load::finish);

    match grown {
        Some(time) => table.time(2, "six backends ready after", time, Some(GROWN)),
        None => {
            table.row(2, "six backends ready after", "never".into(), "≤ 15 s".into(), Some(false))
        }
    }
    let seconds = worst(&reports, busy);
    let returned = seconds.iter().rposition(|p99| *p99 >= P99).map_or(0, |last| last + 1);
    let time = Duration::from_secs(returned as u64);
    if returned < seconds.len() {
        table.time(2, "p99 of a second stays under 250 ms from", time, None);
    }
    let most = seconds.iter().copied().fold(0.0, f64::max);
    table.row(2, "largest p99 of a second on the way", ms(most), "–".into(), None);
    let last = seconds.iter().rev().take(10).copied().fold(0.0, f64::max);
    table.row(2, "largest p99 of the last 10 s", ms(last), "< 250 ms".into(), Some(last < P99));
    if let Some(shrunk) = shrunk {
        match shrunk {
            Some(time) => table.time(2, "two backends again after", time, Some(SHRUNK)),
            None => {
                table.row(2, "two backends again after", "never".into(), "yes".into(), Some(false))
            }
        }
    }
    let what = format!("failed of {} requests, h1 and h2", completed(&reports));
    table.count(2, &what, failed(&reports), Some(0));
    let late = reports.iter().map(|report| report.late_ms.p99).fold(0.0, f64::max);
    table.row(2, "p99 of what the load generator itself was late", ms(late), "–".into(), None);
}

/// When there were as many ready as needed.
fn grows(proxy: &Running, start: Instant, limit: Duration) -> Option<Duration> {
    while start.elapsed() < limit {
        if proxy.ready().len() >= NEEDED {
            return Some(start.elapsed());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    None
}

fn shrinks(proxy: &Running, end: Instant) -> Option<Duration> {
    while end.elapsed() < SHRUNK {
        let all = proxy.service("app")["backends"].as_array().map_or(0, Vec::len);
        if all == 2 {
            wait_until("both are ready", || proxy.ready().len() == 2);
            return Some(end.elapsed());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

/// The larger p99 of both loads, for each second of the busy time.
fn worst(reports: &[Report], busy: Duration) -> Vec<f64> {
    let of = |at: usize| {
        let p99 = |report: &Report| report.timeline.get(at).map_or(0.0, |second| second.p99_ms);
        reports.iter().map(p99).fold(0.0, f64::max)
    };
    (0..busy.as_secs() as usize).map(of).collect()
}

fn ms(value: f64) -> String {
    format!("{value:.0} ms")
}
