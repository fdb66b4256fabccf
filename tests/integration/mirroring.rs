//! Copies of requests for another service: what it gets, what is left out, and that nobody waits for it.

use crate::support::{
    Backend, Connection, Proxy, RawOrigin, Running, Step, refusing_address, send, wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BROKEN: &str = "HTTP/1.1 500 Broken\r\ncontent-length: 6\r\n\r\nbroken";

/// The service `app`, and `copy` that mirrors it.
fn mirrored(app: &RawOrigin, copy: &impl Backend, route: &str) -> Running {
    let copy = format!("[[service.copy.backend]]\naddress = \"{}\"", copy.address());
    let route = format!("mirror = \"copy\"\n{route}");
    Proxy::new().runtime("workers = 1").backend(app).route(&route).toml(&copy).run()
}

fn dropped(proxy: &Running, reason: &str) -> f64 {
    proxy.metric("tidegate_mirror_dropped_total", &[("route", "app"), ("reason", reason)])
}

fn of_copy(proxy: &Running, name: &str) -> f64 {
    proxy.metric(name, &[("service", "copy")])
}

/// A request as it came, without what belongs to one connection.
fn lines(origin: &RawOrigin) -> Vec<String> {
    origin.received_text(0).lines().map(str::to_owned).collect()
}

#[test]
fn the_mirror_gets_what_the_service_gets_and_its_answer_is_thrown_away() {
    let reads = |answer: &str| {
        let answer = answer.as_bytes().to_vec();
        RawOrigin::script(move |_| {
            vec![Step::ReadHead, Step::Read(5), Step::Send(answer.clone()), Step::Again]
        })
    };
    let (app, copy) = (reads(OK), reads(BROKEN));
    let route = "rewrite = { add_prefix = \"/v2\" }\nheaders_in = { set = { x-set = \"1\" } }";
    let proxy = mirrored(&app, &copy, route);
    let headers = [("host", "shop.test"), ("x-mine", "a")];
    let answer = send("PUT", &proxy.url("/x?y=z"), &headers, b"hello").unwrap();
    assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
    wait_until("the copy was answered", || {
        proxy.metric("tidegate_requests_total", &[("service", "copy"), ("code", "500")]) == 1.0
    });
    assert_eq!(lines(&copy), lines(&app));
    let sent = copy.received_text(0);
    for part in
        ["PUT /v2/x?y=z HTTP/1.1", "host: shop.test", "x-set: 1", "x-mine: a", "\r\n\r\nhello"]
    {
        assert!(sent.contains(part), "no {part:?} in {sent}");
    }
    // It counts with its own service, and not with the other one.
    assert_eq!(proxy.metric("tidegate_requests_total", &[("service", "app")]), 1.0);
    assert_eq!(of_copy(&proxy, "tidegate_backend_in_flight"), 0.0);
    assert_eq!(of_copy(&proxy, "tidegate_in_flight"), 0.0);
    assert_eq!(proxy.metric("tidegate_mirror_dropped_total", &[]), 0.0);
}

#[test]
fn nobody_waits_for_it_and_only_so_many_are_under_way() {
    let app = RawOrigin::always(OK);
    let copy = RawOrigin::script(|_| vec![Step::ReadHead, Step::Hold, Step::Send(OK.into())]);
    let proxy = mirrored(&app, &copy, "");
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..131 {
        assert_eq!(client.get("/").status, 200);
    }
    assert_eq!(dropped(&proxy, "busy"), 3.0);
    assert_eq!(of_copy(&proxy, "tidegate_in_flight"), 128.0);
    assert_eq!(of_copy(&proxy, "tidegate_backend_in_flight"), 128.0);
    copy.release();
    wait_until("all are answered", || of_copy(&proxy, "tidegate_in_flight") == 0.0);
    assert_eq!(client.get("/").status, 200);
    wait_until("there is room again", || copy.requests().len() == 129);
    assert_eq!(dropped(&proxy, "busy"), 3.0);
}

#[test]
fn bodies_up_to_64_kib_are_copied_and_only_as_a_whole() {
    for chunked in [false, true] {
        let answer =
            || RawOrigin::script(|_| vec![Step::ReadHead, Step::Send(OK.into()), Step::ReadAll]);
        let reads = |bytes| {
            RawOrigin::script(move |_| {
                vec![Step::ReadHead, Step::Read(bytes), Step::Send(OK.into())]
            })
        };
        for (size, copied) in [(65_536, true), (65_537, false)] {
            // Framing comes on top of it.
            let (app, copy) = (reads(size), answer());
            let proxy = mirrored(&app, &copy, "");
            let mut client = Connection::open(proxy.address("http"));
            let body = vec![b'x'; size];
            if chunked {
                client.send("PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
                client.try_send(format!("{size:x}\r\n"));
                client.try_send(&body);
                client.try_send("\r\n0\r\n\r\n");
            } else {
                client.send(format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: {size}\r\n\r\n"));
                client.try_send(&body);
            }
            assert_eq!(client.answer().status, 200);
            if copied {
                wait_until("all of it is there", || {
                    copy.received(0).iter().filter(|byte| **byte == b'x').count() >= size
                });
            } else {
                wait_until("it is counted", || dropped(&proxy, "body") == 1.0);
                assert_eq!(copy.connections(), 0);
            }
        }
    }
}

#[test]
fn a_request_that_is_broken_off_is_not_copied() {
    let app = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let copy = RawOrigin::always(OK);
    let proxy = mirrored(&app, &copy, "");
    let mut client = Connection::open(proxy.address("http"));
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
    wait_until("it is there in part", || app.received_text(0).contains("hello"));
    client.reset();
    wait_until("it is counted", || dropped(&proxy, "incomplete") == 1.0);
    assert_eq!(copy.connections(), 0);
}

#[test]
fn a_mirror_that_cannot_be_reached_is_a_failure_of_its_own_only() {
    let app = RawOrigin::always(OK);
    let proxy = mirrored(&app, &refusing_address(), "");
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..3 {
        assert_eq!(client.get("/").status, 200);
    }
    wait_until("the copies have failed", || {
        proxy.metric("tidegate_connect_errors_total", &[("service", "copy")]) == 3.0
    });
    assert_eq!(
        proxy.metric("tidegate_errors_total", &[("service", "copy"), ("reason", "connect")]),
        3.0
    );
    assert_eq!(proxy.metric("tidegate_errors_total", &[("service", "app")]), 0.0);
    assert_eq!(proxy.metric("tidegate_retries_total", &[]), 0.0);
    assert_eq!(proxy.metric("tidegate_retries_denied_total", &[]), 0.0);
}

#[test]
fn a_mirror_without_a_place_drops_the_copy_and_does_not_queue_it() {
    let app = RawOrigin::always(OK);
    let copy = RawOrigin::script(|_| vec![Step::ReadHead, Step::Hold, Step::Send(OK.into())]);
    let keys = format!(
        "[service.copy]\nmax_in_flight = 1\noverload = {{ queue = 9 }}\n\
         [[service.copy.backend]]\naddress = \"{}\"",
        copy.address()
    );
    let proxy = Proxy::new().backend(&app).route("mirror = \"copy\"").toml(&keys).run();
    let mut client = Connection::open(proxy.address("http"));
    assert_eq!(client.get("/").status, 200);
    wait_until("it is in flight", || copy.connections() == 1);
    assert_eq!(client.get("/").status, 200);
    assert_eq!(dropped(&proxy, "no_backend"), 1.0);
    copy.release();
}

#[test]
fn upgrades_are_not_copied() {
    let switching =
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let app = RawOrigin::script(move |connection| match connection {
        0 => vec![Step::ReadHead, Step::Send(switching.into()), Step::ReadAll],
        _ => vec![Step::ReadHead, Step::Send(OK.into())],
    });
    let copy = RawOrigin::always(OK);
    let proxy = mirrored(&app, &copy, "");
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
    assert_eq!(client.answer().status, 101);
    assert_eq!(Connection::open(proxy.address("http")).get("/plain").status, 200);
    wait_until("the next one was copied", || !copy.requests().is_empty());
    assert_eq!(copy.requests(), ["GET /plain HTTP/1.1"]);
    assert_eq!(proxy.metric("tidegate_mirror_dropped_total", &[]), 0.0);
}
