//! Header rules as tables: what arrives, from whom, and what is left.

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version, header};
use ipnet::IpNet;
use proptest::prelude::*;

use super::forwarded::{Peer, announce};
use super::headers::{apply, host_value, receive, receive_response, set_host};
use crate::config::types::{Forwarded, HeaderRules, HostRule};

/// Headers from lines `name: value`.
fn map(lines: &[&str]) -> HeaderMap {
    lines
        .iter()
        .map(|line| {
            let (name, value) = line.split_once(": ").expect("name: value");
            let name: HeaderName = name.parse().expect("name");
            (name, HeaderValue::from_bytes(value.as_bytes()).expect("value"))
        })
        .collect()
}

/// Lines from headers, sorted; without the id, which is random.
fn lines(headers: &HeaderMap) -> Vec<String> {
    let line = |(name, value): (&HeaderName, &HeaderValue)| {
        format!("{name}: {}", value.to_str().expect("text"))
    };
    let mut lines: Vec<_> =
        headers.iter().filter(|(name, _)| *name != "x-request-id").map(line).collect();
    lines.sort();
    lines
}

fn nets() -> Vec<IpNet> {
    ["10.0.0.0/8", "fd00::/8"].map(|net| net.parse().expect("net")).to_vec()
}

fn peer(ip: &str) -> Peer {
    Peer::new(ip.parse().expect("ip"), true, &nets())
}

const STRANGER: &str = "192.0.2.1";
const TRUSTED: &str = "10.0.0.1";

#[test]
fn what_is_left_of_a_request() {
    let cases: &[(&str, &[&str], &[&str])] = &[
        // Hop by hop.
        (STRANGER, &["accept: */*"], &["accept: */*"]),
        (STRANGER, &["connection: keep-alive"], &[]),
        (STRANGER, &["connection: close", "keep-alive: timeout=5"], &[]),
        (STRANGER, &["keep-alive: timeout=5"], &[]),
        (STRANGER, &["proxy-connection: keep-alive"], &[]),
        (STRANGER, &["proxy-authorization: Basic x"], &[]),
        (STRANGER, &["proxy-authenticate: Basic"], &[]),
        (STRANGER, &["proxy: http://evil"], &[]),
        (STRANGER, &["proxy-x: stays"], &["proxy-x: stays"]),
        (STRANGER, &["http2-settings: AAMAAABk"], &[]),
        (STRANGER, &["connection: x-hop", "x-hop: 1", "x-end: 2"], &["x-end: 2"]),
        (STRANGER, &["connection: X-Hop , close", "x-hop: 1"], &[]),
        (STRANGER, &["connection: close", "connection: x-hop", "x-hop: 1"], &[]),
        (STRANGER, &["connection: x-hop,,;bad", "x-hop: 1"], &[]),
        // Named by Connection, but not a connection's own.
        (STRANGER, &["connection: host", "host: a"], &["host: a"]),
        (STRANGER, &["connection: content-length", "content-length: 3"], &["content-length: 3"]),
        (STRANGER, &["connection: authorization", "authorization: x"], &["authorization: x"]),
        (STRANGER, &["connection: cookie", "cookie: x"], &["cookie: x"]),
        (
            STRANGER,
            &["connection: transfer-encoding", "transfer-encoding: chunked"],
            &["transfer-encoding: chunked"],
        ),
        (
            TRUSTED,
            &["connection: x-forwarded-for", "x-forwarded-for: 1.2.3.4"],
            &["x-forwarded-for: 1.2.3.4"],
        ),
        (TRUSTED, &["connection: traceparent", "traceparent: 00-1"], &["traceparent: 00-1"]),
        // TE
        (STRANGER, &["te: trailers"], &["connection: te", "te: trailers"]),
        (STRANGER, &["te: gzip, trailers;q=1"], &[]),
        (STRANGER, &["te: gzip, Trailers"], &["connection: te", "te: trailers"]),
        (STRANGER, &["te: gzip", "connection: te"], &[]),
        // Upgrade
        (
            STRANGER,
            &["connection: Upgrade", "upgrade: websocket"],
            &["connection: upgrade", "upgrade: websocket"],
        ),
        (
            STRANGER,
            &["connection: keep-alive, Upgrade", "upgrade: websocket", "te: trailers"],
            &["connection: upgrade", "upgrade: websocket"],
        ),
        (STRANGER, &["upgrade: websocket"], &[]),
        (STRANGER, &["connection: upgrade"], &[]),
        (STRANGER, &["connection: upgrade", "upgrade: h2c"], &[]),
        (STRANGER, &["connection: upgrade", "upgrade: websocket, H2C"], &[]),
        // What a stranger may not say.
        (STRANGER, &["forwarded: for=1.2.3.4"], &[]),
        (STRANGER, &["x-forwarded-for: 1.2.3.4", "x-forwarded-for: 5.6.7.8"], &[]),
        (
            STRANGER,
            &["x-forwarded-proto: https", "x-forwarded-host: a", "x-forwarded-port: 1"],
            &[],
        ),
        (STRANGER, &["x-forwarded: 1", "x-forwarded-anything: 1"], &[]),
        (STRANGER, &["x-forwardedx: 1"], &["x-forwardedx: 1"]),
        (STRANGER, &["x-real-ip: 1.2.3.4", "x-real-ipx: 1"], &["x-real-ipx: 1"]),
        (STRANGER, &["x_forwarded_for: 1", "x-forwarded_proto: 1", "x_real_ip: 1"], &[]),
        (STRANGER, &["x_forwarded: 1", "x_request_id: 1", "x-request_id: 1"], &[]),
        (STRANGER, &["traceparent: 00-1", "tracestate: a=b"], &[]),
        // What a trusted peer may.
        (TRUSTED, &["forwarded: for=1.2.3.4"], &["forwarded: for=1.2.3.4"]),
        (TRUSTED, &["x-real-ip: 1.2.3.4"], &["x-real-ip: 1.2.3.4"]),
        (TRUSTED, &["x_real_ip: 1.2.3.4", "x_forwarded_for: 1"], &[]),
        (
            TRUSTED,
            &["traceparent: 00-1", "tracestate: a=b"],
            &["traceparent: 00-1", "tracestate: a=b"],
        ),
        (TRUSTED, &["traceparent: 0 0", "tracestate: a=b"], &[]),
        (TRUSTED, &["traceparent: 00-1", "traceparent: 00-2"], &[]),
        (TRUSTED, &["tracestate: a=b"], &[]),
        (TRUSTED, &["connection: close", "keep-alive: 1"], &[]),
        ("::ffff:10.0.0.1", &["x-real-ip: 1.2.3.4"], &["x-real-ip: 1.2.3.4"]),
    ];
    for (ip, sent, left) in cases {
        let mut headers = map(sent);
        let mut rng = fastrand::Rng::with_seed(1);
        receive(&mut headers, Version::HTTP_11, &peer(ip), &nets(), &mut rng);
        assert_eq!(lines(&headers), *left, "{ip} {sent:?}");
    }
}

#[test]
fn upgrades_are_of_http_1_1_only() {
    for (version, expected) in [(Version::HTTP_11, true), (Version::HTTP_10, false)] {
        let mut headers = map(&["connection: upgrade", "upgrade: websocket"]);
        let mut rng = fastrand::Rng::with_seed(1);
        let got = receive(&mut headers, version, &peer(STRANGER), &[], &mut rng);
        assert_eq!((got.upgrade, headers.contains_key(header::UPGRADE)), (expected, expected));
    }
}

#[test]
fn the_client_is_the_first_untrusted_from_the_right() {
    let cases: &[(&str, &[&str], &str)] = &[
        (STRANGER, &[], STRANGER),
        (STRANGER, &["x-forwarded-for: 1.1.1.1"], STRANGER),
        ("::ffff:192.0.2.1", &[], STRANGER),
        (TRUSTED, &[], TRUSTED),
        (TRUSTED, &["x-forwarded-for: 1.1.1.1"], "1.1.1.1"),
        (TRUSTED, &["x-forwarded-for: 6.6.6.6, 1.1.1.1"], "1.1.1.1"),
        (TRUSTED, &["x-forwarded-for: 6.6.6.6, 1.1.1.1, 10.9.9.9"], "1.1.1.1"),
        (TRUSTED, &["x-forwarded-for: 6.6.6.6", "x-forwarded-for: 1.1.1.1 ,10.9.9.9"], "1.1.1.1"),
        (TRUSTED, &["x-forwarded-for: 10.1.1.1, 10.2.2.2"], "10.1.1.1"),
        (TRUSTED, &["x-forwarded-for: 1.1.1.1:5555"], "1.1.1.1"),
        (TRUSTED, &["x-forwarded-for: 2001:db8::1"], "2001:db8::1"),
        (TRUSTED, &["x-forwarded-for: [2001:db8::1]:80"], "2001:db8::1"),
        (TRUSTED, &["x-forwarded-for: ::ffff:1.1.1.1"], "1.1.1.1"),
        (TRUSTED, &["x-forwarded-for: 1.1.1.1, unknown"], TRUSTED),
        (TRUSTED, &["x-forwarded-for: unknown, 10.3.3.3"], "10.3.3.3"),
        (TRUSTED, &["x-forwarded-for: 1.1.1.1,, "], "1.1.1.1"),
        (TRUSTED, &["x-forwarded-for: 1.1.1.1", "forwarded: for=6.6.6.6"], "1.1.1.1"),
        (TRUSTED, &["forwarded: for=1.1.1.1"], "1.1.1.1"),
        (TRUSTED, &["forwarded: For=\"[2001:db8::1]:80\";proto=https"], "2001:db8::1"),
        (TRUSTED, &["forwarded: for=6.6.6.6, host=a;for=1.1.1.1, for=10.1.1.1"], "1.1.1.1"),
        (TRUSTED, &["forwarded: for=1.1.1.1;host=\"a, for=6.6.6.6\""], "1.1.1.1"),
        (TRUSTED, &["forwarded: for=1.1.1.1;host=\"a\\\", for=6.6.6.6\""], "1.1.1.1"),
        (TRUSTED, &["forwarded: for=1.1.1.1, for=_hidden"], TRUSTED),
        (TRUSTED, &["forwarded: for=6.6.6.6", "forwarded: for=1.1.1.1"], "1.1.1.1"),
        (TRUSTED, &["forwarded: proto=https"], TRUSTED),
        ("fd00::1", &["x-forwarded-for: 1.1.1.1"], "1.1.1.1"),
    ];
    for (ip, sent, client) in cases {
        let mut headers = map(sent);
        let mut rng = fastrand::Rng::with_seed(1);
        let got = receive(&mut headers, Version::HTTP_11, &peer(ip), &nets(), &mut rng);
        assert_eq!(got.client, client.parse::<IpAddr>().expect("ip"), "{ip} {sent:?}");
    }
}

#[test]
fn ids_are_taken_over_from_trusted_peers_only() {
    let long = format!("x-request-id: {}", "a".repeat(129));
    for (ip, sent, expected) in [
        (STRANGER, vec!["x-request-id: mine"], None),
        (TRUSTED, vec!["x-request-id: mine"], Some("mine")),
        (TRUSTED, vec!["x-request-id: a b"], None),
        (TRUSTED, vec!["x-request-id: a", "x-request-id: b"], None),
        (TRUSTED, vec![&long], None),
        (TRUSTED, vec![], None),
    ] {
        let mut headers = map(&sent);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut got = receive(&mut headers, Version::HTTP_11, &peer(ip), &nets(), &mut rng);
        assert_eq!(headers.contains_key("x-request-id"), expected.is_some(), "{ip} {sent:?}");
        got.put_id(&mut headers);
        match expected {
            Some(id) => assert_eq!(got.id.as_str(), id),
            None => assert_eq!(got.id.as_str().len(), 32, "{ip} {sent:?}"),
        }
        let sent: Vec<_> = headers.get_all("x-request-id").iter().collect();
        assert_eq!(sent, [got.id.as_str()]);
    }
}

#[test]
fn what_the_backend_is_told() {
    use Forwarded::{Both, Off, Rfc7239, XForwarded};
    let host = HeaderValue::from_static("a.test:8443");
    let cases: &[(&str, Forwarded, &[&str], &[&str])] = &[
        (STRANGER, Off, &["x-forwarded-for: 6.6.6.6"], &[]),
        (
            STRANGER,
            XForwarded,
            &["x-forwarded-for: 6.6.6.6", "forwarded: for=6.6.6.6"],
            &[
                "x-forwarded-for: 192.0.2.1",
                "x-forwarded-host: a.test:8443",
                "x-forwarded-proto: https",
            ],
        ),
        (
            TRUSTED,
            XForwarded,
            &["x-forwarded-for: 6.6.6.6", "x-forwarded-for: 1.1.1.1", "x-forwarded-proto: http"],
            &[
                "x-forwarded-for: 6.6.6.6, 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: a.test:8443",
                "x-forwarded-proto: http",
            ],
        ),
        (TRUSTED, Off, &["x-forwarded-for: 1.1.1.1"], &["x-forwarded-for: 1.1.1.1"]),
        (STRANGER, Rfc7239, &[], &["forwarded: for=192.0.2.1;host=\"a.test:8443\";proto=https"]),
        (
            "2001:db8::7",
            Rfc7239,
            &[],
            &["forwarded: for=\"[2001:db8::7]\";host=\"a.test:8443\";proto=https"],
        ),
        (
            TRUSTED,
            Rfc7239,
            &["forwarded: for=1.1.1.1"],
            &["forwarded: for=1.1.1.1, for=10.0.0.1;host=\"a.test:8443\";proto=https"],
        ),
        (
            TRUSTED,
            Both,
            &["x-forwarded-for: 1.1.1.1", "x-forwarded-host: b"],
            &[
                "forwarded: for=1.1.1.1, for=10.0.0.1;host=\"a.test:8443\";proto=https",
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: b",
                "x-forwarded-proto: https",
            ],
        ),
        (
            TRUSTED,
            XForwarded,
            &["forwarded: for=1.1.1.1"],
            &[
                "forwarded: for=1.1.1.1",
                "x-forwarded-for: 1.1.1.1, 10.0.0.1",
                "x-forwarded-host: a.test:8443",
                "x-forwarded-proto: https",
            ],
        ),
    ];
    for (ip, how, sent, left) in cases {
        let mut headers = map(sent);
        let peer = peer(ip);
        let mut rng = fastrand::Rng::with_seed(1);
        let got = receive(&mut headers, Version::HTTP_11, &peer, &nets(), &mut rng);
        announce(&mut headers, *how, &peer, got.client, Some(&host));
        assert_eq!(lines(&headers), *left, "{ip} {how:?} {sent:?}");
    }
}

#[test]
fn what_is_left_of_an_answer() {
    let ok = StatusCode::OK;
    let cases: &[(StatusCode, &[&str], &[&str])] = &[
        (ok, &["content-length: 3", "date: x"], &["content-length: 3", "date: x"]),
        (ok, &["connection: close", "keep-alive: timeout=5"], &[]),
        (ok, &["transfer-encoding: chunked", "trailer: x"], &["trailer: x"]),
        (ok, &["connection: x-hop", "x-hop: 1"], &[]),
        (ok, &["connection: set-cookie", "set-cookie: a"], &["set-cookie: a"]),
        (ok, &["proxy-authenticate: Basic", "proxy-status: a"], &["proxy-status: a"]),
        (ok, &["connection: upgrade", "upgrade: h2c"], &[]),
        (ok, &["x-forwarded-for: theirs"], &["x-forwarded-for: theirs"]),
        (
            StatusCode::SWITCHING_PROTOCOLS,
            &["connection: Upgrade", "upgrade: websocket"],
            &["connection: upgrade", "upgrade: websocket"],
        ),
    ];
    for (status, sent, left) in cases {
        let mut headers = map(sent);
        receive_response(&mut headers, *status);
        assert_eq!(lines(&headers), *left, "{status} {sent:?}");
    }
}

#[test]
fn host_and_rules() {
    let backend = HeaderValue::from_static("10.0.0.9:3000");
    let fixed = HostRule::Fixed(HeaderValue::from_static("fixed.test"));
    for (rule, uri, sent, expected) in [
        (HostRule::Preserve, "/", &["host: a.test"][..], "a.test"),
        (HostRule::Preserve, "https://b.test:1/", &[], "b.test:1"),
        (HostRule::Preserve, "/", &[], "10.0.0.9:3000"),
        (HostRule::Backend, "/", &["host: a.test"], "10.0.0.9:3000"),
        (fixed, "/", &["host: a.test"], "fixed.test"),
    ] {
        let mut headers = map(sent);
        let preserved = host_value(&uri.parse().expect("uri"), &headers);
        set_host(&mut headers, &rule, preserved.as_ref(), &backend);
        assert_eq!(headers[header::HOST], expected, "{rule:?} {uri}");
    }
    let mut headers = map(&["a: 1", "a: 2", "b: 1", "c: 1"]);
    let rules = HeaderRules {
        set: vec![(HeaderName::from_static("a"), HeaderValue::from_static("3"))],
        remove: vec![HeaderName::from_static("b")],
    };
    apply(&mut headers, &rules);
    assert_eq!(lines(&headers), ["a: 3", "c: 1"]);
}

proptest! {
    #[test]
    fn no_hop_by_hop_header_is_left(
        sent in proptest::collection::vec(
            ("(x-a|x-b|keep-alive|te|upgrade|proxy-connection|x-forwarded-for|x_real_ip|forwarded)", "[a-z0-9, ]{0,12}"),
            0..8,
        ),
        options in proptest::collection::vec("(close|keep-alive|upgrade|te|X-A|x-b|host|,)", 0..4),
    ) {
        let mut headers = HeaderMap::new();
        for (name, value) in &sent {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("name"),
                HeaderValue::from_str(value).expect("value"),
            );
        }
        for option in &options {
            headers.append(header::CONNECTION, HeaderValue::from_str(option).expect("value"));
        }
        let named = |name: &str| options.iter().any(|option| option.eq_ignore_ascii_case(name));
        let mut rng = fastrand::Rng::with_seed(1);
        let got = receive(&mut headers, Version::HTTP_11, &peer(STRANGER), &nets(), &mut rng);
        for name in ["keep-alive", "proxy-connection", "x-forwarded-for", "x_real_ip", "forwarded"] {
            prop_assert!(!headers.contains_key(name), "{}", name);
        }
        prop_assert!(!(named("x-a") && headers.contains_key("x-a")));
        prop_assert!(!(named("x-b") && headers.contains_key("x-b")));
        prop_assert_eq!(headers.contains_key("upgrade"), got.upgrade);
        let connection = headers.get("connection").map(HeaderValue::as_bytes);
        prop_assert_eq!(connection == Some(b"upgrade"), got.upgrade);
        prop_assert_eq!(connection == Some(b"te"), headers.contains_key("te"));
    }
}
