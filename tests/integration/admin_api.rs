//! The admin API of the running program: who may ask, what it answers, what it changes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::{
    Answer, Backend, Origin, Proxy, RawOrigin, Running, Step, connect, get, run, send, wait_for,
    wait_until,
};

const OPENAPI: &str = include_str!("../../src/admin/openapi.json");

/// A service `app` of processes, two to four of them.
fn scaled(more: &str) -> Proxy {
    Proxy::new().toml(&format!(
        "[service.app.health]\npath = \"/health\"\ninterval = \"200ms\"\n\
         [service.app.orchestrator]\nkind = \"process\"\n\
         command = [\"{{self}}\", \"origin\", \"--port\", \"{{port}}\"]\n\
         [service.app.scaling]\nmin = 2\nmax = 4\n{more}"
    ))
}

/// What of a value is not as its schema says; the words of JSON Schema that the file uses.
fn mismatches(schema: &Value, value: &Value, at: &str, api: &Value, found: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let named = &api["components"]["schemas"][name.rsplit('/').next().unwrap()];
        assert!(named.is_object(), "{name} is not there");
        return mismatches(named, value, at, api, found);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        for part in parts {
            let mut wrong = Vec::new();
            mismatches(part, value, at, api, &mut wrong);
            // What one part does not describe, another does.
            found.extend(wrong.into_iter().filter(|wrong| !wrong.ends_with("is not described")));
        }
        return;
    }
    if let Some(choices) = schema["oneOf"].as_array() {
        let fitting = choices.iter().filter(|choice| {
            let mut wrong = Vec::new();
            mismatches(choice, value, at, api, &mut wrong);
            wrong.is_empty()
        });
        if fitting.count() != 1 {
            found.push(format!("{at}: {value} is not one of its kinds"));
        }
    }
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("no such type: {other}"),
    };
    let types: Vec<_> = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    if !types.is_empty() && !types.iter().any(|name| is(name)) {
        found.push(format!("{at}: {value} is not {types:?}"));
    }
    if schema["enum"].as_array().is_some_and(|all| !all.contains(value)) {
        found.push(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    if let Some(object) = value.as_object() {
        for name in schema["required"].as_array().into_iter().flatten() {
            if !object.contains_key(name.as_str().unwrap()) {
                found.push(format!("{at}: {name} is missing"));
            }
        }
        for (name, inner) in object {
            let known = &schema["properties"][name];
            if known.is_object() {
                mismatches(known, inner, &format!("{at}.{name}"), api, found);
            } else if schema["properties"].is_object()
                && schema["additionalProperties"] == Value::Null
            {
                found.push(format!("{at}: {name} is not described"));
            }
        }
    }
    for (index, inner) in value.as_array().into_iter().flatten().enumerate() {
        mismatches(&schema["items"], inner, &format!("{at}[{index}]"), api, found);
    }
}

/// Checks an answer against what the file says of that method, path and status.
#[track_caller]
fn described(method: &str, path: &str, answer: &Answer) {
    let api: Value = serde_json::from_str(OPENAPI).unwrap();
    let operation = &api["paths"][path][method.to_lowercase()];
    assert!(operation.is_object(), "{method} {path} is not described");
    let response = &operation["responses"][answer.status.to_string()];
    assert!(
        response.is_object(),
        "{method} {path}: {} is not described: {}",
        answer.status,
        answer.text()
    );
    let Some(kinds) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{method} {path}: {}", answer.text());
        return;
    };
    let kind = answer.header("content-type").unwrap_or_default();
    let kind = kind.split(';').next().unwrap();
    let content =
        kinds.get(kind).unwrap_or_else(|| panic!("{method} {path}: {kind} is not described"));
    if kind.ends_with("json") {
        let mut found = Vec::new();
        mismatches(&content["schema"], &answer.json(), path, &api, &mut found);
        assert!(found.is_empty(), "{found:#?}");
    }
}

#[test]
fn every_endpoint_is_as_the_openapi_file_says() {
    let mut proxy = scaled("").run();
    for _ in 0..20 {
        assert_eq!(get(&proxy.url("/")).status, 200);
    }
    let id = proxy.service("app")["backends"][0]["id"].as_str().unwrap().to_owned();
    let own = proxy.admin("GET", "/v1/openapi.json").json();
    assert_eq!(own, serde_json::from_str::<Value>(OPENAPI).unwrap());
    let asks: &[(&str, &str, Option<Value>, u16)] = &[
        ("GET", "/healthz", None, 200),
        ("GET", "/readyz", None, 200),
        ("GET", "/metrics", None, 200),
        ("GET", "/", None, 200),
        ("GET", "/v1/status", None, 200),
        ("GET", "/v1/services", None, 200),
        ("GET", "/v1/services/{name}", None, 200),
        ("PUT", "/v1/services/{name}/scaling", Some(json!({"replicas": 3, "for": "10m"})), 200),
        ("GET", "/v1/services", None, 200),
        ("GET", "/v1/services/{name}/scaling", None, 200),
        ("PUT", "/v1/services/{name}/scaling", Some(json!({"mode": "pause"})), 200),
        ("DELETE", "/v1/services/{name}/scaling", None, 200),
        ("PUT", "/v1/services/{name}/scaling", Some(json!({"replicas": 99})), 422),
        ("PUT", "/v1/services/{name}/scaling", Some(json!([])), 400),
        ("POST", "/v1/services/{name}/backends/{id}/drain", None, 204),
        ("GET", "/v1/services/{name}", None, 200),
        ("POST", "/v1/services/{name}/backends/{id}/undrain", None, 204),
        ("POST", "/v1/services/{name}/backends/{id}/undrain", None, 409),
        ("POST", "/v1/reload", None, 200),
        ("GET", "/v1/config", None, 200),
        ("GET", "/v1/openapi.json", None, 200),
    ];
    for (method, path, body, status) in asks {
        let full = path.replace("{name}", "app").replace("{id}", &id);
        let answer = proxy.admin_json(method, &full, body.clone());
        assert_eq!(answer.status, *status, "{method} {path}: {}", answer.text());
        described(method, path, &answer);
    }
    for (method, path) in [
        ("GET", "/v1/services/{name}"),
        ("GET", "/v1/services/{name}/decisions"),
        ("GET", "/v1/services/{name}/scaling"),
        ("DELETE", "/v1/services/{name}/scaling"),
        ("POST", "/v1/services/{name}/backends/{id}/drain"),
    ] {
        let answer = proxy.admin(method, &path.replace("{name}", "nobody").replace("{id}", "x"));
        assert_eq!(answer.status, 404, "{method} {path}");
        described(method, path, &answer);
    }
    // The pin above was a decision.
    let records = wait_for("a decision", || {
        let records = proxy.decisions("app");
        (!records.as_array().unwrap().is_empty()).then_some(records)
    });
    let newest = proxy.admin("GET", "/v1/services/app/decisions?limit=1");
    described("GET", "/v1/services/{name}/decisions", &newest);
    assert_eq!(newest.json().as_array().unwrap().len(), 1);
    let numbers: Vec<_> =
        records.as_array().unwrap().iter().map(|r| r["seq"].as_u64().unwrap()).collect();
    assert!(numbers.windows(2).all(|two| two[0] > two[1]), "newest first: {numbers:?}");
    let bad = proxy.reload(|p| p.toml("[nonsense]"));
    assert_eq!(bad.status, 422);
    described("POST", "/v1/reload", &bad);
    described("GET", "/v1/status", &proxy.admin("GET", "/v1/status"));
}

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

#[test]
fn scaling_is_pinned_paused_and_given_back() {
    let proxy = scaled("").run();
    let current = |n: u64| {
        wait_until(&format!("there are {n}"), || {
            let service = proxy.service("app");
            let ready =
                service["backends"].as_array().unwrap().iter().filter(|b| b["state"] == "ready");
            service["scaling"]["current"] == n && ready.count() as u64 == n
        });
    };
    current(2);
    let pinned = proxy.command(&["scale", "app", "4", "--for", "10m"]);
    assert_eq!(pinned.code, Some(0), "{}", pinned.stderr);
    assert!(pinned.text().starts_with("app: pinned at 4 until 2"), "{}", pinned.text());
    current(4);
    let service = proxy.service("app");
    let order = &service["scaling"]["override"];
    assert_eq!((&order["mode"], &order["replicas"]), (&json!("pin"), &json!(4)));
    assert!(order["until"].is_string(), "{service}");
    assert!(proxy.command(&["status"]).text().contains("pinned at 4"));
    let value = proxy.admin("GET", "/v1/services/app/scaling").json();
    assert_eq!((&value["value"], &value["max"]), (&json!(4), &json!(4)));
    let why = wait_for("the pin is explained", || {
        let told = proxy.command(&["explain", "app"]);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
        told.text().contains("2 → 4 backends").then(|| told.text())
    });
    assert!(why.contains("pinned"), "{why}");
    let record: Value =
        serde_json::from_str(&proxy.command(&["explain", "app", "--json"]).text()).unwrap();
    assert_eq!(record["service"], "app");

    let paused = proxy.command(&["scale", "app", "pause"]);
    assert!(paused.text().contains("paused at 4 until `auto`"), "{}", paused.text());
    assert_eq!(
        proxy.service("app")["scaling"]["override"],
        json!({"mode": "pause", "until": null})
    );
    assert!(proxy.command(&["status"]).text().contains("paused"));
    let auto = proxy.command(&["scale", "app", "resume"]);
    assert!(auto.text().starts_with("app: scaling decides; there are 4"), "{}", auto.text());
    assert_eq!(proxy.service("app")["scaling"]["override"], Value::Null);

    for (wish, why) in [("5", "not within min 2 and max 4"), ("1", "not within min 2 and max 4")] {
        let refused = proxy.command(&["scale", "app", wish]);
        assert_eq!(refused.code, Some(1));
        assert!(refused.stderr.contains(why), "{}", refused.stderr);
    }
}

#[test]
fn a_pin_ends_at_its_time() {
    let proxy = scaled("").run();
    let put = proxy.admin_json(
        "PUT",
        "/v1/services/app/scaling",
        Some(json!({"replicas": 3, "for": "1s"})),
    );
    assert_eq!(put.status, 200, "{}", put.text());
    wait_until("it has ended by itself", || {
        proxy.service("app")["scaling"]["override"] == Value::Null
    });
}

/// An operator's drain outlives reloads and is nobody else's to end.
#[test]
fn drains_by_command() {
    let origins = ["a", "b"].map(|id| Origin::new().id(id).start());
    let mut proxy = Proxy::new().backend(&origins[0]).backend(&origins[1]).run();
    let drained = proxy.command(&["drain", "app", "a"]);
    assert_eq!(
        (drained.code, drained.text().as_str()),
        (Some(0), "app: a gets no new requests until undrain\n")
    );
    let who = |proxy: &Running| -> Vec<String> {
        let answers = (0..8).map(|_| get(&proxy.url("/")));
        let mut ids: Vec<_> =
            answers.map(|a| a.header("x-origin-id").unwrap().to_owned()).collect();
        ids.sort();
        ids.dedup();
        ids
    };
    assert_eq!(who(&proxy), ["b"]);
    let [a, b] = &origins;
    assert_eq!(proxy.reload(|_| Proxy::new().backend_with(a, "weight = 2").backend(b)).status, 200);
    assert_eq!(who(&proxy), ["b"], "also after a reload");
    let backend = &proxy.service("app")["backends"][0];
    assert_eq!(
        (&backend["state"], &backend["drained_by_operator"]),
        (&json!("draining"), &json!(true))
    );
    assert!(proxy.command(&["status"]).text().contains("drained by an operator"));
    let undrained = proxy.command(&["undrain", "app", "a"]);
    assert_eq!(
        (undrained.code, undrained.text().as_str()),
        (Some(0), "app: a takes requests again\n")
    );
    // Its share climbs from little in slow start.
    wait_until("both answer", || who(&proxy) == ["a", "b"]);
    for (arguments, says) in [
        (["drain", "app", "c"], "has no backend"),
        (["drain", "shop", "a"], "no service"),
        (["undrain", "app", "a"], "not draining"),
    ] {
        let refused = proxy.command(&arguments);
        assert_eq!((refused.code, refused.stdout.is_empty()), (Some(1), true), "{arguments:?}");
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
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
