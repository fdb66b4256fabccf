//! `kind = "none"`: tidegate decides, and somebody else acts on what it tells.

use crate::support::{
    Connection, Origin, Proxy, formula, get, missing, missing_module, run, wait_for, wait_until,
};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/kubernetes");

#[test]
fn what_is_decided_is_told_and_nothing_is_touched() {
    let origins = [Origin::new().start(), Origin::new().start()];
    let proxy = Proxy::new()
        .backend(&origins[0])
        .backend(&origins[1])
        .toml(
            "[service.app.orchestrator]\nkind = \"none\"\n\
             [service.app.scaling]\nmin = 1\nmax = 10\n\
             [service.app.scaling.target.busy]\nmetric = \"in_flight\"\nvalue = 1\n\
             [service.app.scaling.down]\nstabilization = \"0s\"\n",
        )
        .run();
    let value = || proxy.admin("GET", "/v1/services/app/scaling").json()["value"].as_u64();
    // Two of them, each with three requests: six are wanted.
    let mut clients: Vec<_> = (0..6).map(|_| Connection::open(proxy.address("http"))).collect();
    for client in &mut clients {
        client.send(b"GET /?delay=1h HTTP/1.1\r\nhost: a\r\n\r\n");
    }
    wait_until("six are wanted", || value() == Some(6));
    wait_until("the metric says so", || {
        proxy.metric("tidegate_backends_desired", &[("service", "app")]) == 6.0
    });
    // As KEDA and the Prometheus adapter read it.
    let page = get(&proxy.admin_url("/metrics")).text();
    assert!(
        page.lines().any(|line| line == "tidegate_backends_desired{service=\"app\"} 6"),
        "{page}"
    );
    let ready = |proxy: &crate::support::Running| proxy.ready().len();
    assert_eq!(ready(&proxy), 2, "nobody was started");
    let scaled = wait_for("records", || {
        let records = proxy.records("scale");
        (!records.is_empty()).then_some(records)
    });
    for record in &scaled {
        formula::check(record);
        assert_eq!(record["action"]["drain"].as_array().map(Vec::len), Some(0), "{record}");
    }
    assert_eq!(proxy.service("app")["scaling"]["current"], 2);
    // The requests end with their backends.
    drop(clients);
    drop(origins);
    wait_until("less is wanted again", || value().is_some_and(|n| n < 6));
    let service = proxy.service("app");
    let states: Vec<_> =
        service["backends"].as_array().expect("a list").iter().map(|b| &b["state"]).collect();
    assert_eq!(states, ["ready", "ready"], "nothing is drained");
}

#[test]
fn the_examples_read_what_there_is() {
    let configuration = format!("{EXAMPLES}/tidegate.toml");
    let checked = run(env!("CARGO_BIN_EXE_tidegate"), &["check", "-c", &configuration]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    for file in ["keda.yaml", "hpa.yaml"] {
        let text = std::fs::read_to_string(format!("{EXAMPLES}/{file}")).expect("an example");
        assert!(text.contains("tidegate_backends_desired"), "{file}");
    }
}

#[test]
fn the_examples_are_what_kubernetes_calls_them() {
    if missing("python3") || missing_module("yaml") {
        return;
    }
    let kinds = "import sys, yaml\nfor f in sys.argv[1:]:\n  \
                 print(*(d['kind'] for d in yaml.safe_load_all(open(f)) if d))";
    let files = ["keda.yaml", "hpa.yaml"].map(|file| format!("{EXAMPLES}/{file}"));
    let kinds = run("python3", &["-c", kinds, &files[0], &files[1]]).text();
    assert_eq!(kinds, "ScaledObject\nHorizontalPodAutoscaler ConfigMap\n");
}
