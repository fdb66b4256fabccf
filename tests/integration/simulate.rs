//! `tidegate simulate`, as people run it: the table, JSON, the picture, and what is wrong with a file.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::support::run;

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// Ten minutes: a minute a row, up and down.
const TRACE: &str = "minute,requests\n\
    2026-01-01T00:00,600\n2026-01-01T00:01,1200\n2026-01-01T00:02,2400\n2026-01-01T00:03,4800\n\
    2026-01-01T00:04,9600\n2026-01-01T00:05,9600\n2026-01-01T00:06,4800\n2026-01-01T00:07,2400\n\
    2026-01-01T00:08,1200\n2026-01-01T00:09,600\n";

const CONFIG: &str = r#"
[[listener]]
name = "http"
address = "127.0.0.1:8080"
[[route]]
service = "app"
[service.app.orchestrator]
kind = "process"
command = ["true", "{port}"]
[service.app.scaling]
min = 1
max = 20
concurrency = { target = 4, utilization = 0.7 }
[service.fixed]
backend = [{ address = "127.0.0.1:3000" }]
"#;

fn files() -> (tempfile::TempDir, String, String) {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (trace, config) = (write("day.csv", TRACE), write("tidegate.toml", CONFIG));
    (directory, trace, config)
}

#[test]
fn a_service_is_compared_with_reference_policies() {
    let (directory, trace, config) = files();
    let picture = directory.path().join("day.html");
    let arguments = ["simulate", "-c", &config, "--service", "app", "--trace", &trace];
    let more = ["--compare", "hpa,kpa,static", "--seeds", "2", "--lead", "10s"];
    let out = ["--out", picture.to_str().unwrap()];

    let told = run(TIDEGATE, &[&arguments[..], &more, &out].concat());
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let text = told.text();
    let first: Vec<_> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let from = first.iter().position(|word| *word == "policy").expect("a heading");
    assert_eq!(first[from + 1..from + 5], ["app", "hpa", "kpa", "static"], "{text}");
    assert!(text.contains("day.csv") && text.contains("ready after 10 s, 1 to 20 backends"));
    assert!(text.contains("2 seeds, 8 runs in "), "it says how long it took: {text}");

    let page = fs::read_to_string(&picture).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    assert!(page.contains("app: ") && page.contains("static: ") && !page.contains("<script"));
}

#[test]
fn json_has_every_figure_and_repeats_itself() {
    let (_directory, trace, config) = files();
    let arguments = ["simulate", "-c", &config, "--service", "app", "--trace", &trace];
    let more = ["--compare", "slo,oracle", "--seeds", "2", "--json", "--peak", "300"];
    let document = || -> Value {
        let told = run(TIDEGATE, &[&arguments[..], &more].concat());
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        serde_json::from_slice(&told.stdout).unwrap()
    };
    let one = document();
    assert_eq!(one["load"]["peak"], 300.0);
    assert_eq!(one["load"]["seconds"], 600);
    let policies = one["policies"].as_array().unwrap();
    let names: Vec<_> = policies.iter().map(|policy| policy["policy"].as_str().unwrap()).collect();
    assert_eq!(names, ["app", "slo", "oracle"]);
    for policy in policies {
        for figure in ["violations_percent", "dropped_percent", "cost", "backend_hours", "flips"] {
            assert!(policy[figure]["mean"].is_f64() && policy[figure]["sd"].is_f64(), "{figure}");
        }
        for figure in ["wait_p99", "theta_u", "theta_o", "tau_u", "tau_o"] {
            assert!(policy[figure].is_f64(), "{figure}");
        }
    }
    assert_eq!(policies[2]["cost"]["mean"], 1.0);
    assert_eq!(one["policies"], document()["policies"], "the same seeds, the same figures");
}

#[test]
fn single_requests_and_sweeps() {
    let arguments = ["simulate", "--shape", "spike", "--peak", "60", "--seeds", "1"];
    let faults = ["--requests", "--start-failures", "10%", "--lost-metrics", "0.1"];
    let told = run(TIDEGATE, &[&arguments[..], &faults, &["--compare", "kpa,slo"]].concat());
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.text().contains(" million requests a second)"), "{}", told.text());

    let told = run(TIDEGATE, &[&arguments[..], &["--sweep"]].concat());
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    assert!(told.text().lines().any(|line| line.starts_with('*')), "{}", told.text());
}

#[test]
fn what_has_no_part_in_it_is_said_and_a_recording_has_dates() {
    let (directory, trace, config) = files();
    let scheduled = format!(
        "{CONFIG}\n[[service.app.scaling.schedule]]\nname = \"day\"\ncron = \"0 8 * * *\"\n\
         for = \"8h\"\nmin = 3\n[service.app.scaling.target.big]\nmetric = \"memory\"\n\
         value = \"1GiB\"\n"
    );
    fs::write(&config, scheduled).unwrap();
    let own = ["simulate", "-c", &config, "--service", "app", "--compare", "kpa", "--seeds", "1"];
    let shape = run(TIDEGATE, &[&own[..], &["--shape", "step"]].concat());
    assert_eq!(shape.code, Some(0), "{}", shape.stderr);
    assert!(shape.stderr.contains("target.big goes by what is not simulated"), "{}", shape.stderr);
    assert!(shape.stderr.contains("the load is of no day"), "{}", shape.stderr);
    let dated = run(TIDEGATE, &[&own[..], &["--trace", &trace]].concat());
    assert_eq!(dated.code, Some(0), "{}", dated.stderr);
    assert!(!dated.stderr.contains("of no day"), "{}", dated.stderr);

    // As `record` writes it: seconds since 1970.
    let recording = directory.path().join("app.csv");
    let rows: String = (0..60).map(|second| format!("{},7\n", 1_767_225_600 + second)).collect();
    fs::write(&recording, rows).unwrap();
    let recording = recording.to_str().unwrap();
    let part = ["--trace", recording, "--from", "2026-01-01T00:00:50", "--json"];
    let told = run(TIDEGATE, &[&own[..], &part].concat());
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    assert_eq!(told["load"]["seconds"], 10);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let (directory, trace, config) = files();
    let bad = directory.path().join("bad.csv");
    fs::write(&bad, "0,5\n60,many\n").unwrap();
    let (bad, missing) = (bad.to_str().unwrap(), Path::new("/nonexistent/x.csv").to_str().unwrap());
    let cases: [(&[&str], &str); 8] = [
        (&["--trace", bad], "bad.csv:2: 'many' is no number of requests; write 0 or more"),
        (&["--trace", missing], "/nonexistent/x.csv: No such file"),
        (&["--trace", &trace, "--from", "2027-01-01"], "day.csv: --from is not within it"),
        (&["--trace", &trace, "--from", "noon"], "write a date as in the file"),
        (&["--shape", "wave"], "write ramp, step or spike"),
        (&["--shape", "step", "--compare", "hpa,magic"], "write some of hpa, keda-http, kpa"),
        (&["-c", &config, "--service", "no", "--shape", "step"], "there are app, fixed"),
        (&["-c", &config, "--service", "fixed", "--shape", "step"], "[service.fixed.scaling]"),
    ];
    for (arguments, expected) in cases {
        let told = run(TIDEGATE, &[&["simulate"], arguments].concat());
        assert_eq!(told.code, Some(2), "{arguments:?}: {}", told.stderr);
        assert!(told.stderr.contains(expected), "{arguments:?}: {}", told.stderr);
        assert!(told.stdout.is_empty(), "{arguments:?}");
    }
}
