//! `[[admin.token]]`: who may ask the admin API, and for what.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::openapi::described;
use crate::support::{Answer, Origin, Proxy, Running, missing, send, wait_until};

/// SHA-256 of a token, as a person would make it.
fn hash(token: &str) -> String {
    let mut child = Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha256sum runs");
    child.stdin.take().expect("a pipe").write_all(token.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8(output.stdout).expect("text");
    format!("sha256:{}", text.split(' ').next().expect("a hash"))
}

fn proxy(origin: &impl crate::support::Backend) -> Running {
    let token = |name: &str| {
        let hash = hash(&format!("secret-{name}"));
        format!(
            "[[admin.token]]\nname = \"my-{name}\"\nrole = \"{name}\"\ntoken_hash = \"{hash}\"\n"
        )
    };
    let all = ["viewer", "operator", "admin"].map(token).concat();
    Proxy::new().backend(origin).toml(&all).run()
}

fn ask(proxy: &Running, method: &str, path: &str, token: &str) -> Answer {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![("content-type", "application/json")];
    if !token.is_empty() {
        headers.push(("authorization", &bearer));
    }
    send(method, &proxy.admin_url(path), &headers, b"").expect("an answer")
}

#[test]
fn each_token_may_do_what_its_role_says() {
    if missing("sha256sum") {
        return;
    }
    let origin = Origin::new().id("one").start();
    let proxy = proxy(&origin);
    let drain = "/v1/services/app/backends/one/undrain";
    for (method, path, allowed) in [
        ("GET", "/v1/services", [200, 200, 200]),
        ("GET", "/metrics", [200, 200, 200]),
        ("POST", drain, [403, 409, 409]),
        ("DELETE", "/v1/bans/10.0.0.1", [403, 404, 404]),
        ("POST", "/v1/reload", [403, 403, 200]),
        ("GET", "/v1/config", [403, 403, 200]),
    ] {
        for (role, status) in ["viewer", "operator", "admin"].into_iter().zip(allowed) {
            let answer = ask(&proxy, method, path, &format!("secret-{role}"));
            assert_eq!(answer.status, status, "{method} {path} {role}: {}", answer.text());
        }
    }
    let answer = ask(&proxy, "GET", "/v1/status", "");
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"tidegate\""));
    assert_eq!(ask(&proxy, "GET", "/healthz", "").status, 200);
    let shown = ask(&proxy, "GET", "/v1/config", "secret-admin");
    described("GET", "/v1/config", &shown);
    assert!(!shown.text().contains("sha256:"), "{}", shown.text());
    wait_until("changes and refusals are in the audit log, by name", || {
        let log = proxy.process.output();
        log.contains("(my-admin)") && log.contains("my-viewer is viewer; this needs the role admin")
    });
}

#[test]
fn commands_send_their_token() {
    if missing("sha256sum") {
        return;
    }
    let origin = Origin::new().id("one").start();
    let proxy = proxy(&origin);
    let without = proxy.command(&["status"]);
    assert_eq!(without.code, Some(1));
    assert!(without.stderr.contains("--token"), "{}", without.stderr);
    let with = proxy.command(&["status", "--token", "secret-viewer"]);
    assert_eq!(with.code, Some(0), "{}", with.stderr);
    let refused = proxy.command(&["reload", "--token", "secret-viewer"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("this needs the role admin"), "{}", refused.stderr);
}

#[test]
fn guessing_is_ended_after_ten_tries() {
    if missing("sha256sum") {
        return;
    }
    let origin = Origin::new().start();
    let proxy = proxy(&origin);
    let guess = |n: u32| ask(&proxy, "GET", "/v1/status", &format!("guess-{n}")).status;
    assert!((0..10).all(|n| guess(n) == 401));
    assert_eq!(guess(10), 429);
    let answer = ask(&proxy, "GET", "/v1/status", "secret-admin");
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("60")));
    assert_eq!(ask(&proxy, "GET", "/readyz", "").status, 200, "health is for everybody");
}
