//! The control plane hangs; traffic goes on unharmed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tidegate::config::Problem;
use tidegate::load::Protocol;
use tidegate::orchestrator::{
    Applied, Capabilities, Context, Factory, Instance, InstanceId, InstanceState, Orchestrator,
    OrchestratorError, Plan, Usage, Victims,
};

use crate::support::{
    Backend, Events, Load, Origin, Proxy, connect, each, get, gets, port_range, wait_for,
    wait_until,
};

/// The address of the only backend.
const ADDRESS: &str = "TEST_ADDRESS";
/// A file: while it is there, calls block their thread.
const FREEZE: &str = "TEST_FREEZE";

/// An orchestrator that lists one backend once and then answers no call any more. With a file
/// that freezes it, it answers without waiting, but blocks its thread while the file is there.
struct Hanging {
    backend: Instance,
    freeze: Option<PathBuf>,
    listed: AtomicBool,
}

struct HangingFactory;

impl Factory for HangingFactory {
    fn check(&self, _: &Context) -> Vec<Problem> {
        Vec::new()
    }

    fn build(&self, _: Context) -> Result<Arc<dyn Orchestrator>, OrchestratorError> {
        let address = std::env::var(ADDRESS).expect("the test sets it");
        let backend = Instance {
            id: "only".into(),
            address: Some(address.parse().expect("an address")),
            state: InstanceState::Running,
            labels: BTreeMap::new(),
            zone: None,
            started_at: SystemTime::now(),
        };
        let freeze = std::env::var_os(FREEZE).map(PathBuf::from);
        Ok(Arc::new(Hanging { backend, freeze, listed: AtomicBool::new(false) }))
    }
}

impl Hanging {
    fn answer<T: Send + 'static>(&self, answer: T) -> BoxFuture<'_, Result<T, OrchestratorError>> {
        async move {
            let Some(file) = &self.freeze else { return std::future::pending().await };
            while file.exists() {
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(answer)
        }
        .boxed()
    }
}

impl Orchestrator for Hanging {
    fn capabilities(&self) -> Capabilities {
        Capabilities { victims: Victims::Exact, usage: true, outlives_us: true }
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<Instance>, OrchestratorError>> {
        let all = vec![self.backend.clone()];
        if self.listed.swap(true, Relaxed) { self.answer(all) } else { async { Ok(all) }.boxed() }
    }

    fn changed(&self) -> BoxFuture<'_, ()> {
        tokio::time::sleep(Duration::from_millis(10)).boxed()
    }

    fn apply(&self, _: Plan) -> BoxFuture<'_, Result<Applied, OrchestratorError>> {
        self.answer(Applied::default())
    }

    fn predict_removal(&self, _: u32) -> BoxFuture<'_, Result<Vec<InstanceId>, OrchestratorError>> {
        self.answer(Vec::new())
    }

    fn usage(&self) -> BoxFuture<'_, Result<BTreeMap<InstanceId, Usage>, OrchestratorError>> {
        self.answer(BTreeMap::new())
    }

    fn shutdown(&self, _: bool) -> BoxFuture<'_, Result<(), OrchestratorError>> {
        self.answer(())
    }
}

/// This very test program as a proxy that knows the kind `hanging`. Both tests below start it
/// by the name of this test, which without a configuration has nothing to do.
#[test]
fn as_a_proxy() {
    if let Some(file) = std::env::var_os("TIDEGATE_CONFIG") {
        let builder = tidegate::Builder::new().orchestrator("hanging", HangingFactory);
        let code = builder.expect("the name is free").run(PathBuf::from(file));
        std::process::exit(i32::from(code != std::process::ExitCode::SUCCESS));
    }
}

/// Two services: `app` of the hanging kind, `other` of processes.
fn proxy(backend: &impl Backend) -> Proxy {
    let myself = std::env::current_exe().expect("a test has a file");
    Proxy::new()
        .program(&myself.to_string_lossy(), &["--exact", "frozen::as_a_proxy", "--nocapture"])
        .env(ADDRESS, &backend.address().to_string())
        .toml(&format!(
            "[service.app.orchestrator]\nkind = \"hanging\"\nstop_grace = \"1s\"\n\
             [service.app.scaling]\nmin = 1\nmax = 4\n\
             [[route]]\npath = \"/other\"\nservice = \"other\"\n[service.other]\n\
             [service.other.orchestrator]\nkind = \"process\"\nport_range = \"{}\"\n\
             command = [\"{}\", \"origin\", \"--port\", \"{{port}}\"]\n\
             [service.other.scaling]\nmin = 1\nmax = 4\n",
            port_range(),
            env!("CARGO_BIN_EXE_tidegate"),
        ))
}

#[test]
fn an_orchestrator_that_never_answers_holds_up_nobody_else() {
    let origin = Origin::new().id("only").start();
    let mut proxy = proxy(&origin).run();
    let events = Events::of(&proxy);
    let loads =
        [Protocol::Http1, Protocol::Http2].map(|p| Load::start(gets(&proxy.url("/"), 25.0, p)));
    // Its calls hang now; the other service is scaled all the same, and people are told.
    assert_eq!(proxy.command(&["scale", "app", "3"]).code, Some(0));
    assert_eq!(proxy.command(&["scale", "other", "3"]).code, Some(0));
    wait_until("the other service grows", || {
        let other = proxy.service("other");
        let ready = |b: &&serde_json::Value| b["state"] == "ready";
        other["backends"].as_array().is_some_and(|all| all.iter().filter(ready).count() == 3)
    });
    events.wait("orchestrator_failed", |failed| {
        failed["error"].as_str().is_some_and(|error| error.contains("no answer within"))
    });
    assert_eq!(each(&proxy.ready(), "id"), ["only"], "what there was goes on");
    assert_eq!(get(&proxy.url("/other")).status, 200);
    for load in loads {
        let report = load.finish_unharmed();
        assert!(report.not_connected.is_empty(), "{report:?}");
    }
    assert!(proxy.stop().success(), "it ends although the orchestrator does not let go");
}

#[test]
fn with_all_threads_of_the_control_plane_blocked_traffic_goes_on() {
    let origin = Origin::new().id("only").start();
    let directory = tempfile::tempdir().unwrap();
    let freeze = directory.path().join("freeze");
    let proxy = proxy(&origin).env(FREEZE, &freeze.to_string_lossy()).run();
    let url = proxy.url("/");
    let loads = [Protocol::Http1, Protocol::Http2].map(|p| Load::start(gets(&url, 25.0, p)));
    std::fs::write(&freeze, "").unwrap();
    wait_until("the admin does not answer", || {
        let mut stream = connect(proxy.admin_address()).expect("the system accepts for it");
        stream.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        stream.read(&mut [0; 16]).is_err()
    });
    let before = origin.stat("requests");
    wait_until("many more requests are answered", || origin.stat("requests") > before + 100);
    assert_eq!(get(&url).status, 200, "also on new connections");
    std::fs::remove_file(&freeze).unwrap();
    assert_eq!(proxy.admin("GET", "/healthz").status, 200);
    for load in loads {
        let report = load.finish_unharmed();
        assert!(report.not_connected.is_empty(), "{report:?}");
    }
}

/// As many clients as the admin lets in: half of them never finish their request, the others
/// never read their answers.
#[test]
fn blocked_admin_clients_hold_up_neither_traffic_nor_scaling() {
    let policy = "[service.app.scaling.target.load]\nmetric = \"in_flight\"\nvalue = 2\n\
         [service.app.scaling.up]\nlimits = [{ backends = 4, per = \"1s\" }]";
    let proxy = Proxy::new().origins("--delay 200ms", "").scaling(1, 3, policy).run();
    let url = proxy.url("/");
    let admin = proxy.admin_address();
    assert_eq!(proxy.process.descendants().len(), 1);
    let clients: Vec<_> = (0..256)
        .map(|n| {
            let mut stream = connect(admin).expect("the system accepts for it");
            stream.set_nonblocking(true).expect("a plain socket");
            let request = "GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(2000);
            // What does not fit is not needed.
            let _ =
                stream.write(&request.as_bytes()[..if n % 2 == 0 { 30 } else { request.len() }]);
            stream
        })
        .collect();
    let loads = [Protocol::Http1, Protocol::Http2].map(|p| Load::start(gets(&url, 30.0, p)));
    wait_for("the scaler sees the load and starts more", || {
        (proxy.process.descendants().len() == 3).then_some(())
    });
    assert_eq!(get(&url).status, 200);
    drop(clients);
    wait_until("they serve", || proxy.ready().len() == 3);
    for load in loads {
        let report = load.finish_unharmed();
        assert!(report.not_connected.is_empty(), "{report:?}");
    }
}
