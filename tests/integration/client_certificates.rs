//! Listeners that ask clients for a certificate, asked by curl.

use std::path::Path;

use tempfile::TempDir;

use crate::support::{Output, Proxy, RawOrigin, Running, certificate, curl, missing};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The listener's certificate, a client's, and a stranger's; each its own authority.
struct Parties {
    server: TempDir,
    client: TempDir,
    stranger: TempDir,
}

impl Parties {
    fn new() -> Self {
        let of = |name: &str| {
            let directory = tempfile::tempdir().unwrap();
            certificate(directory.path(), &[name, "other.test"]);
            directory
        };
        Self { server: of("a.test"), client: of("client.test"), stranger: of("stranger.test") }
    }

    fn proxy(&self, origin: &RawOrigin, auth: &str) -> Running {
        let file = |directory: &TempDir, name: &str| directory.path().join(name);
        let tls = format!(
            "[listener.tls]\nclient_ca = {:?}\nclient_auth = \"{auth}\"\n\
             [[listener.tls.certificate]]\ncert = {:?}\nkey = {:?}\n",
            file(&self.client, "certificate.pem"),
            file(&self.server, "certificate.pem"),
            file(&self.server, "key.pem"),
        );
        let trusted = "trusted_proxies = [\"127.0.0.0/8\"]\n";
        Proxy::new()
            .runtime("workers = 1")
            .listener(&format!("{trusted}{tls}"))
            .backend(origin)
            .run()
    }

    fn ask(&self, proxy: &Running, shown: Option<&TempDir>, more: &[&str]) -> Output {
        let address = proxy.address("http");
        let resolve = format!("a.test:{}:{}", address.port(), address.ip());
        let url = format!("https://a.test:{}/", address.port());
        let path = |directory: &Path, name: &str| directory.join(name).display().to_string();
        let trust = path(self.server.path(), "certificate.pem");
        let mut arguments = vec!["--resolve", &resolve, "--cacert", &trust, "-o", "/dev/null"];
        arguments.extend(["-w", "%{http_code}"]);
        let (cert, key);
        if let Some(shown) = shown {
            (cert, key) = (path(shown.path(), "certificate.pem"), path(shown.path(), "key.pem"));
            arguments.extend(["--cert", &cert, "--key", &key]);
        }
        arguments.extend(more);
        arguments.push(&url);
        curl(&arguments)
    }
}

#[test]
fn backends_are_told_who_it_is_and_nobody_else_can_say_so() {
    if missing("curl") {
        return;
    }
    let parties = Parties::new();
    let forged = ["-H", "Client-Cert: :AAAA:", "-H", "client_cert_subject: CN=admin"];
    for version in ["--http1.1", "--http2"] {
        let origin = RawOrigin::always(OK);
        let proxy = parties.proxy(&origin, "require");
        let more = [&[version, "-H", "Client-Cert-Chain: x"][..], &forged].concat();
        let answer = parties.ask(&proxy, Some(&parties.client), &more);
        assert_eq!((answer.code, answer.text().as_str()), (Some(0), "200"), "{}", answer.stderr);
        let head = origin.received_text(0).to_lowercase();
        let values = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            let values = lines.filter(|(known, _)| *known == name).map(|(_, value)| value);
            values.map(str::to_owned).collect::<Vec<_>>()
        };
        let certificates = values("client-cert");
        assert!(certificates.len() == 1 && certificates[0].starts_with(":mii"), "{head}");
        assert_eq!(values("client-cert-subject"), ["cn=rcgen self signed cert"], "{head}");
        assert!(!head.contains("admin") && !head.contains("client-cert-chain"), "{head}");
    }
}

#[test]
fn without_a_good_certificate_there_is_no_connection() {
    if missing("curl") {
        return;
    }
    let parties = Parties::new();
    let origin = RawOrigin::always(OK);
    let proxy = parties.proxy(&origin, "require");
    for shown in [None, Some(&parties.stranger)] {
        let answer = parties.ask(&proxy, shown, &[]);
        assert_ne!(answer.code, Some(0), "{}", answer.text());
    }
    assert_eq!(origin.connections(), 0);
    let refused =
        proxy.metric("tidegate_connections_refused_total", &[("reason", "tls_handshake")]);
    assert_eq!(refused, 2.0);

    // Asked for, but not required: without one it goes on, with a bad one it does not.
    let proxy = parties.proxy(&origin, "request");
    let forged = ["-H", "Client-Cert-Subject: CN=admin"];
    assert_eq!(parties.ask(&proxy, None, &forged).text(), "200");
    assert!(!origin.received_text(0).to_lowercase().contains("client-cert"));
    assert_ne!(parties.ask(&proxy, Some(&parties.stranger), &[]).code, Some(0));
}

#[test]
fn another_host_on_the_same_connection_is_misdirected() {
    if missing("curl") {
        return;
    }
    let parties = Parties::new();
    let origin = RawOrigin::always(OK);
    let proxy = parties.proxy(&origin, "require");
    let answer = parties.ask(&proxy, Some(&parties.client), &["-H", "Host: other.test"]);
    assert_eq!(answer.text(), "421");
    assert_eq!(origin.connections(), 0);
}
