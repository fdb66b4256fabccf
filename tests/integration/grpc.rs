//! gRPC through tidegate, with grpcio on both sides.

use serde_json::{Value, json};

use crate::support::{
    Backend, Proxy, PyPeer, Running, missing_module, refusing_address, wait_until,
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
