//! `tidegate load sustained|spike|ramp`, as people run it. How fast anything is stays out of it:
//! a busy machine must fail no test.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{Origin, Process, Proxy, refusing_address, run, wait_until};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// Runs a test with `--json`: the exit code and the document.
#[track_caller]
fn load(arguments: &[&str]) -> (Option<i32>, Value) {
    let told = run(TIDEGATE, &[&["load"], arguments, &["--json"]].concat());
    let document = serde_json::from_slice(&told.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}\n{}", told.text(), told.stderr));
    (told.code, document)
}

/// One that goes on until it is interrupted.
fn start(arguments: &[&str]) -> Process {
    let mut command = Command::new(TIDEGATE);
    command.args(["load", "ramp", "--rate", "50", "--duration", "1h", "--json"]).args(arguments);
    Process::start("tidegate load", &mut command)
}

/// Ctrl-C, and what it says then.
#[track_caller]
fn interrupt(mut load: Process) -> Value {
    load.signal(Signal::SIGINT);
    assert_eq!(load.wait().code(), Some(1), "a test that was not finished is not passed");
    let output = load.output();
    let start = output.find("{\n").unwrap_or_else(|| panic!("no document: {output}"));
    serde_json::from_str(&output[start..]).unwrap_or_else(|error| panic!("{error}: {output}"))
}

#[track_caller]
fn criterion<'a>(document: &'a Value, name: &str) -> &'a Value {
    let criteria = document["verdict"]["criteria"].as_array().expect("a list");
    criteria.iter().find(|c| c["name"] == name).unwrap_or_else(|| panic!("{name}: {criteria:?}"))
}

#[test]
fn a_test_has_its_phases_and_a_verdict_and_a_chart_with_the_backends() {
    let origin = Origin::new().id("a").start();
    let proxy = Proxy::new().backend(&origin).run();
    let (url, admin) = (proxy.url("/"), proxy.admin_url(""));
    let chart = proxy.directory().join("chart.html");
    let out = chart.to_str().unwrap();
    let arguments = ["spike", "--duration", "3s", "--rate", "50", "--url", &url];
    let (code, document) = load(&[&arguments[..], &["--admin", &admin, "--out", out]].concat());

    assert_eq!(document["test"], "spike");
    let rates: Vec<_> = document["phases"].as_array().unwrap().iter().collect();
    let rate = |i: usize| (rates[i]["rate"].as_f64().unwrap(), rates[i]["to_s"].as_f64().unwrap());
    assert_eq!([0, 1, 2].map(rate).map(|(rate, _)| rate), [0.5, 50.0, 0.5]);
    assert!((rate(1).1 - 1.8).abs() < 1e-6 && (rate(2).1 - 3.0).abs() < 1e-6, "{rates:?}");
    assert!(document["sent"].as_u64() > Some(10), "{document}");
    assert_eq!((&document["errors"], &document["status"]["200"]), (&0.into(), &document["sent"]));
    assert!(document["timeline"].as_array().unwrap().len() >= 2);

    let scaling = &document["scaling"];
    assert_eq!(scaling["service"], "app");
    let looks = scaling["looks"].as_array().unwrap();
    assert!(looks.iter().all(|look| look["ready"] == 1 && look["desired"] == 1), "{looks:?}");
    for name in ["errors", "backends_reached", "none_crashed"] {
        assert_eq!(criterion(&document, name)["met"], true, "{document}");
    }
    let passed = document["verdict"]["result"] == "passed";
    assert_eq!(code, Some(if passed { 0 } else { 1 }), "{document}");

    let page = std::fs::read_to_string(&chart).unwrap();
    for text in ["tidegate load spike", "<svg", "class=\"answered\"", "Backends of app", &url] {
        assert!(page.contains(text), "{text}: {page}");
    }
}

#[test]
fn answers_of_500_fail_the_test() {
    let origin = Origin::new().option("--fail", "1").start();
    let url = origin.url("/");
    let (code, document) =
        load(&["sustained", "--duration", "1s", "--scale", "0.05", "--url", &url]);
    assert_eq!(code, Some(1));
    assert_eq!(
        (&document["errors"], &document["status"]["500"]),
        (&document["sent"], &document["sent"])
    );
    assert_eq!(
        (&criterion(&document, "errors")["met"], &document["scaling"]),
        (&false.into(), &Value::Null)
    );
    let told =
        run(TIDEGATE, &["load", "sustained", "--duration", "1s", "--rate", "50", "--url", &url]);
    let text = told.text();
    assert_eq!(told.code, Some(1));
    let line =
        text.lines().find(|line| line.starts_with("errors ")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains("missed") && line.contains("100.000 %"), "{text}");
    assert!(!text.contains("PASSED"), "{text}");
}

/// Nobody is blamed for what was never sent.
#[test]
fn a_rate_that_could_not_be_kept_is_the_verdict() {
    let origin = Origin::new().start();
    let url = origin.url("/?delay=1h");
    let arguments = ["ramp", "--duration", "2s", "--rate", "100", "--max-in-flight", "2"];
    let (code, document) = load(&[&arguments[..], &["--timeout", "1s", "--url", &url]].concat());
    assert_eq!((code, &document["verdict"]["result"]), (Some(1), &"inconclusive".into()));
    let why = document["verdict"]["because"].as_str().unwrap_or_default();
    assert!(why.starts_with("the generator could not keep the rate: "), "{why}");
    assert!(why.contains("--max-in-flight"), "{why}");
    assert!(document["not_sent"].as_u64() > Some(0) && document["completed"] == 0, "{document}");
}

#[test]
fn a_crashed_backend_fails_a_test_that_is_ended_early() {
    let proxy = Proxy::new().origins("--delay 1ms", "").scaling(2, 2, "").run();
    let backends = proxy.wait_for_size(2);
    let load = start(&["--url", &proxy.url("/"), "--admin", &proxy.admin_url("")]);
    wait_until("the load has begun", || proxy.metric("tidegate_requests_total", &[]) > 0.0);
    kill(Pid::from_raw(proxy.pid_of(&backends[0])), Signal::SIGKILL).unwrap();
    wait_until("it is replaced", || !proxy.records("replace").is_empty());
    let document = interrupt(load);
    assert_eq!(criterion(&document, "none_crashed")["met"], false, "{document}");
    let marks = document["scaling"]["marks"].as_array().unwrap();
    assert!(marks.iter().any(|mark| mark["kind"] == "crash"), "{marks:?}");
    assert!(document["seconds"].as_f64() < Some(3600.0));
}

#[test]
fn a_load_goes_on_without_its_admin() {
    let origin = Origin::new().start();
    let mut proxy = Proxy::new().backend(&origin).run();
    // Past the proxy, which is to go away.
    let mut load = start(&["--url", &origin.url("/"), "--admin", &proxy.admin_url("")]);
    wait_until("the load has begun", || origin.stat("requests") > 20);
    assert!(proxy.stop().success());
    load.wait_for_output("it says so", |output| {
        output.contains("; the load goes on").then_some(())
    });
    let before = origin.stat("requests");
    wait_until("the load goes on", || origin.stat("requests") > before + 20);
    let document = interrupt(load);
    assert_eq!(criterion(&document, "none_crashed")["met"], Value::Null, "{document}");
    assert_eq!(criterion(&document, "backends_reached")["met"], true, "{document}");
    assert_ne!(document["verdict"]["result"], "passed");
}

#[test]
fn nothing_is_sent_when_the_admin_or_the_service_is_not_there() {
    let origin = Origin::new().start();
    let proxy = Proxy::new()
        .backend(&origin)
        .toml("[service.idle]\n[[service.idle.backend]]\naddress = \"127.0.0.1:1\"\n")
        .run();
    let url = origin.url("/");
    let test = ["load", "ramp", "--duration", "1s", "--rate", "50", "--url", &url];
    let nobody = format!("http://{}", refusing_address());
    for (more, code, says) in [
        (&["--admin", &nobody][..], 1, "no tidegate answers at"),
        (&["--admin", &proxy.admin_url(""), "--service", "shop"], 1, "there are: app, idle"),
        (&["--admin", &proxy.admin_url("")], 2, "--service NAME is needed: there are app, idle"),
        (&["--admin", "nowhere"], 2, "neither http(s)://HOST:PORT nor unix:/PATH"),
        (&["--out", "/no/such/directory/chart.html"], 2, "/no/such/directory/chart.html: No such"),
    ] {
        let told = run(TIDEGATE, &[&test[..], more].concat());
        assert_eq!(told.code, Some(code), "{more:?}: {}", told.stderr);
        assert!(told.stderr.contains(says), "{more:?}: {}", told.stderr);
    }
    assert_eq!(origin.stat("requests"), 0);
}

#[test]
fn what_makes_no_test_is_bad_usage() {
    let url = ["--url", "http://127.0.0.1:1/"];
    for (arguments, says) in [
        (&["load", "hill", url[0], url[1]][..], "sustained, spike or ramp"),
        (&["load", "ramp"], "--url"),
        (&["load", "ramp", "--url", "ftp://127.0.0.1/"], "only http:// and https:// are spoken"),
        (&["load", "ramp", "--url", "127.0.0.1:80"], "http://"),
        (&["load", "ramp", "--rate", "0", url[0], url[1]], "above 0"),
        (&["load", "ramp", "--scale", "0", url[0], url[1]], "above 0"),
        (&["load", "ramp", "--scale", "inf", url[0], url[1]], "above 0"),
        (&["load", "ramp", "--duration", "0s", url[0], url[1]], "above 0"),
        (&["load", "ramp", "--scale", "1", "--rate", "1", url[0], url[1]], "cannot be used with"),
        (&["load", "--rate", "1", "--out", "x.html", url[0], url[1]], "TEST"),
        (&["load", url[0], url[1]], "--rate"),
    ] {
        let told = run(TIDEGATE, arguments);
        assert_eq!(told.code, Some(2), "{arguments:?}: {}", told.stderr);
        assert!(told.stderr.contains(says), "{arguments:?}: {}", told.stderr);
        assert!(!told.text().contains("latency"), "{arguments:?}");
    }
}
