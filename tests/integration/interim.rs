//! Answers before the answer (1xx): passed on in their place, to whom knows what they are.

use crate::support::http3::{Peer, request, within};
use crate::support::{
    Backend, Connection, Proxy, RawOrigin, Running, Step, certificate, curl, missing, wait_until,
};

pub const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
pub const HINT: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

pub fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

/// Each request is answered with a hint, and with 200 once it is released.
pub fn hinting() -> RawOrigin {
    RawOrigin::script(|_| vec![Step::ReadHead, send(HINT), Step::Hold, send(OK), Step::Again])
}

/// The same without waiting.
fn together() -> RawOrigin {
    RawOrigin::always(&format!("{HINT}{OK}"))
}

pub fn one_worker(origin: &impl Backend) -> Proxy {
    Proxy::new().runtime("workers = 1").backend(origin)
}

#[track_caller]
fn head(client: &mut Connection) -> Vec<String> {
    let mut lines = Vec::new();
    loop {
        match client.line() {
            line if line.is_empty() => return lines,
            line => lines.push(line.to_lowercase()),
        }
    }
}

pub fn all_is_given_back(proxy: &Running) {
    wait_until("all is given back", || {
        proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
    });
}

#[test]
fn a_hint_comes_before_the_answer_is_there() {
    let origin = hinting();
    let proxy = one_worker(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let hint = ["http/1.1 103 early hints", "link: </a.css>; rel=preload"];
    assert_eq!(head(&mut client), hint);
    origin.release();
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    // The connections are in order, on both sides.
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!((answer.status, &answer.informational[..]), (200, &[103][..]));
    }
    assert_eq!(origin.connections(), 1);
    all_is_given_back(&proxy);
}

#[test]
fn curl_sees_both() {
    if missing("curl") {
        return;
    }
    let origin = together();
    let keys = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(keys.path(), &["a.test"]);
    let tls = format!("[[listener.tls.certificate]]\ncert = {certificate:?}\nkey = {key:?}");
    for tls in ["", &tls] {
        let proxy = one_worker(&origin).listener(tls).run();
        let scheme = if tls.is_empty() { "http" } else { "https" };
        let url = format!("{scheme}://{}/", proxy.address("http"));
        let seen = curl(&["-k", "-i", "--http1.1", &url]).text();
        let (hint, answer) = seen.split_once("\r\n\r\n").unwrap();
        assert_eq!(hint, HINT.trim_end(), "{scheme}");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"));
        let second = if tls.is_empty() { "--http2-prior-knowledge" } else { "--http2" };
        let seen = curl(&["-k", "-i", second, &url]).text();
        let (hint, answer) = seen.split_once("\r\n\r\n").unwrap();
        assert_eq!(
            hint.replace(" \r", "\r"),
            "HTTP/2 103\r\nlink: </a.css>; rel=preload",
            "{scheme}"
        );
        assert!(answer.starts_with("HTTP/2 200") && answer.ends_with("\r\n\r\nok"), "{seen}");
    }
}

#[test]
fn each_of_several_is_passed_on_without_what_belongs_to_a_connection() {
    let origin = RawOrigin::always(&format!(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n\
         content-length: 0\r\nx-end: 1\r\n\r\nHTTP/1.1 177\r\nx-odd: 1\r\n\r\n{OK}"
    ));
    let proxy = one_worker(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(head(&mut client), ["http/1.1 102 processing"]);
    assert_eq!(head(&mut client), ["http/1.1 103 early hints", "x-end: 1"]);
    assert_eq!(head(&mut client), ["http/1.1 177", "x-odd: 1"]);
    assert_eq!(head(&mut client)[0], "http/1.1 200 ok");
}

#[test]
fn pipelined_answers_stay_whole_and_in_their_order() {
    let long = "x".repeat(300_000);
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{long}", long.len());
    let origin = RawOrigin::always(&format!("{HINT}{HINT}{answer}"));
    let proxy = one_worker(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    const REQUESTS: usize = 60;
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n".repeat(REQUESTS));
    // Until the first is read, more waits than fits into sockets: hints wait for the answers before them.
    wait_until("it is held back", || {
        let asked = origin.requests().len();
        (0..10).for_each(|_| drop(proxy.status()));
        asked > 0 && asked == origin.requests().len()
    });
    for request in 0..REQUESTS {
        let answer = client.answer();
        assert_eq!(answer.status, 200, "{request}");
        assert!(answer.text() == long, "{request}");
        assert!(answer.informational.iter().all(|status| *status == 103), "{request}");
    }
    // With room for them they come.
    assert_eq!(client.get("/").informational, [103, 103]);
    all_is_given_back(&proxy);
}

#[test]
fn http_1_0_gets_the_answer_alone() {
    let origin = together();
    let proxy = one_worker(&origin).run();
    let mut old = Connection::open(proxy.address("http"));
    old.send("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");
    let answer = old.answer();
    assert_eq!((answer.status, &answer.informational[..]), (200, &[][..]));
    // The same connection, in the version that knows them.
    old.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(old.answer().informational, [103]);
}

#[test]
fn http_3_gets_them_as_they_come() {
    let origin = hinting();
    let keys = tempfile::tempdir().unwrap();
    let (certificate, key) = certificate(keys.path(), &["a.test"]);
    let tls = format!(
        "protocols = [\"http/1.1\", \"h3\"]\n[[listener.tls.certificate]]\n\
         cert = {certificate:?}\nkey = {key:?}"
    );
    let proxy = one_worker(&origin).listener(&tls).run();
    let client = Peer::new(proxy.address("http"), "a.test", &certificate).http3().unwrap();
    let mut sender = client.sender();
    let came = async {
        let mut stream = sender.send_request(request("GET", "https://a.test/")).await.unwrap();
        stream.finish().await.unwrap();
        let hint = stream.recv_response().await.unwrap();
        origin.release();
        (hint, stream.recv_response().await.unwrap())
    };
    let (hint, answer) = within(&client.quic.runtime, came).unwrap();
    assert_eq!((hint.status().as_u16(), answer.status().as_u16()), (103, 200));
    assert_eq!(hint.headers()["link"], "</a.css>; rel=preload");
    // Together with the answer, too.
    assert_eq!(client.get("https://a.test/").unwrap().text(), "ok");
    all_is_given_back(&proxy);
}

#[test]
fn a_try_after_the_first_has_its_own_and_a_mirror_has_none() {
    let busy = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
    let (busy, good) = (RawOrigin::always(busy), together());
    let silent = RawOrigin::always(OK);
    let copy = together();
    let more = format!(
        "[service.app.retry]\nbackoff = \"1ms\"\n[service.copy]\n\
         [[service.copy.backend]]\naddress = \"{}\"\n",
        copy.address()
    );
    let retried = one_worker(&busy).backend(&good).service("balance = \"round_robin\"").toml(&more);
    let proxy = retried.run();
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..6 {
        let answer = client.get("/");
        assert_eq!((answer.status, &answer.informational[..]), (200, &[103][..]));
    }
    assert!(busy.connections() > 0, "it was asked");
    let proxy = one_worker(&silent).route("mirror = \"copy\"").toml(&more).run();
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..6 {
        assert!(client.get("/").informational.is_empty());
    }
    wait_until("the copies are sent", || !copy.requests().is_empty());
}

#[test]
fn a_body_is_still_being_sent_and_100_is_asked_for() {
    let origin = RawOrigin::script(|_| {
        vec![Step::ReadHead, Step::Read(2), send(HINT), Step::Read(2), send(OK), Step::Again]
    });
    let proxy = one_worker(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n");
    assert_eq!(head(&mut client), ["http/1.1 100 continue"]);
    client.send("ab");
    assert_eq!(head(&mut client)[0], "http/1.1 103 early hints");
    client.send("cd");
    assert_eq!(client.answer().text(), "ok");
    all_is_given_back(&proxy);
}

#[test]
fn a_hint_before_another_protocol() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    let origin = RawOrigin::script(move |_| {
        vec![Step::ReadHead, send(HINT), send(switch), Step::Read(2), send("yo"), Step::ReadAll]
    });
    let proxy = one_worker(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, &answer.informational[..]), (101, &[103][..]));
    client.send("hi");
    assert_eq!(client.read(2), b"yo");
}

#[test]
fn a_client_that_leaves_between_the_two_leaves_nothing_behind() {
    let origin = hinting();
    let proxy = one_worker(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(head(&mut client)[0], "http/1.1 103 early hints");
    client.reset();
    origin.release();
    all_is_given_back(&proxy);
}

#[test]
fn a_backend_that_says_nothing_else_ends_its_own_connection() {
    let origin =
        RawOrigin::script(|_| vec![Step::ReadHead, send(&HINT.repeat(101)), Step::ReadAll]);
    let proxy = one_worker(&origin).toml("[service.app.retry]\nattempts = 0").run();
    let mut client = Connection::open(proxy.address("http"));
    let answer = client.get("/");
    assert_eq!(answer.status, 502);
    assert!(answer.informational.len() <= 100);
}
