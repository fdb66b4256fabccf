//! `tidegate origin` as a backend.

use std::net::SocketAddr;
use std::process::Command;

use super::{Backend, Process, get};

/// A backend process. Build it with the options of `tidegate origin`, then [`Origin::start`].
pub struct Origin {
    arguments: Vec<String>,
    id: Option<String>,
}

/// A running [`Origin`]; ended when dropped.
pub struct RunningOrigin {
    pub process: Process,
    id: Option<String>,
    address: SocketAddr,
}

impl Origin {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self { arguments: vec!["origin".into(), "--port".into(), "0".into()], id: None }
    }

    /// Sent as `x-origin-id`, and its id in the configuration of a proxy.
    pub fn id(mut self, id: &str) -> Self {
        self.id = Some(id.into());
        self.option("--id", id)
    }

    /// `40ms`, or a distribution.
    pub fn delay(self, delay: &str) -> Self {
        self.option("--delay", delay)
    }

    pub fn slots(self, slots: usize) -> Self {
        self.option("--slots", &slots.to_string())
    }

    /// Any other option.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.arguments.extend([name.to_owned(), value.to_owned()]);
        self
    }

    /// Starts it and waits until it listens.
    pub fn start(self) -> RunningOrigin {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        let mut process = Process::start("origin", command.args(&self.arguments));
        let address = process.wait_for_output("its address", |output| {
            output.lines().find_map(|line| line.strip_prefix("listening  http://")?.parse().ok())
        });
        RunningOrigin { process, id: self.id, address }
    }
}

impl RunningOrigin {
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A counter of `/stats`: `requests`, `waiting`, `working`, `most_working`.
    #[track_caller]
    pub fn stat(&self, name: &str) -> u64 {
        let stats = get(&self.url("/stats")).json();
        stats[name].as_u64().unwrap_or_else(|| panic!("no {name} in {stats}"))
    }
}

impl Backend for RunningOrigin {
    fn address(&self) -> SocketAddr {
        self.address
    }

    fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }
}
