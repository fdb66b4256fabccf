//! A service whose backends tidegate starts itself: how it is written, and what a test asks of it.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::Value;

use super::{Proxy, Running, formula, wait_for};

/// Ports for the backends of one proxy that no other proxy of these tests gets, below those
/// that the system gives to clients.
pub fn port_range() -> String {
    const EACH: u32 = 25;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Another run of the tests at the same time begins somewhere else.
    let turn = std::process::id().wrapping_mul(17).wrapping_add(NEXT.fetch_add(1, Relaxed)) % 480;
    let first = 20_000 + turn * EACH;
    format!("{first}-{}", first + EACH - 1)
}

/// conf/quickstart.toml as it is, but for the ports.
pub fn quickstart() -> Proxy {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/conf/quickstart.toml");
    let text = std::fs::read_to_string(file).expect("it is in the repository");
    let mut changed = text.clone();
    for (old, new) in [
        ("address = \"127.0.0.1:8080\"", "address = \"127.0.0.1:0\"".to_owned()),
        ("listen = \"127.0.0.1:9900\"", "listen = \"127.0.0.1:0\"".to_owned()),
        ("kind = \"process\"", format!("kind = \"process\"\nport_range = \"{}\"", port_range())),
    ] {
        assert_eq!(changed.matches(old).count(), 1, "{old} in\n{text}");
        changed = changed.replace(old, &new);
    }
    Proxy::new().config(&changed)
}

impl Proxy {
    /// Backends of kind `process`: `tidegate origin` with more options (`--delay 40ms`), checked
    /// often, and no slow start. `keys` go into the table of the orchestrator.
    pub fn origins(self, options: &str, keys: &str) -> Self {
        let words: String = options.split(' ').map(|word| format!(", \"{word}\"")).collect();
        self.processes(
            &format!("[\"{{self}}\", \"origin\", \"--port\", \"{{port}}\"{words}]"),
            keys,
        )
    }

    /// The same with any command, as a TOML list.
    pub fn processes(self, command: &str, keys: &str) -> Self {
        self.service("balance = \"round_robin\"\nslow_start = \"0s\"").toml(&format!(
            "[service.app.health]\npath = \"/health\"\ninterval = \"200ms\"\nhealthy_after = 1\n\
             [service.app.orchestrator]\nkind = \"process\"\ncommand = {command}\n\
             port_range = \"{}\"\n{keys}\n",
            port_range()
        ))
    }

    /// `[service.app.scaling]` with keys and tables of its own, deciding once a second.
    pub fn scaling(self, min: u32, max: u32, more: &str) -> Self {
        self.toml(&format!("[service.app.scaling]\nmin = {min}\nmax = {max}\n{more}\n"))
    }
}

impl Running {
    /// The ready and healthy backends of the service `app`.
    #[track_caller]
    pub fn ready(&self) -> Vec<Value> {
        let service = self.service("app");
        let backends = service["backends"].as_array().expect("a list").iter();
        backends.filter(|b| b["state"] == "ready" && b["healthy"] == true).cloned().collect()
    }

    /// Waits until exactly that many are ready and there is no other; gives them.
    #[track_caller]
    pub fn wait_for_size(&self, size: usize) -> Vec<Value> {
        wait_for(&format!("{size} ready backends"), || {
            let all = self.service("app")["backends"].as_array().map_or(0, Vec::len);
            let ready = self.ready();
            (ready.len() == size && all == size).then_some(ready)
        })
    }

    /// The process of one of its backends.
    #[track_caller]
    pub fn pid_of(&self, backend: &Value) -> i32 {
        let address = backend["address"].as_str().unwrap_or_else(|| panic!("{backend}"));
        let port = address.rsplit(':').next().expect("an address has a port");
        let wanted = format!("--port\0{port}\0");
        let listens = |pid: &i32| {
            // It may be gone by now.
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&wanted)
        };
        let found = self.process.descendants().into_iter().find(listens);
        found.unwrap_or_else(|| panic!("no process for {backend}"))
    }

    /// Records with that kind of action (`scale`, `replace`, `refuse`…), oldest first. The
    /// arithmetic of each is checked.
    #[track_caller]
    pub fn records(&self, action: &str) -> Vec<Value> {
        let decisions = self.decisions("app");
        let records = decisions.as_array().expect("a list").iter().rev();
        let records: Vec<Value> =
            records.filter(|record| record["action"]["kind"] == action).cloned().collect();
        records.iter().for_each(formula::check);
        records
    }
}

/// One text of each: `id`, `address`.
pub fn each(backends: &[Value], key: &str) -> Vec<String> {
    backends.iter().map(|backend| backend[key].as_str().unwrap_or_default().to_owned()).collect()
}
