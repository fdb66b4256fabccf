//! Runs the real proxy on a configuration made for one test, and talks to it.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, Backend, Process, get, send, wait_for, wait_until};

/// A configuration: one listener `http`, one route to the service `app`, its fixed backends,
/// and what a test adds. All ports are 0, files are not watched, unless the test says so.
#[derive(Debug, Clone, Default)]
pub struct Proxy {
    backends: Vec<(Option<String>, SocketAddr, String)>,
    runtime: String,
    listener: String,
    route: String,
    service: String,
    more: String,
    whole: Option<String>,
    program: Option<Vec<String>>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Proxy {
    pub fn new() -> Self {
        Self::default()
    }

    /// One more fixed backend of the service `app`.
    pub fn backend(self, backend: &impl Backend) -> Self {
        self.backend_with(backend, "")
    }

    /// The same with more keys: `weight = 3`.
    pub fn backend_with(mut self, backend: &impl Backend, keys: &str) -> Self {
        let id = backend.id().map(str::to_owned);
        self.backends.push((id, backend.address(), keys.to_owned()));
        self
    }

    /// Lines for `[runtime]`.
    pub fn runtime(mut self, lines: &str) -> Self {
        line(&mut self.runtime, lines);
        self
    }

    /// Lines for the listener; they may open its own tables (`[listener.timeout]`).
    pub fn listener(mut self, lines: &str) -> Self {
        line(&mut self.listener, lines);
        self
    }

    /// Lines for the route, in the same way.
    pub fn route(mut self, lines: &str) -> Self {
        line(&mut self.route, lines);
        self
    }

    /// Lines for `[service.app]` itself; its tables go to [`Proxy::toml`].
    pub fn service(mut self, lines: &str) -> Self {
        line(&mut self.service, lines);
        self
    }

    /// Anything else, at the end of the file: `[service.app.retry]`, more routes and services.
    pub fn toml(mut self, lines: &str) -> Self {
        line(&mut self.more, lines);
        self
    }

    /// The whole file instead of all of the above. `{dir}` is the test's directory.
    pub fn config(mut self, toml: &str) -> Self {
        self.whole = Some(toml.to_owned());
        self
    }

    /// One more argument of `tidegate run`.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Another program than `tidegate run -c FILE`; it finds the file's name in TIDEGATE_CONFIG.
    pub fn program(mut self, program: &str, arguments: &[&str]) -> Self {
        let words = std::iter::once(&program).chain(arguments).map(|&word| word.to_owned());
        self.program = Some(words.collect());
        self
    }

    /// One more environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The file's text, with everything that it writes below `directory`.
    pub fn text(&self, directory: &Path) -> String {
        let directory = directory.display().to_string();
        if let Some(whole) = &self.whole {
            return whole.replace("{dir}", &directory);
        }
        let mut text = String::from("[runtime]\n");
        if !self.runtime.contains("workers") {
            text += "workers = 2\n";
        }
        if !self.runtime.contains("watch") {
            text += "watch = false\n";
        }
        let _ = writeln!(text, "state_dir = \"{directory}/state\"\n{}", self.runtime);
        text += "[admin]\nlisten = \"127.0.0.1:0\"\n\n";
        text += "[[listener]]\nname = \"http\"\n";
        if !self.listener.contains("address") {
            text += "address = \"127.0.0.1:0\"\n";
        }
        let _ = writeln!(text, "{}\n[[route]]\nname = \"app\"", self.listener);
        if !["service", "split", "redirect", "respond"].iter().any(|key| self.route.contains(key)) {
            text += "service = \"app\"\n";
        }
        let _ = writeln!(text, "{}\n[service.app]\n{}", self.route, self.service);
        for (id, address, keys) in &self.backends {
            let _ = writeln!(text, "[[service.app.backend]]\naddress = \"{address}\"");
            if let Some(id) = id {
                let _ = writeln!(text, "id = \"{id}\"");
            }
            let _ = writeln!(text, "{keys}");
        }
        text += &self.more;
        text.replace("{dir}", &directory)
    }

    /// Starts it and waits until it is ready.
    pub fn run(self) -> Running {
        let running = self.start();
        wait_until("the proxy is ready", || running.admin("GET", "/readyz").status == 200);
        running
    }

    /// Starts it and waits only until its admin listens: for what is not ready yet.
    pub fn start(self) -> Running {
        let directory = tempfile::tempdir().expect("a temporary directory");
        self.start_in(directory)
    }

    /// The same in the directory, and so with the state, of an earlier one.
    pub fn start_in(self, directory: TempDir) -> Running {
        let file = write(&self.text(directory.path()), directory.path());
        let mut command = match self.program.as_deref() {
            Some([program, arguments @ ..]) => {
                let mut command = Command::new(program);
                command.args(arguments).env("TIDEGATE_CONFIG", &file);
                command
            }
            _ => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
                command.args(["run", "-c"]).arg(&file).args(&self.arguments);
                command
            }
        };
        command.current_dir(directory.path());
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let mut process = Process::start("tidegate", &mut command);
        let admin = process.wait_for_output("the address of its admin", admin_address);
        Running { process, admin, directory, proxy: self }
    }

    /// Runs `tidegate run` on a configuration that it refuses: the exit code and all it printed.
    pub fn fail(self) -> (Option<i32>, String) {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let file = write(&self.text(directory.path()), directory.path());
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["run", "-c"]).arg(&file).current_dir(directory.path());
        let mut process = Process::start("tidegate", &mut command);
        let code = process.wait().code();
        (code, process.output())
    }
}

/// A proxy that runs; ended, with all that it started, when dropped.
pub struct Running {
    pub process: Process,
    admin: SocketAddr,
    directory: TempDir,
    proxy: Proxy,
}

impl Running {
    /// Of the first listener: `http://127.0.0.1:PORT/path`.
    #[track_caller]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address("http"))
    }

    /// The (first) address of a listener.
    #[track_caller]
    pub fn address(&self, listener: &str) -> SocketAddr {
        let status = self.status();
        status["listeners"]
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == listener))
            .and_then(|one| one["address"].as_str()?.parse().ok())
            .unwrap_or_else(|| panic!("no listener {listener} in {status}"))
    }

    pub fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    pub fn admin_url(&self, path: &str) -> String {
        format!("http://{}{path}", self.admin)
    }

    /// One request to the admin API; what changes something is JSON, with an empty body.
    #[track_caller]
    pub fn admin(&self, method: &str, path: &str) -> Answer {
        self.admin_json(method, path, None)
    }

    /// The same with a body.
    #[track_caller]
    pub fn admin_json(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let json = [("content-type", "application/json")];
        let headers = if method == "GET" { &[][..] } else { &json[..] };
        send(method, &self.admin_url(path), headers, body.as_bytes())
            .unwrap_or_else(|error| panic!("admin: {method} {path}: {error}"))
    }

    /// `/v1/status`
    #[track_caller]
    pub fn status(&self) -> Value {
        get(&self.admin_url("/v1/status")).json()
    }

    /// `/v1/services/{name}`
    #[track_caller]
    pub fn service(&self, name: &str) -> Value {
        get(&self.admin_url(&format!("/v1/services/{name}"))).json()
    }

    /// `/v1/services/{name}/decisions`, newest first.
    #[track_caller]
    pub fn decisions(&self, name: &str) -> Value {
        get(&self.admin_url(&format!("/v1/services/{name}/decisions"))).json()
    }

    /// The sum of all samples of a metric that have these labels; 0 if there is none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = get(&self.admin_url("/metrics")).text();
        sum(&text, name, labels)
    }

    /// Writes another configuration and reloads it over the admin API.
    #[track_caller]
    pub fn reload(&mut self, change: impl FnOnce(Proxy) -> Proxy) -> Answer {
        self.write(change);
        self.admin("POST", "/v1/reload")
    }

    /// Writes another configuration, and leaves taking it up to a signal or the watcher.
    pub fn write(&mut self, change: impl FnOnce(Proxy) -> Proxy) {
        self.proxy = change(self.proxy.clone());
        write(&self.proxy.text(self.directory.path()), self.directory.path());
    }

    pub fn config_file(&self) -> PathBuf {
        self.directory.path().join("tidegate.toml")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub fn signal(&mut self, signal: Signal) {
        self.process.signal(signal);
    }

    /// TERM, and the wait for its end.
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.process.wait()
    }

    /// Kills it without warning and gives back its directory, for [`Proxy::start_in`]. What it
    /// had started lives on until the returned process is dropped.
    pub fn crash(mut self) -> (TempDir, Proxy, Process) {
        self.process.crash();
        self.into_parts()
    }

    /// Its directory for [`Proxy::start_in`], its configuration and its process.
    pub fn into_parts(self) -> (TempDir, Proxy, Process) {
        (self.directory, self.proxy, self.process)
    }

    /// Runs a command of tidegate against it: `["drain", "app", "a"]`.
    #[track_caller]
    pub fn command(&self, arguments: &[&str]) -> super::Output {
        let admin = self.admin_url("");
        let mut all = arguments.to_vec();
        all.extend(["--admin", &admin]);
        super::run(env!("CARGO_BIN_EXE_tidegate"), &all)
    }
}

fn line(to: &mut String, lines: &str) {
    to.push_str(lines);
    to.push('\n');
}

/// Replaces the file in one step, as editors and deployments do.
fn write(text: &str, directory: &Path) -> PathBuf {
    let (new, file) = (directory.join("tidegate.toml.new"), directory.join("tidegate.toml"));
    std::fs::write(&new, text).expect("the directory can be written");
    std::fs::rename(&new, &file).expect("the directory can be written");
    file
}

/// From what it says at the start: `admin  http://127.0.0.1:PORT` on a terminal, else JSON.
fn admin_address(output: &str) -> Option<SocketAddr> {
    let address = output.lines().find_map(|line| match serde_json::from_str::<Value>(line) {
        Ok(line) => line["url"].as_str().filter(|_| line["message"] == "admin").map(str::to_owned),
        Err(_) => Some(line.trim_start().strip_prefix("admin ")?.trim().to_owned()),
    })?;
    let bare = address.strip_prefix("http://").or_else(|| address.strip_prefix("https://"));
    bare?.parse().ok()
}

/// Sums samples of the Prometheus text format.
fn sum(text: &str, name: &str, labels: &[(&str, &str)]) -> f64 {
    let mut sum = 0.0;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some(rest) = line.strip_prefix(name) else { continue };
        let (found, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.rsplit_once('}').unwrap_or((rest, "")),
            None => ("", rest),
        };
        if !rest.starts_with(['{', ' ']) {
            continue;
        }
        let found = format!(",{found}");
        if labels.iter().all(|(key, value)| found.contains(&format!(",{key}=\"{value}\""))) {
            let value = value.split_whitespace().next().and_then(|value| value.parse::<f64>().ok());
            sum += value.unwrap_or_else(|| panic!("no number in {line}"));
        }
    }
    sum
}

#[test]
fn sums_the_samples_that_have_the_labels() {
    let text =
        "# TYPE a counter\na{x=\"1\",y=\"2\"} 3\na{x=\"1\",y=\"3\"} 4.5\na{x=\"2\"} 5\nab 9\n";
    assert_eq!(sum(text, "a", &[("x", "1")]), 7.5);
    assert_eq!(sum(text, "a", &[("y", "3"), ("x", "1")]), 4.5);
    assert_eq!((sum(text, "a", &[]), sum(text, "ab", &[]), sum(text, "c", &[])), (12.5, 9.0, 0.0));
}

#[test]
fn finds_the_admin_in_what_is_printed() {
    let output =
        "tidegate 0.1.0\n  listening  http://127.0.0.1:1\n  admin      http://127.0.0.1:99\n";
    assert_eq!(admin_address(output), "127.0.0.1:99".parse().ok());
    let output = "{\"message\":\"listening\",\"url\":\"http://127.0.0.1:1\"}\n\
                  {\"message\":\"admin\",\"url\":\"http://127.0.0.1:99\"}\n";
    assert_eq!(admin_address(output), "127.0.0.1:99".parse().ok());
    assert_eq!(admin_address("  listening  http://127.0.0.1:1  "), None);
}
