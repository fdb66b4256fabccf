//! Hand-overs that go wrong halfway, or come while the one before is not over yet.

use std::path::Path;

use nix::sys::signal::Signal::{SIGKILL, SIGTERM, SIGUSR2};

use crate::handover::{backends, copy, failed, hand_over, replace, stop, tell};
use crate::support::{
    Load, Origin, Proxy, PyTalk, each, get, gets, lives, missing, missing_module, wait_until,
};

#[test]
fn a_new_process_that_dies_with_the_backends_in_its_hands_gives_them_back() {
    if missing("python3") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = copy(folder.path());
    let run_it = format!("exec {program} run -c \"$TIDEGATE_CONFIG\"");
    let mut proxy = Proxy::new()
        .origins("--delay 0ms", "")
        .scaling(2, 2, "")
        .program("/bin/sh", &["-c", &run_it])
        .run();
    let (ids, pids) = backends(&proxy, 2);
    let load = Load::start(gets(&proxy.url("/"), 50.0, tidegate::load::Protocol::Http1));
    let peer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/successor.py");
    replace(&program, &format!("exec /usr/bin/python3 {peer} 7"));
    proxy.signal(SIGUSR2);
    failed(&proxy, 1.0);
    let said = proxy.process.output();
    assert!(said.contains("ended (exit status: 7) before it was ready"), "{said}");
    assert_eq!(each(&proxy.wait_for_size(2), "id"), ids);
    assert!(pids.iter().all(|pid| lives(*pid)), "in the same processes");
    assert!(!proxy.process.descendants().iter().any(|pid| !pids.contains(pid)), "and no other");
    // They are watched, waited for and replaced as before. Their program is tidegate's own.
    copy(folder.path());
    tell(pids[1], SIGKILL);
    wait_until("it is replaced", || {
        let ready = each(&proxy.ready(), "id");
        ready.len() == 2 && !ready.contains(&ids[1])
    });
    wait_until("it was waited for", || !Path::new(&format!("/proc/{}", pids[1])).exists());
    load.finish_unharmed();
    assert!(proxy.stop().success());
}

#[test]
fn no_backend_is_stopped_while_an_old_process_may_use_it() {
    if missing_module("websockets") {
        return;
    }
    let mut proxy = Proxy::new()
        // Taking turns is by worker.
        .runtime("workers = 1")
        .origins("--delay 0ms", "tunnel_drain_timeout = \"1h\"\ndrain_timeout = \"1h\"")
        .scaling(1, 2, "")
        .run();
    assert_eq!(proxy.command(&["scale", "app", "2"]).code, Some(0));
    let (_, pids) = backends(&proxy, 2);
    let url = format!("ws://{}/ws", proxy.address("http"));
    // One on each.
    let mut sockets: Vec<_> =
        (0..2).map(|_| PyTalk::start("across.py", &["websocket", &url])).collect();
    for socket in &mut sockets {
        assert_eq!(socket.ask("hello"), "hello");
    }
    wait_until("each backend has one", || {
        proxy.ready().iter().all(|backend| backend["in_flight"] == 1)
    });
    let (first, second) = hand_over(&mut proxy);
    let (_, _third) = hand_over(&mut proxy);
    wait_until("the second has nothing to finish", || !lives(second));
    assert!(lives(first), "the first has");
    assert_eq!(proxy.command(&["scale", "app", "1"]).code, Some(0));
    wait_until("one is drained", || {
        let service = proxy.service("app");
        service["backends"].as_array().unwrap().iter().any(|b| b["state"] == "draining")
    });
    // Time enough to stop it, if that were wanted: the loop that orders stops goes round.
    let decisions = || proxy.metric("tidegate_worker_stall_seconds_count", &[]);
    let before = decisions();
    wait_until("time goes by", || decisions() > before + 8.0);
    for socket in &mut sockets {
        assert_eq!(socket.ask("still there"), "still there");
    }
    assert!(pids.iter().all(|pid| lives(*pid)));
    for socket in sockets {
        assert_eq!(socket.finish(), "done 1000");
    }
    wait_until("the first ended", || !lives(first));
    wait_until("one is stopped", || pids.iter().filter(|pid| lives(**pid)).count() == 1);
    stop(&proxy);
}

#[test]
fn a_term_ends_an_old_process_that_still_finishes() {
    if missing_module("websockets") {
        return;
    }
    let origin = Origin::new().start();
    let mut proxy = Proxy::new().runtime("shutdown_timeout = \"300ms\"").backend(&origin).run();
    let url = format!("ws://{}/ws", proxy.address("http"));
    let mut socket = PyTalk::start("across.py", &["websocket", &url]);
    assert_eq!(socket.ask("hello"), "hello");
    let (old, _) = hand_over(&mut proxy);
    assert_eq!(socket.ask("again"), "again");
    tell(old, SIGTERM);
    assert_eq!(socket.next(), "closed 1006");
    assert!(proxy.process.wait().success());
    assert_eq!(get(&proxy.url("/")).status, 200, "the new one goes on");
    stop(&proxy);
}

#[test]
fn clients_of_a_removed_listener_are_sent_away() {
    let origin = Origin::new().start();
    let other = "[[listener]]\nname = \"other\"\naddress = \"127.0.0.1:0\"";
    let mut proxy = Proxy::new().backend(&origin).toml(other).run();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let address = proxy.address("other");
    let (mut send, ended) = runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(address).await.unwrap();
        let (send, connection) = h2::client::handshake(tcp).await.unwrap();
        (send.ready().await.unwrap(), tokio::spawn(connection))
    });
    let running = http::Request::get("http://a/?delay=700ms").body(()).unwrap();
    let (answer, _) = runtime.block_on(async { send.send_request(running, true).unwrap() });
    let mut idle = crate::support::Connection::open(address);
    assert_eq!(idle.get("/").status, 200);
    wait_until("it runs", || origin.stat("working") == 1);
    let reloaded = proxy.reload(|p| {
        let text = p.text(Path::new("{dir}")).replace(other, "");
        p.config(&text)
    });
    assert_eq!(reloaded.status, 200, "{}", reloaded.text());
    assert_eq!(idle.rest(), "", "the idle one is closed");
    runtime.block_on(async {
        assert_eq!(answer.await.unwrap().status(), 200, "what ran was finished");
        ended.await.unwrap().expect("it was told to go");
    });
}

#[test]
fn process_one_is_not_replaced() {
    let may = |program: &str| {
        let tried = std::process::Command::new(program).args(["--pid", "--fork", "true"]).status();
        tried.is_ok_and(|status| status.success())
    };
    if missing("unshare") || !may("unshare") {
        return;
    }
    let origin = Origin::new().start();
    let tidegate = env!("CARGO_BIN_EXE_tidegate");
    let run_it =
        format!("exec unshare --pid --fork --kill-child {tidegate} run -c $TIDEGATE_CONFIG");
    let proxy = Proxy::new().backend(&origin).program("/bin/sh", &["-c", &run_it]).run();
    let [first] = proxy.process.descendants()[..] else { panic!("one child of unshare") };
    tell(first, SIGUSR2);
    failed(&proxy, 1.0);
    let said = proxy.process.output();
    assert!(said.contains("this is process 1: its end would be the end of everything"), "{said}");
    assert_eq!(get(&proxy.url("/")).status, 200);
}
