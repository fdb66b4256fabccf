//! `[[route.rate_limit]]`: who is refused, what they and others are told, over every protocol.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use h2::client::Builder;
use http::Request;
use serde_json::Value;

use crate::h2::{block_on, connect};
use crate::h3::Site;
use crate::support::{
    Backend, Connection, Origin, Proxy, RawOrigin, Running, get, missing, send, wait_for,
};
use crate::upgrades::{idle, upgrade};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A limit that does not grow back within a test.
fn limit(name: &str, key: &str, burst: u32, more: &str) -> String {
    format!(
        "[[route.rate_limit]]\nname = {name:?}\nkey = {key:?}\nrate = \"1/h\"\nburst = {burst}\n{more}\n"
    )
}

fn proxy(origin: &impl Backend, limits: &str) -> Running {
    Proxy::new().backend(origin).route(limits).run()
}

fn refused(proxy: &Running, limit: &str) -> f64 {
    proxy.metric("tidegate_rate_limited_total", &[("route", "app"), ("limit", limit)])
}

/// The statuses of so many requests with these headers.
fn statuses(proxy: &Running, headers: &[(&str, &str)], many: usize) -> Vec<u16> {
    let one = |_| send("GET", &proxy.url("/"), headers, b"").expect("an answer").status;
    (0..many).map(one).collect()
}

#[test]
fn who_asks_too_often_is_told_so_and_when_to_come_back() {
    let log = "[log.access]\nenabled = true\npath = \"{dir}/access.log\"";
    let origin = Origin::new().start();
    let limits = limit("per-client", "client_ip", 2, "");
    let proxy = Proxy::new().backend(&origin).route(&limits).toml(log).run();
    let answer = get(&proxy.url("/"));
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("ratelimit-policy"), Some("\"per-client\";q=1;w=3600"));
    assert_eq!(answer.header("ratelimit"), Some("\"per-client\";r=1;t=3600"));
    assert_eq!(get(&proxy.url("/")).header("ratelimit"), Some("\"per-client\";r=0;t=7200"));
    let answer = get(&proxy.url("/"));
    assert_eq!(answer.status, 429);
    let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert_eq!(answer.header("ratelimit"), Some(&*format!("\"per-client\";r=0;t={wait}")));
    assert_eq!(
        answer.header("proxy-status"),
        Some("tidegate; error=http_request_denied; details=\"over the rate limit per-client\"")
    );
    assert_eq!(refused(&proxy, "per-client"), 1.0);
    assert_eq!(proxy.metric("tidegate_rate_limit_keys", &[("limit", "per-client")]), 1.0);
    let requests = [("route", "app"), ("code", "429")];
    assert_eq!(proxy.metric("tidegate_requests_total", &requests), 1.0);
    let line = wait_for("the refusal is in the log", || {
        let text = std::fs::read_to_string(proxy.directory().join("access.log")).ok()?;
        text.lines().find(|line| line.contains("\"status\":429")).map(str::to_owned)
    });
    let line: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(line["error"], "rate_limited");
}

#[test]
fn each_kind_of_key_counts_apart_and_who_sends_none_counts_by_address() {
    let origin = Origin::new().start();
    for (key, a, b) in [
        ("header:x-user", ("x-user", "a"), ("x-user", "b")),
        ("cookie:id", ("cookie", "x=1; id=a"), ("cookie", "x=1; id=b")),
        ("api_key", ("x-api-key", "a"), ("authorization", "Bearer b")),
    ] {
        let proxy = proxy(&origin, &limit("one", key, 1, ""));
        for who in [&[a][..], &[b], &[]] {
            assert_eq!(statuses(&proxy, who, 2), [200, 429], "{key} {who:?}");
        }
    }
    let proxy = proxy(&origin, &limit("one", "route", 2, ""));
    assert_eq!(statuses(&proxy, &[("x-user", "a")], 1), [200]);
    assert_eq!(statuses(&proxy, &[("x-user", "b")], 2), [200, 429]);
}

#[test]
fn the_strictest_of_several_answers_and_the_others_keep_their_budgets() {
    let origin = Origin::new().start();
    let limits = limit("user", "header:x-user", 2, "") + &limit("all", "client_ip", 3, "");
    let proxy = proxy(&origin, &limits);
    assert_eq!(statuses(&proxy, &[("x-user", "a")], 5), [200, 200, 429, 429, 429]);
    assert_eq!(statuses(&proxy, &[("x-user", "b")], 2), [200, 429], "one was left for others");
    assert_eq!((refused(&proxy, "user"), refused(&proxy, "all")), (3.0, 1.0));
}

#[test]
fn a_dry_run_counts_and_refuses_nobody() {
    let origin = Origin::new().start();
    let proxy = proxy(&origin, &limit("dry", "client_ip", 1, "dry_run = true"));
    let answers: Vec<_> = (0..4).map(|_| get(&proxy.url("/"))).collect();
    assert!(answers.iter().all(|a| a.status == 200 && a.header("ratelimit").is_none()));
    assert_eq!(refused(&proxy, "dry"), 0.0);
    let labels = [("route", "app"), ("limit", "dry")];
    assert_eq!(proxy.metric("tidegate_rate_limit_dry_run_total", &labels), 3.0);
}

#[test]
fn it_is_one_limit_for_all_workers_and_protocols() {
    if missing("curl") {
        return;
    }
    let origin = Origin::new().start();
    let limits = limit("all", "client_ip", 8, "");
    let site = Site::new(Proxy::new().backend(&origin).route(&limits), "", "");
    for _ in 0..4 {
        let answer = site.http3().get("https://a.test/").unwrap();
        assert_eq!(answer.status, 200);
        assert!(answer.header("ratelimit").is_some());
    }
    let curl = |version| site.curl(&[version, "-o", "/dev/null", "-w", "%{http_code}"]);
    for version in ["--http1.1", "--http2", "--http1.1", "--http2"] {
        assert_eq!(curl(version), "200", "{version}");
    }
    assert_eq!((curl("--http1.1"), curl("--http2")), ("429".to_owned(), "429".to_owned()));
    let over = site.http3().get("https://a.test/").unwrap();
    assert_eq!(over.status, 429);
    assert!(over.header("retry-after").is_some());
}

#[test]
fn a_grpc_call_over_the_limit_is_resource_exhausted() {
    let origin = Origin::new().start();
    let proxy = proxy(&origin, &limit("calls", "client_ip", 1, ""));
    assert_eq!(get(&proxy.url("/")).status, 200);
    block_on(async {
        let mut client = connect(&proxy, &Builder::new()).await;
        let call = Request::post("http://a/x.Y/Z").header("content-type", "application/grpc");
        let (answer, _) = client.send_request(call.body(()).unwrap(), true).unwrap();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["grpc-status"], "8");
        assert!(answer.headers().contains_key("ratelimit"));
    });
}

#[test]
fn an_upgrade_is_a_request_like_others() {
    let origin = Origin::new().start();
    let proxy = proxy(&origin, &limit("all", "client_ip", 1, ""));
    let mut first = Connection::open(proxy.address("http"));
    first.send(upgrade("/ws"));
    let answer = first.answer();
    assert_eq!(answer.status, 101);
    assert!(answer.header("ratelimit").is_some());
    let mut second = Connection::open(proxy.address("http"));
    second.send(upgrade("/ws"));
    assert_eq!(second.answer().status, 429);
    second.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(second.answer().status, 429, "the connection is as good as before");
    drop(first);
    idle(&proxy);
}

#[test]
fn who_asks_on_and_on_is_refused_slowly() {
    let origin = RawOrigin::always(OK);
    let denied = "[route.access]\ndeny = [\"127.0.0.0/8\"]";
    for (limits, passed, status) in [(&*limit("all", "client_ip", 1, ""), 1, 429), (denied, 0, 403)]
    {
        let proxy = proxy(&origin, limits);
        let mut client = Connection::open(proxy.address("http"));
        let begun = Instant::now();
        client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(passed + 40));
        for number in 0..passed + 40 {
            assert_eq!(client.answer().status, if number < passed { 200 } else { status });
        }
        // All but the first ten waited, each 5 ms longer than the one before, up to 100 ms.
        let least = Duration::from_millis((1..=30).map(|number| 5 * number.min(20)).sum());
        assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
        let labels = [("route", "app"), ("code", &*status.to_string())];
        assert_eq!(proxy.metric("tidegate_requests_total", &labels), 40.0);
    }
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn it_is_refused_before_its_body_is_read() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().backend(&origin).route(&limit("all", "client_ip", 1, "")).run();
    assert_eq!(get(&proxy.url("/")).status, 200);
    let mut client = Connection::open(proxy.address("http"));
    // Nothing of the body is ever sent.
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (429, Some("close")));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_reload_keeps_what_was_counted() {
    let origin = Origin::new().start();
    let mut proxy = proxy(&origin, &limit("all", "client_ip", 2, ""));
    assert_eq!(statuses(&proxy, &[], 2), [200, 200]);
    let answer = proxy.reload(|proxy| proxy.route("[route.concurrency_limit]\nmax = 10"));
    assert_eq!(answer.status, 200);
    assert_eq!(statuses(&proxy, &[], 1), [429]);
    let other = limit("other", "client_ip", 1, "");
    assert_eq!(proxy.reload(|proxy| proxy.route(&other)).status, 200);
    assert_eq!(statuses(&proxy, &[], 1), [429], "the first is there still");
    assert_eq!((refused(&proxy, "all"), refused(&proxy, "other")), (2.0, 0.0));
}

#[test]
fn many_clients_are_bounded_and_the_rest_share_one_bucket() {
    let origin = RawOrigin::always(OK);
    let accept = "proxy_protocol = \"accept\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let limits = limit("all", "client_ip", 1, "max_keys = 300");
    let proxy = Proxy::new().listener(accept).backend(&origin).route(&limits).run();
    let ask = |n: u32| {
        let client = Ipv4Addr::from(0x0a00_0000 + n);
        let mut connection = Connection::open(proxy.address("http"));
        connection.send(format!(
            "PROXY TCP4 {client} 10.0.0.1 4000 80\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        connection.answer().status
    };
    let passed = (0..400).filter(|n| ask(*n) == 200).count();
    assert_eq!(passed, 301, "one of those who came too late");
    assert_eq!(proxy.metric("tidegate_rate_limit_keys", &[]), 300.0);
    assert_eq!(proxy.metric("tidegate_rate_limit_overflow_total", &[]), 100.0);
}
