//! gRPC through tidegate, with grpcio on both sides.

use serde_json::{Value, json};

use crate::support::{
    Backend, Proxy, PyPeer, PyTalk, Running, missing_module, port_range, refusing_address,
    wait_until,
};

fn through(origin: &impl Backend, more: &str) -> Running {
    Proxy::new()
        .backend(origin)
        .toml(&format!("[service.app.transport]\nprotocol = \"h2c\"\n{more}"))
        .run()
}

/// What a client sees of everything that the server has.
fn called(proxy: &Running) -> Value {
    PyPeer::run("grpc_peer.py", &["call", &proxy.address("http").to_string()])
}

#[test]
fn unary_and_streaming_calls_are_as_without_a_proxy() {
    if missing_module("grpc") {
        return;
    }
    let server = PyPeer::serve("grpc_peer.py");
    let proxy = through(&server, "");
    let seen = called(&proxy);
    let expected = json!({
        "unary": ["hi!", "OK", "yes"],
        "fail": ["NOT_FOUND", "nothing of that name: 100 %"],
        "unknown": ["UNIMPLEMENTED"],
        "down": ["0", "1", "2", "3", "4"],
        "up": (2 * (1 << 20) + 1).to_string(),
        "both": ["00", "11", "22"],
        "deadline": ["DEADLINE_EXCEEDED"],
    });
    assert_eq!(seen, expected);
    // The call whose deadline was over is no more in flight, at the backend neither.
    wait_until("nothing is in flight", || {
        proxy.metric("tidegate_backend_in_flight", &[("service", "app")]) == 0.0
    });
}

#[test]
fn what_goes_wrong_on_the_way_is_a_grpc_status() {
    if missing_module("grpc") {
        return;
    }
    let nobody = through(&refusing_address(), "");
    let seen = called(&nobody);
    assert_eq!(seen["unary"][0], "UNAVAILABLE");
    let details = seen["unary"][1].as_str().unwrap();
    assert!(details.starts_with("The service cannot be reached"), "{details}");

    let server = PyPeer::serve("grpc_peer.py");
    let hasty = Proxy::new()
        .backend(&server)
        .route("timeout = \"200ms\"")
        .toml("[service.app.transport]\nprotocol = \"h2c\"")
        .run();
    assert_eq!(called(&hasty)["deadline"], json!(["DEADLINE_EXCEEDED"]));
    assert!(hasty.metric("tidegate_errors_total", &[("reason", "route_timeout")]) >= 1.0);
}

#[test]
fn health_checks_ask_the_server_what_it_serves() {
    if missing_module("grpc") {
        return;
    }
    let server = PyPeer::serve("grpc_peer.py");
    for (service, healthy, word) in
        [("", true, ""), ("down", false, "NOT_SERVING"), ("a.Nobody", false, "unknown service")]
    {
        let check = format!(
            "[service.app.health]\nkind = \"grpc\"\npath = {service:?}\ninterval = \"100ms\"\n\
             unhealthy_after = 1\nhealthy_after = 1"
        );
        let proxy = through(&server, &check);
        wait_until("it is judged", || {
            let backend = &proxy.service("app")["backends"][0];
            backend["healthy"] == healthy && backend["since"].is_string()
        });
        if !healthy {
            wait_until("it is said why", || proxy.process.output().contains(word));
        } else {
            assert_eq!(called(&proxy)["unary"][1], "OK");
        }
    }
}

/// With `min = 0` calls wait for the server that is started for them, and give up as gRPC does.
#[test]
fn calls_are_held_while_their_server_starts() {
    if missing_module("grpc") {
        return;
    }
    let sleeping = |command: &str, hold: &str| {
        Proxy::new().toml(&format!(
            "[service.app.transport]\nprotocol = \"h2c\"\n\
             [service.app.health]\nkind = \"tcp\"\n\
             [service.app.orchestrator]\nkind = \"process\"\ncommand = {command}\n\
             port_range = \"{}\"\nstart_timeout = \"1h\"\n\
             [service.app.scaling]\nmin = 0\nmax = 1\n[service.app.scaling.hold]\n{hold}",
            port_range()
        ))
    };
    let peer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/grpc_peer.py");
    let command = format!("[\"/usr/bin/python3\", {peer:?}, \"serve\", \"{{port}}\"]");
    let proxy = sleeping(&command, "idle_after = \"2s\"").run();
    for _ in 0..2 {
        proxy.wait_for_size(0);
        let seen = called(&proxy);
        assert_eq!(seen["unary"], json!(["hi!", "OK", "yes"]), "{seen}");
        assert_eq!(seen["both"], json!(["00", "11", "22"]), "{seen}");
    }
    let asleep = proxy.metric("tidegate_shed_total", &[]);
    assert_eq!(asleep, 0.0, "nothing was turned away");

    let never = sleeping("[\"/bin/sleep\", \"3600\"]", "queue = 1\ntimeout = \"1h\"").run();
    let mut peer = PyTalk::start("grpc_peer.py", &["waits", &never.address("http").to_string()]);
    let held = || never.metric("tidegate_held_requests", &[("service", "app")]);
    wait_until("it is held", || held() == 1.0);
    let ends: Value = serde_json::from_str(&peer.ask("")).expect("JSON");
    assert_eq!(
        (&ends["first"], &ends["second"][0]),
        (&json!("DEADLINE_EXCEEDED"), &json!("UNAVAILABLE"))
    );
    let pushback = ends["second"][2].as_str().and_then(|ms| ms.parse::<u64>().ok());
    assert!(pushback.is_some_and(|ms| ms >= 1), "when to try again: {ends}");
    wait_until("nothing is held", || held() == 0.0);
}
