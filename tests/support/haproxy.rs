//! HAProxy as a balancer in front of tidegate, or behind it.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use super::{Backend, Process, tool, wait_for};

/// A running HAProxy with one frontend. Check with `missing("haproxy")` first.
pub struct Haproxy {
    _process: Process,
    address: SocketAddr,
    _directory: TempDir,
}

impl Haproxy {
    /// Starts it: `bind` is added to the frontend's line, `server` is the backend's line.
    pub fn start(bind: &str, server: &str) -> Self {
        let program = tool::find("haproxy").expect("ask missing(\"haproxy\") first");
        // It cannot choose a port, so one that was free a moment ago may be taken: try again.
        for _ in 0..20 {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let address = TcpListener::bind("127.0.0.1:0")
                .and_then(|listener| listener.local_addr())
                .expect("a free port on the loopback");
            let file = directory.path().join("haproxy.cfg");
            let text = format!(
                "defaults\n mode http\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n\
                 frontend f\n bind {address} {bind}\n default_backend b\nbackend b\n server s {server}\n"
            );
            std::fs::write(&file, text).expect("the directory can be written");
            let mut command = Command::new(&program);
            let mut process = Process::start("haproxy", command.arg("-db").arg("-f").arg(&file));
            let listens = wait_for("haproxy listens or ends", || match process.status() {
                Some(_) => Some(false),
                None => TcpStream::connect(address).is_ok().then_some(true),
            });
            if listens && process.status().is_none() {
                return Self { _process: process, address, _directory: directory };
            }
            let output = process.output();
            assert!(output.to_lowercase().contains("cannot bind"), "haproxy: {output}");
        }
        panic!("no port for haproxy");
    }
}

impl Backend for Haproxy {
    fn address(&self) -> SocketAddr {
        self.address
    }
}
