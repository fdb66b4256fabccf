//! The arithmetic of `benches/balancing`: its own tests, run by Python.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::missing;

#[test]
fn quantiles_ratios_and_shares_are_what_they_are_said_to_be() {
    if missing("python3") {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/balancing");
    let mut command = Command::new("python3");
    command.args(["-B", "-m", "unittest", "-v", "test_figures"]).current_dir(folder);
    let output = command.stdin(Stdio::null()).output().expect("python3 runs");
    let says = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{says}");
    // A run without any test is no success.
    assert!(!says.contains("Ran 0 tests"), "{says}");
}
