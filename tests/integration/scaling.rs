//! The pool follows the load, loses nothing on the way, and says why.

use tidegate::load::Protocol;

use crate::support::{Events, Load, Origin, Proxy, each, gets, wait_for, wait_until};

/// One origin here serves 2 requests of 100 ms at once: 20 a second.
const ORIGIN: &str = "--delay 100ms --slots 2";

/// 1.4 requests in flight each; as soon as there is less to do, fewer.
const FOLLOWS: &str = "[service.app.scaling.target.load]\nmetric = \"in_flight\"\nvalue = 1.4\n\
     [service.app.scaling.up]\nlimits = [{ backends = 4, per = \"2s\" }]\n\
     [service.app.scaling.down]\nstabilization = \"3s\"\ncooldown = \"1s\"";

#[test]
fn grows_with_the_load_and_shrinks_after_it_without_a_failed_request() {
    let proxy = Proxy::new().origins(ORIGIN, "").scaling(2, 10, FOLLOWS).run();
    proxy.wait_for_size(2);
    // Together three times what two backends serve, which is the most that six do.
    let url = proxy.url("/");
    let loads = [Protocol::Http1, Protocol::Http2].map(|p| Load::start(gets(&url, 60.0, p)));
    wait_until("there are enough", || proxy.ready().len() >= 6);
    wait_until("requests do not pile up", || {
        proxy.metric("tidegate_in_flight", &[("service", "app")]) <= 20.0
    });
    for load in loads {
        load.finish_unharmed();
    }
    proxy.wait_for_size(2);

    let changes = proxy.records("scale");
    let mut size = 2;
    let mut largest = size;
    for record in &changes {
        // Each change of size has its record: they follow each other without a gap.
        assert_eq!(record["action"]["from"], size, "{changes:#?}");
        size = record["action"]["to"].as_u64().expect("a number");
        largest = largest.max(size);
    }
    assert!(size == 2 && largest >= 6, "{changes:#?}");
    assert_eq!(proxy.metric("tidegate_requests_total", &[("code", "503")]), 0.0);

    for (direction, grew) in [("up", true), ("down", false)] {
        let of = |r: &&serde_json::Value| {
            (r["action"]["to"].as_u64() > r["action"]["from"].as_u64()) == grew
        };
        let counted = proxy.metric("tidegate_scale_events_total", &[("direction", direction)]);
        assert_eq!(counted, changes.iter().filter(of).count() as f64, "{direction}: {changes:#?}");
    }
    let starts = proxy.metric("tidegate_backend_start_seconds_count", &[("service", "app")]);
    assert!(starts >= largest as f64, "{starts} starts");

    let last = changes.last().expect("there were some");
    let explained = proxy.command(&["explain", "app", "--at", last["time"].as_str().unwrap()]);
    let formula = last["proposals"][0]["formula"].as_str().unwrap();
    assert!(explained.text().contains(formula), "{formula} in\n{}", explained.text());
}

#[test]
fn each_mode_does_what_it_may() {
    let origins = |mode: &str| {
        Proxy::new().origins(ORIGIN, "").scaling(2, 4, &format!("mode = \"{mode}\"\n{FOLLOWS}"))
    };
    let up_only = origins("up_only").run();
    let dry_run = origins("dry_run").run();
    let off = origins("off").run();
    let all = [&up_only, &dry_run, &off];
    for proxy in all {
        proxy.wait_for_size(2);
    }
    let loads = all.map(|proxy| Load::start(gets(&proxy.url("/"), 60.0, Protocol::Http1)));
    up_only.wait_for_size(4);
    let would = wait_for("a dry run", || {
        dry_run.records("dry_run").into_iter().find(|r| r["action"]["to"] == 4)
    });
    assert_eq!(would["action"]["from"], 2);
    for load in loads {
        load.finish_unharmed();
    }
    // Less is wanted now, and refused.
    wait_until("up_only refuses to shrink", || {
        up_only.records("refuse").iter().any(|record| record["action"]["reason"] == "up_only")
    });
    assert_eq!(up_only.ready().len(), 4);
    for proxy in [&dry_run, &off] {
        proxy.wait_for_size(2);
        assert!(proxy.records("scale").is_empty());
    }
}

/// A new backend that cannot start leaves the old ones alone, and is not tried in a hurry.
#[test]
fn a_command_that_crashes_is_backed_off_while_others_serve() {
    let directory = tempfile::tempdir().unwrap();
    let broken = directory.path().join("broken");
    let script = format!(
        "test -e {} && exit 7; exec {} origin --port {{port}}",
        broken.display(),
        env!("CARGO_BIN_EXE_tidegate")
    );
    let proxy = Proxy::new()
        .processes(&format!("[\"/bin/sh\", \"-c\", \"{script}\"]"), "")
        .scaling(2, 4, "")
        .run();
    let old = each(&proxy.wait_for_size(2), "id");
    let events = Events::of(&proxy);
    std::fs::write(&broken, "").unwrap();
    let load = Load::start(gets(&proxy.url("/"), 50.0, Protocol::Http1));
    assert_eq!(proxy.command(&["scale", "app", "4"]).code, Some(0));
    events.wait("crash", |crash| crash["cause"].as_str().is_some_and(|why| why.contains('7')));
    events.wait("scale_blocked", |blocked| {
        blocked["reason"].as_str().is_some_and(|why| why.contains("crash loop"))
    });
    assert_eq!(each(&proxy.ready(), "id"), old, "the old ones serve");
    std::fs::remove_file(&broken).unwrap();
    proxy.wait_for_size(4);
    let report = load.finish_unharmed();
    assert!(report.not_connected.is_empty(), "{report:?}");
}

#[test]
fn a_drained_backend_finishes_and_gets_nothing_new() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    // Each worker goes round by itself.
    let proxy = Proxy::new()
        .runtime("workers = 1")
        .backend(&a)
        .backend(&b)
        .service("balance = \"round_robin\"")
        .run();
    let events = Events::of(&proxy);
    let proxied = &proxy;
    std::thread::scope(|scope| {
        // One request runs on each.
        let slow: Vec<_> = (0..2)
            .map(|_| scope.spawn(|| crate::support::get(&proxied.url("/?delay=5s"))))
            .collect();
        wait_until("each has one", || a.stat("working") == 1 && b.stat("working") == 1);
        let drained = proxy.command(&["drain", "app", "a"]);
        assert_eq!(drained.code, Some(0), "{}", drained.stderr);
        events.wait("drain", |drain| {
            drain["step"] == "begun" && drain["backend"] == "a" && drain["in_flight"] == 1
        });
        let before = a.stat("requests");
        for _ in 0..10 {
            let answer = crate::support::get(&proxy.url("/"));
            assert_eq!((answer.status, answer.header("x-origin-id")), (200, Some("b")));
        }
        assert_eq!(a.stat("requests"), before);
        let mut answered: Vec<_> = slow
            .into_iter()
            .map(|slow| slow.join().unwrap())
            .map(|answer| (answer.status, answer.header("x-origin-id").unwrap_or("").to_owned()))
            .collect();
        answered.sort();
        assert_eq!(answered, [(200, "a".to_owned()), (200, "b".to_owned())]);
    });
    let shown = &proxy.service("app")["backends"][0];
    assert_eq!(
        (&shown["state"], &shown["drained_by_operator"]),
        (&"draining".into(), &true.into())
    );

    let path = "/v1/services/app/backends/a/undrain";
    assert_eq!(proxy.admin("POST", path).status, 204);
    wait_until("it serves again", || {
        crate::support::get(&proxy.url("/")).header("x-origin-id") == Some("a")
    });
    assert_eq!(proxy.admin("POST", path).status, 409, "it is not draining any more");
    let unknown = proxy.command(&["drain", "app", "c"]);
    assert!(unknown.code == Some(1) && unknown.stderr.contains("\"c\""), "{}", unknown.stderr);
}

/// A request that runs longer than `drain_timeout` is cut, and that is told.
#[test]
fn a_drain_is_forced_at_its_limit_and_says_what_it_cut() {
    let down = "[service.app.scaling.down]\nstabilization = \"0s\"";
    // Each worker goes round by itself, and both backends are to have one.
    let proxy = Proxy::new()
        .runtime("workers = 1")
        .origins("--slots 1", "drain_timeout = \"1s\"\nstop_grace = \"1s\"")
        .scaling(1, 2, down)
        .run();
    let events = Events::of(&proxy);
    assert_eq!(proxy.command(&["scale", "app", "2"]).code, Some(0));
    proxy.wait_for_size(2);
    std::thread::scope(|scope| {
        // POST: nothing may send it a second time.
        let url = proxy.url("/?delay=1h");
        let stuck: Vec<_> = (0..2)
            .map(|_| {
                let url = url.clone();
                scope.spawn(move || crate::support::send("POST", &url, &[], b"x"))
            })
            .collect();
        wait_until("each has one", || {
            proxy.metric("tidegate_in_flight", &[("service", "app")]) == 2.0
        });
        assert_eq!(proxy.command(&["scale", "app", "1"]).code, Some(0));
        let forced = events.wait("drain", |drain| drain["step"] == "forced");
        assert_eq!(forced["in_flight"], 1, "{forced}");
        proxy.wait_for_size(1);
        assert_eq!(proxy.metric("tidegate_in_flight", &[("service", "app")]), 1.0);
        // The rest ends with the proxy.
        let pid = proxy.pid_of(&proxy.ready()[0]);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL).unwrap();
        for one in stuck {
            let answer = one.join().unwrap().expect("an answer of the proxy's own");
            assert!(matches!(answer.status, 502 | 503), "{}", answer.status);
        }
    });
}
