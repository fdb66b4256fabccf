//! `runtime.max_memory`: what is refused when memory runs short, and that all of it comes back.
//!
//! Memory is held by requests with large heads that wait for a place: as soon as one waits, it holds some hundred KiB.
//! The limit is far above what the program takes by itself, in any profile that it is built with.

use std::collections::BTreeSet;

use crate::support::{Backend, Connection, Events, Proxy, RawOrigin, Running, Step, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
/// Of a head that is held.
const HEAD: usize = 200 << 10;

const LIMIT: u64 = 160 << 20;
/// What each class is answered at a level: critical, normal, sheddable.
const ANSWERS: [[u16; 3]; 6] = [
    [200, 200, 200],
    [200, 200, 200],
    [200, 200, 503],
    [200, 503, 503],
    [200, 503, 503],
    [503, 503, 503],
];
const CLASSES: [&str; 3] = ["critical", "normal", "sheddable"];

/// A proxy to be filled, and a kept connection for each class.
struct Filled {
    proxy: Running,
    holders: Vec<Connection>,
    kept: Vec<Connection>,
    /// Levels at which every class was asked.
    seen: BTreeSet<u64>,
    refused: u64,
    /// Of `app`, and of `held`, which never answers.
    origins: [RawOrigin; 2],
}

impl Filled {
    fn start() -> Self {
        let held = RawOrigin::script(|_| vec![Step::ReadHead, Step::Hold]);
        let origins = [RawOrigin::always(OK), held];
        let proxy = limited(&origins, LIMIT).run();
        let kept = CLASSES.iter().map(|_| Connection::open(proxy.address("http"))).collect();
        let (holders, seen) = (Vec::new(), BTreeSet::new());
        Self { proxy, holders, kept, seen, refused: 0, origins }
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
        let head = request("/held", CLASSES[0]);
        let head = head.replace("\r\n\r\n", &format!("\r\nx: {}\r\n\r\n", "y".repeat(HEAD)));
        while self.check() < level {
            assert!(self.holders.len() < 900, "{} hold nothing", self.holders.len());
            let mut holder = Connection::open(address);
            holder.try_send(&head);
            self.holders.push(holder);
            let held = self.holders.len() as f64;
            // The last of them may come too late to be let in.
            wait_until("it waits, and that was noticed", || {
                let metric = |name| self.proxy.metric(name, &[]);
                let noticed = metric("tidegate_memory_bytes") + f64::from(2 << 20);
                self.level() >= 4
                    || self.proxy.metric("tidegate_in_flight", &[("service", "held")]) >= held
                        && noticed >= metric("process_resident_memory_bytes")
            });
        }
    }

    fn reload(&mut self, limit: u64) {
        let new = limited(&self.origins, limit);
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

fn limited([app, held]: &[RawOrigin; 2], limit: u64) -> Proxy {
    Proxy::new()
        .runtime(&format!("max_memory = {limit}"))
        .listener("trusted_proxies = [\"127.0.0.1\"]\n[listener.limit]\nheader_bytes = \"256KiB\"")
        .backend(app)
        .toml(&format!(
            "[[route]]\npath = \"/held\"\nservice = \"held\"\n\
             [service.held]\nmax_in_flight = 1\nbackend = [{{ address = \"{}\" }}]\n\
             overload = {{ queue = 1000, queue_timeout = \"10m\" }}",
            held.address()
        ))
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
    let mut idle = Connection::open(filled.proxy.address("http"));
    assert_eq!(idle.get("/").status, 200);
    idle.socket().set_nonblocking(true).unwrap();
    filled.fill(4);
    let bytes = filled.proxy.metric("tidegate_memory_bytes", &[]);
    assert!(bytes >= 0.95 * LIMIT as f64, "{bytes}");
    let memory = &filled.proxy.status()["memory"];
    assert_eq!((&memory["level"], &memory["limit_bytes"]), (&"full".into(), &LIMIT.into()));
    assert!(filled.proxy.command(&["status"]).text().starts_with("memory "));

    // The kernel takes a new connection, the proxy does not, in two seconds of looking. What was given back meanwhile may
    // have been enough to let it in; without new connections the level does not rise again, so the last look tells.
    let late = (0..10).find_map(|_| {
        filled.fill(4);
        let accepted = || filled.proxy.metric("tidegate_connections_accepted_total", &[]);
        let (before, given_back) = (accepted(), filled.given_back());
        let mut late = Connection::open(filled.proxy.address("http"));
        late.send(request("/", "critical"));
        wait_until("two seconds", || filled.given_back() >= given_back + 2.0);
        let after = accepted();
        let full = filled.level() == 4;
        assert!(!full || after == before, "{after} were accepted, {before} before it was full");
        full.then_some(late)
    });
    let mut late = late.expect("it stays full for two seconds");

    // Who asked for nothing lately has to go; who does stays.
    wait_until("the idle connection is ended", || {
        filled.check();
        matches!(idle.socket().peek(&mut [0]), Ok(0))
    });

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
    // What was given back meanwhile may have been enough for now.
    filled.fill(2);
    filled.reload(LIMIT / 2);
    wait_until("there is far too little", || filled.level() == 5);
    assert_eq!(filled.ask(), [503; 3]);
    filled.reload(0);
    // The end that is told may be that of the first time.
    wait_until("nobody looks", || filled.proxy.status()["memory"].is_null());
    assert_eq!(filled.ask(), [200; 3]);
    events.wait("memory_pressure", |event| event["step"] == "ended");
}
