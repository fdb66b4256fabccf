//! Redis and Prometheus as sources of numbers to scale by.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{Process, tool, wait_for};

/// A running Redis that keeps nothing. Check with `missing("redis-server")` first.
pub struct Redis {
    process: Process,
    address: SocketAddr,
    /// Where it speaks TLS; 0: nowhere.
    secure: u16,
}

impl Redis {
    pub fn start() -> Self {
        started("redis", |address| {
            let mut command = Command::new(program("redis-server"));
            let port = address.port().to_string();
            command.args(["--bind", "127.0.0.1", "--port", &port]);
            command.args(["--save", "", "--appendonly", "no"]);
            command
        })
        .map(|(process, address)| Self { process, address, secure: 0 })
        .expect("a port for redis")
    }

    /// One that speaks TLS as well, at another port.
    pub fn start_tls(certificate: &Path, key: &Path) -> Self {
        let secure = Cell::new(0);
        let (process, address) = started("redis", |address| {
            let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
            secure.set(free.expect("a port").port());
            let mut command = Command::new(program("redis-server"));
            let (port, tls) = (address.port().to_string(), secure.get().to_string());
            command.args(["--bind", "127.0.0.1", "--port", &port, "--tls-port", &tls]);
            command.args(["--save", "", "--appendonly", "no", "--tls-auth-clients", "no"]);
            command.arg("--tls-cert-file").arg(certificate).arg("--tls-key-file").arg(key);
            command.arg("--tls-ca-cert-file").arg(certificate);
            command
        })
        .expect("ports for redis");
        Self { process, address, secure: secure.get() }
    }

    /// `rediss://localhost:PORT`
    pub fn tls_url(&self) -> String {
        format!("rediss://localhost:{}", self.secure)
    }

    /// `redis://127.0.0.1:PORT`
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// The line that a command is answered with.
    #[track_caller]
    pub fn call(&self, words: &[&str]) -> String {
        let mut stream = TcpStream::connect(self.address).expect("redis listens");
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command += &format!("${}\r\n{word}\r\n", word.len());
        }
        stream.write_all(command.as_bytes()).expect("redis reads");
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).expect("redis answers");
        assert!(!line.starts_with('-'), "{words:?}: {line}");
        line.trim_end().to_owned()
    }

    /// Makes a list that long.
    #[track_caller]
    pub fn list(&self, key: &str, length: usize) {
        self.call(&["DEL", key]);
        if length > 0 {
            let jobs = vec!["job"; length];
            assert_eq!(self.call(&[&["RPUSH", key], &jobs[..]].concat()), format!(":{length}"));
        }
    }

    /// Ends it without a word.
    pub fn crash(&mut self) {
        self.process.crash();
    }
}

/// A running Prometheus that scrapes nothing. Check with `missing("prometheus")` first.
pub struct Prometheus {
    _process: Process,
    _directory: TempDir,
    address: SocketAddr,
}

impl Prometheus {
    pub fn start() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, "global: {}\n").expect("the directory can be written");
        let (process, address) = started("prometheus", |address| {
            let mut command = Command::new(program("prometheus"));
            command.arg(format!("--config.file={}", file.display()));
            command.arg(format!("--storage.tsdb.path={}/data", directory.path().display()));
            command.arg(format!("--web.listen-address={address}"));
            command
        })
        .expect("a port for prometheus");
        let running = Self { _process: process, _directory: directory, address };
        // It listens before it answers queries.
        wait_for("prometheus is ready", || {
            (super::get(&running.url("/-/ready")).status == 200).then_some(())
        });
        running
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn program(name: &str) -> std::path::PathBuf {
    tool::find(name).expect("ask missing() first")
}

/// Neither can choose a port, so one that was free a moment ago may be taken: try again.
fn started(name: &str, command: impl Fn(SocketAddr) -> Command) -> Option<(Process, SocketAddr)> {
    (0..20).find_map(|_| {
        let address = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).ok()?;
        let mut process = Process::start(name, &mut command(address));
        let listens = wait_for("it listens or ends", || match process.status() {
            Some(_) => Some(false),
            None => TcpStream::connect(address).is_ok().then_some(true),
        });
        (listens && process.status().is_none()).then_some((process, address))
    })
}
