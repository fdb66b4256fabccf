//! `[[admin.user]]` and `[admin.tls]`: names and passwords over the wire, as curl sends them.

use std::path::Path;

use argon2::{Argon2, Params, PasswordHasher};

use crate::support::{
    Answer, Origin, Output, Proxy, RawOrigin, Running, certificate, curl, missing, run, send,
    wait_until,
};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Of `secret-NAME`, with little work.
fn argon2id(password: &str) -> String {
    let little = Argon2::from(Params::new(8, 1, 1, None).expect("fine parameters"));
    let hash = little.hash_password_with_salt(password.as_bytes(), b"a salt of it");
    hash.expect("a hash").to_string()
}

fn bcrypt(password: &str) -> String {
    bcrypt::hash_with_salt(password, 4, [7; 16]).expect("a hash").to_string()
}

fn user(name: &str, hash: &str, role: &str) -> String {
    format!("[[admin.user]]\nname = \"{name}\"\npassword_hash = '{hash}'\nrole = \"{role}\"\n")
}

/// `vera` may look, `otto` may reload.
fn users() -> String {
    user("vera", &argon2id("secret-vera"), "viewer")
        + &user("otto", &bcrypt("secret-otto"), "admin")
}

/// The status that curl gets.
fn status(arguments: &[&str]) -> String {
    curl(&[&["-o", "/dev/null", "-w", "%{http_code}"], arguments].concat()).text()
}

fn ask(proxy: &Running, user: &str) -> String {
    status(&["-u", user, &proxy.admin_url("/v1/status")])
}

#[test]
fn a_name_and_its_password_may_do_what_the_role_says() {
    if missing("curl") {
        return;
    }
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).toml(&users()).run();
    let reload = |user: &str| {
        let json = "content-type: application/json";
        status(&["-u", user, "-X", "POST", "-H", json, &proxy.admin_url("/v1/reload")])
    };
    // The second time it is remembered, and must not be more than the first time.
    for _ in 0..2 {
        assert_eq!(ask(&proxy, "vera:secret-vera"), "200");
        assert_eq!(ask(&proxy, "otto:secret-otto"), "200");
        assert_eq!(reload("vera:secret-vera"), "403");
        assert_eq!(reload("otto:secret-otto"), "200");
    }
    let wrong = |authorization: &str| -> Answer {
        let headers = [("authorization", authorization)];
        send("GET", &proxy.admin_url("/v1/status"), &headers, b"").expect("an answer")
    };
    // vera:wrong, nobody:secret-vera
    let answers = ["Basic dmVyYTp3cm9uZw==", "Basic bm9ib2R5OnNlY3JldC12ZXJh"].map(wrong);
    for answer in &answers {
        assert_eq!(answer.status, 401);
        let asked = answer.header("www-authenticate");
        assert_eq!(asked, Some("Basic realm=\"tidegate\", charset=\"UTF-8\""));
    }
    assert_eq!(answers[0].text(), answers[1].text(), "it is not told which names there are");
    assert_eq!(status(&[&proxy.admin_url("/v1/status")]), "401");
    assert_eq!(status(&[&proxy.admin_url("/healthz")]), "200");
    let config = curl(&["-u", "otto:secret-otto", &proxy.admin_url("/v1/config")]).text();
    assert!(config.contains("otto") && !config.contains("$2b$"), "{config}");
    wait_until("changes and refusals are in the audit log, by name", || {
        let log = proxy.process.output();
        log.contains("(otto)") && log.contains("vera is viewer; this needs the role admin")
    });
}

#[test]
fn guessing_a_password_is_ended_after_ten_tries_and_a_reload_gives_no_more() {
    if missing("curl") {
        return;
    }
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).toml(&users()).run();
    for n in 0..10 {
        assert_eq!(ask(&proxy, &format!("vera:guess-{n}")), "401");
    }
    assert_eq!(ask(&proxy, "vera:secret-vera"), "429");
    let json = "content-type: application/json";
    let reload = ["-X", "POST", "-H", json, "-u", "otto:secret-otto", "--interface", "127.0.0.2"];
    let url = proxy.admin_url("/v1/reload");
    assert_eq!(status(&[&reload[..], &[&url]].concat()), "200", "other addresses are heard");
    assert_eq!(ask(&proxy, "otto:secret-otto"), "429");
}

#[test]
fn a_changed_password_file_is_what_counts() {
    if missing("curl") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("vera.hash");
    let write = |password: &str| {
        let next = directory.path().join("next");
        std::fs::write(&next, argon2id(password) + "\n").expect("it can be written");
        std::fs::rename(&next, &file).expect("it can be moved");
    };
    write("first");
    let origin = Origin::new().start();
    let vera = user("vera", &format!("file:{}", file.display()), "viewer");
    let proxy = Proxy::new().runtime("watch = true").backend(&origin).toml(&vera).run();
    assert_eq!(ask(&proxy, "vera:first"), "200");
    write("second");
    wait_until("the old password is forgotten", || ask(&proxy, "vera:first") == "401");
    assert_eq!(ask(&proxy, "vera:second"), "200");
}

/// A proxy whose admin API is TLS with the certificate of that directory.
fn secured(directory: &Path, origin: &impl crate::support::Backend) -> Running {
    let (cert, key) = certificate(directory, &["localhost", "127.0.0.1"]);
    let tls = format!("[admin.tls]\ncert = {cert:?}\nkey = {key:?}\n");
    Proxy::new().runtime("watch = true").backend(origin).toml(&(tls + &users())).start()
}

#[test]
fn tls_is_for_curl_and_for_the_commands() {
    if missing("curl") {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let origin = RawOrigin::always(OK);
    let proxy = secured(directory.path(), &origin);
    let port = proxy.admin_address().port();
    let (url, ca) = (format!("https://127.0.0.1:{port}"), directory.path().join("certificate.pem"));
    let ca = ca.display().to_string();
    let get = |path: &str| {
        let url = format!("{url}{path}");
        status(&["--cacert", &ca, "-u", "vera:secret-vera", &url])
    };
    wait_until("it is ready", || get("/readyz") == "200");
    assert_eq!(get("/v1/status"), "200");
    let plain = curl(&["-i", &format!("http://127.0.0.1:{port}/readyz")]);
    assert!(plain.text().starts_with("HTTP/1.1 400 "), "{} {}", plain.text(), plain.stderr);
    assert!(plain.text().contains("https://"), "{}", plain.text());

    let status =
        |more: &[&str]| -> Output { run(TIDEGATE, &[&["status", "--admin", &url], more].concat()) };
    let unknown = status(&[]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("--ca FILE"), "{}", unknown.stderr);
    let known = status(&["--ca", &ca]);
    assert!(known.stderr.contains("--token"), "it speaks TLS and lacks a token: {}", known.stderr);

    // Another certificate at the same place.
    let before = std::fs::read(directory.path().join("certificate.pem")).expect("it is there");
    let old = directory.path().join("old.pem");
    std::fs::write(&old, before).expect("it can be written");
    certificate(directory.path(), &["localhost", "127.0.0.1"]);
    wait_until("the new certificate is served", || get("/readyz") == "200");
    let (old, url) = (old.display().to_string(), format!("{url}/readyz"));
    let refused = curl(&["--cacert", &old, &url]);
    assert_ne!(refused.code, Some(0), "the old one is not served any more");
}

#[test]
fn what_can_be_reached_from_elsewhere_has_tls_and_asks_who_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let (cert, key) = certificate(directory.path(), &["localhost"]);
    let tls = format!("[admin.tls]\ncert = {cert:?}\nkey = {key:?}\n");
    let check = |more: &str| {
        let file = directory.path().join("tidegate.toml");
        let text = format!(
            "[admin]\nlisten = \"0.0.0.0:9900\"\n{more}\n[[listener]]\nname = \"a\"\n\
             address = \"127.0.0.1:8080\"\n[[route]]\nservice = \"b\"\n[service.b]\n\
             [[service.b.backend]]\naddress = \"127.0.0.1:9000\"\n"
        );
        std::fs::write(&file, text).expect("it can be written");
        let output = run(TIDEGATE, &["check", "--config", &file.display().to_string()]);
        (output.code, output.text() + &output.stderr)
    };
    let (code, said) = check(&(tls.clone() + &users()));
    assert_eq!(code, Some(0), "{said}");
    for (more, lacks) in [
        (tls, "add [[admin.user]] or [[admin.token]],"),
        (users(), "add [admin.tls] with cert and key,"),
        (String::new(), "add [admin.tls] with cert and key, and [[admin.user]] or"),
    ] {
        let (code, said) = check(&more);
        assert!(code == Some(1) && said.contains(lacks), "{code:?} {said}");
    }
}
