//! What counts as a failure, and each way to fail as one of several under load: no request is lost, the others
//! share evenly, and who answers again has its share again.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use nix::sys::socket::{Backlog, listen};
use tidegate::load::Protocol;

use super::{OK, always, backend, ejections, is_ejected, proxy, statuses};
use crate::support::{
    Connection, Load, Origin, Proxy, RawOrigin, Running, Step, gets, refusing_address, wait_until,
};

/// Answers on kept connections, and how often it did so far.
fn serve(listener: TcpListener) -> Arc<AtomicU64> {
    let served = Arc::<AtomicU64>::default();
    let count = served.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let count = count.clone();
            // How it ends is for the other side to see.
            std::thread::spawn(move || answer(stream, &count));
        }
    });
    served
}

fn answer(stream: TcpStream, count: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    for line in BufReader::new(stream).lines() {
        if line?.is_empty() {
            count.fetch_add(1, SeqCst);
            writer.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")?;
        }
    }
    Ok(())
}

/// A backend that fails in its way until it is healed; then it gives the count of its good answers.
struct Bad {
    address: SocketAddr,
    heal: Box<dyn FnOnce() -> Arc<AtomicU64>>,
}

/// Plays a script until it is healed, each time on a connection of its own.
fn scripted(bad: Vec<Step>) -> Bad {
    let good = Arc::<AtomicU64>::default();
    let healed = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (count, now) = (good.clone(), healed.clone());
    let origin = RawOrigin::script(move |_| match now.load(SeqCst) {
        true => {
            count.fetch_add(1, SeqCst);
            vec![Step::ReadHead, Step::Send(OK.into())]
        }
        false => bad.clone(),
    });
    let heal = move || {
        healed.store(true, SeqCst);
        good
    };
    Bad { address: crate::support::Backend::address(&origin), heal: Box::new(heal) }
}

fn refusing() -> Bad {
    let address = refusing_address();
    let heal = move || serve(TcpListener::bind(address).expect("nobody else took it"));
    Bad { address, heal: Box::new(heal) }
}

/// A full queue drops what comes next without a word: connecting hangs.
fn black_hole() -> Bad {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
    }
    let heal = move || {
        drop(waiting);
        listen(&listener, Backlog::new(1024).unwrap()).unwrap();
        serve(listener)
    };
    Bad { address, heal: Box::new(heal) }
}

/// One bad one of four under a steady load, until it is ejected; then it is healed, until it has its share again.
fn nothing_is_lost(bad: Bad, balance: &str) {
    // Who is avoided by its cost alone would take a minute to fail five times.
    let adaptive = balance == "adaptive";
    let failures = if adaptive { 2 } else { 5 };
    let good: Vec<_> = (0..3).map(|_| Origin::new().start()).collect();
    let mut with = Proxy::new()
        .runtime("workers = 2")
        .service(&format!("slow_start = \"500ms\"\nbalance = \"{balance}\""))
        .toml(&format!("[service.app.outlier]\nconsecutive_failures = {failures}"))
        .toml("ejection_time = \"500ms\"")
        .toml("[service.app.transport]\nconnect_timeout = \"500ms\"\nresponse_timeout = \"500ms\"")
        .toml("[service.app.retry]\nbackoff = \"1ms\"")
        .toml("on = [\"connect\", \"reset\", \"refused\", \"502\", \"503\", \"timeout\"]")
        .backend_with(&bad.address, "id = \"bad\"");
    for one in &good {
        with = with.backend(one);
    }
    let proxy = with.run();
    let load = Load::start(gets(&proxy.url("/"), 100.0, Protocol::Http1));
    wait_until("it is ejected", || ejections(&proxy, "consecutive") > 0.0);
    let failed = |proxy: &Running| backend(proxy, 0)["errors"].as_u64().unwrap();
    wait_until("it is tried again", || ejections(&proxy, "probe") > 0.0);

    let served = (bad.heal)();
    let requests = || good.iter().map(|one| one.stat("requests")).collect::<Vec<_>>();
    wait_until("it has its share again", || {
        let (before, its) = (requests(), served.load(SeqCst));
        wait_until("some more were served", || {
            requests().iter().sum::<u64>() >= before.iter().sum::<u64>() + 60
        });
        let others = requests().iter().sum::<u64>() - before.iter().sum::<u64>();
        // A third of what the other three have.
        (served.load(SeqCst) - its) as f64 >= 0.8 * others as f64 / 3.0
    });
    let report = load.finish_unharmed();
    assert_eq!((report.errors, report.backend_errors), (0, 0), "{report:?}");
    assert!(failed(&proxy) > failures, "to be ejected, and one that tried it");
    if adaptive {
        // It goes by time, and on a busy machine one may well be slower than the others.
        return;
    }
    let shares = requests();
    let sum: u64 = shares.iter().sum();
    assert!(
        shares.iter().all(|n| n * 3 * 3 >= sum * 2),
        "each two thirds of its share: {shares:?}"
    );
}

#[test]
fn one_that_answers_503_at_once() {
    let busy = "HTTP/1.1 503 Busy\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let script = vec![Step::ReadHead, Step::Send(busy.into())];
    nothing_is_lost(scripted(script.clone()), "round_robin");
    nothing_is_lost(scripted(script), "least_connections");
}

#[test]
fn one_that_refuses_connections() {
    nothing_is_lost(refusing(), "round_robin");
}

#[test]
fn one_that_swallows_connections() {
    nothing_is_lost(black_hole(), "round_robin");
}

#[test]
fn one_that_accepts_and_says_nothing() {
    nothing_is_lost(scripted(vec![Step::ReadHead, Step::ReadAll]), "round_robin");
}

#[test]
fn one_that_breaks_its_connections() {
    nothing_is_lost(scripted(vec![Step::ReadHead, Step::Reset]), "random");
}

/// What `adaptive` learned meanwhile does not keep it out: with the answer to the request that tries it, it is
/// tried again at once by that rule as well.
#[test]
fn one_that_adaptive_avoids_too() {
    let script = vec![Step::ReadHead, Step::Reset];
    nothing_is_lost(scripted(script), "adaptive");
}

#[test]
fn a_client_that_goes_away_is_no_failure() {
    let silent = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let good = always(OK);
    let proxy = proxy("consecutive_failures = 1").backend(&silent).backend(&good).run();
    for number in 1..=10 {
        // It leaves with half of its body sent, which nobody can take for the end of it.
        let mut client = Connection::open(proxy.address("http"));
        client.send("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhello");
        wait_until("it was sent", || silent.connections() + good.connections() >= number);
        drop(client);
    }
    wait_until("nothing is in flight", || proxy.metric("tidegate_in_flight", &[]) == 0.0);
    assert!(silent.connections() > 0);
    assert_eq!((ejections(&proxy, "consecutive"), is_ejected(&proxy, 0)), (0.0, false));
}

#[test]
fn each_kind_of_failure_counts() {
    let good = always(OK);
    let refusing = refusing_address();
    let reset = RawOrigin::script(|_| vec![Step::ReadHead, Step::Reset]);
    let nonsense =
        RawOrigin::script(|_| vec![Step::ReadHead, Step::Send("nonsense\r\n\r\n".into())]);
    let silent = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let status = always("HTTP/1.1 504 Gateway Timeout\r\ncontent-length: 0\r\n\r\n");
    let kinds: [(&dyn Fn(Proxy) -> Proxy, &str); 5] = [
        (&|p| p.backend(&refusing), "connection refused"),
        (&|p| p.backend(&reset), "connection broken"),
        (&|p| p.backend(&nonsense), "not valid HTTP"),
        (&|p| p.backend(&silent), "no answer in time"),
        (&|p| p.backend(&status), "504"),
    ];
    for (bad, says) in kinds {
        let proxy = bad(proxy("consecutive_failures = 2"))
            .backend(&good)
            .toml("[service.app.transport]\nresponse_timeout = \"100ms\"")
            .run();
        statuses(&proxy, 6);
        wait_until("it is ejected", || is_ejected(&proxy, 0));
        let why = format!("2 consecutive failures, last: {says}");
        wait_until("it says why", || backend(&proxy, 0)["ejected_reason"] == why.as_str());
    }
}

#[test]
fn a_black_hole_behind_a_short_route_timeout_is_found_out() {
    let ways = [
        (scripted(vec![Step::ReadHead, Step::ReadAll]), "no answer in time"),
        (black_hole(), "no connection in time"),
    ];
    for (silent, says) in ways {
        let good = always(OK);
        let proxy =
            proxy("").route("timeout = \"500ms\"").backend(&silent.address).backend(&good).run();
        let seen = statuses(&proxy, 20);
        assert!(seen.iter().filter(|status| **status == 504).count() >= 5, "{seen:?}");
        let why = format!("5 consecutive failures, last: {says}");
        wait_until("it says why", || backend(&proxy, 0)["ejected_reason"] == why.as_str());
        assert_eq!(backend(&proxy, 0)["errors"], 5, "each was its fault, and no more came there");
    }
}

/// What is cut just after it was sent on is nobody's fault.
#[test]
fn who_got_a_request_at_the_end_of_its_time_is_not_blamed() {
    let slow = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let late = RawOrigin::script(|_| vec![Step::ReadHead, Step::ReadAll]);
    let proxy = Proxy::new()
        .runtime("workers = 1")
        .route("timeout = \"3s\"")
        .toml("[service.app.transport]\nresponse_timeout = \"2s\"")
        .toml("[service.app.retry]\non = [\"timeout\"]\nbackoff = \"1ms\"")
        .backend_with(&slow, "id = \"slow\"")
        .backend_with(&late, "id = \"late\"\nbackup = true")
        .run();
    assert_eq!(statuses(&proxy, 1), [504]);
    let errors = |n| backend(&proxy, n)["errors"].as_u64().unwrap();
    assert_eq!((late.connections(), errors(0), errors(1)), (1, 1, 0));
}
