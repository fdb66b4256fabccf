//! Requests that are ambiguous, broken or hostile, byte for byte, with what a client gets and what a
//! backend may have seen. The table is hostile.txt.

use crate::support::{Connection, Origin, Proxy, RawOrigin, Step};

struct Case {
    line: usize,
    statuses: Vec<u16>,
    reaches: Reaches,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reaches {
    Yes,
    No,
    /// The head was fine: it depends on how fast the body came.
    May,
}

fn cases() -> Vec<Case> {
    let lines = include_str!("hostile.txt").lines().enumerate();
    let cases = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    cases.map(|(index, line)| case(index + 1, line)).collect()
}

fn case(line: usize, text: &str) -> Case {
    let mut words = text.splitn(3, ' ');
    let statuses = words.next().unwrap().split(',').map(|s| s.parse().unwrap()).collect();
    let reaches = match words.next() {
        Some("yes") => Reaches::Yes,
        Some("no") => Reaches::No,
        Some("may") => Reaches::May,
        other => panic!("line {line}: {other:?}"),
    };
    let text = words.next().unwrap();
    let text = text.replace("{n}", &format!("case-{line}-")).replace("{k}", &"a".repeat(1000));
    Case { line, statuses, reaches, bytes: unescape(&text) }
}

pub fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => match bytes.next() {
                Some(b'r') => b'\r',
                Some(b'n') => b'\n',
                Some(b't') => b'\t',
                Some(b'0') => 0,
                Some(b'\\') => b'\\',
                Some(b'x') => {
                    let digits = [bytes.next().unwrap(), bytes.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                other => panic!("{text}: {other:?}"),
            },
            byte => byte,
        });
    }
    out
}

/// The statuses of all answers on a connection.
fn statuses(text: &str) -> Vec<u16> {
    let heads = text.match_indices("HTTP/1.");
    // A sentence may name the version, too.
    heads.filter_map(|(at, _)| text.get(at + 8..at + 12)?.strip_prefix(' ')?.parse().ok()).collect()
}

/// All that a backend has seen.
pub(super) fn seen(origin: &RawOrigin) -> String {
    (0..origin.connections()).map(|n| origin.received_text(n)).collect()
}

#[test]
fn nothing_ambiguous_reaches_a_backend() {
    let ok = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let origin = RawOrigin::script(move |_| vec![Step::ReadHead, Step::Send(ok.into())]);
    let proxy = Proxy::new()
        .listener("[listener.limit]\nheader_bytes = \"8KiB\"\nuri_bytes = \"2KiB\"")
        .backend(&origin)
        .run();
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        let mut client = Connection::open(proxy.address("http"));
        let closes = case.statuses.last().is_some_and(|s| matches!(s, 400 | 414 | 431 | 501 | 505));
        let mut bytes = case.bytes.clone();
        if closes {
            bytes.extend_from_slice(
                format!("GET /smuggled-{} HTTP/1.1\r\nHost: a\r\n\r\n", case.line).as_bytes(),
            );
        }
        client.try_send(&bytes);
        let _ = client.socket().shutdown(std::net::Shutdown::Write);
        let answer = client.rest();
        let seen = seen(&origin);
        let got = statuses(&answer);
        let reached = seen.contains(&format!("case-{}-", case.line));
        let as_wanted = match case.reaches {
            Reaches::Yes => reached,
            Reaches::No => !reached,
            Reaches::May => true,
        };
        if got != case.statuses || !as_wanted || seen.contains(&format!("smuggled-{}", case.line)) {
            let (line, text) =
                (case.line, String::from_utf8_lossy(&case.bytes[..case.bytes.len().min(200)]));
            wrong.push(format!("line {line}: {got:?}, reached: {reached}: {text:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let refused = proxy.metric("tidegate_bad_requests_total", &[("reason", "bare_lf")]);
    assert!(refused >= 5.0, "{refused}");
    assert_eq!(proxy.metric("tidegate_panics_total", &[]), 0.0);
}

#[test]
fn a_body_comes_through_whole_however_it_is_cut() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let request = "POST /echo HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
        5;a=\"b\"\r\nhello\r\n6\r\n world\r\n0\r\n\r\nGET /echo HTTP/1.1\r\nhost: a\r\n\r\n";
    for step in [1, 2, 3, 5, 7, 11, 64, 1000] {
        let mut client = Connection::open(proxy.address("http"));
        for piece in request.as_bytes().chunks(step) {
            client.send(piece);
        }
        assert_eq!((client.answer().status, client.answer().status), (200, 200), "by {step}");
    }
}
