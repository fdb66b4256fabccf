//! TLS as curl and openssl see it: protocol versions, names, ALPN, sessions.

use std::path::PathBuf;

use tempfile::TempDir;

use crate::support::{
    Connection, Origin, Output, Proxy, RawOrigin, Running, certificate, curl, missing, run,
    wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Two certificates, `a.test` first and `b.test`, each in its own directory.
struct Names {
    first: TempDir,
    second: TempDir,
}

impl Names {
    fn new() -> Self {
        let names =
            Self { first: tempfile::tempdir().unwrap(), second: tempfile::tempdir().unwrap() };
        certificate(names.first.path(), &["a.test", "*.a.test"]);
        certificate(names.second.path(), &["b.test"]);
        names
    }

    /// The certificate of the host, which is its own authority.
    fn of(&self, host: &str) -> PathBuf {
        let directory = if host.ends_with("b.test") { &self.second } else { &self.first };
        directory.path().join("certificate.pem")
    }

    /// Keys of the listener.
    fn listener(&self, tls: &str) -> String {
        let mut text = format!("[listener.tls]\n{tls}\n");
        for directory in [&self.first, &self.second] {
            let file = |name: &str| directory.path().join(name);
            text += &format!(
                "[[listener.tls.certificate]]\ncert = {:?}\nkey = {:?}\n",
                file("certificate.pem"),
                file("key.pem")
            );
        }
        text
    }

    fn curl(&self, proxy: &Running, host: &str, arguments: &[&str]) -> Output {
        let address = proxy.address("http");
        let resolve = format!("{host}:{}:{}", address.port(), address.ip());
        let url = format!("https://{host}:{}/", address.port());
        let trust = self.of(host).display().to_string();
        curl(&[&["--resolve", &resolve, "--cacert", &trust], arguments, &[&url]].concat())
    }
}

#[test]
fn alpn_chooses_the_protocol() {
    if missing("curl") {
        return;
    }
    let names = Names::new();
    let origin = RawOrigin::always(OK);
    let version = ["-o", "/dev/null", "-w", "%{http_version} %{http_code}"];
    let proxy = Proxy::new().listener(&names.listener("")).backend(&origin).run();
    for (protocol, wanted) in
        [("--http1.1", "1.1 200"), ("--http2", "2 200"), ("--no-alpn", "1.1 200")]
    {
        let output = names.curl(&proxy, "a.test", &[&version[..], &[protocol]].concat());
        assert_eq!(output.text(), wanted, "{protocol}: {}", output.stderr);
    }
    let only = format!("protocols = [\"http/1.1\"]\n{}", names.listener(""));
    let proxy = Proxy::new().listener(&only).backend(&origin).run();
    let output = names.curl(&proxy, "a.test", &[&version[..], &["--http2"]].concat());
    assert_eq!(output.text(), "1.1 200", "{}", output.stderr);
}

#[test]
fn versions_from_the_least_that_is_allowed() {
    if missing("curl") {
        return;
    }
    let names = Names::new();
    let origin = RawOrigin::always(OK);
    for (least, twelve) in [("1.2", true), ("1.3", false)] {
        let tls = format!("min_version = \"{least}\"");
        let proxy = Proxy::new().listener(&names.listener(&tls)).backend(&origin).run();
        for (version, wanted) in [("1.1", false), ("1.2", twelve), ("1.3", true)] {
            let (at_least, at_most) = (format!("--tlsv{version}"), version);
            let output = names.curl(&proxy, "a.test", &[&at_least, "--tls-max", at_most]);
            assert_eq!(output.text() == "ok", wanted, "{version} of {least}: {}", output.stderr);
        }
    }
}

#[test]
fn the_name_chooses_the_certificate_and_an_unknown_one_is_rejected() {
    if missing("curl") || missing("openssl") {
        return;
    }
    let names = Names::new();
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().listener(&names.listener("")).backend(&origin).run();
    for host in ["a.test", "x.a.test", "b.test"] {
        // The certificate has to be valid for the name.
        assert_eq!(names.curl(&proxy, host, &[]).text(), "ok", "{host}");
    }
    let output = names.curl(&proxy, "c.test", &["-k"]);
    assert_eq!((output.code, output.text()), (Some(35), String::new()), "{}", output.stderr);
    wait_until("it is counted", || {
        let refused = [("reason", "unknown_sni")];
        proxy.metric("tidegate_connections_refused_total", &refused) == 1.0
    });
    // Without a name: the first one.
    let address = proxy.address("http").to_string();
    let output = run("openssl", &["s_client", "-connect", &address, "-noservername"]);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &output.stdout).unwrap();
    let path = file.path().display().to_string();
    let fingerprint = |file: &str| run("openssl", &["x509", "-noout", "-fingerprint", "-in", file]);
    let first = names.of("a.test").display().to_string();
    assert_eq!(fingerprint(&path).text(), fingerprint(&first).text(), "{}", output.stderr);
    let tls = names.listener("unknown_sni = \"default\"");
    let proxy = Proxy::new().listener(&tls).backend(&origin).run();
    assert_eq!(names.curl(&proxy, "c.test", &["-k"]).text(), "ok");
}

#[test]
fn sessions_are_resumed_on_any_worker() {
    if missing("openssl") {
        return;
    }
    let names = Names::new();
    let origin = Origin::new().start();
    let proxy =
        Proxy::new().runtime("workers = 4").listener(&names.listener("")).backend(&origin).run();
    let address = proxy.address("http").to_string();
    let file = names.first.path().join("session").display().to_string();
    // The answer comes after the tickets of TLS 1.3, so they have been read by then.
    let request = names.first.path().join("request");
    std::fs::write(&request, "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n")
        .unwrap();
    let client = |version: &str, session: &str| {
        let command = format!(
            "openssl s_client -connect {address} -servername a.test {version} -ign_eof {session} \
             <{} 2>&1",
            request.display()
        );
        run("sh", &["-c", &command]).text()
    };
    for version in ["-tls1_2", "-tls1_3"] {
        let first = client(version, &format!("-sess_out {file}"));
        assert!(first.contains("New, TLSv1") && first.contains("HTTP/1.1 200"), "{first}");
        // Enough for the kernel to have chosen every worker.
        for _ in 0..12 {
            let again = client(version, &format!("-sess_in {file}"));
            assert!(again.contains("Reused, TLSv1"), "{version}: {again}");
        }
    }
    let tls = names.listener("session_tickets = false");
    let proxy = Proxy::new().listener(&tls).backend(&origin).run();
    let address = proxy.address("http").to_string();
    let command = format!(
        "openssl s_client -connect {address} -servername a.test -tls1_3 -ign_eof <{} 2>&1",
        request.display()
    );
    let output = run("sh", &["-c", &command]).text();
    assert!(output.contains("HTTP/1.1 200"), "{output}");
}

#[test]
fn the_backend_is_told_that_it_was_https() {
    if missing("curl") {
        return;
    }
    let names = Names::new();
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().listener(&names.listener("")).backend(&origin).run();
    assert_eq!(names.curl(&proxy, "a.test", &["--http2"]).text(), "ok");
    let head = origin.received_text(0).to_lowercase();
    assert!(head.contains("x-forwarded-proto: https\r\n"), "{head}");
    let host = format!("host: a.test:{}\r\n", proxy.address("http").port());
    assert!(head.contains(&host), "{head}");
}

#[test]
fn what_is_no_handshake_is_closed_and_counted() {
    let names = Names::new();
    let origin = RawOrigin::always(OK);
    let listener = format!("{}\n[listener.timeout]\nhandshake = \"300ms\"", names.listener(""));
    let proxy = Proxy::new().listener(&listener).backend(&origin).run();
    let mut plain = Connection::open(proxy.address("http"));
    plain.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert!(!plain.rest().contains("HTTP/1.1"));
    let start = std::time::Instant::now();
    let mut silent = Connection::open(proxy.address("http"));
    assert_eq!(silent.rest(), "");
    assert!(start.elapsed().as_millis() >= 300, "{:?}", start.elapsed());
    wait_until("both are counted", || {
        proxy.metric("tidegate_connections_refused_total", &[("reason", "tls_handshake")]) == 2.0
    });
    assert_eq!(proxy.metric("tidegate_connections", &[]), 0.0);
}
