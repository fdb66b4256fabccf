//! Waiting for a place while every backend has `max_in_flight` requests: who waits, in which order, for how
//! long, and what lets them go on.

use std::future::Future;

use bytes::Bytes;
use h2::client::Builder;
use http::Request;

use crate::support::{
    Backend, Connection, DEADLINE, Proxy, RawOrigin, Running, Step, get, wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const LONG: &str = "[service.app.overload]\nqueue = 100\nqueue_timeout = \"60s\"";

/// Answers nothing until it is released, then everything.
fn holding() -> RawOrigin {
    RawOrigin::script(|_| vec![Step::ReadHead, Step::Hold, Step::Send(OK.into()), Step::Again])
}

fn one_at_a_time(backend: &impl Backend, overload: &str) -> Running {
    Proxy::new().backend(backend).service("max_in_flight = 1").toml(overload).run()
}

fn depth(proxy: &Running) -> f64 {
    proxy.metric("tidegate_queue_depth", &[("service", "app")])
}

#[track_caller]
fn wait_for_depth(proxy: &Running, depth: usize) {
    wait_until("so many wait", || self::depth(proxy) == depth as f64);
}

/// Sends a request and does not wait for its answer.
fn ask(proxy: &Running, path: &str) -> Connection {
    let mut client = Connection::open(proxy.address("http"));
    client.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"));
    client
}

/// The same, and it has the one place when this returns.
fn occupy(proxy: &Running, origin: &RawOrigin) -> Connection {
    let client = ask(proxy, "/0");
    wait_until("it is in flight", || origin.requests().len() == 1);
    client
}

/// That many more, each in the queue before the next is sent.
fn line_up(proxy: &Running, many: usize) -> Vec<Connection> {
    let one = |n: usize| {
        let client = ask(proxy, &format!("/{n}"));
        wait_for_depth(proxy, n);
        client
    };
    (1..=many).map(one).collect()
}

#[track_caller]
fn all_is_given_back(proxy: &Running) {
    wait_until("all is given back", || {
        depth(proxy) == 0.0
            && proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
    });
}

#[test]
fn they_are_served_in_the_order_of_their_arrival_whatever_the_worker() {
    let origin = holding();
    let proxy = one_at_a_time(&origin, LONG);
    // More than a few, so that both workers have some.
    let mut clients = vec![occupy(&proxy, &origin)];
    clients.extend(line_up(&proxy, 16));
    assert_eq!(proxy.metric("tidegate_in_flight", &[]), 17.0, "what waits is in flight");
    assert_eq!(proxy.metric("tidegate_backend_in_flight", &[]), 1.0);
    origin.release();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    let expected: Vec<_> = (0..=16).map(|n| format!("GET /{n} HTTP/1.1")).collect();
    assert_eq!(origin.requests(), expected);
    all_is_given_back(&proxy);
    wait_until("all waits are counted", || {
        proxy.metric("tidegate_queue_wait_seconds_count", &[("service", "app")]) == 16.0
    });
    assert_eq!(proxy.metric("tidegate_shed_total", &[]), 0.0);
}

#[test]
fn streams_of_one_connection_wait_too_and_one_that_is_reset_leaves() {
    let origin = holding();
    let proxy = one_at_a_time(&origin, LONG);
    let mut first = occupy(&proxy, &origin);
    block_on(async {
        let tcp = tokio::net::TcpStream::connect(proxy.address("http")).await.unwrap();
        let (send, connection) = Builder::new().handshake::<_, Bytes>(tcp).await.unwrap();
        tokio::spawn(async { drop(connection.await) });
        let mut answers = Vec::new();
        for n in 1..=4 {
            let request = Request::get(format!("http://a/{n}")).body(()).unwrap();
            let mut send = send.clone().ready().await.unwrap();
            answers.push(send.send_request(request, true).unwrap());
            tokio::task::yield_now().await;
            while depth(&proxy) < f64::from(n) {
                tokio::task::yield_now().await;
            }
        }
        // Their order among each other is the one in which they were opened.
        let (answer, mut stream) = answers.remove(1);
        stream.send_reset(h2::Reason::CANCEL);
        drop(answer);
        while depth(&proxy) > 3.0 {
            tokio::task::yield_now().await;
        }
        origin.release();
        for (answer, _) in answers {
            assert_eq!(answer.await.unwrap().status(), 200);
        }
    });
    assert_eq!(first.answer().status, 200);
    let expected = ["/0", "/1", "/3", "/4"].map(|path| format!("GET {path} HTTP/1.1"));
    assert_eq!(origin.requests(), expected);
    all_is_given_back(&proxy);
    assert_eq!(proxy.metric("tidegate_cancelled_total", &[]), 1.0);
}

#[test]
fn one_that_closes_its_connection_leaves_the_queue() {
    let origin = holding();
    let proxy = one_at_a_time(&origin, LONG);
    let mut first = occupy(&proxy, &origin);
    let mut waiting = line_up(&proxy, 3);
    drop(waiting.remove(1));
    wait_for_depth(&proxy, 2);
    // Bytes that come meanwhile are no end, and stay.
    waiting[1].send("GET /next HTTP/1.1\r\nhost: a\r\n\r\n");
    waiting.remove(0).reset();
    wait_for_depth(&proxy, 1);
    origin.release();
    assert_eq!(first.answer().status, 200);
    assert_eq!([waiting[0].answer().status, waiting[0].answer().status], [200, 200]);
    let asked: Vec<String> = origin.requests();
    assert_eq!(asked.len(), 3, "those that left were never sent: {asked:?}");
    drop((first, waiting));
    all_is_given_back(&proxy);
}

#[test]
fn a_full_queue_is_503_at_once() {
    // Half of three, rounded up, by default.
    let three: Vec<_> = (0..3).map(|_| holding()).collect();
    let one = [holding()];
    let auto = "[service.app.overload]\nqueue_timeout = \"60s\"";
    let number = "[service.app.overload]\nqueue_timeout = \"60s\"\nqueue = 2";
    for (origins, overload) in [(&three[..], auto), (&one[..], number)] {
        let proxy = Proxy::new().service("max_in_flight = 1").toml(overload);
        let proxy = origins.iter().fold(proxy, Proxy::backend).run();
        let mut served: Vec<_> = origins.iter().map(|_| ask(&proxy, "/0")).collect();
        wait_until("all are full", || {
            proxy.metric("tidegate_backend_in_flight", &[]) == origins.len() as f64
        });
        served.extend(line_up(&proxy, 2));
        let refused = get(&proxy.url("/"));
        assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
        let why = refused.header("proxy-status").unwrap();
        assert!(why.contains("every backend has max_in_flight requests (2 waiting)"), "{why}");
        let shed = |reason| proxy.metric("tidegate_shed_total", &[("reason", reason)]);
        assert_eq!((shed("queue_full"), shed("queue_timeout")), (1.0, 0.0));
        origins.iter().for_each(RawOrigin::release);
        for client in &mut served {
            assert_eq!(client.answer().status, 200);
        }
        all_is_given_back(&proxy);
    }
}

#[test]
fn after_its_time_it_is_503_and_says_so() {
    let origin = holding();
    let overload = "[service.app.overload]\nqueue = 9\nqueue_timeout = \"30ms\"";
    let proxy = one_at_a_time(&origin, overload);
    let mut first = occupy(&proxy, &origin);
    let refused = get(&proxy.url("/late"));
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("1")));
    let why = refused.header("proxy-status").unwrap();
    assert!(why.contains("app: waited 30ms in the queue (1 waiting)"), "{why}");
    assert_eq!(proxy.metric("tidegate_shed_total", &[("reason", "queue_timeout")]), 1.0);
    assert_eq!(proxy.metric("tidegate_errors_total", &[("reason", "overload")]), 1.0);
    origin.release();
    assert_eq!(first.answer().status, 200);
    assert_eq!(origin.requests(), ["GET /0 HTTP/1.1"], "what was refused was not sent");
    all_is_given_back(&proxy);
}

#[test]
fn the_time_of_the_route_bounds_it_too() {
    let origin = holding();
    let proxy = Proxy::new().backend(&origin).service("max_in_flight = 1").toml(LONG);
    let proxy = proxy.route("timeout = \"300ms\"").run();
    let _first = occupy(&proxy, &origin);
    let refused = get(&proxy.url("/"));
    assert_eq!(refused.status, 504);
    assert!(refused.header("proxy-status").unwrap().contains("the route's timeout is over"));
    assert_eq!(proxy.metric("tidegate_shed_total", &[]), 0.0);
}

#[test]
fn a_retry_does_not_wait() {
    let busy = RawOrigin::always("HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy");
    let full = holding();
    let proxy = Proxy::new().backend(&full).backend_with(&busy, "backup = true");
    let proxy = proxy.service("max_in_flight = 1").toml(LONG).run();
    let mut first = occupy(&proxy, &full);
    // The only other one is full; its answer is there already.
    let answer = get(&proxy.url("/"));
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    assert_eq!(proxy.metric("tidegate_queue_wait_seconds_count", &[]), 0.0);
    full.release();
    assert_eq!(first.answer().status, 200);
}

#[test]
fn a_backend_that_joins_or_comes_back_and_a_higher_limit_let_them_go_on() {
    let (origin, other) = (holding(), RawOrigin::always(OK));
    let mut proxy = one_at_a_time(&origin, LONG);
    let mut first = occupy(&proxy, &origin);
    let mut waiting = line_up(&proxy, 2);
    assert_eq!(proxy.reload(|proxy| proxy.backend(&other)).status, 200);
    for client in &mut waiting {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(other.requests().len(), 2);
    let id = other.address().to_string().replace(':', "-");
    let path = format!("/v1/services/app/backends/{id}");
    assert_eq!(proxy.admin("POST", &format!("{path}/drain")).status, 204);
    let mut waiting = line_up(&proxy, 2);
    assert_eq!(proxy.admin("POST", &format!("{path}/undrain")).status, 204);
    for client in &mut waiting {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(other.requests().len(), 4);
    assert_eq!(proxy.admin("POST", &format!("{path}/drain")).status, 204);
    let mut waiting = line_up(&proxy, 2);
    let raised = |proxy: Proxy| {
        let text = proxy.text(std::path::Path::new("{dir}"));
        Proxy::new().config(&text.replace("max_in_flight = 1", "max_in_flight = 9"))
    };
    assert_eq!(proxy.reload(raised).status, 200);
    wait_until("both are sent", || origin.requests().len() == 3);
    origin.release();
    assert_eq!(first.answer().status, 200);
    for client in &mut waiting {
        assert_eq!(client.answer().status, 200);
    }
}

#[test]
fn a_service_that_is_removed_strands_nobody() {
    let origin = holding();
    let mut proxy = one_at_a_time(&origin, LONG);
    let mut first = occupy(&proxy, &origin);
    let mut waiting = line_up(&proxy, 3);
    let renamed = |proxy: Proxy| {
        let text = proxy.text(std::path::Path::new("{dir}"));
        let text = text.replace("service.app", "service.new");
        Proxy::new().config(&text.replace("service = \"app\"", "service = \"new\""))
    };
    assert_eq!(proxy.reload(renamed).status, 200);
    for client in &mut waiting {
        let answer = client.answer();
        assert_eq!(answer.status, 503);
        let why = answer.header("proxy-status").unwrap();
        assert!(!why.contains("waited"), "not only when its time is over: {why}");
    }
    origin.release();
    assert_eq!(first.answer().status, 200);
}

#[test]
fn when_the_process_stops_those_that_wait_are_served_first() {
    let origin = holding();
    let mut proxy = one_at_a_time(&origin, LONG);
    let mut first = occupy(&proxy, &origin);
    let mut waiting = line_up(&proxy, 2);
    proxy.signal(nix::sys::signal::Signal::SIGTERM);
    wait_until("it is stopping", || proxy.admin("GET", "/readyz").status == 503);
    origin.release();
    assert_eq!(first.answer().status, 200);
    for client in &mut waiting {
        assert_eq!(client.answer().status, 200);
    }
    assert!(proxy.process.wait().success());
}

fn block_on<F: Future>(work: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(DEADLINE, work).await.expect("in time") })
}
