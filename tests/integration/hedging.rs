//! A second backend for requests whose answer takes long: when, how often, and what becomes of the slower one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::support::{
    Answer, Backend, Connection, Origin, Proxy, RawOrigin, Running, Step, wait_until,
};

const HEDGE: &str = "[service.app.retry]\nhedge = \"p95\"\nattempts = 1";
/// Of the requests that one round of warming up takes.
const WARM: usize = 60;

/// One of three backends: it answers at once, and nothing from `stall` on until it is released.
struct Stalling {
    origin: RawOrigin,
    stall: Arc<AtomicBool>,
}

impl Stalling {
    fn new() -> Self {
        let stall = Arc::new(AtomicBool::new(false));
        let stalls = stall.clone();
        // Its connections are closed after each answer, so that each request comes to this question.
        let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
        let origin = RawOrigin::script(move |_| match stalls.load(SeqCst) {
            false => vec![Step::ReadHead, Step::Send(answer.into())],
            true => vec![Step::ReadHead, Step::Hold, Step::Send(answer.into())],
        });
        Self { origin, stall }
    }

    fn stall(&self) {
        self.stall.store(true, SeqCst);
    }

    fn asked(&self) -> usize {
        self.origin.requests().len()
    }
}

/// Two backends that take 10 ms each, and the stalling one, in turns; everybody's p95 is known.
fn warm(stalling: &Stalling, retry: &str) -> (Running, impl Sized + use<>) {
    let (proxy, steady, _) = warmed(stalling, retry);
    (proxy, steady)
}

/// The same, and what was answered.
fn warmed(stalling: &Stalling, retry: &str) -> (Running, impl Sized + use<>, Vec<Answer>) {
    let steady = [(); 2].map(|()| Origin::new().delay("10ms").start());
    let proxy = Proxy::new().runtime("workers = 1").service("balance = \"round_robin\"");
    let proxy = proxy.backend(&steady[0]).backend(&steady[1]).backend(&stalling.origin);
    let proxy = proxy.toml(retry).run();
    let mut client = Connection::open(proxy.address("http"));
    // Two thirds of them take 10 ms, so some come after the look that follows the twentieth by a tenth of a second.
    let answers: Vec<_> = (0..WARM).map(|_| client.get("/")).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    stalling.stall();
    (proxy, steady, answers)
}

#[track_caller]
fn hedged(proxy: &Running) -> f64 {
    proxy.metric("tidegate_retries_total", &[("reason", "hedge")])
}

#[track_caller]
fn all_is_given_back(proxy: &Running) {
    wait_until("all is given back", || {
        proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_upstream_connections", &[("state", "active")]) == 0.0
    });
}

#[test]
fn the_first_answer_counts_and_the_slower_one_is_given_up() {
    let stalling = Stalling::new();
    let (proxy, _steady) = warm(&stalling, HEDGE);
    let before = (stalling.asked(), hedged(&proxy));
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..3 {
        // Nothing is released: without a second backend the third would never be answered.
        assert_eq!(client.get("/x").status, 200);
    }
    // The others may be hedged as well: what takes longer than p95 is by chance one in twenty.
    assert!(stalling.asked() > before.0 && hedged(&proxy) > before.1);
    all_is_given_back(&proxy);
    let id = stalling.origin.address().to_string().replace(':', "-");
    let app = proxy.service("app");
    let backends = app["backends"].as_array().unwrap();
    let slow = backends.iter().find(|backend| backend["id"] == *id).unwrap();
    assert_eq!(slow["errors"], 0, "it has not failed");
    assert_eq!(proxy.metric("tidegate_requests_total", &[("code", "200")]), WARM as f64 + 3.0);
}

#[test]
fn no_more_than_one_in_twenty() {
    let stalling = Stalling::new();
    let (proxy, _steady) = warm(&stalling, HEDGE);
    let before = stalling.asked();
    let asking: Vec<_> = (0..30)
        .map(|_| {
            let mut client = Connection::open(proxy.address("http"));
            client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
            client
        })
        .collect();
    let id = stalling.origin.address().to_string().replace(':', "-");
    wait_until("all are answered but those that stall", || {
        let stalled = proxy.metric("tidegate_backend_in_flight", &[("backend", &id)]);
        let answered = proxy.metric("tidegate_requests_total", &[]);
        stalled == proxy.metric("tidegate_in_flight", &[])
            && answered + stalled == WARM as f64 + 30.0
    });
    wait_until("one of them was hedged", || hedged(&proxy) >= 1.0);
    assert!(stalling.asked() > before);
    stalling.origin.release();
    for mut client in asking {
        assert_eq!(client.answer().status, 200);
    }
    let (hedged, all) = (hedged(&proxy), WARM as f64 + 30.0);
    assert!(hedged <= all / 20.0, "{hedged} of {all}");
    all_is_given_back(&proxy);
}

#[test]
fn without_a_budget_or_a_further_try_it_waits() {
    let none = format!("{HEDGE}\nbudget = 0\nbudget_min = 0");
    let no_attempt = HEDGE.replace("attempts = 1", "attempts = 0");
    let off = HEDGE.replace("p95", "off");
    for retry in [none, no_attempt, off] {
        let stalling = Stalling::new();
        let (proxy, _steady) = warm(&stalling, &retry);
        let denied = || proxy.metric("tidegate_retries_denied_total", &[]);
        let (before, already) = (stalling.asked(), denied());
        let mut clients: Vec<_> = (0..3)
            .map(|_| {
                let mut client = Connection::open(proxy.address("http"));
                client.send("GET /x HTTP/1.1\r\nhost: a\r\n\r\n");
                client
            })
            .collect();
        wait_until("one stalls", || stalling.asked() == before + 1);
        if retry.contains("budget") {
            wait_until("it was to be hedged", || denied() > already);
        }
        stalling.origin.release();
        for client in &mut clients {
            assert_eq!(client.answer().status, 200);
        }
        assert_eq!(hedged(&proxy), 0.0, "{retry}");
    }
}

#[test]
fn what_may_not_be_sent_twice_is_not() {
    let stalling = Stalling::new();
    let (proxy, _steady) = warm(&stalling, HEDGE);
    let (before, already) = (stalling.asked(), hedged(&proxy));
    let mut clients: Vec<_> = (0..3)
        .map(|_| {
            let mut client = Connection::open(proxy.address("http"));
            client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
            client
        })
        .collect();
    wait_until("one stalls", || stalling.asked() == before + 1);
    wait_until("the others are answered", || proxy.metric("tidegate_in_flight", &[]) == 1.0);
    stalling.origin.release();
    for client in &mut clients {
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(hedged(&proxy), already);
}

#[test]
fn a_session_waits_for_its_backend() {
    let stalling = Stalling::new();
    let sticky = format!("[service.app.sticky]\ncookie = \"tg\"\n{HEDGE}");
    let (proxy, _steady, answers) = warmed(&stalling, &sticky);
    let of_the_stalling = answers.iter().find(|answer| answer.header("x-origin-id").is_none());
    let given = of_the_stalling.and_then(|answer| answer.header("set-cookie")).unwrap();
    let cookie = given.split(';').next().unwrap();
    let (before, already) = (stalling.asked(), hedged(&proxy));
    let mut session = Connection::open(proxy.address("http"));
    session.send(format!("GET / HTTP/1.1\r\nhost: a\r\ncookie: {cookie}\r\n\r\n"));
    wait_until("it stalls", || stalling.asked() == before + 1);
    // One of three without a session stalls, too, and is hedged although it came later.
    let mut others = Connection::open(proxy.address("http"));
    assert!((0..3).all(|_| others.get("/").status == 200));
    assert!(hedged(&proxy) > already);
    stalling.origin.release();
    let answer = session.answer();
    let by = (answer.header("x-origin-id"), answer.header("set-cookie"));
    assert_eq!((answer.status, by), (200, (None, None)), "the stalling one's, and no new cookie");
}

#[test]
fn a_backend_that_takes_no_connection_is_hedged_too() {
    let full = full_backlog();
    let steady = Origin::new().delay("10ms").start();
    let transport = "[service.app.transport]\nconnect_timeout = \"60s\"";
    let proxy = Proxy::new().runtime("workers = 1").service("balance = \"round_robin\"");
    let mut proxy = proxy.backend(&steady).toml(HEDGE).toml(transport).run();
    let mut client = Connection::open(proxy.address("http"));
    for _ in 0..WARM {
        assert_eq!(client.get("/").status, 200);
    }
    let address = full.0.local_addr().unwrap();
    assert_eq!(proxy.reload(|proxy| proxy.backend(&address)).status, 200);
    for _ in 0..2 {
        assert_eq!(client.get("/").status, 200);
    }
    assert!(hedged(&proxy) >= 1.0);
    all_is_given_back(&proxy);
}

/// A socket that has as many connections waiting as it takes: another gets no answer to its SYN.
fn full_backlog() -> (std::net::TcpListener, Vec<socket2::Socket>) {
    use socket2::{Domain, Socket, Type};
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let waiting = (0..8).map(|_| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // In progress is all it comes to.
        let _ = socket.connect(&address);
        socket
    });
    let waiting = waiting.collect();
    (listener.into(), waiting)
}
