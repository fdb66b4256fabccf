//! What an operator orders: pins, pauses and drains, and what is shown of them.

use serde_json::{Value, json};

use crate::support::{Backend, Origin, Proxy, Running, get, wait_for, wait_until};

/// A service `app` of processes, two to four of them.
pub fn scaled(more: &str) -> Proxy {
    Proxy::new().toml(&format!(
        "[service.app.health]\npath = \"/health\"\ninterval = \"200ms\"\n\
         [service.app.orchestrator]\nkind = \"process\"\n\
         command = [\"{{self}}\", \"origin\", \"--port\", \"{{port}}\"]\n\
         [service.app.scaling]\nmin = 2\nmax = 4\n{more}"
    ))
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
    let address = origins[1].address().to_string();
    for command in ["drain", "undrain"] {
        let told = proxy.command(&[command, "app", &address]);
        assert_eq!(told.code, Some(0), "by its address: {}", told.stderr);
    }
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
