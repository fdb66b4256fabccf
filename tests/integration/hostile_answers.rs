//! Answers that are ambiguous, broken or hostile, byte for byte, with what a client gets and what becomes of the
//! backend's connection. The table is hostile_answers.txt; it knows nothing of how answers are read.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use crate::h2::{block_on, connect, get, whole};
use crate::hostile::unescape;
use crate::support::{Connection, Proxy, RawOrigin, Running, Step, read_answer, wait_until};

#[derive(Debug, Clone)]
struct Case {
    line: usize,
    method: String,
    wants: Wants,
    kept: bool,
    bytes: Vec<u8>,
    closes: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wants {
    Whole(u16),
    Cut,
}

fn cases() -> Vec<Case> {
    let lines = include_str!("hostile_answers.txt").lines().enumerate();
    let cases = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    cases.map(|(index, line)| case(index + 1, line)).collect()
}

fn case(line: usize, text: &str) -> Case {
    let mut words = text.splitn(4, ' ');
    let method = words.next().unwrap().to_owned();
    let wants = match words.next().unwrap() {
        "cut" => Wants::Cut,
        status => Wants::Whole(status.parse().unwrap()),
    };
    let kept = match words.next().unwrap() {
        "kept" => true,
        "gone" => false,
        other => panic!("line {line}: {other}"),
    };
    let text = words.next().unwrap().replace("{k}", &"a".repeat(1000));
    let text = text.replace("{100 times 102}", &"HTTP/1.1 102 Processing\\r\\n\\r\\n".repeat(100));
    let closes = text.ends_with("{close}");
    let bytes = unescape(text.trim_end_matches("{close}"));
    Case { line, method, wants, kept, bytes, closes }
}

/// What the next connections answer: the case's bytes on the first of them, what is proper afterwards.
struct Script {
    steps: Mutex<Vec<Step>>,
    connections: AtomicUsize,
}

const PROPER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nproper";

impl Script {
    fn begin(&self, case: &Case, piece: usize) {
        let mut steps = vec![Step::ReadHead];
        steps.extend(case.bytes.chunks(piece).map(|piece| Step::Send(piece.to_vec())));
        if !case.closes {
            steps.extend([Step::ReadHead, Step::Send(PROPER.into())]);
        }
        *self.steps.lock().unwrap() = steps;
        self.connections.store(0, SeqCst);
    }

    fn next(&self) -> Vec<Step> {
        match self.connections.fetch_add(1, SeqCst) {
            0 => self.steps.lock().unwrap().clone(),
            _ => vec![Step::ReadHead, Step::Send(PROPER.into())],
        }
    }
}

fn set_up() -> (Arc<Script>, RawOrigin, Running) {
    let script = Arc::new(Script { steps: Mutex::default(), connections: AtomicUsize::new(0) });
    let ours = script.clone();
    let origin = RawOrigin::script(move |_| ours.next());
    let proxy = Proxy::new()
        .backend(&origin)
        .runtime("workers = 1")
        .service("[service.app.retry]\nattempts = 0")
        .run();
    (script, origin, proxy)
}

/// What a client got: the status and the body of a whole answer, or what came of a broken one.
type Got = Result<(u16, String), String>;

/// Sends the case's request, looks at the answer, and sends another one that has to be answered properly.
fn over_h1(proxy: &Running, case: &Case) -> (Got, Option<String>) {
    let mut client = Connection::open(proxy.address("http"));
    let head = match case.method.as_str() {
        "UPGRADE" => {
            "GET /case HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                .to_owned()
        }
        method => format!("{method} /case HTTP/1.1\r\nhost: a\r\n\r\n"),
    };
    client.send(head);
    let got = match case.wants {
        Wants::Cut => {
            let text = client.rest();
            match read_answer(&mut std::io::Cursor::new(text.clone()), false) {
                Ok(answer) => Ok((answer.status, answer.text())),
                Err(_) => Err(text),
            }
        }
        Wants::Whole(_) => {
            let answer =
                if case.method == "HEAD" { client.answer_to_head() } else { client.answer() };
            let error = answer.header("proxy-status").unwrap_or_default().to_owned();
            Ok((answer.status, if answer.status == 502 { error } else { answer.text() }))
        }
    };
    if case.wants == Wants::Cut {
        client = Connection::open(proxy.address("http"));
    }
    let next = client.get("/next");
    (got, (next.status != 200 || next.text() != "proper").then(|| format!("{next:?}")))
}

async fn over_h2(proxy: &Running, case: &Case) -> Got {
    let mut send = connect(proxy, &h2::client::Builder::new()).await;
    let mut request = get("/case");
    *request.method_mut() = case.method.parse().unwrap();
    let (answer, _) = send.send_request(request, true).unwrap();
    // A stream may be reset before its head was written.
    let reset = |error: h2::Error| if error.is_reset() { String::new() } else { error.to_string() };
    let (head, body) = answer.await.map_err(reset)?.into_parts();
    let status = head.status.as_u16();
    let body = whole(body).await.map_err(|error| format!("HTTP/1.1 {status} {error}"))?;
    let error = head.headers.get("proxy-status").map(|value| value.to_str().unwrap().to_owned());
    let body = String::from_utf8_lossy(&body).into_owned();
    Ok((status, if status == 502 { error.unwrap_or_default() } else { body }))
}

/// What is wrong with what a client got.
fn judge(case: &Case, got: &Got) -> Option<String> {
    let fine = match (case.wants, got) {
        // A backend that closes before it has answered may as well have crashed.
        (Wants::Whole(502), Ok((502, error))) => {
            error.contains("http_protocol_error")
                || case.closes && error.contains("connection_terminated")
        }
        (Wants::Whole(status), Ok((got, body))) => status == *got && !body.contains("poison"),
        // What was not written yet when the end was found missing is not.
        (Wants::Cut, Err(got)) => {
            (got.is_empty() || got.starts_with("HTTP/1.1 200")) && !got.contains("poison")
        }
        _ => false,
    };
    (!fine).then(|| {
        let text = String::from_utf8_lossy(&case.bytes[..case.bytes.len().min(120)]);
        format!("line {}: {got:?} for {text:?}", case.line)
    })
}

#[test]
fn no_improper_answer_passes_and_none_becomes_anothers() {
    let (script, origin, proxy) = set_up();
    let mut wrong = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 60);
    for case in &cases {
        script.begin(case, usize::MAX);
        let (got, next) = over_h1(&proxy, case);
        wrong.extend(judge(case, &got));
        wrong.extend(next.map(|next| format!("line {}: then {next}", case.line)));
        let kept = script.connections.load(SeqCst) == 1;
        if kept != case.kept {
            wrong.push(format!("line {}: the connection is kept: {kept}", case.line));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    let asked = origin.requests().iter().filter(|line| line.contains("/case")).count();
    assert_eq!(asked, cases.len(), "nothing was asked twice");
    assert!(proxy.metric("tidegate_backend_failures_total", &[("reason", "protocol")]) >= 90.0);
    assert_eq!(proxy.metric("tidegate_panics_total", &[]), 0.0);
}

#[test]
fn nor_when_it_comes_byte_by_byte() {
    let (script, _origin, proxy) = set_up();
    let mut wrong = Vec::new();
    // Where bytes follow an answer, it depends on the network whether they come before the next request.
    let follows =
        |case: &Case| !case.kept && matches!(case.wants, Wants::Whole(status) if status != 502);
    for case in cases().iter().filter(|case| case.bytes.len() < 1000 && !follows(case)) {
        script.begin(case, 1);
        wrong.extend(judge(case, &over_h1(&proxy, case).0));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nor_over_http2() {
    let (script, _origin, proxy) = set_up();
    let mut wrong = Vec::new();
    for case in cases().iter().filter(|case| case.method != "UPGRADE") {
        script.begin(case, usize::MAX);
        wrong.extend(judge(case, &block_on(over_h2(&proxy, case))));
        // One that is kept would answer the next case.
        let next = block_on(async {
            let mut send = connect(&proxy, &h2::client::Builder::new()).await;
            let (answer, _) = send.send_request(get("/next"), true).unwrap();
            whole(answer.await.unwrap().into_body()).await.unwrap()
        });
        if next != b"proper" {
            wrong.push(format!("line {}: then {}", case.line, String::from_utf8_lossy(&next)));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_improper_answer_is_tried_elsewhere_where_retries_allow_it() {
    let bad =
        RawOrigin::always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok");
    let good = RawOrigin::always("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood");
    let proxy =
        Proxy::new().backend(&bad).backend(&good).service("balance = \"round_robin\"").run();
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..4 {
        assert_eq!(client.get("/").text(), "good");
    }
    assert!(bad.connections() >= 1);
}

#[test]
fn an_http10_client_can_tell_a_broken_answer_from_a_whole_one() {
    let cut = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\nno chunk";
    let origin = RawOrigin::always(cut);
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
    let mut all = Vec::new();
    let error = std::io::Read::read_to_end(&mut client.socket(), &mut all).expect_err("a reset");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    wait_until("it is counted", || {
        proxy.metric("tidegate_backend_failures_total", &[("reason", "protocol")]) == 1.0
    });
}
