//! The life of HTTP/3 connections: how they come in, how long they stay, how they end.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use nix::sys::signal::Signal::SIGTERM;

use crate::support::http3::{self, Came, Peer, request, within};
use crate::support::{Origin, Proxy, RawOrigin, certificate, wait_until};

use super::{OK, Site};

const NO_ERROR: u64 = 0x100;
const URI: &str = "https://a.test/";

#[test]
fn connections_are_counted_and_capped() {
    let origin = RawOrigin::always(OK);
    let site = Site::new(Proxy::new().backend(&origin), "max_connections = 2", "");
    let refused =
        |reason| site.proxy.metric("tidegate_connections_refused_total", &[("reason", reason)]);
    let (first, second) = (site.http3(), site.http3());
    assert_eq!(first.get(URI).unwrap().status, 200);
    assert!(site.try_http3().is_err());
    assert!(refused("max_connections") >= 1.0);
    first.quic.close();
    wait_until("there is a place again", || {
        site.proxy.metric("tidegate_connections", &[("listener", "http")]) == 1.0
    });
    assert_eq!(site.http3().get(URI).unwrap().status, 200);
    assert_eq!(second.get(URI).unwrap().status, 200);

    let each = "max_connections_per_ip = 1";
    let site = Site::new(Proxy::new().backend(&origin), each, "");
    let first = site.http3();
    assert_eq!(first.get(URI).unwrap().status, 200);
    let second = Peer::new(site.proxy.address("http"), "a.test", &site.trust()).quic().unwrap();
    assert_eq!(second.closed(), Came::Closed(0x107));
    let reason = [("reason", "max_connections_per_ip")];
    assert_eq!(site.proxy.metric("tidegate_connections_refused_total", &reason), 1.0);
}

#[test]
fn an_unknown_name_is_refused_and_counted() {
    let origin = RawOrigin::always(OK);
    let site = Site::new(Proxy::new().backend(&origin), "", "");
    let trust = site.trust();
    assert!(Peer::new(site.proxy.address("http"), "c.test", &trust).quic().is_err());
    let reason = [("reason", "unknown_sni")];
    wait_until("it is counted", || {
        site.proxy.metric("tidegate_connections_refused_total", &reason) == 1.0
    });
}

#[test]
fn a_client_that_moves_keeps_its_connection() {
    let origin = RawOrigin::always(OK);
    let site = Site::new(Proxy::new().backend(&origin).runtime("workers = 4"), "", "");
    let client = site.http3();
    for _ in 0..8 {
        assert_eq!(client.get(URI).unwrap().status, 200);
        let _inside = client.quic.runtime.enter();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.quic.endpoint.rebind(socket).unwrap();
    }
    assert_eq!(client.get(URI).unwrap().status, 200);
    assert_eq!(
        site.proxy.metric("tidegate_connections_accepted_total", &[("listener", "http")]),
        1.0
    );
}

#[test]
fn idle_connections_end_and_running_requests_keep_theirs() {
    let origin = Origin::new().start();
    let times = "[listener.timeout]\nkeep_alive = \"300ms\"";
    let site = Site::new(Proxy::new().backend(&origin), times, "");
    let client = site.http3();
    let slow = client.get("https://a.test/?delay=1s").unwrap();
    assert_eq!(slow.status, 200);
    assert_eq!(client.quic.closed(), Came::Closed(NO_ERROR));
}

#[test]
fn slow_heads_and_slow_bodies_have_their_time() {
    let origin = RawOrigin::script(|_| vec![crate::support::Step::ReadAll]);
    let times = "[listener.timeout]\nheader = \"300ms\"\nbody = \"300ms\"";
    let site = Site::new(Proxy::new().backend(&origin), times, "");
    let quic = site.quic();
    assert_eq!(quic.ask(&[1, 0x40], false), Came::Status(408), "half a head");
    let fields =
        [(":method", "POST"), (":scheme", "https"), (":authority", "a.test"), (":path", "/")];
    let head = http3::frame(1, &http3::section(&fields));
    let asked = [head, http3::frame(0, b"hello")].concat();
    assert_eq!(quic.ask(&asked, false), Came::Status(408), "a body without an end");
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    let origin = Origin::new().start();
    let times = "[listener.timeout]\nwrite = \"300ms\"";
    let site = Site::new(Proxy::new().backend(&origin), times, "");
    let client = site.http3();
    let asking = async {
        let mut stream = client
            .sender()
            .send_request(request("GET", "https://a.test/?size=50000000"))
            .await
            .unwrap();
        stream.finish().await.unwrap();
        stream.recv_response().await.unwrap();
        stream
    };
    let stream = within(&client.quic.runtime, asking).unwrap();
    wait_until("the backend is free again", || {
        site.proxy.metric("tidegate_backend_in_flight", &[("service", "app")]) == 0.0
    });
    assert_eq!(client.get(URI).unwrap().status, 200, "others go on");
    drop(stream);
}

#[test]
fn a_request_that_is_cancelled_is_so_for_its_backend() {
    let origin = Origin::new().start();
    let site = Site::new(Proxy::new().backend(&origin), "", "");
    let client = site.http3();
    let asking = async {
        let mut stream =
            client.sender().send_request(request("GET", "https://a.test/?delay=1h")).await.unwrap();
        stream.finish().await.unwrap();
        stream
    };
    let mut stream = within(&client.quic.runtime, asking).unwrap();
    wait_until("it is there", || origin.stat("working") == 1);
    stream.stop_sending(h3::error::Code::H3_REQUEST_CANCELLED);
    wait_until("it is over", || {
        site.proxy.metric("tidegate_backend_in_flight", &[("service", "app")]) == 0.0
    });
    assert_eq!(client.get(URI).unwrap().status, 200);
}

#[test]
fn term_loses_nothing() {
    let origin = Origin::new().start();
    let mut site = Site::new(Proxy::new().backend(&origin), "", "");
    let clients: Vec<_> = (0..4).map(|_| site.http3()).collect();
    let idle = site.http3();
    let stop = Arc::new(AtomicBool::new(false));
    let slow: Vec<_> = clients
        .iter()
        .map(|client| {
            let (send, runtime) = (client.sender(), client.quic.runtime.clone());
            let uri = "https://a.test/?delay=4s&size=300000";
            runtime.spawn(http3::exchange(send, request("GET", uri), Vec::new(), None))
        })
        .collect();
    // One request after another, until the client is told to stop.
    let steady: Vec<_> = clients
        .iter()
        .map(|client| {
            let (send, stop) = (client.sender(), stop.clone());
            client.quic.runtime.spawn(async move {
                let (mut answered, mut failed) = (0, Vec::new());
                while !stop.load(SeqCst) {
                    match http3::exchange(send.clone(), request("GET", URI), Vec::new(), None).await
                    {
                        Ok(answer) if answer.status() == 200 => answered += 1,
                        Ok(answer) => failed.push(answer.status().to_string()),
                        Err(error) => {
                            failed.push(error);
                            break;
                        }
                    }
                }
                (answered, failed)
            })
        })
        .collect();
    wait_until("the slow ones run", || origin.stat("working") >= 4);
    site.proxy.signal(SIGTERM);
    for (client, slow) in clients.iter().zip(slow) {
        let answer = within(&client.quic.runtime, slow).unwrap().unwrap().unwrap();
        assert_eq!((answer.status().as_u16(), answer.body().0.len()), (200, 300_000));
    }
    assert_eq!(idle.quic.closed(), Came::Closed(NO_ERROR));
    for client in &clients {
        assert_eq!(client.quic.closed(), Came::Closed(NO_ERROR));
    }
    stop.store(true, SeqCst);
    for (client, steady) in clients.iter().zip(steady) {
        let (answered, failed) = within(&client.quic.runtime, steady).unwrap().unwrap();
        assert!(answered > 0);
        // After GOAWAY the client itself sends nothing more, or is told that it was not looked at.
        assert!(failed.len() <= 1, "{failed:?}");
        for error in failed {
            let unseen = ["H3_REQUEST_REJECTED", "H3_NO_ERROR", "closing", "Closing"];
            assert!(unseen.iter().any(|word| error.contains(word)), "{error}");
        }
    }
    assert!(site.proxy.process.wait().success());
    assert_eq!(origin.stat("working"), 0);
}

/// Requests one after the other until it is told to stop, on a new connection when one has ended: answers, connections,
/// and what failed.
fn asks_on(
    connect: impl Fn() -> http3::Result<http3::Http3>,
    stop: Arc<AtomicBool>,
) -> (u32, u32, Vec<String>) {
    let (mut answered, mut connections, mut failed) = (0, 0, Vec::new());
    while !stop.load(SeqCst) {
        let client = match connect() {
            Ok(client) => client,
            Err(error) => {
                failed.push(error);
                continue;
            }
        };
        connections += 1;
        while !stop.load(SeqCst) {
            match client.get(URI) {
                Ok(answer) if answer.status == 200 => answered += 1,
                Ok(answer) => failed.push(answer.status.to_string()),
                Err(error) => {
                    // It was not looked at, and is asked again on the next connection.
                    let unseen = ["H3_REQUEST_REJECTED", "H3_NO_ERROR", "closing", "Closing"];
                    if !unseen.iter().any(|word| error.contains(word)) {
                        failed.push(error);
                    }
                    break;
                }
            }
        }
        // One that vanished without a word would be waited for.
        client.quic.close();
    }
    (answered, connections, failed)
}

#[test]
fn a_hand_over_fails_no_request() {
    let origin = Origin::new().start();
    let mut site = Site::new(Proxy::new().backend(&origin), "", "");
    let (address, trust) = (site.proxy.address("http"), site.trust());
    let stop = Arc::new(AtomicBool::new(false));
    let steady: Vec<_> = (0..3)
        .map(|_| {
            let (stop, trust) = (stop.clone(), trust.clone());
            std::thread::spawn(move || {
                let connect = || Peer::new(address, "a.test", &trust).http3();
                asks_on(connect, stop)
            })
        })
        .collect();
    // One that is long under way is finished by the old process, over the sockets that both have.
    let client = site.http3();
    let slow = request("GET", "https://a.test/?delay=2s&size=3000000");
    let slow = http3::exchange(client.sender(), slow, Vec::new(), None);
    let slow = client.quic.runtime.spawn(slow);
    wait_until("it runs", || origin.stat("working") >= 1);
    let (old, _) = crate::handover::hand_over(&mut site.proxy);
    let answer = within(&client.quic.runtime, slow).unwrap().unwrap().unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().0.len()), (200, 3_000_000));
    assert_eq!(client.quic.closed(), Came::Closed(NO_ERROR));
    wait_until("the old one ended", || !crate::support::lives(old));
    let new = site.http3();
    assert_eq!(new.get(URI).unwrap().status, 200);
    new.quic.close();
    stop.store(true, SeqCst);
    for steady in steady {
        let (answered, connections, failed) = steady.join().unwrap();
        assert!(failed.is_empty(), "{failed:?} of {answered} on {connections}");
        assert!(answered > 0 && connections > 1, "{answered} on {connections}");
    }
    crate::handover::stop(&site.proxy);
}

#[test]
fn a_reload_changes_certificates_for_those_who_come() {
    let origin = RawOrigin::always(OK);
    let mut site = Site::new(Proxy::new().backend(&origin), "", "");
    let before = site.http3();
    let old = std::fs::read(site.trust()).unwrap();
    certificate(site.keys.path(), &["a.test"]);
    assert_ne!(std::fs::read(site.trust()).unwrap(), old);
    assert_eq!(site.proxy.reload(|proxy| proxy).status, 200);
    assert_eq!(before.get(URI).unwrap().status, 200, "who was there stays");
    assert_eq!(site.http3().get(URI).unwrap().status, 200);
    let file = site.keys.path().join("old.pem");
    std::fs::write(&file, old).unwrap();
    assert!(Peer::new(site.proxy.address("http"), "a.test", &file).quic().is_err());
}

#[test]
fn a_reload_takes_http3_away_and_brings_it_back() {
    let origin = Origin::new().start();
    let mut site = Site::new(Proxy::new().backend(&origin), "", "");
    let client = site.http3();
    let asked = request("GET", "https://a.test/?delay=500ms");
    let running = http3::exchange(client.sender(), asked, Vec::new(), None);
    let running = client.quic.runtime.spawn(running);
    wait_until("it runs", || origin.stat("working") == 1);
    let with = site.proxy.config_file();
    let with = std::fs::read_to_string(with).unwrap();
    let without = with.replace(", \"h3\"]", "]");
    assert_ne!(with, without);
    assert_eq!(site.proxy.reload(|proxy| proxy.config(&without)).status, 200);
    let answer = within(&client.quic.runtime, running).unwrap().unwrap().unwrap();
    assert_eq!(answer.status(), 200, "what ran goes on");
    assert_eq!(client.quic.closed(), Came::Closed(NO_ERROR));
    wait_until("the sockets are free again", || {
        UdpSocket::bind(site.proxy.address("http")).is_ok()
    });
    assert_eq!(site.proxy.reload(|proxy| proxy.config(&with)).status, 200);
    assert_eq!(site.http3().get(URI).unwrap().status, 200);
}
