//! The admin API of the running program: who may ask, when it is ready, what it tells as it
//! happens.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::openapi::{OPENAPI, described};
use crate::support::{
    Backend, Origin, Proxy, RawOrigin, Running, Step, connect, get, run, send, wait_until,
};

#[test]
fn ready_is_after_the_first_round_and_not_while_stopping() {
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    let steps = vec![Step::ReadHead, Step::Hold, Step::Send(answer)];
    let backend = RawOrigin::script(move |_| steps.clone());
    let mut proxy = Proxy::new()
        .backend(&backend)
        .runtime("shutdown_delay = \"60s\"")
        .toml("[service.app.health]\npath = \"/health\"\ntimeout = \"50s\"\n")
        .start();
    wait_until("the check is under way", || backend.connections() == 1);
    assert_eq!(proxy.admin("GET", "/healthz").status, 200);
    let answer = proxy.admin("GET", "/readyz");
    assert_eq!(answer.status, 503);
    assert!(answer.json()["detail"].to_string().contains("first round"), "{}", answer.text());
    described("GET", "/readyz", &answer);
    assert_eq!(proxy.status()["ready"], false);
    assert!(proxy.command(&["status"]).text().starts_with("not ready\n"));

    backend.release();
    wait_until("the round is over", || proxy.admin("GET", "/readyz").status == 200);
    proxy.signal(Signal::SIGTERM);
    wait_until("it is not ready any more", || proxy.admin("GET", "/readyz").status == 503);
    assert_eq!(proxy.admin("GET", "/healthz").status, 200);
    assert!(connect(proxy.address("http")).is_ok(), "and accepts for shutdown_delay");
    proxy.signal(Signal::SIGTERM);
    proxy.process.wait();
}

/// A round of checks that finds nobody healthy is a round.
#[test]
fn ready_says_nothing_of_the_health_of_backends() {
    let proxy = Proxy::new()
        .backend(&crate::support::refusing_address())
        .toml(
            "[service.app.health]\npath = \"/health\"\ninterval = \"100ms\"\nunhealthy_after = 1\n",
        )
        .run();
    wait_until("it is known as unhealthy", || {
        proxy.service("app")["backends"][0]["healthy"] == false
    });
    assert_eq!(proxy.admin("GET", "/readyz").status, 200);
    let why = proxy.service("app")["backends"][0]["last_error"].clone();
    assert!(why.as_str().unwrap().contains("refused"), "{why}");
}

#[test]
fn names_media_types_origins_and_networks_are_checked() {
    let origin = Origin::new().start();
    let file = |allow: &str| {
        format!(
            "[runtime]\nworkers = 1\nwatch = false\nstate_dir = \"{{dir}}/state\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\nhosts = [\"127.0.0.1\", \"admin.test\"]\nallow = [\"{allow}\"]\n\
             [[listener]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\n[[route]]\nservice = \"app\"\n\
             [[service.app.backend]]\naddress = \"{}\"\n",
            origin.address()
        )
    };
    let mut proxy = Proxy::new().config(&file("127.0.0.0/8")).run();
    let json = ("content-type", "application/json");
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        send(method, &proxy.admin_url(path), headers, b"").unwrap().status
    };
    assert_eq!(ask("GET", "/v1/status", &[("host", "evil.test")]), 421);
    assert_eq!(ask("GET", "/v1/status", &[("host", "Admin.Test:1")]), 200);
    assert_eq!(ask("GET", "/metrics", &[("host", "localhost")]), 421, "not among hosts here");
    let generation = || proxy.status()["config_generation"].as_u64().unwrap();
    for bad in [
        &[][..],
        &[("content-type", "text/plain")],
        &[("content-type", "application/x-www-form-urlencoded")],
    ] {
        assert_eq!(ask("POST", "/v1/reload", bad), 415, "{bad:?}");
    }
    for origin in ["http://evil.test", "null", "http://127.0.0.1:1"] {
        assert_eq!(ask("POST", "/v1/reload", &[json, ("origin", origin)]), 403, "{origin}");
    }
    assert_eq!(ask("POST", "/v1/reload", &[json, ("host", "evil.test")]), 421);
    assert_eq!(generation(), 1, "none of them reloaded");
    let own = proxy.admin_url("");
    assert_eq!(ask("POST", "/v1/reload", &[json, ("origin", &own)]), 200);
    assert_eq!(generation(), 2);

    assert_eq!(proxy.reload(|p| p.config(&file("192.0.2.0/24"))).status, 200);
    let refused = proxy.admin("GET", "/healthz");
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("127.0.0.1 is not within admin.allow"), "{}", refused.text());
    let told = proxy.command(&["reload"]);
    assert_eq!(told.code, Some(1));
    assert!(told.stderr.contains("admin.allow"), "{}", told.stderr);
}

#[test]
fn the_public_port_has_three_paths() {
    let origin = Origin::new().start();
    let mut proxy = Proxy::new()
        .config(&format!(
            "[runtime]\nworkers = 1\nwatch = false\nstate_dir = \"{{dir}}/state\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\npublic_listen = \"127.0.0.1:0\"\n\
             [[listener]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\n[[route]]\nservice = \"app\"\n\
             [[service.app.backend]]\naddress = \"{}\"\n",
            origin.address()
        ))
        .run();
    let public = proxy.process.wait_for_output("its public address", |output| {
        let lines = output.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.into_iter().find(|line| line["message"] == "public admin")?;
        line["url"].as_str().map(str::to_owned)
    });
    let api: Value = serde_json::from_str(OPENAPI).unwrap();
    for path in api["paths"].as_object().unwrap().keys() {
        let full = path.replace("{name}", "app").replace("{id}", "x");
        let answer = send("GET", &format!("{public}{full}"), &[("host", "any.test")], b"").unwrap();
        let open = ["/healthz", "/readyz", "/metrics"].contains(&path.as_str());
        assert_eq!(answer.status, if open { 200 } else { 404 }, "{path}");
    }
    let json = [("content-type", "application/json")];
    let reload = send("POST", &format!("{public}/v1/reload"), &json, b"").unwrap();
    assert_eq!((reload.status, proxy.status()["config_generation"].as_u64()), (404, Some(1)));
}

#[test]
fn a_unix_socket_serves_api_and_commands() {
    let origin = Origin::new().id("a").start();
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("admin.sock");
    let text = format!(
        "[runtime]\nworkers = 1\nwatch = false\nstate_dir = \"{{dir}}/state\"\n\
         [admin]\nlisten = \"unix:{}\"\n[[listener]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\n\
         [[route]]\nservice = \"app\"\n[[service.app.backend]]\nid = \"a\"\naddress = \"{}\"\n",
        socket.display(),
        origin.address()
    )
    .replace("{dir}", &folder.path().display().to_string());
    let file = folder.path().join("tidegate.toml");
    std::fs::write(&file, text).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let mut process =
        crate::support::Process::start("tidegate", command.args(["run", "-c"]).arg(&file));
    wait_until("it listens there", || UnixStream::connect(&socket).is_ok());
    process.wait_for_output("ready", |output| output.contains("ready").then_some(()));
    let admin = format!("unix:{}", socket.display());
    let tidegate = |arguments: &[&str]| {
        run(env!("CARGO_BIN_EXE_tidegate"), &[arguments, &["--admin", &admin]].concat())
    };
    let status = tidegate(&["status", "--json"]);
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    let status: Value = serde_json::from_str(&status.text()).unwrap();
    assert_eq!(status["status"]["pid"], process.pid());
    assert_eq!(tidegate(&["drain", "app", "a"]).code, Some(0));
    assert_eq!(tidegate(&["reload"]).code, Some(0));
    process.signal(Signal::SIGTERM);
    assert_eq!(process.wait().code(), Some(0));
    assert!(!socket.exists(), "it goes with the process");
    let gone = tidegate(&["status"]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.stderr.contains("no such socket"), "{}", gone.stderr);
}

/// Reads `/v1/events`.
struct Events(BufReader<TcpStream>);

impl Events {
    fn open(proxy: &Running) -> Self {
        let url = proxy.admin_url("");
        let authority = url.strip_prefix("http://").unwrap();
        let mut stream = connect(authority.parse().unwrap()).unwrap();
        let request = format!("GET /v1/events HTTP/1.1\r\nhost: {authority}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut events = Self(BufReader::new(stream));
        // From the greeting on nothing is missed.
        while !events.line().starts_with(": tidegate") {}
        events
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended");
        line
    }

    /// The next one of that kind (of its data), and its name in the stream.
    fn next(&mut self, kind: &str) -> (String, Value) {
        let mut name = String::new();
        loop {
            let line = self.line();
            if let Some(event) = line.strip_prefix("event: ") {
                name = event.trim().to_owned();
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event: Value = serde_json::from_str(data).unwrap();
            if event["data"]["kind"] == kind {
                return (name, event);
            }
        }
    }
}

#[test]
fn events_tell_what_happens() {
    let (a, b) = (Origin::new().id("a").start(), Origin::new().id("b").start());
    let health =
        "[service.app.health]\npath = \"/health\"\ninterval = \"100ms\"\nunhealthy_after = 1\n";
    let base = || Proxy::new().backend(&a).backend(&b).toml(health);
    let mut proxy = base().run();
    let mut events = Events::open(&proxy);

    assert_eq!(proxy.admin("POST", "/v1/services/app/backends/a/drain").status, 204);
    let (name, event) = events.next("drain");
    assert_eq!((name.as_str(), &event["service"]), ("operator", &json!("app")));
    assert_eq!((&event["data"]["backend"], &event["data"]["step"]), (&json!("a"), &json!("begun")));
    assert_eq!(proxy.admin("POST", "/v1/services/app/backends/a/undrain").status, 204);
    assert_eq!(events.next("drain").1["data"]["step"], "undone");

    assert_eq!(proxy.admin("POST", "/v1/reload").status, 200);
    let (name, event) = events.next("reload");
    assert_eq!((name.as_str(), &event["data"]["generation"]), ("reload", &json!(2)));
    assert_eq!(proxy.reload(|p| p.toml("[nonsense]")).status, 422);
    let (_, event) = events.next("reload_failed");
    assert!(event["data"]["errors"][0].as_str().unwrap().contains("nonsense"), "{event}");

    drop(b);
    let (name, event) = events.next("backend_state");
    assert_eq!(name, "backend");
    assert_eq!(
        (&event["data"]["backend"], &event["data"]["state"]),
        (&json!("b"), &json!("unhealthy"))
    );
    assert!(event["at"].as_str().unwrap().ends_with('Z') && event["id"].is_u64());
}

/// As many clients as there may be read nothing; traffic and the next changes go on.
#[test]
fn clients_that_read_nothing_harm_nobody() {
    let origin = Origin::new().id("a").start();
    let proxy = Proxy::new().backend(&origin).run();
    let url = proxy.admin_url("");
    let authority = url.strip_prefix("http://").unwrap();
    let silent: Vec<_> = (0..100)
        .map(|n| {
            let mut stream = connect(authority.parse().unwrap()).unwrap();
            let path = ["/v1/events", "/metrics", "/v1/services"][n % 3];
            let request = format!("GET {path} HTTP/1.1\r\nhost: {authority}\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(&proxy.url("/")).status, 200);
    }
    assert_eq!(proxy.admin("POST", "/v1/services/app/backends/a/drain").status, 204);
    assert_eq!(proxy.service("app")["backends"][0]["drained_by_operator"], true);
    drop(silent);
}

/// Not even a scan of the admin port with garbage shows in traffic or ends anything.
#[test]
fn garbage_is_refused() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let url = proxy.admin_url("");
    for bytes in
        [&b"\x16\x03\x01\x02\x00"[..], b"GET / HTTP/9\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]
    {
        let mut stream = connect(url.strip_prefix("http://").unwrap().parse().unwrap()).unwrap();
        stream.write_all(bytes).unwrap();
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        // A reset is an answer too.
        let _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    assert_eq!(proxy.admin("GET", "/healthz").status, 200);
}
