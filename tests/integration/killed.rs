//! A backend that dies under load: nobody who can be helped notices.

use nix::sys::signal::{SIGKILL, kill};
use nix::unistd::Pid;
use tidegate::load::{Cause, Protocol};

use crate::support::{Events, Load, Proxy, each, gets, wait_for, wait_until};

#[test]
fn requests_without_an_answer_go_elsewhere_and_it_is_replaced() {
    let proxy = Proxy::new().origins("--delay 50ms", "").scaling(3, 3, "").run();
    let before = proxy.wait_for_size(3);
    let events = Events::of(&proxy);
    let url = proxy.url("/");
    let loads = [Protocol::Http1, Protocol::Http2].map(|p| Load::start(gets(&url, 40.0, p)));
    let victim = &before[1];
    let busy = [("backend", victim["id"].as_str().unwrap())];
    wait_until("it has something to do", || {
        proxy.metric("tidegate_backend_in_flight", &busy) > 0.0
    });
    kill(Pid::from_raw(proxy.pid_of(victim)), SIGKILL).unwrap();

    let crash = events.wait("crash", |crash| crash["backend"] == victim["id"]);
    assert!(crash["cause"].as_str().unwrap().contains("SIGKILL"), "{crash}");
    let after = wait_for("another in its place", || {
        let ready = proxy.ready();
        (ready.len() == 3 && !each(&ready, "id").contains(&busy[0].1.to_owned())).then_some(ready)
    });
    let new: Vec<_> = after
        .iter()
        .filter(|b| !each(&before, "id").contains(&b["id"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(new.len(), 1, "the others are the same: {before:?} {after:?}");
    let id = new[0]["id"].as_str().unwrap();
    wait_until("the new one serves", || {
        proxy.metric("tidegate_backend_duration_seconds_count", &[("backend", id)]) > 0.0
    });
    for load in loads {
        let mut report = load.finish();
        // Only an answer that had begun could be lost.
        report.failures.remove(&Cause::Incomplete);
        assert!(report.failures.is_empty() && report.unfinished == 0, "{report:?}");
        assert!(report.not_connected.is_empty() && report.completed > 0, "{report:?}");
    }

    let record = wait_for("a record of it", || proxy.records("replace").into_iter().next());
    assert_eq!((&record["action"]["lost"], &record["action"]["size"]), (&1.into(), &3.into()));
    let told = events.wait("replaced", |_| true);
    assert_eq!((&told["lost"], &told["decision"]), (&1.into(), &record["seq"]));
    let explained = proxy.command(&["explain", "app"]).text();
    assert!(explained.contains("went away"), "{explained}");
    // A backend that is gone takes its series with it.
    wait_until("its metrics are gone", || {
        !crate::support::get(&proxy.admin_url("/metrics")).text().contains(busy[0].1)
    });
}
