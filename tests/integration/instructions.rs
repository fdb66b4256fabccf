//! The gate on instructions a request: `benches/instructions/run.py`, with figures made up from
//! those that are accepted, so nothing is counted here.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::missing;

struct Gate {
    code: i32,
    says: String,
}

/// Compares the accepted figures, changed, with the accepted figures.
fn gate(change: impl Fn(&mut Value)) -> Gate {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions");
    let accepted = std::fs::read(root.join("accepted.json")).expect("accepted.json is there");
    let mut measured: Value = serde_json::from_slice(&accepted).expect("accepted.json is JSON");
    change(&mut measured);
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), measured.to_string()).expect("it can be written");
    let mut command = Command::new("python3");
    command.arg("-B").arg(root.join("run.py")).arg("--measured").arg(file.path());
    let output = command.stdin(Stdio::null()).output().expect("python3 runs");
    let says = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    Gate { code: output.status.code().expect("not killed"), says: says.into_owned() }
}

fn times(figure: &mut Value, factor: f64) {
    *figure = json!(figure.as_f64().expect("a number") * factor);
}

#[test]
fn more_than_five_percent_fails_and_says_how_to_accept_it() {
    if missing("python3") {
        return;
    }
    for case in ["h1", "h2"] {
        let above = gate(|measured| times(&mut measured["figures"][case], 1.051));
        assert_eq!(above.code, 1, "{}", above.says);
        assert!(above.says.contains(&format!("{case}: ")), "{}", above.says);
        assert!(above.says.contains("+5.1%: more than +5%: FAILED"), "{}", above.says);
        assert!(above.says.contains("benches/instructions/run.py --write"), "{}", above.says);
        let within = gate(|measured| times(&mut measured["figures"][case], 1.049));
        assert_eq!(within.code, 0, "{}", within.says);
        assert!(!within.says.contains("FAILED"), "{}", within.says);
    }
}

#[test]
fn a_figure_that_was_never_accepted_fails() {
    if missing("python3") {
        return;
    }
    let new = gate(|measured| measured["figures"]["h3"] = json!(30_000));
    assert_eq!(new.code, 1, "{}", new.says);
    assert!(new.says.contains("h3: 30,000 instructions a request, and no figure"), "{}", new.says);
}

#[test]
fn less_is_to_be_accepted_and_another_compiler_is_told() {
    if missing("python3") {
        return;
    }
    let below = gate(|measured| {
        times(&mut measured["figures"]["h1"], 0.9);
        measured["made_with"]["rustc"] = json!("rustc 99.0.0");
    });
    assert_eq!(below.code, 0, "{}", below.says);
    assert!(below.says.contains("-10.0%: better than accepted"), "{}", below.says);
    assert!(below.says.contains("note: rustc is rustc 99.0.0"), "{}", below.says);
}
