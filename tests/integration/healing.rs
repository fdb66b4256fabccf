//! A backend that stays broken is replaced: drained, stopped, and another in its place.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Connection, Events, Proxy, lives, started_by, wait_for, wait_until};

fn ids(service: &Value, is: impl Fn(&Value) -> bool) -> Vec<String> {
    let backends = service["backends"].as_array().expect("a list");
    let wanted = backends.iter().filter(|backend| is(backend));
    wanted.map(|backend| backend["id"].as_str().expect("an id").to_owned()).collect()
}

fn well(backend: &Value) -> bool {
    backend["state"] == "ready" && backend["healthy"] == true
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
    // The one that is told to run on, but does not.
    let victim = started_by(proxy.process.pid())
        .into_iter()
        .find(|pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&command).contains("origin")
        })
        .expect("a backend");
    kill(Pid::from_raw(victim), Signal::SIGSTOP).expect("it is ours");
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
