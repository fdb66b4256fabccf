//! What a reload brings and takes away: listeners, routes, services, certificates, limits, and what
//! has to wait for the next start.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use nix::sys::signal::Signal;

use crate::reloads::accepted;
use crate::support::{
    Backend, Origin, Proxy, RawOrigin, Step, certificate, connect, get, missing, read_answer, run,
    send, wait_until,
};

#[test]
fn listeners_routes_services_certificates_and_limits_take_effect() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    let mut proxy = Proxy::new().backend(&a).run();
    assert_eq!(get(&proxy.url("/b")).header("x-origin-id"), Some("a"));
    let more = format!(
        "[[listener]]\nname = \"second\"\naddress = \"127.0.0.1:0\"\n\
         [[route]]\nname = \"b\"\npath = \"/b\"\nservice = \"b\"\n\
         [service.b]\n[[service.b.backend]]\naddress = \"{}\"\n",
        b.address()
    );
    accepted(&proxy.reload(|p| {
        p.toml(&more).route("max_body = \"10\"").listener("[listener.limit]\nuri_bytes = \"64\"")
    }));
    for listener in ["http", "second"] {
        let url = format!("http://{}", proxy.address(listener));
        assert_eq!(get(&format!("{url}/b")).header("x-origin-id"), Some("b"));
        assert_eq!(get(&format!("{url}/")).header("x-origin-id"), Some("a"));
        let large = send("POST", &format!("{url}/"), &[], b"eleven bytes").unwrap();
        assert_eq!(large.status, 413, "max_body of the route");
    }
    let long = "x".repeat(64);
    assert_eq!(get(&proxy.url(&format!("/{long}"))).status, 414, "uri_bytes of that listener");
    let second = format!("http://{}/{long}", proxy.address("second"));
    assert_eq!(get(&second).status, 200, "and not of the other");

    if missing("curl") {
        return;
    }
    let folder = proxy.directory().to_owned();
    let secure = |name: &str| {
        let place = folder.join(name);
        std::fs::create_dir_all(&place).unwrap();
        let (cert, key) = certificate(&place, &[name]);
        let table = format!(
            "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
             [[listener.tls.certificate]]\ncert = \"{}\"\nkey = \"{}\"\n",
            cert.display(),
            key.display()
        );
        (table, cert)
    };
    let mut port = None;
    for name in ["one.test", "two.test"] {
        let (table, cert) = secure(name);
        accepted(&proxy.reload(|_| Proxy::new().backend(&a).toml(&table)));
        let address = proxy.address("tls");
        assert!(port.is_none_or(|port| port == address.port()), "its socket stays");
        port = Some(address.port());
        let resolve = format!("{name}:{}:127.0.0.1", address.port());
        let url = format!("https://{name}:{}/", address.port());
        let cert = cert.display().to_string();
        let told = run(
            "curl",
            &[
                "-q",
                "-sS",
                "--max-time",
                "60",
                "--noproxy",
                "*",
                "--cacert",
                &cert,
                "--resolve",
                &resolve,
                &url,
            ],
        );
        assert_eq!(told.code, Some(0), "{name}: {}", told.stderr);
    }
    assert!(get(&proxy.url("/")).status == 200);
}

/// Requests wait in the kernel's queue of a listener (the process stands still) when its end is
/// ordered.
#[test]
fn a_removed_listener_serves_what_is_in_its_queue() {
    let origin = Origin::new().id("a").start();
    let second = "[[listener]]\nname = \"second\"\naddress = \"127.0.0.1:0\"\n";
    let mut proxy = Proxy::new().backend(&origin).toml(second).run();
    let (first, address) = (proxy.address("http"), proxy.address("second"));
    proxy.signal(Signal::SIGSTOP);
    let mut waiting: Vec<_> = (0..32).map(|_| connect(address).unwrap()).collect();
    for stream in &mut waiting {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    }
    proxy.write(|_| Proxy::new().backend(&origin));
    proxy.signal(Signal::SIGHUP);
    proxy.signal(Signal::SIGCONT);
    for stream in &waiting {
        let answer = read_answer(&mut std::io::BufReader::new(stream), false).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    wait_until("its port is closed", || std::net::TcpStream::connect(address).is_err());
    assert_eq!(get(&format!("http://{first}/")).status, 200);
    assert_eq!(proxy.metric("tidegate_connections", &[("listener", "second")]), 0.0);
}

#[test]
fn what_is_removed_finishes_what_it_has() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nlate".to_vec();
    let slow = || {
        let steps = vec![Step::ReadHead, Step::Hold, Step::Send(answer.clone())];
        RawOrigin::script(move |_| steps.clone())
    };
    let (of_service, of_backend) = (slow(), slow());
    let more = |backends: &[SocketAddr]| {
        let mut text =
            String::from("[[route]]\nname = \"x\"\npath = \"/x\"\nservice = \"x\"\n[service.x]\n");
        for address in backends {
            text += &format!("[[service.x.backend]]\naddress = \"{address}\"\n");
        }
        text
    };
    let other = |address: SocketAddr| {
        format!(
            "[[route]]\nname = \"y\"\npath = \"/y\"\nservice = \"y\"\n[service.y]\n\
             [[service.y.backend]]\naddress = \"{address}\"\n"
        )
    };
    let base = || Proxy::new().backend(&a);
    let mut proxy =
        base().toml(&more(&[of_service.address()])).toml(&other(of_backend.address())).run();
    let ask = |path: &str| {
        let url = proxy.url(path);
        std::thread::spawn(move || get(&url))
    };
    let running = [ask("/x"), ask("/y")];
    wait_until("both are at their backends", || {
        of_service.connections() == 1 && of_backend.connections() == 1
    });
    // The service x goes; y gets another backend.
    accepted(&proxy.reload(|_| base().toml(&other(b.address()))));
    assert_eq!(get(&proxy.url("/x")).header("x-origin-id"), Some("a"), "its route went with it");
    assert_eq!(get(&proxy.url("/y")).header("x-origin-id"), Some("b"));
    assert_eq!(proxy.admin("GET", "/v1/services/x").status, 404);
    of_service.release();
    of_backend.release();
    for answer in running {
        let answer = answer.join().unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (200, "late"));
    }
    wait_until("the drain is told", || {
        proxy.process.output().contains(&format!("{} idle", of_service.address()))
    });
    assert_eq!((of_service.connections(), of_backend.connections()), (1, 1), "nobody came later");
}

#[test]
fn a_removed_service_ends_its_processes() {
    let table = "[[route]]\nname = \"p\"\npath = \"/p\"\nservice = \"p\"\n\
        [service.p]\nhealth = { path = \"/health\", interval = \"100ms\" }\n\
        [service.p.orchestrator]\nkind = \"process\"\n\
        command = [\"{self}\", \"origin\", \"--port\", \"{port}\"]\n\
        [service.p.scaling]\nmin = 2\nmax = 2\n";
    let origin = Origin::new().id("a").start();
    let mut proxy = Proxy::new().backend(&origin).run();
    let others = proxy.process.descendants().len();
    accepted(&proxy.reload(|p| p.toml(table)));
    wait_until("the new service has its backends", || {
        proxy.service("p")["scaling"]["current"] == 2 && get(&proxy.url("/p")).status == 200
    });
    accepted(&proxy.reload(|_| Proxy::new().backend(&origin)));
    assert_eq!(get(&proxy.url("/p")).header("x-origin-id"), Some("a"));
    wait_until("its processes are gone", || proxy.process.descendants().len() == others);
}

#[test]
fn what_needs_a_restart_is_named() {
    let origin = Origin::new().start();
    let file = |workers: u32, state: &str, more: &str, admin: &str| {
        format!(
            "[runtime]\nworkers = {workers}\nwatch = false\nstate_dir = \"{{dir}}/{state}\"\n{more}\n\
             [admin]\nlisten = \"{admin}\"\n[[listener]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\n\
             [[route]]\nservice = \"app\"\n[[service.app.backend]]\naddress = \"{}\"\n",
            origin.address()
        )
    };
    let mut proxy = Proxy::new().config(&file(2, "state", "", "127.0.0.1:0")).run();
    let other = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let user = if nix::unistd::geteuid().is_root() { "user = \"nobody\"" } else { "" };
    let done = accepted(&proxy.reload(|p| p.config(&file(1, "state-two", user, &other))));
    let named: BTreeSet<_> = done["restart_required"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key.as_str().unwrap())
        .collect();
    let mut keys = BTreeSet::from(["runtime.workers", "runtime.state_dir", "admin.listen"]);
    keys.extend((!user.is_empty()).then_some("runtime.user"));
    assert_eq!(named, keys);
    assert_eq!(proxy.status()["workers"], 2, "it goes on as it was");
    let told = proxy.command(&["reload"]);
    assert_eq!(told.code, Some(0));
    for key in keys {
        assert!(proxy.process.output().contains(key), "the log names {key}");
        assert!(told.text().contains(key), "and so does the command: {}", told.text());
    }
}
