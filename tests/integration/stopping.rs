//! The end of tidegate, in order and not: what is under way, and what becomes of backends.

use nix::sys::signal::Signal::SIGTERM;
use tempfile::TempDir;
use tidegate::load::Protocol;

use crate::support::{
    Connection, Events, Load, Origin, Proxy, PyTalk, Running, certificate, each, get, gets, lives,
    missing_module, port_range, wait_for, wait_until,
};

#[test]
fn term_under_load_loses_nothing_and_leaves_nothing() {
    let keys = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(keys.path(), &["localhost", "127.0.0.1"]);
    let tls = format!(
        "[[listener]]\nname = \"https\"\naddress = \"127.0.0.1:0\"\n[[listener.tls.certificate]]\n\
         cert = \"{}\"\nkey = \"{}\"\n[listener.tls]\nunknown_sni = \"default\"\n",
        chain.display(),
        key.display()
    );
    // A shell that stays, so that there are grandchildren.
    let origin = env!("CARGO_BIN_EXE_tidegate");
    let script = format!("{origin} origin --port {{port}} --delay 30ms; true");
    let mut proxy = Proxy::new()
        .runtime("shutdown_delay = \"2s\"")
        .processes(&format!("[\"/bin/sh\", \"-c\", \"{script}\"]"), "")
        .scaling(2, 2, "")
        .toml(&tls)
        .run();
    proxy.wait_for_size(2);
    let plain = proxy.url("/");
    let secure = format!("https://localhost:{}/", proxy.address("https").port());
    let loads: Vec<Load> = [&plain, &secure]
        .into_iter()
        .flat_map(|url| [Protocol::Http1, Protocol::Http2].map(|p| gets(url, 25.0, p)))
        .map(Load::start)
        .collect();
    wait_until("all of them are answered", || {
        proxy.metric("tidegate_requests_total", &[("code", "200")]) > 100.0
    });
    let children = proxy.process.descendants();
    assert!(children.len() >= 4, "two shells and two origins: {children:?}");

    proxy.signal(SIGTERM);
    wait_until("it says that it is not ready", || proxy.admin("GET", "/readyz").status == 503);
    assert_eq!(get(&plain).status, 200, "and still accepts");
    let status = proxy.process.wait();
    assert!(status.success(), "{status}");
    for load in loads {
        load.finish_unharmed();
    }
    let left: Vec<i32> = children.into_iter().filter(|pid| lives(*pid)).collect();
    assert!(left.is_empty(), "{left:?} live on");
}

#[test]
fn a_second_term_ends_at_once() {
    let fixed = Origin::new().id("fixed").start();
    let mut proxy = Proxy::new()
        .runtime("shutdown_timeout = \"1h\"")
        .backend(&fixed)
        .toml(&format!(
            "[[route]]\npath = \"/other\"\nservice = \"other\"\n[service.other]\n\
             [service.other.scaling]\nmin = 1\nmax = 1\n[service.other.orchestrator]\n\
             kind = \"process\"\ncommand = [\"{{self}}\", \"origin\", \"--port\", \"{{port}}\"]\n\
             port_range = \"{}\"\n",
            port_range()
        ))
        .run();
    wait_until("its child runs", || !proxy.process.descendants().is_empty());
    let children = proxy.process.descendants();
    let url = proxy.url("/?delay=1h");
    let held = std::thread::spawn(move || crate::support::send("GET", &url, &[], b""));
    wait_until("a request runs", || fixed.stat("working") == 1);
    proxy.signal(SIGTERM);
    wait_until("it stops", || proxy.admin("GET", "/readyz").status == 503);
    assert!(proxy.process.status().is_none(), "the request holds it");
    proxy.signal(SIGTERM);
    proxy.process.wait();
    assert!(held.join().unwrap().is_err(), "the request was cut");
    wait_until("its child is gone", || !children.iter().any(|pid| lives(*pid)));
}

#[test]
fn websockets_are_cut_after_their_time_and_hold_nothing_up() {
    if missing_module("websockets") {
        return;
    }
    let mut proxy = Proxy::new()
        .runtime("shutdown_timeout = \"1h\"")
        .origins("--delay 0ms", "tunnel_drain_timeout = \"300ms\"")
        .scaling(1, 1, "")
        .run();
    proxy.wait_for_size(1);
    let url = format!("ws://{}/ws", proxy.address("http"));
    let mut sockets: Vec<_> =
        (0..3).map(|_| PyTalk::start("across.py", &["websocket", &url])).collect();
    for socket in &mut sockets {
        assert_eq!(socket.ask("hello"), "hello");
    }
    assert_eq!(proxy.metric("tidegate_tunnels", &[("service", "app")]), 3.0);
    let begun = std::time::Instant::now();
    let status = proxy.stop();
    assert!(status.success(), "{status}");
    assert!(begun.elapsed() >= std::time::Duration::from_millis(300), "they had their time");
    // The bytes are theirs: no frame is put between them, the connection just ends (RFC 6455, 7.1.5).
    for mut socket in sockets {
        assert_eq!(socket.next(), "closed 1006");
    }
    let said = proxy.process.output();
    assert!(said.contains("3 upgraded connections are cut"), "{said}");
}

#[test]
fn http2_clients_are_sent_away_one_after_the_other() {
    const CLIENTS: usize = 300;
    let origin = Origin::new().start();
    let mut proxy = Proxy::new().backend(&origin).run();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let address = proxy.address("http");
    let gone = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
            let (send, connection) = h2::client::handshake(tcp).await.unwrap();
            let (mut send, connection) = (send, tokio::spawn(connection));
            // Each is served before the end begins.
            send = send.ready().await.unwrap();
            let request = http::Request::get("http://a/").body(()).unwrap();
            let (answer, _) = send.send_request(request, true).unwrap();
            assert_eq!(answer.await.unwrap().status(), 200);
            clients.push((send, connection));
        }
        proxy.signal(SIGTERM);
        let ends = clients.into_iter().map(|(send, connection)| async move {
            let ended = connection.await.unwrap();
            drop(send);
            assert!(ended.is_ok(), "it was told to go: {ended:?}");
            std::time::Instant::now()
        });
        let ends = futures_util::future::join_all(ends);
        tokio::time::timeout(crate::support::DEADLINE, ends).await.expect("in time")
    });
    let (first, last) = (gone.iter().min().unwrap(), gone.iter().max().unwrap());
    // One a millisecond, with something to spare for the first of them to be noticed late.
    let spread = last.duration_since(*first).as_millis();
    assert!(spread >= CLIENTS as u128 / 3, "all of them within {spread} ms");
    assert!(proxy.process.wait().success());
}

/// Two backends, kept by the first tidegate and found again by the second.
#[test]
fn kept_backends_live_on_and_are_adopted() {
    let service = |on_exit: &str| {
        let keys = format!("on_exit = \"{on_exit}\"");
        Proxy::new().origins("--delay 10ms", &keys).scaling(2, 2, "")
    };
    let mut first = service("keep").run();
    let (ids, pids) = backends(&first, 2);
    first.process.remember();
    assert!(first.stop().success());
    assert!(pids.iter().all(|pid| lives(*pid)), "they live on");
    let (directory, _, process) = first.into_parts();

    let mut second = adopts(service("stop"), directory, &ids, &pids);
    assert!(second.stop().success());
    assert!(!pids.iter().any(|pid| lives(*pid)), "they end with the second");
    drop(process);
}

#[test]
fn after_a_crash_backends_are_found_again_and_the_surplus_is_drained() {
    let service = |mode: &str| {
        // However slow the machine is, the load is one for two: who waits is in flight.
        let more = format!(
            "mode = \"{mode}\"\n[service.app.scaling.concurrency]\ntarget = 100000\n\
             [service.app.scaling.down]\nstabilization = \"0s\""
        );
        Proxy::new().origins("--delay 10ms", "on_crash = \"adopt\"").scaling(2, 4, &more)
    };
    let first = service("on").run();
    first.wait_for_size(2);
    assert_eq!(first.command(&["scale", "app", "4"]).code, Some(0));
    let (ids, pids) = backends(&first, 4);
    let (directory, _, process) = first.crash();
    assert!(pids.iter().all(|pid| lives(*pid)), "they live on");

    let mut second = adopts(service("up_only"), directory, &ids, &pids);
    let events = Events::of(&second);
    let load = Load::start(gets(&second.url("/"), 40.0, Protocol::Http1));
    assert_eq!(second.reload(|_| service("on")).status, 200);
    // What an operator had ordered holds on, until it is taken back.
    assert_eq!(second.service("app")["scaling"]["override"]["replicas"], 4);
    assert_eq!(second.command(&["scale", "app", "auto"]).code, Some(0));
    let left = each(&second.wait_for_size(2), "id");
    assert!(left.iter().all(|id| ids.contains(id)), "nothing new was started: {left:?}");
    // The stream of events may be behind what the API shows.
    wait_until("two drains are told", || {
        events.named("drain").iter().filter(|drain| drain["step"] == "idle").count() == 2
    });
    load.finish_unharmed();
    wait_until("the surplus has ended", || pids.iter().filter(|pid| lives(**pid)).count() == 2);
    // Strays are ended with the process that started them.
    drop((second, process));
}

/// Killed while backends start: they are found again, none is lost and none is started for them.
#[test]
fn killed_in_the_middle_of_a_start_it_goes_on_with_what_it_started() {
    let slow = "[\"/bin/sh\", \"-c\", \"sleep 3; exec {self} origin --port {port}\"]";
    let first = Proxy::new().processes(slow, "on_crash = \"adopt\"").scaling(1, 4, "").run();
    first.wait_for_size(1);
    assert_eq!(first.command(&["scale", "app", "4"]).code, Some(0));
    let all = |proxy: &Running| {
        let service = proxy.service("app");
        each(service["backends"].as_array().expect("a list"), "id")
    };
    wait_until("three more are starting", || all(&first).len() == 4 && first.ready().len() == 1);
    let mut before = all(&first);
    let (directory, proxy, process) = first.crash();
    let second = proxy.start_in(directory);
    let mut after = each(&second.wait_for_size(4), "id");
    before.sort();
    after.sort();
    assert_eq!(after, before, "an id is never used again, so these are the same");
    assert!(second.process.descendants().is_empty(), "it started none itself");
    let changes = second.records("scale");
    let sizes: Vec<_> = changes.iter().map(|record| record["action"]["to"].clone()).collect();
    assert_eq!(sizes.last(), Some(&4.into()), "nothing went meanwhile: {sizes:?}");
    assert_eq!(get(&second.url("/")).status, 200);
    drop((second, process));
}

/// Killed while backends drain: the others serve on, and those go, once.
#[test]
fn killed_in_the_middle_of_a_drain_it_ends_what_it_had_begun() {
    let first = Proxy::new()
        .runtime("workers = 1")
        .origins("--delay 10ms", "on_crash = \"adopt\"\ndrain_timeout = \"1h\"")
        .scaling(1, 4, "[service.app.scaling.down]\nstabilization = \"0s\"")
        .run();
    assert_eq!(first.command(&["scale", "app", "4"]).code, Some(0));
    let (ids, pids) = backends(&first, 4);
    // One long request each, so that none is idle.
    let stuck: Vec<_> = (0..4)
        .map(|_| {
            let mut client = Connection::open(first.address("http"));
            client.send("POST /?delay=1h HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
            client
        })
        .collect();
    wait_until("each has one", || first.metric("tidegate_backend_in_flight", &[]) == 4.0);
    assert_eq!(first.command(&["scale", "app", "2"]).code, Some(0));
    wait_until("two drain", || first.ready().len() == 2);
    let (directory, proxy, process) = first.crash();
    drop(stuck);
    assert!(pids.iter().all(|pid| lives(*pid)), "they live on");
    let second = proxy.start_in(directory);
    let left = each(&second.wait_for_size(2), "id");
    assert!(left.iter().all(|id| ids.contains(id)), "nothing new was started: {left:?}");
    wait_until("the others have ended", || pids.iter().filter(|pid| lives(**pid)).count() == 2);
    assert!(second.process.descendants().is_empty(), "it started none itself");
    assert_eq!(get(&second.url("/")).status, 200);
    drop((second, process));
}

#[test]
fn after_a_crash_the_guard_ends_backends_that_are_to_stop() {
    let first = Proxy::new()
        .origins("--delay 10ms", "on_crash = \"stop\"\nstop_grace = \"1s\"")
        .scaling(2, 2, "")
        .run();
    let (ids, pids) = backends(&first, 2);
    let (directory, proxy, process) = first.crash();
    wait_until("they are ended", || !pids.iter().any(|pid| lives(*pid)));
    let second = proxy.start_in(directory);
    let new = each(&second.wait_for_size(2), "id");
    assert!(new.iter().all(|id| !ids.contains(id)), "an id is never used again: {new:?}");
    drop((second, process));
}

/// Ids and processes, once there are that many.
fn backends(proxy: &Running, size: usize) -> (Vec<String>, Vec<i32>) {
    let all = proxy.wait_for_size(size);
    (each(&all, "id"), all.iter().map(|backend| proxy.pid_of(backend)).collect())
}

/// Starts in that directory and waits until it has exactly those backends, in the same processes.
fn adopts(proxy: Proxy, directory: TempDir, ids: &[String], pids: &[i32]) -> Running {
    let running = proxy.start_in(directory);
    let found = wait_for("they are found again", || {
        let all = running.service("app")["backends"].as_array().expect("a list").clone();
        let serves = |id: &String| {
            all.iter().any(|b| b["id"] == **id && b["state"] == "ready" && b["healthy"] == true)
        };
        ids.iter().all(serves).then_some(all)
    });
    assert_eq!(found.len(), ids.len(), "and no other: {found:?}");
    assert!(pids.iter().all(|pid| lives(*pid)), "in the same processes");
    assert!(running.process.descendants().is_empty(), "without a start");
    running
}
