//! PROXY headers, paths and header fields.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::OnceLock;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Version, header};

use crate::config::types::{self, Forwarded};
use crate::http::forwarded::{self, Peer};
use crate::http::{fields, headers as rewriting, hops};
use crate::listener::proxy_header;
use crate::route::path::normalise;
use crate::route::{Router, rewrite};

use super::configuration;

/// A header that names a client names the same one when it is written again.
///
/// # Panics
/// It does not.
pub fn proxy_header(data: &[u8]) {
    let Ok(Some(client)) = proxy_header::parse(data) else { return };
    let mut written = b"\r\n\r\n\0\r\nQUIT\n\x21".to_vec();
    match client {
        SocketAddr::V4(client) => {
            written.extend_from_slice(&[0x11, 0, 12]);
            written.extend_from_slice(&client.ip().octets());
            written.extend_from_slice(&[0; 4]);
        }
        SocketAddr::V6(client) => {
            written.extend_from_slice(&[0x21, 0, 36]);
            written.extend_from_slice(&client.ip().octets());
            written.extend_from_slice(&[0; 16]);
        }
    }
    written.extend_from_slice(&client.port().to_be_bytes());
    written.extend_from_slice(&[0, 80]);
    assert_eq!(proxy_header::parse(&written).ok().flatten(), Some(client));
    let family = if client.is_ipv4() { "TCP4" } else { "TCP6" };
    let (ip, port) = (client.ip(), client.port());
    let written = format!("PROXY {family} {ip} {ip} {port} {port}\r\n");
    assert_eq!(proxy_header::parse(written.as_bytes()).ok().flatten(), Some(client));
}

struct Routes {
    router: Router,
    rules: Vec<types::Rewrite>,
}

/// Routes of every kind.
fn routes() -> &'static Routes {
    static ROUTES: OnceLock<Routes> = OnceLock::new();
    ROUTES.get_or_init(|| {
        let file =
            std::env::temp_dir().join(format!("tidegate-routes-{}.toml", std::process::id()));
        let loaded = configuration::load(include_str!("routes.toml"), &file);
        let _ = std::fs::remove_file(&file);
        let config = loaded.expect("the routes are valid").config;
        let rules = config.routes.iter().filter_map(|route| route.rewrite.clone()).collect();
        Routes { router: Router::new(&config.routes, &["http".into()]), rules }
    })
}

/// A path has one normal form, that form has no other, and however a path is spelt its route is the same.
///
/// # Panics
/// It has not.
pub fn routing(data: &[u8]) {
    let Ok(path) = std::str::from_utf8(data) else { return };
    let Ok(normal) = normalise(path) else { return };
    assert_eq!(normalise(&normal).as_deref(), Ok(&*normal), "{path:?}");
    if path == "*" {
        return;
    }
    assert!(!normal.split('/').any(|part| part == "." || part == ".."), "{path:?}: {normal:?}");
    let escaped: String = normal
        .bytes()
        .map(|byte| match byte {
            b'/' | b'%' => char::from(byte).to_string(),
            // Of an escape: its digits stay as they are.
            _ if normal.contains('%') => char::from(byte).to_string(),
            _ if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => format!("%{byte:02x}"),
            _ => char::from(byte).to_string(),
        })
        .collect();
    assert_eq!(normalise(&escaped).as_deref(), Ok(&*normal), "{escaped:?}");
    let Routes { router, rules } = routes();
    let headers = HeaderMap::new();
    for host in [None, Some("a.test"), Some("x.b.test")] {
        let find = |path: &str| router.find(0, host, path, &Method::GET, &headers);
        assert!(find(&normal).is_some(), "the routes end in one for all");
        assert_eq!(find(&normal), find(&normalise(&escaped).unwrap_or_default()), "{path:?}");
    }
    let Ok(original) = PathAndQuery::try_from(path) else { return };
    for rule in rules {
        if let Ok(rewritten) = rewrite::rewrite(rule, &original, &normal) {
            assert!(rewritten.as_str().starts_with('/'), "{path:?}: {rewritten}");
        }
    }
}

/// Names that are for one connection, whatever they say.
const HOPS: [&str; 7] = [
    "keep-alive",
    "proxy-connection",
    "proxy",
    "proxy-authorization",
    "proxy-authenticate",
    "http2-settings",
    "upgrade",
];

/// Lines `name: value` as headers: nothing that belongs to one connection survives, and from strangers
/// nothing that only proxies may say.
///
/// # Panics
/// It does.
pub fn headers(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else { return };
    let mut headers = HeaderMap::new();
    for line in rest.split(|&byte| byte == b'\n').take(50) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let version = if first & 2 == 0 { Version::HTTP_11 } else { Version::HTTP_2 };
    if version == Version::HTTP_2 && fields::check(&headers).is_err() {
        return;
    }
    let ip = IpAddr::from(Ipv4Addr::new(192, 0, 2, 1));
    let trusted = match first & 1 {
        0 => vec![],
        _ => vec!["192.0.2.0/24".parse().expect("a network")],
    };
    let peer = Peer::new(ip, first & 4 != 0, &trusted);
    let before = headers.clone();
    let received = rewriting::receive(
        &mut headers,
        version,
        &peer,
        &trusted,
        &mut fastrand::Rng::with_seed(1),
    );
    check(&headers, &before, &peer, received.upgrade);
    rewriting::join_cookies(&mut headers);
    hops::via(&mut headers, version, received.has.via);
    forwarded::announce(&mut headers, Forwarded::Both, &peer, received.client, None);
    assert_eq!(headers.get_all(header::VIA).iter().count(), 1);
    assert_eq!(headers.get_all("x-forwarded-for").iter().count(), 1);
    assert_eq!(headers.get_all(header::FORWARDED).iter().count(), 1);
    assert!(peer.trusted || received.client == ip, "a stranger is who it is");
}

fn check(headers: &HeaderMap, before: &HeaderMap, peer: &Peer, upgrade: bool) {
    for name in HOPS {
        assert!(!headers.contains_key(name) || (upgrade && name == "upgrade"), "{name}");
    }
    let connection = headers.get(header::CONNECTION).map(HeaderValue::as_bytes);
    let te = headers.get(header::TE).map(HeaderValue::as_bytes);
    match connection {
        None => assert!(te.is_none()),
        Some(b"upgrade") => assert!(upgrade && te.is_none()),
        Some(b"te") => assert_eq!(te, Some(&b"trailers"[..])),
        Some(other) => panic!("connection: {}", other.escape_ascii()),
    }
    for value in before.get_all(header::CONNECTION) {
        for name in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
            let named = name.to_ascii_lowercase();
            let ours = named.starts_with(b"x-") && !named.starts_with(b"x-forwarded");
            if ours && !matches!(&*named, b"x-request-id" | b"x-real-ip") {
                let name = HeaderName::from_bytes(&named);
                assert!(!name.is_ok_and(|name| headers.contains_key(name)), "{named:?}");
            }
        }
    }
    let strangers = |name: &str| {
        let name = name.replace('_', "-");
        name == "forwarded" || name.starts_with("x-forwarded-") || name == "x-real-ip"
    };
    for name in headers.keys().map(HeaderName::as_str) {
        assert!(peer.trusted || !strangers(name), "{name} from a stranger");
        assert!(!name.replace('_', "-").starts_with("client-cert-"), "{name}");
    }
}
