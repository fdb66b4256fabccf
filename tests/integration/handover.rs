//! The hand-over to a new process on USR2: nothing fails, backends stay, and what cannot take over
//! changes nothing.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal::{SIGKILL, SIGTERM, SIGUSR2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tidegate::load::Protocol;

use crate::support::{
    Backend, Load, Origin, Process, Proxy, PyPeer, PyTalk, Running, certificate, each, get, gets,
    lives, missing, missing_module, run, send, started_by, wait_for, wait_until,
};

fn pid(proxy: &Running) -> i32 {
    proxy.status()["pid"].as_i64().expect("a number") as i32
}

pub fn tell(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).expect("it runs");
}

/// Hands over; old and new process, once the new one is the service.
#[track_caller]
pub fn hand_over(proxy: &mut Running) -> (i32, i32) {
    let old = pid(proxy);
    // Its backends are nobody's children once it has ended, and must not outlive a test that fails.
    proxy.process.remember();
    tell(old, SIGUSR2);
    let new = wait_for("another process answers", || {
        // Whoever is asked, answers.
        let answer = send("GET", &proxy.admin_url("/v1/status"), &[], b"").unwrap();
        answer.json()["pid"].as_i64().map(|pid| pid as i32).filter(|new| *new != old)
    });
    proxy.process.follow(new);
    (old, new)
}

/// Ends the process that serves now, and waits for that.
#[track_caller]
pub fn stop(proxy: &Running) {
    let last = pid(proxy);
    tell(last, SIGTERM);
    wait_until("it ended", || !lives(last));
}

/// A second listener, over TLS.
fn tls(folder: &Path) -> String {
    let (chain, key) = certificate(folder, &["localhost", "127.0.0.1"]);
    format!(
        "[[listener]]\nname = \"https\"\naddress = \"127.0.0.1:0\"\n[[listener.tls.certificate]]\n\
         cert = \"{}\"\nkey = \"{}\"\n[listener.tls]\nunknown_sni = \"default\"\n",
        chain.display(),
        key.display()
    )
}

/// Ids and processes of the backends, while the first tidegate is their parent.
pub fn backends(proxy: &Running, size: usize) -> (Vec<String>, Vec<i32>) {
    let all = proxy.wait_for_size(size);
    (each(&all, "id"), all.iter().map(|backend| proxy.pid_of(backend)).collect())
}

#[track_caller]
pub fn failed(proxy: &Running, times: f64) {
    wait_until("it is told that it failed", || {
        proxy.metric("tidegate_handovers_total", &[("result", "error")]) == times
    });
}

#[test]
fn three_in_a_row_under_load_fail_nothing_and_keep_the_backends() {
    let keys = tempfile::tempdir().unwrap();
    let mut proxy =
        Proxy::new().origins("--delay 20ms", "").scaling(2, 2, "").toml(&tls(keys.path())).run();
    let (ids, pids) = backends(&proxy, 2);
    let plain = proxy.url("/");
    let secure = format!("https://localhost:{}/", proxy.address("https").port());
    let loads: Vec<Load> = [&plain, &secure]
        .into_iter()
        .flat_map(|url| [Protocol::Http1, Protocol::Http2].map(|p| gets(url, 25.0, p)))
        .map(Load::start)
        .collect();
    for times in 1..=3 {
        wait_until("all of them are answered", || {
            proxy.metric("tidegate_requests_total", &[("code", "200")]) > 50.0
        });
        let (old, new) = hand_over(&mut proxy);
        assert_eq!(proxy.metric("tidegate_handovers_total", &[("result", "ok")]), f64::from(times));
        assert_eq!(each(&proxy.wait_for_size(2), "id"), ids, "the same backends");
        assert!(pids.iter().all(|pid| lives(*pid)), "in the same processes");
        if times == 1 {
            let status = proxy.process.wait();
            assert!(status.success(), "{status}");
        } else {
            wait_until("the old one ended", || !lives(old));
        }
        assert!(started_by(new).is_empty(), "nothing was started");
    }
    for load in loads {
        load.finish_unharmed();
    }
    // The last one watches them, although it is not their parent.
    tell(pids[0], SIGKILL);
    wait_until("it is replaced", || {
        let ready = each(&proxy.ready(), "id");
        ready.len() == 2 && !ready.contains(&ids[0]) && ready.contains(&ids[1])
    });
    let replaced = started_by(pid(&proxy));
    assert_eq!(replaced.len(), 1);
    stop(&proxy);
    wait_until("its backends end with it", || !pids.iter().chain(&replaced).any(|pid| lives(*pid)));
}

#[test]
fn what_runs_lives_on_in_the_old_process() {
    if missing_module("grpc") || missing_module("websockets") {
        return;
    }
    let server = PyPeer::serve("grpc_peer.py");
    let echo = Origin::new().start();
    let mut proxy = Proxy::new()
        .backend(&server)
        .toml("[service.app.transport]\nprotocol = \"h2c\"")
        .toml(&format!(
            "[[route]]\npath = \"/ws\"\nservice = \"echo\"\n[[service.echo.backend]]\naddress = \"{}\"",
            echo.address()
        ))
        .run();
    let address = proxy.address("http").to_string();
    let mut stream = PyTalk::start("across.py", &["grpc", &address]);
    let mut socket = PyTalk::start("across.py", &["websocket", &format!("ws://{address}/ws")]);
    assert_eq!((stream.ask("a"), socket.ask("b")), ("aa".into(), "b".into()));
    assert_eq!(proxy.metric("tidegate_tunnels", &[("service", "echo")]), 1.0);

    let (old, new) = hand_over(&mut proxy);
    assert!(lives(old), "it has something to finish");
    assert_eq!((stream.ask("c"), socket.ask("d")), ("cc".into(), "d".into()));
    // What is new is the new one's.
    let mut another = PyTalk::start("across.py", &["grpc", &address]);
    assert_eq!(another.ask("e"), "ee");
    assert_eq!(proxy.metric("tidegate_in_flight", &[("service", "app")]), 1.0);
    assert_eq!(proxy.metric("tidegate_tunnels", &[("service", "echo")]), 0.0);
    assert_eq!((stream.ask("f"), stream.finish()), ("ff".into(), "done OK 0".into()));
    assert_eq!((socket.ask("g"), socket.finish()), ("g".into(), "done 1000".into()));
    let status = proxy.process.wait();
    assert!(status.success(), "{status}");
    assert_eq!(another.finish(), "done OK 0");
    assert_eq!(pid(&proxy), new);
    stop(&proxy);
}

#[test]
fn what_cannot_take_over_changes_nothing() {
    let mut proxy = Proxy::new().origins("--delay 0ms", "").scaling(2, 2, "").run();
    let (ids, pids) = backends(&proxy, 2);
    let old = pid(&proxy);
    let load = Load::start(gets(&proxy.url("/"), 50.0, Protocol::Http1));

    // Before anything was passed on.
    proxy.write(|proxy| proxy.service("weird = 1"));
    proxy.signal(SIGUSR2);
    failed(&proxy, 1.0);
    let said = proxy.process.output();
    assert!(said.contains("not handed over, everything goes on as before: the new process says"));
    assert!(said.contains("unknown key \\\"weird\\\"") || said.contains("weird"), "{said}");

    // When its backends were already let go of: they come back.
    let good = proxy.config_file();
    let text = std::fs::read_to_string(&good).unwrap().replace("weird = 1", "");
    std::fs::write(
        &good,
        format!("{text}\n[log.access]\nenabled = true\npath = \"/proc/none/log\"\n"),
    )
    .unwrap();
    proxy.signal(SIGUSR2);
    failed(&proxy, 2.0);
    assert!(proxy.process.output().contains("log.access.path"), "{}", proxy.process.output());

    assert_eq!(pid(&proxy), old);
    assert_eq!(each(&proxy.wait_for_size(2), "id"), ids);
    assert!(pids.iter().all(|pid| lives(*pid)), "in the same processes");
    // It still watches them, and starts and ends what is needed.
    tell(pids[0], SIGKILL);
    wait_until("it is replaced", || {
        let ready = each(&proxy.ready(), "id");
        ready.len() == 2 && !ready.contains(&ids[0])
    });
    wait_until("it was waited for", || !Path::new(&format!("/proc/{}", pids[0])).exists());

    std::fs::write(&good, text).unwrap();
    hand_over(&mut proxy);
    load.finish_unharmed();
    stop(&proxy);
}

/// A copy of tidegate that a test may replace.
pub fn copy(folder: &Path) -> String {
    let copy = folder.join("tidegate");
    std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), &copy).unwrap();
    copy.to_str().unwrap().to_owned()
}

/// Puts a script in its place, in one step.
pub fn replace(program: &str, script: &str) {
    let new = format!("{program}.new");
    let mut file = std::fs::File::create(&new).unwrap();
    writeln!(file, "#!/bin/sh\n{script}").unwrap();
    file.set_permissions(PermissionsExt::from_mode(0o755)).unwrap();
    drop(file);
    std::fs::rename(new, program).unwrap();
}

#[test]
fn the_program_that_is_there_now_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let program = copy(folder.path());
    let origin = Origin::new().start();
    let run_it = format!("exec {program} run -c \"$TIDEGATE_CONFIG\"");
    let mut proxy = Proxy::new().backend(&origin).program("/bin/sh", &["-c", &run_it]).run();
    replace(&program, "exit 3");
    proxy.signal(SIGUSR2);
    failed(&proxy, 1.0);
    let said = proxy.process.output();
    assert!(said.contains("ended (exit status: 3) before it was prepared"), "{said}");
    std::fs::remove_file(&program).unwrap();
    proxy.signal(SIGUSR2);
    failed(&proxy, 2.0);
    assert!(proxy.process.output().contains("cannot be started"), "{}", proxy.process.output());
    // The new version.
    copy(folder.path());
    let (_, new) = hand_over(&mut proxy);
    let running = std::fs::read_link(format!("/proc/{new}/exe")).unwrap();
    assert_eq!(running, Path::new(&program));
    assert_eq!(get(&proxy.url("/")).status, 200);
    stop(&proxy);
}

#[test]
fn one_at_a_time_and_a_term_calls_it_off() {
    let folder = tempfile::tempdir().unwrap();
    let program = copy(folder.path());
    let run_it = format!("exec {program} run -c \"$TIDEGATE_CONFIG\"");
    let mut proxy = Proxy::new()
        .origins("--delay 0ms", "")
        .scaling(1, 1, "")
        .program("/bin/sh", &["-c", &run_it])
        .run();
    let (_, pids) = backends(&proxy, 1);
    replace(&program, "exec sleep 60");
    proxy.signal(SIGUSR2);
    wait_until("it is under way", || proxy.process.output().contains("handing over"));
    proxy.signal(SIGUSR2);
    wait_until("the second is refused", || {
        proxy.process.output().contains("USR2 refused: a hand-over is under way")
    });
    let status = proxy.stop();
    assert!(status.success(), "{status}");
    assert!(proxy.process.output().contains("it was called off"), "{}", proxy.process.output());
    assert!(!lives(pids[0]), "its backend ended with it");
}

#[test]
fn orders_of_operators_and_added_backends_are_passed_on() {
    let (extra, fixed) = (Origin::new().id("extra").start(), Origin::new().id("fixed").start());
    let text = Proxy::new()
        .origins("--delay 0ms", "")
        .scaling(1, 4, "")
        .toml(&format!(
            "[[route]]\npath = \"/fixed\"\nservice = \"fixed\"\n[service.fixed]\nslow_start = \"0s\"\n\
             [[service.fixed.backend]]\naddress = \"{}\"\nid = \"one\"",
            fixed.address()
        ))
        .text(Path::new("{dir}"));
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\n";
    let more = format!("{admin}dynamic_backends = [\"127.0.0.0/8\"]\n");
    let mut proxy = Proxy::new().config(&text.replace(admin, &more)).run();
    let pin = json!({"replicas": 3, "for": "10m"});
    assert_eq!(proxy.admin_json("PUT", "/v1/services/app/scaling", Some(pin)).status, 200);
    let (ids, pids) = backends(&proxy, 3);
    let added = json!({"address": extra.address().to_string(), "id": "extra"});
    let added = proxy.admin_json("POST", "/v1/services/fixed/backends", Some(added));
    assert_eq!(added.status, 201, "{}", added.text());
    let drain = format!("/v1/services/app/backends/{}/drain", ids[0]);
    assert!(proxy.admin("POST", &drain).status < 300);
    assert!(proxy.admin("POST", "/v1/services/fixed/backends/one/drain").status < 300);

    let (_, new) = hand_over(&mut proxy);
    let states = |service: &str| -> Vec<(String, String)> {
        let service = proxy.service(service);
        let all = service["backends"].as_array().unwrap().iter();
        let text = |backend: &Value, key: &str| backend[key].as_str().unwrap().to_owned();
        all.map(|b| (text(b, "id"), text(b, "state"))).collect()
    };
    let of = |all: &[(String, String)], id: &str| {
        all.iter().find(|(known, _)| known == id).map(|(_, state)| state.clone())
    };
    let app = states("app");
    assert_eq!(of(&app, &ids[0]).as_deref(), Some("draining"), "{app:?}");
    assert_eq!(of(&app, &ids[1]).as_deref(), Some("ready"), "{app:?}");
    let fixed = states("fixed");
    assert_eq!(of(&fixed, "one").as_deref(), Some("draining"), "{fixed:?}");
    assert_eq!(of(&fixed, "extra").as_deref(), Some("ready"), "{fixed:?}");
    assert_eq!(get(&proxy.url("/fixed")).header("x-origin-id"), Some("extra"));
    let scaling = proxy.service("app")["scaling"].clone();
    assert_eq!(scaling["desired"], 3, "{scaling}");
    assert!(pids.iter().all(|pid| lives(*pid)));
    let value = proxy.admin("GET", "/v1/services/app/scaling").json();
    assert!(value.to_string().contains("pin"), "{value}");
    assert!(lives(new));
    stop(&proxy);
}

#[test]
fn tls_sessions_are_resumed_with_the_new_process() {
    if missing("openssl") {
        return;
    }
    let keys = tempfile::tempdir().unwrap();
    let origin = Origin::new().start();
    let mut proxy = Proxy::new().backend(&origin).toml(&tls(keys.path())).run();
    let address = proxy.address("https").to_string();
    let file = keys.path().join("session").display().to_string();
    let request = keys.path().join("request");
    std::fs::write(&request, "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let client = |version: &str, session: &str| {
        let command = format!(
            "openssl s_client -connect {address} -servername localhost {version} -ign_eof {session} \
             <{} 2>&1",
            request.display()
        );
        run("sh", &["-c", &command]).text()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let first = client(version, &format!("-sess_out {file}"));
        assert!(first.contains("New, TLSv1") && first.contains("HTTP/1.1 200"), "{first}");
        hand_over(&mut proxy);
        let again = client(version, &format!("-sess_in {file}"));
        assert!(again.contains("Reused, TLSv1"), "{version}: {again}");
    }
    stop(&proxy);
}

#[test]
fn another_number_of_workers_takes_every_queue() {
    let origin = Origin::new().start();
    let mut proxy = Proxy::new().runtime("workers = 3").backend(&origin).run();
    let load = Load::start(gets(&proxy.url("/"), 50.0, Protocol::Http1));
    for workers in [1, 4, 2] {
        proxy.write(|p| {
            let text = p.text(Path::new("{dir}"));
            let old = text.lines().find(|line| line.starts_with("workers")).unwrap().to_owned();
            p.config(&text.replace(&old, &format!("workers = {workers}")))
        });
        hand_over(&mut proxy);
        assert_eq!(proxy.status()["workers"], workers);
        // A queue that nobody accepts from would hold some of these.
        for _ in 0..40 {
            assert_eq!(get(&proxy.url("/")).status, 200);
        }
    }
    load.finish_unharmed();
    stop(&proxy);
}

#[test]
fn a_unix_socket_of_the_admin_api_is_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::new().start();
    let text = Proxy::new().backend(&origin).text(folder.path());
    let socket = folder.path().join("admin.sock");
    let admin = format!("listen = \"unix:{}\"\n", socket.display());
    let text = text.replacen("listen = \"127.0.0.1:0\"\n", &admin, 1);
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, text).unwrap();
    let tidegate = env!("CARGO_BIN_EXE_tidegate");
    let mut process =
        Process::start("tidegate", Command::new(tidegate).args(["run", "-c"]).arg(&file));
    let at = format!("unix:{}", socket.display());
    let answers = || run(tidegate, &["status", "--json", "--admin", &at]).code == Some(0);
    wait_until("it answers", answers);
    wait_until("it is ready", || process.output().contains("\"ready\""));
    process.signal(SIGUSR2);
    assert!(process.wait().success());
    assert!(answers(), "the file is still there, and so is who listens: {}", process.output());
    let lock = std::fs::read_to_string(folder.path().join("state/lock")).unwrap();
    let new: i32 = lock.trim().parse().unwrap();
    process.follow(new);
    assert!(new != process.pid() && lives(new));
    tell(new, SIGTERM);
    wait_until("it ended", || !lives(new));
    assert!(!socket.exists(), "the last one takes it away");
}
