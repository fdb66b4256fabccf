//! Real handshakes in memory, against certificates made here.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConnection};

use super::*;
use crate::config::types::{
    Certificate as FilePair, ClientAuth, Listener, ListenerLimit, ListenerTimeout, ListenerTls,
    TlsVersion, UnknownSni,
};

/// Writes NAME.pem and NAME.key for these DNS names; the certificate, for clients to trust.
fn make(dir: &Path, name: &str, dns: &[&str]) -> CertificateDer<'static> {
    let dns: Vec<String> = dns.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(dns).expect("names");
    params.not_before = rcgen::date_time_ymd(2020, 1, 2);
    params.not_after = rcgen::date_time_ymd(2060, 3, 4);
    let key = KeyPair::generate().expect("key");
    let cert = params.self_signed(&key).expect("certificate");
    fs::write(dir.join(format!("{name}.pem")), cert.pem()).expect("write");
    fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).expect("write");
    cert.der().clone()
}

fn listener(dir: &Path, names: &[&str]) -> Listener {
    let second = Duration::from_secs(1);
    let pair = |n: &&str| FilePair {
        cert: dir.join(format!("{n}.pem")),
        key: dir.join(format!("{n}.key")),
    };
    Listener {
        name: "https".into(),
        address: vec![config::ListenAddress::Socket(SocketAddr::from(([127, 0, 0, 1], 0)))],
        http1: true,
        http2: true,
        http3: false,
        proxy_protocol: false,
        trusted_proxies: Vec::new(),
        max_connections: 1,
        max_connections_per_ip: 0,
        redirect_to_https: false,
        timeout: ListenerTimeout {
            handshake: second,
            header: second,
            body: second,
            keep_alive: second,
            write: second,
            tunnel: second,
        },
        limit: ListenerLimit {
            header_bytes: 1,
            header_count: 1,
            uri_bytes: 1,
            h2_streams: 1,
            h2_resets_per_second: 1,
        },
        tls: Some(ListenerTls {
            client_ca: None,
            client_auth: ClientAuth::Require,
            min_version: TlsVersion::V1_2,
            session_tickets: true,
            unknown_sni: UnknownSni::Reject,
            certificates: names.iter().map(pair).collect(),
        }),
    }
}

fn client(trust: &[CertificateDer<'static>]) -> Arc<ClientConfig> {
    client_of(trust, rustls::DEFAULT_VERSIONS)
}

fn client_of(
    trust: &[CertificateDer<'static>],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for cert in trust {
        roots.add(cert.clone()).expect("root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

/// What came of a handshake: the certificate shown, resumed or not, ALPN.
#[derive(Debug)]
struct Shaken {
    cert: CertificateDer<'static>,
    kind: HandshakeKind,
    alpn: Vec<u8>,
}

fn shake(
    server: &Arc<rustls::ServerConfig>,
    client: &Arc<ClientConfig>,
    name: &str,
) -> Result<Shaken, rustls::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("name");
    let mut client = ClientConnection::new(Arc::clone(client), name)?;
    let mut server = ServerConnection::new(Arc::clone(server))?;
    loop {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("memory");
        }
        let to_server = wire.len();
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).expect("memory");
            server.process_new_packets()?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("memory");
        }
        if to_server == 0 && wire.is_empty() {
            break;
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).expect("memory");
            client.process_new_packets()?;
        }
    }
    Ok(Shaken {
        cert: client.peer_certificates().expect("certificates")[0].clone().into_owned(),
        kind: client.handshake_kind().expect("finished"),
        alpn: client.alpn_protocol().unwrap_or_default().to_vec(),
    })
}

fn load(loader: &mut Loader, listener: &Listener) -> Loaded {
    loader.load(listener).expect("loads").expect("has TLS")
}

#[test]
fn the_certificate_is_chosen_by_name() {
    let dir = tempfile::tempdir().expect("dir");
    let a = make(dir.path(), "a", &["a.test", "127.0.0.1"]);
    let wild = make(dir.path(), "wild", &["*.b.test"]);
    let exact = make(dir.path(), "exact", &["x.b.test"]);
    let trust = client(&[a.clone(), wild.clone(), exact.clone()]);
    let mut listener = listener(dir.path(), &["a", "wild", "exact"]);
    let server = load(&mut Loader::default(), &listener).config;
    for (name, expected) in [
        ("a.test", &a),
        ("A.test", &a),
        ("y.b.test", &wild),
        ("x.b.test", &exact),
        // No SNI is sent for an address.
        ("127.0.0.1", &a),
    ] {
        let got = shake(&server, &trust, name).expect(name);
        assert_eq!(got.cert, *expected, "{name}");
        assert_eq!(got.alpn, b"h2");
    }
    for name in ["c.test", "b.test", "z.y.b.test"] {
        shake(&server, &trust, name).expect_err(name);
    }
    if let Some(tls) = &mut listener.tls {
        tls.unknown_sni = UnknownSni::Default;
    }
    let server = load(&mut Loader::default(), &listener).config;
    // The first certificate is shown, so that the client is the one who refuses.
    let refused = shake(&server, &trust, "c.test").expect_err("another name");
    assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused:?}");
}

#[test]
fn sessions_outlive_a_reload() {
    for (tickets, version) in [
        (true, &rustls::version::TLS13),
        (false, &rustls::version::TLS13),
        (true, &rustls::version::TLS12),
        (false, &rustls::version::TLS12),
    ] {
        let dir = tempfile::tempdir().expect("dir");
        let a = make(dir.path(), "a", &["a.test"]);
        make(dir.path(), "b", &["b.test"]);
        let mut before = listener(dir.path(), &["a"]);
        let mut after = listener(dir.path(), &["a", "b"]);
        for listener in [&mut before, &mut after] {
            if let Some(tls) = &mut listener.tls {
                tls.session_tickets = tickets;
            }
        }
        let trust = client_of(&[a], &[version]);
        let mut loader = Loader::default();
        let first = load(&mut loader, &before).config;
        let second = load(&mut loader, &after).config;
        assert!(!Arc::ptr_eq(&first, &second));
        let kind = |server| shake(server, &trust, "a.test").expect("handshake").kind;
        assert_ne!(kind(&first), HandshakeKind::Resumed);
        assert_eq!(kind(&second), HandshakeKind::Resumed, "tickets {tickets} {version:?}");
        // Another process, or another listener, does not know the session.
        let other = load(&mut Loader::default(), &before).config;
        assert_ne!(kind(&other), HandshakeKind::Resumed);
    }
}

#[test]
fn unchanged_files_give_the_same_settings() {
    let dir = tempfile::tempdir().expect("dir");
    make(dir.path(), "a", &["a.test"]);
    let listener = listener(dir.path(), &["a"]);
    let mut loader = Loader::default();
    let first = load(&mut loader, &listener);
    assert!(Arc::ptr_eq(&first.config, &load(&mut loader, &listener).config));
    let renewed = make(dir.path(), "a", &["a.test"]);
    let second = load(&mut loader, &listener);
    assert!(!Arc::ptr_eq(&first.config, &second.config));
    let got = shake(&second.config, &client(std::slice::from_ref(&renewed)), "a.test")
        .expect("handshake");
    assert_eq!(got.cert, renewed);
}

#[test]
fn min_version_is_kept() {
    let dir = tempfile::tempdir().expect("dir");
    let a = make(dir.path(), "a", &["a.test"]);
    let mut listener = listener(dir.path(), &["a"]);
    let old = client_of(&[a], &[&rustls::version::TLS12]);
    let server = load(&mut Loader::default(), &listener).config;
    shake(&server, &old, "a.test").expect("TLS 1.2");
    if let Some(tls) = &mut listener.tls {
        tls.min_version = TlsVersion::V1_3;
    }
    let server = load(&mut Loader::default(), &listener).config;
    shake(&server, &old, "a.test").expect_err("TLS 1.2");
}

#[test]
fn certificates_are_told_about() {
    let dir = tempfile::tempdir().expect("dir");
    make(dir.path(), "a", &["A.test", "*.b.test"]);
    let info = load(&mut Loader::default(), &listener(dir.path(), &["a"])).certificates.remove(0);
    assert_eq!(info.names, ["a.test", "*.b.test"]);
    let unix = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    assert_eq!(info.not_before, unix(1_577_923_200));
    assert_eq!(info.not_after, unix(2_845_584_000));
    assert_eq!(info.warning(unix(1_700_000_000)), None);
    assert!(info.warning(unix(2_845_584_001)).is_some_and(|text| text.ends_with("is expired")));
    assert!(info.warning(unix(1)).is_some_and(|text| text.ends_with("not valid yet")));
}

#[test]
fn every_mistake_names_its_file() {
    let dir = tempfile::tempdir().expect("dir");
    make(dir.path(), "a", &["a.test"]);
    make(dir.path(), "b", &["b.test"]);
    let file = |name: &str| dir.path().join(name);
    fs::copy(file("a.pem"), file("mixed.pem")).expect("copy");
    fs::copy(file("b.key"), file("mixed.key")).expect("copy");
    fs::write(file("empty.pem"), "").expect("write");
    fs::copy(file("a.key"), file("empty.key")).expect("copy");
    fs::copy(file("a.pem"), file("keyless.pem")).expect("copy");
    fs::copy(file("a.pem"), file("keyless.key")).expect("copy");
    let errors = Loader::default()
        .load(&listener(dir.path(), &["a", "mixed", "empty", "keyless"]))
        .expect_err("three are wrong");
    let text: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for (text, (name, what)) in text.iter().zip([
        ("mixed.key", "does not belong to"),
        ("empty.pem", "no certificate in it"),
        ("keyless.key", "no private key in it"),
    ]) {
        assert!(text.starts_with(&*file(name).to_string_lossy()) && text.contains(what), "{text}");
    }
    assert_eq!(text.len(), 3);
    let missing =
        Loader::default().load(&listener(dir.path(), &["a", "none"])).expect_err("missing");
    assert!(missing.iter().all(|error| matches!(error, TlsError::Read { .. })));
    assert_eq!(missing.len(), 1);
}
