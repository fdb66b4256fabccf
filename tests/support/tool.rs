//! Other programs: curl, nginx and what else is a real peer.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// `None`: ended by a signal.
    pub code: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: String,
}

impl Output {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }
}

/// Whether a program is not installed. Then it is written down as the reason why this test is
/// skipped: in the file that TIDEGATE_SKIPPED names, for `tests/run`.
pub fn missing(program: &str) -> bool {
    find(program).is_none() && skipped(program)
}

/// Writes down that the test is skipped for want of something; true.
pub(super) fn skipped(what: &str) -> bool {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let line = format!("{test}: {what} is not installed\n");
    eprint!("skipped {line}");
    if let Some(file) = std::env::var_os("TIDEGATE_SKIPPED") {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(file);
        file.and_then(|mut file| file.write_all(line.as_bytes())).expect("it can be written");
    }
    true
}

/// Runs a program to its end.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> Output {
    let output = Command::new(find(program).unwrap_or_else(|| program.into()))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    Output {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// curl, silent but for errors, without anybody's settings, for a minute at most.
#[track_caller]
pub fn curl(arguments: &[&str]) -> Output {
    let mut all = vec!["-q", "-sS", "--max-time", "60", "--noproxy", "*"];
    all.extend(arguments);
    run("curl", &all)
}

/// A certificate for these names, signed by itself, and its key: two PEM files in that directory.
pub fn certificate(directory: &Path, names: &[&str]) -> (PathBuf, PathBuf) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(names).expect("good names");
    let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).expect("the directory can be written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("the directory can be written");
    (certificate, key)
}

/// In PATH, and where programs for the administrator are.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
}
