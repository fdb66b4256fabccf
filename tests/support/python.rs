//! Peers that are small programs in Python, for libraries that only it has.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Backend, Process, tool};

/// Debian's own, which has Debian's packages.
const PYTHON: &str = "/usr/bin/python3";

/// A program of tests/peers that serves.
pub struct PyPeer {
    _process: Process,
    address: SocketAddr,
}

impl PyPeer {
    /// Starts `PROGRAM serve`, which prints its port. Check with `missing_module` first.
    pub fn serve(program: &str) -> Self {
        let mut command = Command::new(PYTHON);
        let mut process = Process::start(program, command.arg(path(program)).arg("serve"));
        let port = process.wait_for_output("its port", |output| {
            output.lines().find_map(|line| line.trim().parse::<u16>().ok())
        });
        Self { _process: process, address: SocketAddr::from(([127, 0, 0, 1], port)) }
    }

    /// Runs a program to its end; what it printed as JSON.
    #[track_caller]
    pub fn run(program: &str, arguments: &[&str]) -> Value {
        let output = Command::new(PYTHON)
            .arg(path(program))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap_or_else(|error| panic!("{PYTHON}: {error}"));
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| {
            panic!("{program}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
        })
    }
}

impl Backend for PyPeer {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Whether a module is not there; see [`super::missing`].
pub fn missing_module(module: &str) -> bool {
    let import = format!("import {module}");
    let found = Command::new(PYTHON)
        .args(["-c", &import])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    !found && tool::skipped(&format!("Python's {module}"))
}

fn path(program: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(program)
}
