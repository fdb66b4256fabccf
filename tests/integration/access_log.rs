//! The access log as it is written: one line a request, in both formats.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{
    Connection, Origin, Proxy, RawOrigin, Running, Step, get, send, wait_for, wait_until,
};

fn logged(format: &str) -> String {
    format!("[log.access]\nenabled = true\npath = \"{{dir}}/access.log\"\n{format}")
}

/// The lines of the log, once there are as many.
#[track_caller]
fn lines(proxy: &Running, file: &str, count: usize) -> Vec<String> {
    wait_for(&format!("{count} lines in {file}"), || {
        let text = std::fs::read_to_string(proxy.directory().join(file)).unwrap_or_default();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        (lines.len() >= count && text.ends_with('\n')).then_some(lines)
    })
}

#[test]
fn a_json_line_says_what_happened() {
    let origin = Origin::new().id("one").start();
    let proxy = Proxy::new().backend(&origin).toml(&logged("")).run();
    let headers = [("host", "example.com"), ("user-agent", "a \"test\""), ("referer", "r")];
    assert_eq!(send("PUT", &proxy.url("/a?size=7"), &headers, b"hello").unwrap().status, 200);
    let line: Value = serde_json::from_str(&lines(&proxy, "access.log", 1)[0]).unwrap();
    for (key, wanted) in [
        ("client", "127.0.0.1".into()),
        ("listener", "http".into()),
        ("route", "app".into()),
        ("service", "app".into()),
        ("backend", "one".into()),
        ("method", "PUT".into()),
        ("host", "example.com".into()),
        ("path", "/a?size=7".into()),
        ("protocol", "HTTP/1.1".into()),
        ("status", Value::from(200)),
        ("bytes_in", Value::from(5)),
        ("bytes_out", Value::from(7)),
        ("retries", Value::from(0)),
        ("user_agent", "a \"test\"".into()),
        ("referer", "r".into()),
    ] {
        assert_eq!(line[key], wanted, "{key} in {line}");
    }
    assert!(line["duration_ms"].as_f64() >= line["ttfb_ms"].as_f64(), "{line}");
    assert!(line["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
}

#[test]
fn errors_and_retries_are_in_the_line() {
    let broken = RawOrigin::script(|_| vec![Step::ReadHead]);
    let good = RawOrigin::always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let proxy = Proxy::new()
        .backend_with(&broken, "id = \"bad\"")
        .backend_with(&good, "backup = true\nid = \"good\"")
        .toml("[service.app.retry]\nattempts = 1\nbackoff = \"1ms\"")
        .toml(&logged(""))
        .run();
    assert_eq!(get(&proxy.url("/")).status, 200);
    assert_eq!(send("POST", &proxy.url("/"), &[], b"x").unwrap().status, 502);
    let lines = lines(&proxy, "access.log", 2);
    let parse = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    // Two workers may write them, in either order.
    let line = |method: &str| lines.iter().map(parse).find(|l| l["method"] == method).unwrap();
    let (first, second) = (line("GET"), line("POST"));
    assert_eq!((&first["retries"], &first["backend"]), (&1.into(), &"good".into()), "{first}");
    assert_eq!((&second["status"], &second["error"]), (&502.into(), &"reset".into()), "{second}");
    // Not the one that answered: the one that did not.
    let at = (&second["backend"], &second["phase"]);
    assert_eq!(at, (&"bad".into(), &"waiting".into()), "{second}");
    assert!(second["after_ms"].is_number() && first.get("phase").is_none(), "{second}");
}

#[test]
fn a_client_that_left_is_logged_too() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).toml(&logged("")).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
    wait_until("it is in flight", || proxy.metric("tidegate_backend_in_flight", &[]) == 1.0);
    drop(client);
    let line: Value = serde_json::from_str(&lines(&proxy, "access.log", 1)[0]).unwrap();
    assert_eq!((&line["method"], &line["bytes_in"]), (&"PUT".into(), &5.into()), "{line}");
}

#[test]
fn a_combined_line_is_what_other_tools_read() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).toml(&logged("format = \"combined\"")).run();
    let headers = [("user-agent", "agent \"x\"")];
    assert_eq!(send("GET", &proxy.url("/a?size=7"), &headers, b"").unwrap().status, 200);
    let line = lines(&proxy, "access.log", 1).remove(0);
    let pattern = r#"^127\.0\.0\.1 - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d \+0000\] "GET /a\?size=7 HTTP/1\.1" 200 7 "-" "agent \\x22x\\x22"$"#;
    assert!(regex::Regex::new(pattern).unwrap().is_match(&line), "{line}");
}

#[test]
fn sampling_keeps_every_error() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).toml(&logged("sample = 0.0")).run();
    for _ in 0..5 {
        assert_eq!(get(&proxy.url("/")).status, 200);
    }
    assert_eq!(get(&proxy.url("/?status=500")).status, 500);
    let lines = lines(&proxy, "access.log", 1);
    assert!(lines.len() == 1 && lines[0].contains("\"status\":500"), "{lines:?}");
}

#[test]
fn usr1_opens_the_file_again() {
    let origin = Origin::new().start();
    let mut proxy = Proxy::new().backend(&origin).toml(&logged("")).run();
    assert_eq!(get(&proxy.url("/first")).status, 200);
    lines(&proxy, "access.log", 1);
    let (log, old) = (proxy.directory().join("access.log"), proxy.directory().join("old.log"));
    std::fs::rename(&log, &old).unwrap();
    proxy.signal(Signal::SIGUSR1);
    wait_until("there is a new file", || log.exists());
    assert_eq!(get(&proxy.url("/second")).status, 200);
    assert!(lines(&proxy, "access.log", 1)[0].contains("/second"));
    assert!(lines(&proxy, "old.log", 1)[0].contains("/first"));
}

#[test]
fn no_line_is_lost_when_it_stops() {
    let origin = RawOrigin::always("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    let mut proxy = Proxy::new().backend(&origin).toml(&logged("")).run();
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(proxy.stop().code(), Some(0));
    assert_eq!(lines(&proxy, "access.log", 200).len(), 200);
}
