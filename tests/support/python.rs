//! Peers that are small programs in Python, for libraries that only it has.

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

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
        run(Path::new(PYTHON), program, arguments)
    }

    /// The same with a library that Debian does not have.
    #[track_caller]
    pub fn run_aioquic(program: &str, arguments: &[&str]) -> Value {
        run(&own_python(), program, arguments)
    }
}

/// A program of tests/peers that a test talks to, line by line.
pub struct PyTalk {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl PyTalk {
    pub fn start(program: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(PYTHON)
            .arg(path(program))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{PYTHON}: {error}"));
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        Self { child, input, output }
    }

    /// Says something; its answer.
    #[track_caller]
    pub fn ask(&mut self, line: &str) -> String {
        writeln!(self.input.as_mut().expect("not ended yet"), "{line}").expect("it reads");
        self.next()
    }

    /// The next line it prints.
    #[track_caller]
    pub fn next(&mut self) -> String {
        self.output.next().expect("it says something").expect("text")
    }

    /// Says no more; what it prints last.
    #[track_caller]
    pub fn finish(mut self) -> String {
        self.input = None;
        self.next()
    }
}

impl Drop for PyTalk {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Backend for PyPeer {
    fn address(&self) -> SocketAddr {
        self.address
    }
}

#[track_caller]
fn run(python: &Path, program: &str, arguments: &[&str]) -> Value {
    let output = Command::new(python)
        .arg(path(program))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", python.display()));
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{program}: {error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    })
}

/// The one that tests/components.sh makes, with packages from PyPI.
fn own_python() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/python")
}

/// Whether aioquic is not there; see [`super::missing`].
pub fn missing_aioquic() -> bool {
    !imports(&own_python(), "aioquic") && tool::skipped("Python's aioquic (PyPI)")
}

/// Whether a module is not there; see [`super::missing`].
pub fn missing_module(module: &str) -> bool {
    !imports(Path::new(PYTHON), module) && tool::skipped(&format!("Python's {module}"))
}

fn imports(python: &Path, module: &str) -> bool {
    let import = format!("import {module}");
    let status = Command::new(python).args(["-c", &import]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

fn path(program: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/peers").join(program)
}
