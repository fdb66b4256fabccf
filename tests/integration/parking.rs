//! Idle connections give their buffers back and are served again with the next byte.

use std::io::{BufReader, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{
    Connection, Proxy, RawOrigin, Running, Step, missing, read_answer, wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

fn wait_for_parked(proxy: &Running, count: usize) {
    wait_until("they are parked", || {
        proxy.metric("tidegate_connections_parked", &[]) == count as f64
    });
}

#[test]
fn parked_connections_are_served_again_and_again() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().backend(&origin).run();
    let address = proxy.address("http");
    // One that never sent anything is parked as well.
    let mut clients: Vec<_> = (0..40).map(|_| Connection::open(address)).collect();
    for _ in 0..3 {
        wait_for_parked(&proxy, clients.len());
        for (number, client) in clients.iter_mut().enumerate() {
            let split = number % GET.len();
            client.send(&GET[..split]);
            client.send(&GET[split..]);
            client.send(GET.repeat(2));
        }
        for client in &mut clients {
            for _ in 0..3 {
                assert_eq!(client.answer().text(), "ok");
            }
        }
    }
    assert_eq!(proxy.metric("tidegate_connections_accepted_total", &[]), 40.0);
    wait_for_parked(&proxy, clients.len());
    drop(clients);
    wait_until("nothing is left", || {
        proxy.metric("tidegate_connections", &[]) == 0.0
            && proxy.metric("tidegate_connections_parked", &[]) == 0.0
    });
    assert_eq!(proxy.metric("tidegate_panics_total", &[]), 0.0);
}

#[test]
fn a_head_that_has_begun_is_not_forgotten_and_keeps_its_deadline() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().listener("[listener.timeout]\nheader = \"3s\"").backend(&origin).run();
    let address = proxy.address("http");
    // The rest of it comes after the time at which idle connections are parked.
    let mut patient = Connection::open(address);
    patient.send(format!("{GET}{}", &GET[..9]));
    assert_eq!(patient.answer().text(), "ok");
    let mut marker = Connection::open(address);
    assert_eq!(marker.get("/").text(), "ok");
    wait_for_parked(&proxy, 1);
    patient.send(&GET[9..]);
    assert_eq!(patient.answer().text(), "ok");
    // One that never sends the rest is told so.
    let mut slow = Connection::open(address);
    slow.send(format!("{GET}{}", &GET[..9]));
    assert_eq!(slow.answer().text(), "ok");
    let answer = slow.answer();
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert_eq!(slow.rest(), "");
}

#[test]
fn parked_connections_are_closed_when_they_were_idle_for_keep_alive() {
    let origin = RawOrigin::always(OK);
    let proxy =
        Proxy::new().listener("[listener.timeout]\nkeep_alive = \"2s\"").backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    let start = Instant::now();
    assert_eq!(client.get("/").text(), "ok");
    wait_for_parked(&proxy, 1);
    assert_eq!(client.rest(), "");
    assert!(start.elapsed() >= Duration::from_secs(2), "{:?}", start.elapsed());
    wait_for_parked(&proxy, 0);
}

#[test]
fn a_connection_with_an_answer_or_a_body_on_its_way_is_not_parked() {
    let origin = RawOrigin::script(|number| {
        let head = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
        match number {
            0 => vec![
                Step::ReadHead,
                Step::Send(head.into()),
                Step::Hold,
                Step::Send(b"done".to_vec()),
            ],
            _ => vec![Step::ReadHead, Step::Read(4), Step::Send(format!("{head}done").into())],
        }
    });
    let proxy = Proxy::new().backend(&origin).run();
    let address = proxy.address("http");
    let mut waiting = Connection::open(address);
    waiting.send(GET);
    wait_until("it waits at the backend", || origin.connections() == 1);
    let mut sending = Connection::open(address);
    sending.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nab");
    // Idle since later than both of them wait.
    wait_until("both are at the backend", || origin.connections() == 2);
    let idle = Connection::open(address);
    wait_for_parked(&proxy, 1);
    sending.send("cd");
    origin.release();
    assert_eq!(waiting.answer().text(), "done");
    assert_eq!(sending.answer().text(), "done");
    wait_for_parked(&proxy, 3);
    drop(idle);
}

#[test]
fn a_stop_closes_parked_connections() {
    let origin = RawOrigin::always(OK);
    let mut proxy = Proxy::new().runtime("shutdown_timeout = \"1h\"").backend(&origin).run();
    let mut clients: Vec<_> = (0..8).map(|_| Connection::open(proxy.address("http"))).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    wait_for_parked(&proxy, 8);
    assert_eq!(proxy.stop().code(), Some(0));
    clients.iter_mut().for_each(|client| assert_eq!(client.rest(), ""));
}

#[test]
fn a_tls_session_outlives_parking() {
    if missing("openssl") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = crate::support::certificate(directory.path(), &["a.test"]);
    let tls = format!(
        "[listener.tls]\n[[listener.tls.certificate]]\ncert = {certificate:?}\nkey = {key:?}\n"
    );
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().listener(&tls).backend(&origin).run();
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-servername", "a.test", "-connect"])
        .arg(proxy.address("http").to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = client.stdin.take().unwrap();
    let mut output = BufReader::new(client.stdout.take().unwrap());
    for _ in 0..3 {
        wait_for_parked(&proxy, 1);
        input.write_all(GET.as_bytes()).unwrap();
        assert_eq!(read_answer(&mut output, false).unwrap().text(), "ok");
    }
    assert_eq!(proxy.metric("tidegate_connections_accepted_total", &[]), 1.0);
    client.kill().unwrap();
    client.wait().unwrap();
}
