//! A backend that stays broken is replaced: drained, stopped, and another in its place.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{
    Connection, Events, Proxy, Running, each, lives, port_range, started_by, wait_for, wait_until,
};

fn ids(service: &Value, is: impl Fn(&Value) -> bool) -> Vec<String> {
    let backends = service["backends"].as_array().expect("a list");
    let wanted = backends.iter().filter(|backend| is(backend));
    wanted.map(|backend| backend["id"].as_str().expect("an id").to_owned()).collect()
}

fn well(backend: &Value) -> bool {
    backend["state"] == "ready" && backend["healthy"] == true
}

/// One that is told to run on, but does not; its process.
fn stop_one(proxy: &Running) -> i32 {
    let victim = started_by(proxy.process.pid())
        .into_iter()
        .find(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("origin")
        })
        .expect("a backend");
    kill(Pid::from_raw(victim), Signal::SIGSTOP).expect("it is ours");
    victim
}

#[test]
fn a_backend_that_answers_no_checks_is_replaced_and_nobody_notices() {
    let proxy = Proxy::new()
        .origins("--slots 100", "start_timeout = \"5s\"\nstop_grace = \"1s\"")
        .toml("[service.app.outlier]\nconsecutive_failures = 1000\n")
        .scaling(2, 4, "[service.app.scaling.concurrency]\ntarget = 10")
        .run();
    let before = wait_for("two are ready", || {
        let ready = ids(&proxy.service("app"), well);
        (ready.len() == 2).then_some(ready)
    });
    let events = Events::of(&proxy);
    let mut client = Connection::open(proxy.address("http"));
    let victim = stop_one(&proxy);
    wait_until("it is seen to be broken", || ids(&proxy.service("app"), well).len() == 1);
    // From now on nobody is sent there.
    let healing = wait_for("it is replaced", || {
        assert_eq!(client.get("/").status, 200);
        events.named("healing").into_iter().next()
    });
    let gone = healing["backend"].as_str().expect("an id").to_owned();
    assert!(before.contains(&gone), "{healing}");
    let reason = healing["reason"].as_str().expect("why");
    assert!(reason.contains("is replaced, last: "), "{reason}");
    let drained = events.wait("drain", |event| event["step"] == "idle" && event["by"] == "healing");
    assert_eq!(drained["backend"], gone.as_str());
    wait_until("it is stopped", || !lives(victim));
    let after = wait_for("two are ready again", || {
        assert_eq!(client.get("/").status, 200);
        let ready = ids(&proxy.service("app"), |_| true);
        (ready.len() == 2 && !ready.contains(&gone)).then_some(ready)
    });
    let kept: Vec<_> = after.iter().filter(|id| before.contains(id)).collect();
    assert_eq!(kept.len(), 1, "the other one stays: {before:?} {after:?}");
    assert_eq!(events.named("healing").len(), 1, "and is left alone");
}

/// Nobody checks it, but live traffic fails on it: it stays ejected, however often it is tried.
#[test]
fn a_backend_that_stays_ejected_is_replaced() {
    let proxy = Proxy::new()
        .service("balance = \"round_robin\"\nslow_start = \"0s\"")
        .toml(&format!(
            "[service.app.health]\nkind = \"none\"\n\
             [service.app.transport]\nresponse_timeout = \"2s\"\n\
             [service.app.outlier]\nconsecutive_failures = 2\nejection_time = \"1s\"\n\
             [service.app.orchestrator]\nkind = \"process\"\n\
             command = [\"{{self}}\", \"origin\", \"--port\", \"{{port}}\"]\n\
             port_range = \"{}\"\nstart_timeout = \"5s\"\nstop_grace = \"1s\"\n",
            port_range()
        ))
        .scaling(2, 2, "")
        .run();
    let before = each(&proxy.wait_for_size(2), "id");
    let events = Events::of(&proxy);
    let victim = stop_one(&proxy);
    let mut client = Connection::open(proxy.address("http"));
    let healing = wait_for("it is replaced", || {
        // 504 where it is tried, else 200.
        client.get("/");
        events.named("healing").into_iter().next()
    });
    let gone = healing["backend"].as_str().expect("an id").to_owned();
    assert!(before.contains(&gone), "{healing}");
    assert!(events.named("backend_ejected").iter().any(|e| e["backend"] == *gone), "{healing}");
    wait_until("it is stopped", || !lives(victim));
    let after = each(&proxy.wait_for_size(2), "id");
    assert!(!after.contains(&gone), "another is in its place: {after:?}");
    wait_until("all is well", || (0..4).all(|_| client.get("/").status == 200));
}
