//! `runtime.max_memory`: what is refused when memory runs short, and that all of it comes back.
//!
//! Memory is held by clients that read nothing of a large answer: some hundred KiB each, in the proxy. Limits are far
//! above what the program takes by itself, in any profile that it is built with.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};

use crate::support::{Backend, Connection, Events, Origin, Proxy, Running, wait_until};

const LIMIT: u64 = 160 << 20;
/// What each class is answered at a level: critical, normal, sheddable.
const ANSWERS: [[u16; 3]; 5] =
    [[200, 200, 200], [200, 200, 200], [200, 200, 503], [200, 503, 503], [200, 503, 503]];
const CLASSES: [&str; 3] = ["critical", "normal", "sheddable"];

/// A client that asks for much and reads nothing.
struct Holder {
    _socket: Socket,
}

impl Holder {
    /// Its request is let in at every level.
    fn of(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        // Or the kernel would hold more of the answer than the proxy.
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).unwrap();
        let request = request("/?size=8000000", CLASSES[0]);
        assert_eq!(socket.send(request.as_bytes()).unwrap(), request.len());
        Self { _socket: socket }
    }
}

/// A proxy to be filled, and a kept connection for each class.
struct Filled {
    proxy: Running,
    holders: Vec<Holder>,
    kept: Vec<Connection>,
    /// Levels at which every class was asked.
    seen: BTreeSet<u64>,
    refused: u64,
    origin: Box<dyn Backend>,
}

impl Filled {
    fn start() -> Self {
        let origin = Origin::new().start();
        let proxy = limited(&origin, LIMIT).run();
        let kept = CLASSES.iter().map(|_| Connection::open(proxy.address("http"))).collect();
        let (holders, seen) = (Vec::new(), BTreeSet::new());
        Self { proxy, holders, kept, seen, refused: 0, origin: Box::new(origin) }
    }

    fn level(&self) -> u64 {
        self.proxy.metric("tidegate_memory_level", &[]) as u64
    }

    fn given_back(&self) -> f64 {
        self.proxy.metric("tidegate_memory_given_back_total", &[])
    }

    /// Asks once for each class, on connections that are there already.
    fn ask(&mut self) -> [u16; 3] {
        let answers = [0, 1, 2].map(|class| {
            self.kept[class].send(request("/", CLASSES[class]));
            self.kept[class].answer()
        });
        for refused in answers.iter().filter(|answer| answer.status == 503) {
            self.refused += 1;
            assert_eq!(refused.header("retry-after"), Some("1"));
            assert_eq!(refused.header("connection"), None, "it may ask again here");
        }
        answers.map(|answer| answer.status)
    }

    /// The level. What the answers have to be is known if it is the same before and after.
    fn check(&mut self) -> u64 {
        let level = self.level();
        let answers = self.ask();
        if self.level() == level {
            assert_eq!(answers, ANSWERS[level as usize], "at level {level}");
            self.seen.insert(level);
        }
        level
    }

    /// One holder after the other up to a level.
    fn fill(&mut self, level: u64) {
        let address = self.proxy.address("http");
        while self.check() < level {
            assert!(self.holders.len() < 900, "{} hold nothing", self.holders.len());
            self.holders.extend((0..4).map(|_| Holder::of(address)));
            let holders = self.holders.len() as f64;
            // The last of them may come too late to be let in.
            wait_until("they are let in", || {
                self.proxy.metric("tidegate_in_flight", &[]) >= holders || self.level() == 4
            });
        }
    }

    fn reload(&mut self, limit: u64) {
        let new = limited(&self.origin.address(), limit);
        assert_eq!(self.proxy.reload(|_| new).status, 200);
    }

    /// Lets holders go until it is calm.
    fn empty(&mut self) {
        while self.check() > 0 {
            let left = self.holders.len().saturating_sub(20);
            self.holders.truncate(left);
            let before = self.given_back();
            wait_until("memory was given back, or there is enough", || {
                self.given_back() > before || self.level() == 0
            });
        }
    }
}

fn limited(origin: &impl Backend, limit: u64) -> Proxy {
    Proxy::new()
        .runtime(&format!("max_memory = {limit}"))
        .listener("trusted_proxies = [\"127.0.0.1\"]\n[listener.timeout]\nwrite = \"10m\"")
        .backend(&origin.address())
        // Only what is asked to give back does so: by itself the allocator would wait for an hour.
        .env("MIMALLOC_PURGE_DELAY", "3600000")
}

fn request(path: &str, class: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: a\r\nx-request-priority: {class}\r\n\r\n")
}

#[test]
fn what_is_refused_follows_memory_up_and_comes_back_with_it() {
    let mut filled = Filled::start();
    let events = Events::of(&filled.proxy);
    assert_eq!(filled.check(), 0);
    filled.fill(4);
    let bytes = filled.proxy.metric("tidegate_memory_bytes", &[]);
    assert!(bytes >= 0.95 * LIMIT as f64, "{bytes}");
    let memory = &filled.proxy.status()["memory"];
    assert_eq!((&memory["level"], &memory["limit_bytes"]), (&"full".into(), &LIMIT.into()));
    assert!(filled.proxy.command(&["status"]).text().starts_with("memory "));

    // The kernel takes a new connection, the proxy does not, in two seconds of looking.
    let accepted = || filled.proxy.metric("tidegate_connections_accepted_total", &[]);
    let (before, given_back) = (accepted(), filled.given_back());
    let mut late = Connection::open(filled.proxy.address("http"));
    late.send(request("/", "critical"));
    wait_until("two seconds", || filled.given_back() >= given_back + 2.0);
    let (after, level) = (accepted(), filled.level());
    assert_eq!((level, after), (4, before));

    filled.empty();
    assert_eq!(late.answer().status, 200);
    assert_eq!(filled.check(), 0, "whoever was refused is served");
    assert!(filled.seen.is_superset(&[0, 2, 3, 4].into()), "{:?}", filled.seen);
    let shed = filled.proxy.metric("tidegate_shed_total", &[("reason", "memory")]);
    assert_eq!(shed, filled.refused as f64);

    let over = events.wait("memory_pressure", |event| event["step"] == "ended");
    assert_eq!((&over["level"], &over["refused"]), (&"full".into(), &filled.refused.into()));
    assert!(over["peak_bytes"].as_u64() >= Some(LIMIT), "{over}");
    let told = events.named("memory_pressure");
    let (first, last) = (&told[0], told.len() - 1);
    assert_eq!(first["step"], "begun");
    assert!(told[1..last].iter().all(|event| event["step"] == "worse"), "{told:?}");
    let rising = told[..last].is_sorted_by_key(|event| event["bytes"].as_u64());
    assert!(rising, "{told:?}");
}

#[test]
fn a_reload_changes_the_limit_and_takes_it_away() {
    let mut filled = Filled::start();
    let events = Events::of(&filled.proxy);
    filled.fill(2);
    filled.reload(10 * LIMIT);
    wait_until("there is enough", || filled.level() == 0);
    assert_eq!(filled.ask(), [200; 3]);
    filled.reload(LIMIT);
    wait_until("there is not", || filled.level() >= 2);
    filled.reload(0);
    events.wait("memory_pressure", |event| event["step"] == "ended");
    assert_eq!(filled.ask(), [200; 3]);
    assert!(filled.proxy.status()["memory"].is_null());
}
