//! What a service manager sees and gives: notifications, the watchdog, socket activation, and the
//! units in examples/.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal::{SIGHUP, SIGTERM, SIGUSR2};
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::support::{Origin, Process, Proxy, get, lives, missing, refusing_address, wait_until};

/// A service manager's socket for notifications.
struct Manager {
    socket: UnixDatagram,
    _directory: tempfile::TempDir,
    path: String,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
        Self { socket, path: path.to_str().unwrap().to_owned(), _directory: directory }
    }

    /// The next message, signs of life included.
    fn next(&self) -> String {
        let mut buffer = [0; 1024];
        let read = self.socket.recv(&mut buffer).expect("something is told");
        String::from_utf8_lossy(&buffer[..read]).into_owned()
    }
}

#[test]
fn a_manager_is_told_of_start_reload_and_end_in_order() {
    let manager = Manager::new();
    let origin = Origin::new().start();
    let mut proxy = Proxy::new().backend(&origin).env("NOTIFY_SOCKET", &manager.path).run();
    assert_eq!(manager.next(), "READY=1\nSTATUS=serving");

    assert_eq!(proxy.reload(|proxy| proxy).status, 200);
    let reloading = manager.next();
    let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("it reloads");
    let first: u64 = usec.parse().expect("a number of microseconds");
    assert_eq!(manager.next(), "READY=1\nSTATUS=serving configuration 2");

    proxy.write(|proxy| proxy.service("balance = \"fastest\""));
    proxy.signal(SIGHUP);
    let reloading = manager.next();
    let usec = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").expect("it reloads");
    assert!(usec.parse::<u64>().expect("a number of microseconds") > first);
    assert_eq!(manager.next(), "READY=1\nSTATUS=serving; the last reload failed");

    assert!(proxy.stop().success());
    assert_eq!(manager.next(), "STOPPING=1\nSTATUS=finishing what runs");
}

#[test]
fn signs_of_life_come_for_as_long_as_it_runs_and_only_to_whom_they_are_due() {
    let manager = Manager::new();
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).env("NOTIFY_SOCKET", &manager.path);
    let mut watched = proxy.clone().env("WATCHDOG_USEC", "200000").run();
    for _ in 0..5 {
        while manager.next() != "WATCHDOG=1" {}
    }
    assert!(watched.stop().success());
    while !manager.next().starts_with("STOPPING=1") {}
    drop(watched);
    while manager.socket.set_nonblocking(true).is_ok() && manager.socket.recv(&mut [0; 64]).is_ok()
    {
    }
    manager.socket.set_nonblocking(false).unwrap();

    // Another process is watched.
    let mut other = proxy.env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1").run();
    assert_eq!(manager.next(), "READY=1\nSTATUS=serving");
    assert!(other.stop().success());
    assert!(manager.next().starts_with("STOPPING=1"));
}

#[test]
fn a_manager_learns_who_the_service_is_after_a_hand_over() {
    if missing("python3") {
        return;
    }
    let manager = Manager::new();
    let origin = Origin::new().start();
    let service = Proxy::new().listener("address = \"fd:web\"").backend(&origin);
    let mut proxy = activated(service, &["web=tcp"]).env("NOTIFY_SOCKET", &manager.path).run();
    let port = port(&proxy.process.output(), "web").expect("it is told");
    assert_eq!(manager.next(), "READY=1\nSTATUS=serving");
    proxy.signal(SIGUSR2);
    let main = manager.next();
    let new: i32 = main.strip_prefix("MAINPID=").expect("who it is").parse().expect("a number");
    proxy.process.follow(new);
    assert_eq!(manager.next(), "READY=1\nSTATUS=serving");
    assert!(proxy.process.wait().success());
    assert_eq!(proxy.status()["pid"], new);
    assert_eq!(get(&format!("http://127.0.0.1:{port}/")).status, 200);
    kill(Pid::from_raw(new), SIGTERM).unwrap();
    // The old one said nothing of its end: it was not the service's.
    assert!(manager.next().starts_with("STOPPING=1"));
    wait_until("it ended", || !lives(new));
}

/// Run by a parent that passes these sockets.
fn activated(proxy: Proxy, sockets: &[&str]) -> Proxy {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/activate.py");
    let run =
        format!("exec \"$0\" {script} {} -- \"$1\" run -c \"$TIDEGATE_CONFIG\"", sockets.join(" "));
    let tidegate = env!("CARGO_BIN_EXE_tidegate");
    proxy.program("/bin/sh", &["-c", &run, "/usr/bin/python3", tidegate])
}

/// What the parent said about a socket.
fn port(output: &str, name: &str) -> Option<u16> {
    output.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

#[test]
fn sockets_of_a_manager_are_listened_on_by_name() {
    if missing("python3") {
        return;
    }
    let service = Proxy::new()
        .listener("address = [\"fd:web\", \"127.0.0.1:0\"]")
        .origins("--delay 0ms", "on_crash = \"stop\"")
        .scaling(1, 1, "");
    let proxy = activated(service, &["web=tcp", "spare=tcp"])
        .env("NOTIFY_SOCKET", "@nobody-is-there")
        .start();
    let port = port(&proxy.process.output(), "web").expect("it is told");
    // It listened before tidegate was there: this is served once there is somebody.
    let mut early = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    early.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    proxy.wait_for_size(1);
    let mut answer = String::new();
    early.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") || answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert_eq!(get(&format!("http://127.0.0.1:{port}/")).status, 200);
    let addresses: Vec<String> = proxy.status()["listeners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["address"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(addresses.len(), 2);
    assert_eq!(addresses[0], format!("127.0.0.1:{port}"));
    let output = proxy.process.output();
    assert!(output.contains("a socket named \\\"spare\\\" was passed"), "{output}");

    let children = proxy.process.descendants();
    assert!(children.len() >= 2, "a guard and an origin: {children:?}");
    for child in children {
        let environment = std::fs::read(format!("/proc/{child}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        for name in ["LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_"] {
            assert!(!environment.contains(name), "{child}: {environment}");
        }
    }
}

#[test]
fn a_reload_keeps_the_sockets_of_a_manager() {
    if missing("python3") {
        return;
    }
    let origin = Origin::new().start();
    let service = Proxy::new().listener("address = \"fd:web\"").backend(&origin);
    let mut proxy = activated(service, &["web=tcp"]).run();
    let port = port(&proxy.process.output(), "web").expect("it is told");
    let url = format!("http://127.0.0.1:{port}/");
    assert_eq!(get(&url).status, 200);
    assert_eq!(proxy.reload(|proxy| proxy.service("weird = 1")).status, 422);
    let reloaded = proxy.reload(|p| {
        let text = p.text(Path::new("{dir}")).replace("weird = 1", "slow_start = \"1s\"");
        p.config(&text)
    });
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    assert_eq!(get(&url).status, 200);
}

#[test]
fn what_is_wrong_with_passed_sockets_is_said() {
    if missing("python3") {
        return;
    }
    let fails = |sockets: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let proxy = Proxy::new().listener("address = \"fd:web\"").backend(&refusing_address());
        let file = directory.path().join("tidegate.toml");
        std::fs::write(&file, proxy.text(directory.path())).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/activate.py");
        let mut command = Command::new("/usr/bin/python3");
        command.arg(script).args(sockets).arg("--").arg(env!("CARGO_BIN_EXE_tidegate"));
        let mut process = Process::start("tidegate", command.args(["run", "-c"]).arg(&file));
        assert_eq!(process.wait().code(), Some(1));
        process.output()
    };
    for (sockets, said) in [
        (&["other=tcp"][..], "fd:web: no socket of this name was passed (there are: other)"),
        (&[], "fd:web: no socket of this name was passed;"),
        (&["web=tcp", "web=tcp"], "fd:web: 2 sockets of this name were passed"),
        (&["web=udp"], "fd:web: the socket that was passed is not of TCP"),
        (&["web=unix"], "fd:web: the socket that was passed is not of TCP"),
        (&["web=bound"], "fd:web: the socket that was passed does not listen"),
    ] {
        let output = fails(sockets);
        assert!(
            output.contains("listener \"http\": cannot listen on ") && output.contains(said),
            "{output}"
        );
    }
}

#[test]
fn the_units_of_the_examples_are_what_they_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/systemd");
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).expect("it is there");
    let (service, socket, config) =
        (read("tidegate.service"), read("tidegate.socket"), read("tidegate.toml"));
    for line in ["Type=notify", "ExecReload=", "WatchdogSec=", "NotifyAccess=", "KillMode=mixed"] {
        assert!(service.contains(line), "{line}");
    }
    // What the socket unit passes is what the listener asks for.
    let name = socket.lines().find_map(|line| line.strip_prefix("FileDescriptorName="));
    let name = name.expect("it has a name");
    assert!(config.contains(&format!("address = \"fd:{name}\"")), "{config}");
    let file = folder.join("tidegate.toml");
    let checked = crate::support::run(
        env!("CARGO_BIN_EXE_tidegate"),
        &["check", "-c", file.to_str().unwrap()],
    );
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    if missing("systemd-analyze") {
        return;
    }
    let units = ["tidegate.service", "tidegate.socket"].map(|name| folder.join(name));
    let units = units.each_ref().map(|unit| unit.to_str().unwrap());
    let verified = crate::support::run("systemd-analyze", &["verify", units[0], units[1]]);
    // It wants the program to be installed, which is no affair of a test.
    let complaints = verified.stderr.lines().filter(|line| !line.contains("is not executable"));
    let complaints: Vec<_> = complaints.filter(|line| line.contains("tidegate")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}
