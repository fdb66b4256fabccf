//! Point 4: reloads under load, with other members and other weights each time.

use std::time::{Duration, Instant};

use tidegate::load::Protocol;

use super::support::{Load, Origin, Proxy, gets, wait_until};
use super::{Extent, Table, completed, failed};

pub fn run(extent: Extent, table: &mut Table) {
    let origins = ["a", "b", "c", "d"].map(|id| Origin::new().id(id).delay("10ms").start());
    // Two to four of them, each with another weight every time.
    let configuration = |n: usize| {
        origins.iter().enumerate().filter(|(i, _)| i % 2 == 0 || (n >> (i / 2)) & 1 == 1).fold(
            Proxy::new().service("balance = \"round_robin\"\nslow_start = \"0s\""),
            |proxy, (i, origin)| {
                proxy.backend_with(origin, &format!("weight = {}", 1 + (n + i) % 5))
            },
        )
    };
    let mut proxy = configuration(0).run();
    let url = proxy.url("/");
    let loads = [Protocol::Http1, Protocol::Http2].map(|p| Load::start(gets(&url, 100.0, p)));
    let mut counted = 0.0;
    let (mut longest, mut went_back, mut refused) = (Duration::ZERO, 0, 0);
    for n in 1..=extent.reloads {
        let start = Instant::now();
        let answer = proxy.reload(|_| configuration(n));
        longest = longest.max(start.elapsed());
        refused += u64::from(answer.status != 200);
        let total = proxy.metric("tidegate_requests_total", &[("service", "app")]);
        went_back += u64::from(total < counted);
        counted = total;
        // Some traffic under each configuration.
        wait_until("requests go on", || {
            proxy.metric("tidegate_requests_total", &[("service", "app")]) >= counted + 10.0
        });
    }
    let reports = loads.map(Load::finish);
    table.count(4, &format!("of {} reloads refused", extent.reloads), refused, Some(0));
    let what = format!("failed of {} requests over them, h1 and h2", completed(&reports));
    table.count(4, &what, failed(&reports), Some(0));
    table.count(4, "times that a counter went back", went_back, Some(0));
    table.time(4, "longest reload", longest, None);
    let p99 = reports.iter().map(|report| report.latency_ms.p99).fold(0.0, f64::max);
    table.row(4, "p99 meanwhile (a backend takes 10 ms)", format!("{p99:.0} ms"), "–".into(), None);
}
