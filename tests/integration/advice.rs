//! `kind = "none"`: tidegate decides, and somebody else acts on what it tells.

use crate::support::{
    Connection, Origin, Proxy, formula, get, missing, missing_module, run, send, wait_for,
    wait_until,
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

/// What keda-admin.yaml asks for is there, and its token may ask.
#[test]
fn the_admin_api_answers_what_the_example_asks() {
    let text = std::fs::read_to_string(format!("{EXAMPLES}/keda-admin.yaml")).expect("an example");
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key));
        line.unwrap_or_else(|| panic!("{key}")).trim().trim_matches('"').to_owned()
    };
    let (url, location) = (value("url:"), value("valueLocation:"));
    let path = &url[url.find("/v1/").expect("a path of the API")..];
    // The lines of its comment that are a configuration, with files that are here.
    let lines = text.lines().filter_map(|line| line.strip_prefix("#   "));
    let admin: String = lines.flat_map(|line| [line, "\n"]).collect();
    let certs = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/localhost");
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"; // of "secret"
    let admin = admin
        .replace("/certs/tls.crt", &format!("{certs}.pem"))
        .replace("/certs/tls.key", &format!("{certs}.key"))
        .replace("file:/secrets/keda", &format!("sha256:{hash}"));
    let example = std::fs::read_to_string(format!("{EXAMPLES}/tidegate.toml")).expect("an example");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegate.toml");
    let own = example.lines().find(|line| line.starts_with("public_listen")).expect("its [admin]");
    let both = admin.replacen("[admin]\n", &format!("[admin]\n{own}\n"), 1);
    let all = example.replacen(&format!("[admin]\n{own}\n"), &both, 1);
    assert!(all.contains("token_hash") && all.matches("[admin]").count() == 1, "{all}");
    std::fs::write(&file, all).unwrap();
    let checked = run(env!("CARGO_BIN_EXE_tidegate"), &["check", "-c", file.to_str().unwrap()]);
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);

    let token = admin.lines().skip_while(|line| *line != "[[admin.token]]");
    let token: String = token.flat_map(|line| [line, "\n"]).collect();
    let origin = Origin::new().start();
    let proxy = Proxy::new()
        .backend(&origin)
        .toml(&format!(
            "[service.app.orchestrator]\nkind = \"none\"\n[service.app.scaling]\nmin = 3\nmax = 9\n{token}"
        ))
        .run();
    let url = proxy.admin_url(path);
    let answer = send("GET", &url, &[("authorization", "Bearer secret")], b"").unwrap();
    assert_eq!((answer.status, answer.json()[location].as_u64()), (200, Some(3)));
    assert_eq!(get(&url).status, 401, "nobody else");
}

#[test]
fn the_examples_are_what_kubernetes_calls_them() {
    if missing("python3") || missing_module("yaml") {
        return;
    }
    let kinds = "import sys, yaml\nfor f in sys.argv[1:]:\n  \
                 print(*(d['kind'] for d in yaml.safe_load_all(open(f)) if d))";
    let files =
        ["keda.yaml", "keda-admin.yaml", "hpa.yaml"].map(|file| format!("{EXAMPLES}/{file}"));
    let kinds = run("python3", &["-c", kinds, &files[0], &files[1], &files[2]]).text();
    let expected = "ScaledObject\nSecret TriggerAuthentication ScaledObject\n\
                    HorizontalPodAutoscaler ConfigMap\n";
    assert_eq!(kinds, expected);
}
