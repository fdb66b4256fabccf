//! Point 3: a backend of the quickstart is killed under load.

use std::time::{Duration, Instant};

use nix::sys::signal::{SIGKILL, kill};
use nix::unistd::Pid;
use tidegate::load::{Cause, Protocol};

use super::support::{Load, each, gets, quickstart, wait_until};
use super::{Extent, Table, completed};

pub fn run(extent: Extent, table: &mut Table) {
    let proxy = quickstart().run();
    let before = proxy.wait_for_size(2);
    let url = proxy.url("/");
    let loads = [Protocol::Http1, Protocol::Http2].map(|p| Load::start(gets(&url, 40.0, p)));
    std::thread::sleep(extent.calm);
    let victim = each(&before[..1], "id");
    kill(Pid::from_raw(proxy.pid_of(&before[0])), SIGKILL).expect("it runs");
    let killed = Instant::now();
    wait_until("another is ready in its place", || {
        let ready = each(&proxy.ready(), "id");
        ready.len() == 2 && !ready.contains(&victim[0])
    });
    table.time(3, "another is ready in the place of a killed one after", killed.elapsed(), None);
    wait_until("there is a record", || !proxy.records("replace").is_empty());
    table.time(3, "a record says so after", killed.elapsed(), Some(Duration::from_secs(5)));
    std::thread::sleep(extent.calm);
    let reports = loads.map(Load::finish);
    let begun = |report: &tidegate::load::Report| {
        report.failures.get(&Cause::Incomplete).copied().unwrap_or(0)
    };
    let cut: u64 = reports.iter().map(begun).sum();
    let what = format!("failed of {} GETs whose answer had not begun", completed(&reports));
    table.count(3, &what, super::failed(&reports) - cut, Some(0));
    table.count(3, "answers that had begun and were cut", cut, None);
}
