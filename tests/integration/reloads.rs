//! Reloads of the real program under load and in quick succession: no request and no change is
//! lost, what stays is not touched.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::Signal;
use tidegate::load::{Plan, Protocol, Report, Spacing, Stop};

use crate::support::{
    Answer, Backend, Origin, Proxy, Running, connect, get, read_answer, wait_until,
};

/// A load that goes on, second after second, until it is told to end.
struct Load {
    enough: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Report>>,
}

impl Load {
    fn start(address: SocketAddr, protocol: Protocol) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let until = enough.clone();
        let plan = Plan {
            protocol,
            connections: 4,
            spacing: Spacing::Poisson,
            timeout: Duration::from_secs(60),
            ..Plan::new(
                format!("http://{address}/").parse().unwrap(),
                100.0,
                Duration::from_secs(1),
            )
        };
        let thread = std::thread::spawn(move || {
            let mut reports = Vec::new();
            while !until.load(SeqCst) {
                reports.push(tidegate::load::run(&plan, &Stop::default(), |_, _| {}).unwrap());
            }
            reports
        });
        Self { enough, thread }
    }

    /// Ends it and says how many requests were answered; all were, with 200.
    fn end(self) -> u64 {
        self.enough.store(true, SeqCst);
        let mut answered = 0;
        for report in self.thread.join().unwrap() {
            assert_eq!(
                (report.failed, report.backend_errors, report.unfinished, report.not_sent),
                (0, 0, 0, 0),
                "{report:?}"
            );
            assert!(report.not_connected.is_empty(), "{report:?}");
            assert_eq!(report.status.keys().copied().collect::<Vec<_>>(), [200], "{report:?}");
            answered += report.completed;
        }
        answered
    }
}

fn generation(proxy: &Running) -> u64 {
    proxy.status()["config_generation"].as_u64().unwrap()
}

/// Ids and weights of the backends of `app`.
fn members(proxy: &Running) -> Vec<(String, u64)> {
    let service = proxy.service("app");
    let backends = service["backends"].as_array().unwrap().iter();
    backends
        .map(|b| (b["id"].as_str().unwrap().to_owned(), b["weight"].as_u64().unwrap()))
        .collect()
}

/// Inodes of the listening sockets of a port: a socket that was closed and bound again has another.
fn sockets(port: u16) -> BTreeSet<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let rows = table.lines().skip(1).map(|row| row.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[3] == "0A" && row[1].ends_with(&format!(":{port:04X}")))
        .map(|row| row[9].to_owned())
        .collect()
}

#[track_caller]
pub fn accepted(answer: &Answer) -> serde_json::Value {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

#[test]
fn fifty_reloads_under_load_lose_no_request_and_no_count() {
    let origins = ["a", "b", "c"].map(|id| Origin::new().id(id).delay("5ms").start());
    let with = |mut proxy: Proxy, members: &[(String, u64)]| {
        for (id, weight) in members {
            let origin = origins.iter().find(|o| o.id() == Some(id)).unwrap();
            proxy = proxy.backend_with(origin, &format!("weight = {weight}"));
        }
        proxy
    };
    let base = || Proxy::new().runtime("watch = true").service("balance = \"p2c_ewma\"");
    let mut wanted = vec![("a".to_owned(), 1), ("b".to_owned(), 1)];
    let mut proxy = with(base(), &wanted).run();

    let address = proxy.address("http");
    let before = sockets(address.port());
    assert_eq!(before.len(), 2, "one for each worker");
    let mut kept = connect(address).unwrap();
    let mut ask = || {
        kept.write_all(b"GET /kept HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        read_answer(&mut std::io::BufReader::new(&kept), false).unwrap().status
    };
    assert_eq!(ask(), 200);

    let loads = [Protocol::Http1, Protocol::Http2].map(|p| Load::start(address, p));
    let seen = |proxy: &Running, id| {
        let labels = [("service", "app"), ("backend", id)];
        proxy.metric("tidegate_backend_duration_seconds_count", &labels)
    };
    wait_until("a has answered", || seen(&proxy, "a") > 0.0);
    let mut asked = 1;
    let mut of_a = 0.0;
    for round in 1..=50_u64 {
        // `a` stays, with changing weight; the others come and go.
        wanted = match round % 4 {
            0 => vec![("a", round % 7 + 1), ("b", 2)],
            1 => vec![("a", 1), ("c", round % 5 + 1)],
            2 => vec![("b", 1), ("a", 3), ("c", 1)],
            _ => vec![("a", round)],
        }
        .into_iter()
        .map(|(id, weight)| (id.to_owned(), weight))
        .collect();
        let last = generation(&proxy);
        proxy.write(|_| with(base(), &wanted));
        match round % 3 {
            // The change of the file is enough.
            0 => {}
            1 => proxy.signal(Signal::SIGHUP),
            _ => drop(accepted(&proxy.admin("POST", "/v1/reload"))),
        }
        wait_until("the reload takes effect", || {
            generation(&proxy) > last && members(&proxy) == wanted
        });
        let now = seen(&proxy, "a");
        assert!(now >= of_a, "the count of a went from {of_a} to {now}");
        of_a = now;
        if round % 10 == 0 {
            assert_eq!(ask(), 200, "the connection from before the reloads");
            asked += 1;
        }
        let a = &proxy.service("app")["backends"];
        let a = a.as_array().unwrap().iter().find(|b| b["id"] == "a").unwrap();
        assert!(a["latency_ms"]["ewma"].is_f64(), "its estimate is kept: {a}");
    }
    let answered: u64 = loads.into_iter().map(Load::end).sum();
    assert!(answered > 500, "there was load: {answered}");

    let status = proxy.status();
    assert_eq!(status["last_reload"]["ok"], true, "{status}");
    assert_eq!(proxy.metric("tidegate_config_reloads_total", &[("result", "error")]), 0.0);
    assert!(proxy.metric("tidegate_config_reloads_total", &[("result", "ok")]) >= 50.0);
    wait_until("every request is counted, once", || {
        let labels = [("route", "app"), ("service", "app"), ("code", "200")];
        proxy.metric("tidegate_requests_total", &labels) == (answered + asked) as f64
    });
    wait_until("nothing is in flight", || {
        proxy.metric("tidegate_in_flight", &[]) == 0.0
            && proxy.metric("tidegate_backend_in_flight", &[]) == 0.0
    });
    assert_eq!(sockets(address.port()), before, "no socket was closed");
}

/// The whole membership is another one after each: at no moment there is nobody.
#[test]
fn replacing_every_backend_leaves_no_gap() {
    let origins = ["a", "b"].map(|id| Origin::new().id(id).start());
    let mut proxy = Proxy::new().backend(&origins[0]).run();
    let loads = [Protocol::Http1, Protocol::Http2].map(|p| Load::start(proxy.address("http"), p));
    for round in 1..=30 {
        // In turn by number and by name, which has to be looked up first.
        let next = &origins[round % 2];
        let named = format!(
            "[[service.app.backend]]\nid = \"named-{round}\"\naddress = \"localhost:{}\"",
            next.address().port()
        );
        accepted(&proxy.reload(|_| match round % 4 {
            0 | 1 => Proxy::new().backend(next),
            _ => Proxy::new().toml(&named),
        }));
    }
    assert!(loads.into_iter().map(Load::end).sum::<u64>() > 100);
}

#[test]
fn signal_and_post_need_no_watching() {
    let origin = Origin::new().id("a").start();
    let mut proxy = Proxy::new().backend(&origin).run();
    proxy.write(|_| Proxy::new().backend_with(&origin, "weight = 2"));
    proxy.signal(Signal::SIGHUP);
    wait_until("the signal is followed", || members(&proxy) == [("a".to_owned(), 2)]);
    proxy.write(|_| Proxy::new().backend_with(&origin, "weight = 3"));
    let done = accepted(&proxy.admin("POST", "/v1/reload"));
    assert_eq!(
        (&done["generation"], &done["restart_required"]),
        (&3.into(), &[(); 0].as_slice().into())
    );
    assert_eq!(members(&proxy), [("a".to_owned(), 3)]);
    proxy.write(|_| Proxy::new().backend_with(&origin, "weight = 4"));
    let told = proxy.command(&["reload"]);
    assert_eq!((told.code, told.text().as_str()), (Some(0), "generation 4 is in use\n"));
    assert_eq!(members(&proxy), [("a".to_owned(), 4)]);
}

/// As Kubernetes mounts a ConfigMap: the files are links into `..data`, which is swapped.
#[test]
fn a_swapped_symlink_of_a_folder_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("conf.d")).unwrap();
    for version in 1..=3 {
        let inner = at("conf.d").join(format!("..v{version}"));
        std::fs::create_dir(&inner).unwrap();
        let text = format!(
            "[[route]]\nname = \"version\"\npath = \"=/version\"\nrespond = {{ body = \"{version}\" }}\n"
        );
        std::fs::write(inner.join("route.toml"), text).unwrap();
    }
    let link = |version: u32| {
        let new = at("conf.d").join("..new");
        std::os::unix::fs::symlink(format!("..v{version}"), &new).unwrap();
        std::fs::rename(&new, at("conf.d").join("..data")).unwrap();
    };
    link(1);
    std::os::unix::fs::symlink("..data/route.toml", at("conf.d").join("route.toml")).unwrap();
    let proxy = Proxy::new()
        .config(
            "include = [\"conf.d/*.toml\"]\n[runtime]\nworkers = 1\nstate_dir = \"{dir}/state\"\n\
             [admin]\nlisten = \"127.0.0.1:0\"\n[[listener]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\n",
        )
        .start_in(folder);
    let at = |name: &str| proxy.directory().join(name);
    assert_eq!(get(&proxy.url("/version")).text(), "1");
    for version in 2..=3 {
        let new = at("conf.d").join("..new");
        std::os::unix::fs::symlink(format!("..v{version}"), &new).unwrap();
        std::fs::rename(&new, at("conf.d").join("..data")).unwrap();
        wait_until("the swap is noticed", || {
            get(&proxy.url("/version")).text() == version.to_string()
        });
    }
    // One more file that the pattern matches.
    std::fs::write(
        at("conf.d").join("more.toml"),
        "[[route]]\nname = \"more\"\npath = \"=/more\"\nrespond = { body = \"more\" }\n",
    )
    .unwrap();
    wait_until("the new file is noticed", || get(&proxy.url("/more")).status == 200);
}

/// Two changes in quick succession, the second while the first is being taken into use.
#[test]
fn the_last_of_many_quick_changes_wins() {
    let origin = Origin::new().id("a").start();
    let base = || Proxy::new().runtime("watch = true");
    let mut proxy = base().backend(&origin).run();
    for round in 1..=40_u64 {
        proxy.write(|_| base().backend_with(&origin, &format!("weight = {}", round % 9 + 1)));
        if round % 2 == 0 {
            proxy.signal(Signal::SIGHUP);
        }
    }
    wait_until("the last one is in use", || members(&proxy) == [("a".to_owned(), 40 % 9 + 1)]);
}
