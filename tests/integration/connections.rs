//! Connections on both sides: kept, pipelined, half-closed, ended, counted.

use crate::support::{Connection, Proxy, RawOrigin, Step, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// All connections of a test on one worker, so that there is one pool.
const ONE_WORKER: &str = "workers = 1";

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let origin = RawOrigin::script(|number| {
        let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\n";
        let answer = format!("{head}{number}");
        vec![Step::ReadHead, Step::Send(answer.into_bytes())]
    });
    let proxy = Proxy::new().runtime(ONE_WORKER).backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    // Each closes its connection to the backend, so the numbers count the requests.
    client.send("GET /a HTTP/1.1\r\nhost: a\r\n\r\n".repeat(5));
    let bodies: Vec<String> = (0..5).map(|_| client.answer().text()).collect();
    assert_eq!(bodies, ["0", "1", "2", "3", "4"]);
}

#[test]
fn one_connection_to_the_backend_serves_many() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().runtime(ONE_WORKER).backend(&origin).run();
    for _ in 0..3 {
        let mut client = Connection::open(proxy.address("http"));
        for _ in 0..10 {
            assert_eq!(client.get("/").status, 200);
        }
    }
    assert_eq!(origin.connections(), 1);
    let received = origin.received_text(0);
    assert_eq!(received.matches("GET / HTTP/1.1\r\n").count(), 30);
    assert_eq!(proxy.metric("tidegate_upstream_connections", &[("state", "idle")]), 1.0);
}

#[test]
fn idle_connections_to_the_backend_are_closed_in_time() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new()
        .runtime(ONE_WORKER)
        .backend(&origin)
        .toml("[service.app.transport]\nidle_timeout = \"200ms\"")
        .run();
    assert_eq!(Connection::open(proxy.address("http")).get("/").status, 200);
    wait_until("it is closed", || proxy.metric("tidegate_upstream_connections", &[]) == 0.0);
    assert_eq!(Connection::open(proxy.address("http")).get("/").status, 200);
    assert_eq!(origin.connections(), 2);
}

#[test]
fn a_connection_the_backend_closes_is_not_used_again() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
    let origin = RawOrigin::always(answer);
    let proxy = Proxy::new().runtime(ONE_WORKER).backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..3 {
        let answer = client.get("/");
        assert_eq!((answer.status, answer.header("connection")), (200, None), "that is between us");
    }
    assert_eq!(origin.connections(), 3);
}

#[test]
fn a_half_closed_client_is_answered() {
    let origin = RawOrigin::script(|_| vec![Step::ReadHead, Step::Hold, Step::Send(OK.into())]);
    let proxy = Proxy::new().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    client.finish();
    wait_until("the backend has it", || origin.received_text(0).contains("GET"));
    origin.release();
    assert_eq!(client.answer().text(), "ok");
    assert_eq!(client.rest(), "");
}

#[test]
fn a_client_that_asks_for_it_gets_its_connection_closed() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().backend(&origin).run();
    for request in [
        "GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.0\r\nhost: a\r\n\r\n",
    ] {
        let mut client = Connection::open(proxy.address("http"));
        client.send(request);
        assert_eq!(client.answer().text(), "ok");
        assert_eq!(client.rest(), "");
    }
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\n\r\n");
    assert_eq!(client.answer().header("connection"), Some("keep-alive"));
    assert_eq!(client.get("/").status, 200);
}

#[test]
fn thousands_of_connections_leave_nothing_behind() {
    let origin = RawOrigin::always(OK);
    let proxy = Proxy::new().backend(&origin).run();
    let address = proxy.address("http");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || {
                for number in 0..500 {
                    let mut client = Connection::open(address);
                    match number % 5 {
                        0 => client.send("GET / HT"),
                        1 => {
                            client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nab")
                        }
                        2 => client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n"),
                        _ => assert_eq!(client.get("/").status, 200),
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    wait_until("nothing is left", || {
        proxy.metric("tidegate_connections", &[]) == 0.0
            && proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_upstream_connections", &[("state", "active")]) == 0.0
    });
    assert_eq!(proxy.metric("tidegate_connections_accepted_total", &[]), 2000.0);
    assert_eq!(proxy.metric("tidegate_panics_total", &[]), 0.0);
}

#[test]
fn a_stop_waits_for_no_connection_without_a_request() {
    let origin = RawOrigin::always(OK);
    let mut proxy = Proxy::new().runtime("shutdown_timeout = \"1h\"").backend(&origin).run();
    let address = proxy.address("http");
    let mut used = Connection::open(address);
    assert_eq!(used.get("/").status, 200);
    let fresh: Vec<_> = (0..8).map(|_| Connection::open(address)).collect();
    wait_until("all are accepted", || proxy.metric("tidegate_connections", &[]) == 9.0);
    assert_eq!(proxy.stop().code(), Some(0));
    drop(fresh);
}
