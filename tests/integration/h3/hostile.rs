//! HTTP/3 requests that are malformed or hostile, byte for byte, and what becomes of them.

use crate::support::http3::{self, Came, SETTINGS, frame, section};
use crate::support::{Proxy, RawOrigin, wait_until};

use super::{OK, Site};

const MESSAGE_ERROR: u64 = 0x10e;
const FRAME_UNEXPECTED: u64 = 0x105;
const FRAME_ERROR: u64 = 0x106;

const GET: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")];
const POST: [(&str, &str); 4] =
    [(":method", "POST"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")];

fn site(origin: &RawOrigin) -> Site {
    Site::new(Proxy::new().backend(origin), "", "")
}

/// A GET with other fields, as the frame of its head.
fn with(more: &[(&str, &str)]) -> Vec<u8> {
    frame(1, &section(&[&GET, more].concat()))
}

fn without(name: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let left: Vec<_> = GET.into_iter().filter(|field| field.0 != name).collect();
    frame(1, &section(&[&left[..], more].concat()))
}

#[test]
fn malformed_requests_are_reset_and_nobody_sees_them() {
    let origin = RawOrigin::always(OK);
    let site = site(&origin);
    let quic = site.quic();
    let long = |length: &'static str| [&POST[..], &[("content-length", length)]].concat();
    for (case, bytes) in [
        ("a path twice", with(&[(":path", "/admin")])),
        ("a method twice", with(&[(":method", "POST")])),
        ("an authority twice", with(&[(":authority", "b.test")])),
        ("a pseudo-header field after others", {
            let mut fields = GET.to_vec();
            fields.insert(1, ("x-a", "b"));
            frame(1, &section(&fields))
        }),
        ("one of answers", with(&[(":status", "200")])),
        ("one that nobody knows", with(&[(":path2", "/")])),
        (":protocol", with(&[(":protocol", "websocket")])),
        ("no method", without(":method", &[])),
        ("no scheme", without(":scheme", &[])),
        ("no path", without(":path", &[])),
        ("an empty path", without(":path", &[(":path", "")])),
        ("a path that begins with nothing", without(":path", &[(":path", "admin")])),
        ("a fragment", without(":path", &[(":path", "/#x")])),
        ("a space in the path", without(":path", &[(":path", "/a b")])),
        ("a line end in the path", without(":path", &[(":path", "/ HTTP/1.1\r\nx: y")])),
        ("no host at all", without(":authority", &[])),
        ("an empty authority", without(":authority", &[(":authority", "")])),
        ("a method with a line end", without(":method", &[(":method", "GET / HTTP/1.1\r\nx:")])),
        ("capitals", with(&[("X-A", "b")])),
        ("a blank in a name", with(&[("x a", "b")])),
        ("a colon in a name", with(&[("x-a:", "b")])),
        ("an empty name", with(&[("", "b")])),
        ("a line end in a value", with(&[("x-a", "b\r\nx-c: d")])),
        ("a zero in a value", with(&[("x-a", "b\0")])),
        ("blanks around a value", with(&[("x-a", " b")])),
        ("connection", with(&[("connection", "x-a")])),
        ("keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "websocket")])),
        ("te", with(&[("te", "trailers, deflate")])),
        ("a length that is none", with(&[("content-length", "a")])),
        ("two lengths", with(&[("content-length", "0"), ("content-length", "0")])),
        ("a length without a body", with(&[("content-length", "5")])),
        ("more than its length", {
            [frame(1, &section(&long("5"))), frame(0, b"hello!")].concat()
        }),
        ("a body where there is none", {
            let head = [&GET[..], &[("content-length", "0")]].concat();
            [frame(1, &section(&head)), frame(0, b"GET /admin HTTP/1.1\r\n\r\n")].concat()
        }),
        ("CONNECT with a path", without(":method", &[(":method", "CONNECT")])),
    ] {
        assert_eq!(quic.ask(&bytes, true), Came::Reset(MESSAGE_ERROR), "{case}");
    }
    for (case, bytes) in [
        ("two hosts", with(&[("host", "b.test")])),
        ("a host with a user", without(":authority", &[(":authority", "u@a.test")])),
        (
            "hosts that are repeated",
            without(":authority", &[("host", "a.test"), ("host", "a.test")]),
        ),
    ] {
        assert_eq!(quic.ask(&bytes, true), Came::Status(400), "{case}");
    }
    assert_eq!(quic.ask(&with(&[]), true), Came::Status(200), "others go on");
    assert_eq!(origin.requests(), ["GET / HTTP/1.1"]);
    let bad = [("listener", "http"), ("reason", "syntax")];
    wait_until("they are counted", || {
        site.proxy.metric("tidegate_bad_requests_total", &bad) >= 30.0
    });
}

#[test]
fn a_body_that_is_not_what_it_says_ends_its_request() {
    let origin = RawOrigin::script(|_| vec![crate::support::Step::ReadAll]);
    let site = site(&origin);
    let quic = site.quic();
    let head =
        |length: &str| frame(1, &section(&[&POST[..], &[("content-length", length)]].concat()));
    let short = [head("10"), frame(0, b"hello")].concat();
    let long = [head("10"), frame(0, b"hello"), frame(0, b"hello, world")].concat();
    let trailers = |fields: &[(&str, &str)]| {
        [frame(1, &section(&POST)), frame(0, b"hello"), frame(1, &section(fields))].concat()
    };
    for (case, bytes) in [
        ("too short", short),
        ("too long", long),
        ("a pseudo-header field after the body", trailers(&[(":path", "/")])),
        ("a field of the connection after the body", trailers(&[("transfer-encoding", "chunked")])),
    ] {
        let came = quic.ask(&bytes, true);
        assert!(matches!(came, Came::Reset(MESSAGE_ERROR) | Came::Status(400)), "{case}: {came:?}");
    }
    for number in 0..origin.connections() {
        let body = origin.received_body(number);
        assert!(!body.contains("world") && !body.contains("0\r\n\r\n"), "{body}");
    }
}

#[test]
fn what_breaks_the_framing_closes_the_connection() {
    let origin = RawOrigin::always(OK);
    let site = site(&origin);
    let cut = |frame: Vec<u8>| frame[..frame.len() - 1].to_vec();
    for (case, bytes, code) in [
        ("data first", frame(0, b"x"), FRAME_UNEXPECTED),
        ("settings on a request's stream", frame(4, b""), FRAME_UNEXPECTED),
        ("a frame of HTTP/2", frame(2, b"12345"), FRAME_UNEXPECTED),
        ("a push", frame(5, b"\0"), FRAME_UNEXPECTED),
        ("goaway", [with(&[]), frame(7, b"\0")].concat(), FRAME_UNEXPECTED),
        ("a head that is cut short", cut(with(&[])), FRAME_ERROR),
        ("half a header of a frame", [with(&[]), vec![0]].concat(), FRAME_ERROR),
        ("an entry of a table that is not there", frame(1, &[0, 0, 0x80]), 0x200),
        ("a section that waits", frame(1, &[2, 0, 0x80]), 0x200),
    ] {
        assert_eq!(site.quic().ask(&bytes, true), Came::Closed(code), "{case}");
    }
    // An answer must not be there before what is wrong.
    let silent = RawOrigin::script(|_| vec![crate::support::Step::ReadAll]);
    let patient = self::site(&silent);
    let head = frame(1, &section(&POST));
    let after = frame(1, &section(&[("x-a", "b")]));
    for (case, rest, code) in [
        ("trailers twice", [after.clone(), after.clone()].concat(), FRAME_UNEXPECTED),
        ("a body after its trailers", [after, frame(0, b"x")].concat(), FRAME_UNEXPECTED),
        ("a body that is cut short", cut(frame(0, b"hello")), FRAME_ERROR),
    ] {
        let came = patient.quic().ask(&[head.clone(), rest].concat(), true);
        assert_eq!(came, Came::Closed(code), "{case}");
    }
    assert_eq!(site.quic().ask(&frame(0x21, b"grease"), true), Came::Reset(0x10d), "no request");
    let greased = [frame(0x21, b"grease"), with(&[])].concat();
    assert_eq!(site.quic().ask(&greased, true), Came::Status(200), "grease is borne");
}

#[test]
fn streams_that_must_not_be_close_the_connection() {
    let origin = RawOrigin::always(OK);
    let site = site(&origin);
    for (case, bytes, code) in [
        ("a second control stream", &SETTINGS[..], 0x103),
        ("a push stream", &[1, 0], 0x103),
        ("an insertion into a table", &[2, 0x40 | 0x80], 0x201),
        ("a table after all", &[2, 0x3f, 0xe1, 0x1f], 0x201),
        ("an acknowledgement of nothing", &[3, 0x80], 0x202),
    ] {
        let quic = site.quic();
        // The first control stream has come before this is sent.
        assert_eq!(quic.ask(&with(&[]), true), Came::Status(200));
        quic.announce(bytes);
        assert_eq!(quic.closed(), Came::Closed(code), "{case}");
    }
    for (case, bytes, code) in [
        ("no settings", &[0, 7, 1, 0][..], 0x10a),
        ("settings twice", &[0, 4, 0, 4, 0], FRAME_UNEXPECTED),
        ("a setting of HTTP/2", &[0, 4, 2, 3, 1], 0x109),
        ("data", &[0, 4, 0, 0, 0], FRAME_UNEXPECTED),
        ("a frame of HTTP/2", &[0, 4, 0, 8, 0], FRAME_UNEXPECTED),
        ("an id that grows", &[0, 4, 0, 7, 1, 0, 7, 1, 4], 0x108),
        ("a cancelled push", &[0, 4, 0, 3, 1, 0], 0x108),
        ("settings without an end", &[0, 4, 0x80, 0x10, 0, 0], 0x107),
    ] {
        let trust = site.trust();
        let peer = http3::Peer::new(site.proxy.address("http"), "a.test", &trust);
        let quic = peer.quic().unwrap();
        quic.announce(bytes);
        assert_eq!(quic.closed(), Came::Closed(code), "{case}");
    }
    let quic = site.quic();
    quic.announce(&[2, 0x20]);
    quic.announce(&[3, 0x40, 0x7f, 1]);
    quic.announce(&[0x21, 1, 2, 3]);
    assert_eq!(quic.ask(&with(&[]), true), Came::Status(200), "what is harmless is borne");
}

#[test]
fn floods_end_their_connection_and_others_go_on() {
    let origin = RawOrigin::script(|_| vec![crate::support::Step::ReadAll]);
    let listener = "[listener.limit]\nh2_resets_per_second = 20";
    let site = Site::new(Proxy::new().backend(&origin).runtime("workers = 1"), listener, "");
    let quic = site.quic();
    let flood = async {
        let asked = with(&[]);
        while let Ok((mut up, mut down)) = quic.connection.open_bi().await {
            let _ = up.write_all(&asked).await;
            let _ = up.finish();
            let _ = down.stop(0x10c_u32.into());
        }
    };
    http3::within(&quic.runtime, flood).unwrap();
    assert_eq!(quic.closed(), Came::Closed(0x107));
    let flood = [("listener", "http"), ("kind", "rapid_reset")];
    wait_until("it is counted", || site.proxy.metric("tidegate_floods_total", &flood) == 1.0);
    wait_until("nothing of it is left", || {
        site.proxy.metric("tidegate_backend_in_flight", &[("service", "app")]) == 0.0
            && site.proxy.metric("tidegate_connections", &[("listener", "http")]) == 0.0
    });
    // A control stream that never rests.
    let quic = site.quic();
    let flood = async {
        let mut stream = quic.connection.open_uni().await.unwrap();
        let pushes = [0x21, 0].repeat(5000);
        stream.write_all(&[0x21]).await.unwrap();
        let _ = stream.write_all(&pushes).await;
    };
    http3::within(&quic.runtime, flood).unwrap();
    assert_eq!(
        quic.ask(&frame(0x21, b""), true),
        Came::Reset(0x10d),
        "a stream that means nothing"
    );
    let restless = site.proxy.address("http");
    let trust = site.trust();
    let quic = http3::Peer::new(restless, "a.test", &trust).quic().unwrap();
    quic.announce(&[&SETTINGS[..], &[0x21, 0].repeat(5000)].concat());
    assert_eq!(quic.closed(), Came::Closed(0x107));
    wait_until("that is counted, too", || {
        site.proxy.metric("tidegate_floods_total", &[("kind", "unknown_frame")]) == 1.0
    });
}

#[test]
fn heads_that_a_client_does_not_take_are_not_sent() {
    let long = "x".repeat(4000);
    let origin = RawOrigin::always(&format!(
        "HTTP/1.1 103 Early Hints\r\nx-long: {long}\r\n\r\n\
         HTTP/1.1 200 OK\r\nx-long: {long}\r\ncontent-length: 2\r\n\r\nok"
    ));
    let site = site(&origin);
    // SETTINGS_MAX_FIELD_SECTION_SIZE: enough for it, for our own answers only, for nothing.
    for (settings, expected) in [
        (&[0, 4, 3, 6, 0x60, 0][..], Came::Status(103)),
        (&[0, 4, 3, 6, 0x44, 0], Came::Status(502)),
        (&[0, 4, 2, 6, 0], Came::Reset(0x102)),
    ] {
        let trust = site.trust();
        let client = http3::Peer::new(site.proxy.address("http"), "a.test", &trust);
        let client = client.quic().unwrap();
        client.announce(settings);
        // The settings are a stream of their own, and may come later.
        wait_until(&format!("{expected:?}"), || client.ask(&with(&[]), true) == expected);
    }
}
