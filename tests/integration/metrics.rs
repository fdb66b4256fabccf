//! `/metrics` of the running program: the families of the contract, exact counts, what is gone.

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::{
    Backend, Origin, Proxy, Running, connect, curl, get, missing, read_answer, refusing_address,
    send, wait_until,
};

fn page(proxy: &Running) -> String {
    get(&proxy.admin_url("/metrics")).text()
}

/// Names of all families, from their TYPE lines.
fn families(page: &str) -> BTreeSet<&str> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn requests_are_counted_one_by_one() {
    let origin = Origin::new().id("a").start();
    let proxy = Proxy::new()
        .backend(&origin)
        .toml("[[route]]\nname = \"own\"\npath = \"=/own\"\nrespond = { status = 418 }\n")
        .run();
    let asks: [(&str, &str, usize); 5] = [
        ("GET", "/", 7),
        ("POST", "/", 3),
        ("GET", "/?status=503", 2),
        ("BREW", "/", 4),
        ("GET", "/own", 5),
    ];
    for (method, path, times) in asks {
        for _ in 0..times {
            send(method, &proxy.url(path), &[], b"").unwrap();
        }
    }
    // Kept connections count the same.
    let mut kept = connect(proxy.address("http")).unwrap();
    for _ in 0..6 {
        kept.write_all(b"DELETE / HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        let answer = read_answer(&mut std::io::BufReader::new(&kept), false).unwrap();
        assert_eq!(answer.status, 200);
    }
    let count = |service: &str, route: &str, code: &str, method: &str| {
        let labels = [("service", service), ("route", route), ("code", code), ("method", method)];
        proxy.metric("tidegate_requests_total", &labels)
    };
    wait_until("all are counted", || proxy.metric("tidegate_requests_total", &[]) == 27.0);
    assert_eq!(count("app", "app", "200", "GET"), 7.0);
    assert_eq!(count("app", "app", "200", "POST"), 3.0);
    assert_eq!(count("app", "app", "503", "GET"), 2.0);
    assert_eq!(count("app", "app", "200", "other"), 4.0, "a method outside RFC 9110");
    assert_eq!(count("", "own", "418", "GET"), 5.0);
    assert_eq!(count("app", "app", "200", "DELETE"), 6.0);
    assert!(!page(&proxy).contains("BREW"));
    wait_until("durations follow with the next tick", || {
        proxy.metric("tidegate_request_duration_seconds_count", &[("route", "app")]) == 22.0
            && proxy.metric("tidegate_request_duration_seconds_count", &[("route", "own")]) == 5.0
            && proxy.metric("tidegate_backend_duration_seconds_count", &[("backend", "a")]) >= 22.0
    });
}

#[test]
fn the_families_of_the_contract_are_there() {
    let origin = Origin::new().id("a").start();
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = crate::support::certificate(folder.path(), &["shop.test"]);
    let proxy = Proxy::new()
        .backend(&origin)
        .backend_with(&refusing_address(), "id = \"dead\"")
        .service("balance = \"round_robin\"")
        .toml(&format!(
            "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
             [[listener.tls.certificate]]\ncert = \"{}\"\nkey = \"{}\"\n\
             [[route]]\nname = \"p\"\npath = \"/p\"\nservice = \"p\"\n\
             [service.p]\nhealth = {{ path = \"/health\", interval = \"100ms\" }}\n\
             [service.p.orchestrator]\nkind = \"process\"\n\
             command = [\"{{self}}\", \"origin\", \"--port\", \"{{port}}\"]\n\
             [service.p.scaling]\nmin = 1\nmax = 3\ninterval = \"1s\"\n",
            cert.display(),
            key.display()
        ))
        .run();
    for _ in 0..10 {
        assert_eq!(get(&proxy.url("/")).status, 200);
        assert_eq!(get(&proxy.url("/p")).status, 200);
    }
    assert_eq!(proxy.command(&["scale", "p", "2"]).code, Some(0));
    let app = ("service", "app");
    let p = ("service", "p");
    wait_until("two run, and usage is measured", || {
        proxy.metric("tidegate_backends", &[p, ("state", "ready")]) == 2.0
            && proxy.metric("tidegate_backend_memory_bytes", &[p]) > 0.0
            && proxy.metric(
                "tidegate_scale_events_total",
                &[p, ("direction", "up"), ("reason", "pinned")],
            ) == 1.0
    });
    let expected = [
        "tidegate_requests_total",
        "tidegate_request_duration_seconds",
        "tidegate_backend_duration_seconds",
        "tidegate_in_flight",
        "tidegate_backend_in_flight",
        "tidegate_backend_up",
        "tidegate_backend_state",
        "tidegate_connections",
        "tidegate_retries_total",
        "tidegate_shed_total",
        "tidegate_backends",
        "tidegate_backends_desired",
        "tidegate_scale_proposal",
        "tidegate_scale_events_total",
        "tidegate_scale_limited",
        "tidegate_backend_start_seconds",
        "tidegate_backend_cpu_ratio",
        "tidegate_backend_memory_bytes",
        "tidegate_config_reloads_total",
        "tidegate_handovers_total",
        "tidegate_tunnels",
        "tidegate_certificate_expiry_seconds",
        "tidegate_build_info",
        "tidegate_upstream_connections",
        "tidegate_connect_errors_total",
        "tidegate_log_dropped_total",
        "tidegate_worker_stall_seconds",
        "tidegate_panics_total",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ];
    wait_until("every family is there", || {
        let page = page(&proxy);
        let there = families(&page);
        expected.iter().all(|family| there.contains(family))
    });
    let page = page(&proxy);
    for name in families(&page) {
        let samples = page.lines().filter(|line| {
            let rest = line.strip_prefix(name).unwrap_or_default();
            rest.starts_with(['{', ' '])
                || ["_bucket{", "_sum", "_count"].iter().any(|end| rest.starts_with(end))
        });
        assert!(samples.count() > 0, "{name} has no sample");
    }
    assert!(proxy.metric("tidegate_connect_errors_total", &[app, ("reason", "refused")]) >= 1.0);
    assert!(proxy.metric("tidegate_retries_total", &[app, ("reason", "connect")]) >= 1.0);
    assert_eq!(proxy.metric("tidegate_backend_up", &[app, ("backend", "a")]), 1.0);
    assert_eq!(
        proxy.metric("tidegate_backend_state", &[app, ("backend", "a"), ("state", "ready")]),
        1.0
    );
    assert_eq!(proxy.metric("tidegate_backends_desired", &[p]), 2.0);
    assert_eq!(proxy.metric("tidegate_backend_start_seconds_count", &[p]), 2.0);
    assert_eq!(proxy.metric("tidegate_scale_limited", &[p, ("stage", "operator")]), 1.0, "the pin");
    assert_eq!(proxy.metric("tidegate_panics_total", &[]), 0.0);
    assert!(
        proxy.metric("tidegate_certificate_expiry_seconds", &[("name", "shop.test")]) > 86_400.0
    );
    let build = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(proxy.metric("tidegate_build_info", &build), 1.0);

    if !missing("promtool") {
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
        let output = promtool.wait_with_output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() && told.is_empty(), "{told}");
    }
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let open = |n: f64| {
        wait_until(&format!("{n} are open"), || {
            proxy.metric("tidegate_connections", &[("listener", "http")]) == n
        });
    };
    open(0.0);
    let some: Vec<_> = (0..5).map(|_| connect(proxy.address("http")).unwrap()).collect();
    open(5.0);
    drop(some);
    open(0.0);
}

#[test]
fn what_is_gone_takes_its_series_with_it() {
    let origins = ["a", "b"].map(|id| Origin::new().id(id).start());
    let more = format!(
        "[[route]]\nname = \"other\"\npath = \"/other\"\nservice = \"other\"\n\
         [[service.other.backend]]\nid = \"o\"\naddress = \"{}\"\n",
        origins[0].address()
    );
    let mut proxy = Proxy::new().backend(&origins[0]).backend(&origins[1]).toml(&more).run();
    for path in ["/", "/", "/", "/", "/other"] {
        assert_eq!(get(&proxy.url(path)).status, 200);
    }
    wait_until("they are measured", || {
        let page = page(&proxy);
        page.contains("backend=\"b\"") && page.contains("service=\"other\"")
    });
    let before = proxy.metric("tidegate_requests_total", &[("route", "app")]);
    assert_eq!(proxy.reload(|_| Proxy::new().backend(&origins[0])).status, 200);
    wait_until("their series are gone", || {
        let page = page(&proxy);
        !["backend=\"b\"", "backend=\"o\"", "service=\"other\"", "route=\"other\""]
            .iter()
            .any(|label| page.contains(label))
    });
    assert_eq!(proxy.metric("tidegate_requests_total", &[("route", "app")]), before);
    assert!(page(&proxy).contains("backend=\"a\""));
}

#[test]
fn openmetrics_when_asked_for() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    assert_eq!(get(&proxy.url("/")).status, 200);
    let accept = [("accept", "application/openmetrics-text; version=1.0.0,text/plain;q=0.5")];
    let answer = send("GET", &proxy.admin_url("/metrics"), &accept, b"").unwrap();
    let kind = answer.header("content-type").unwrap();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let text = answer.text();
    assert!(text.ends_with("# EOF\n"));
    // A counter's family has no _total there, its samples have.
    assert!(text.contains("# TYPE tidegate_requests counter"), "{text}");
    assert!(text.contains("tidegate_requests_total{"));
    let plain = get(&proxy.admin_url("/metrics"));
    assert!(plain.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    assert!(!plain.text().contains("# EOF"));
    if !missing("curl") {
        let told = curl(&["-f", &proxy.admin_url("/metrics")]);
        assert_eq!(told.code, Some(0), "{}", told.stderr);
    }
}
