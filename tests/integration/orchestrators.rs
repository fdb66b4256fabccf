//! What every orchestrator has to do, done by the kind `process` and by the one of the example;
//! and the example's `main` in a process of its own.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidegate::config::tree::Table;
use tidegate::orchestrator::conformance::{self, Subject};
use tidegate::orchestrator::process::ProcessFactory;
use tidegate::orchestrator::{Context, Factory, Instance};

use crate::support::{Proxy, each, get, lives, port_range, send, wait_until};

#[path = "../../examples/custom_orchestrator.rs"]
mod custom_orchestrator;

fn context(folder: &Path, keys: &str) -> Context {
    let (table, problems) = Table::parse(keys, &folder.join("tidegate.toml"));
    assert_eq!(problems, []);
    let state_dir = folder.join("app");
    Context { service: "app".into(), table, state_dir, stop_grace: Duration::from_secs(60) }
}

fn pid(instance: &Instance) -> i32 {
    instance.labels["pid"].parse().expect("a number")
}

fn url(instance: &Instance, path: &str) -> String {
    format!("http://{}{path}", instance.address.expect("it runs"))
}

#[tokio::test]
async fn processes_conform() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let keys = format!(
        "command = [{:?}, \"origin\", \"--port\", \"{{port}}\"]\nport_range = {:?}",
        env!("CARGO_BIN_EXE_tidegate"),
        port_range()
    );
    let context = context(folder.path(), &keys);
    let factory = ProcessFactory::default();
    assert_eq!(factory.check(&context), []);
    conformance::run(Subject {
        orchestrator: factory.build(context).expect("it can run"),
        kill: Box::new(|instance| {
            kill(Pid::from_raw(pid(instance)), Signal::SIGKILL).expect("it lives");
        }),
        exists: Box::new(|instance| lives(pid(instance))),
    })
    .await;
}

#[tokio::test]
async fn the_example_conforms() {
    conformance::run(Subject {
        orchestrator: Arc::<custom_orchestrator::Threads>::default(),
        kill: Box::new(|instance| assert_eq!(get(&url(instance, "/end")).status, 200)),
        // Another program may have got its port since.
        exists: Box::new(|instance| {
            send("GET", &url(instance, "/"), &[], b"")
                .is_ok_and(|answer| answer.text() == *instance.id)
        }),
    })
    .await;
}

/// A factory that says nothing of keys has none.
#[test]
fn a_key_that_the_kind_does_not_have_is_told() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let check = |keys| {
        let factory = |_: Context| Ok(Arc::<custom_orchestrator::Threads>::default() as _);
        Factory::check(&factory, &context(folder.path(), keys))
    };
    assert_eq!(check(""), []);
    let problems = check("colour = \"red\"");
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(problems[0].message.contains("colour"), "{problems:?}");
}

/// This test program as the example, which cargo does not build for every choice of tests.
/// Started by the next test; without a configuration it has nothing to do.
#[test]
fn as_the_example() {
    if std::env::var_os("TIDEGATE_CONFIG").is_some() {
        let code = custom_orchestrator::main();
        std::process::exit(i32::from(code != ExitCode::SUCCESS));
    }
}

#[test]
fn the_example_serves_replaces_and_ends() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom_orchestrator.toml");
    let mut text = std::fs::read_to_string(file).expect("it is in the repository");
    for address in ["127.0.0.1:8080", "127.0.0.1:9900"] {
        assert_eq!(text.matches(address).count(), 1, "{address} in\n{text}");
        text = text.replace(address, "127.0.0.1:0");
    }
    let myself = std::env::current_exe().expect("a test has a file");
    let arguments = ["--exact", "orchestrators::as_the_example", "--nocapture"];
    let mut proxy = Proxy::new().program(&myself.to_string_lossy(), &arguments).config(&text).run();

    let served = |ids: &[String]| {
        let answers = (0..20).map(|_| get(&proxy.url("/")));
        let mut served: Vec<_> = answers
            .inspect(|answer| assert_eq!(answer.status, 200, "{}", answer.text()))
            .map(|answer| answer.text().to_owned())
            .collect();
        served.sort();
        served.dedup();
        let mut ids = ids.to_vec();
        ids.sort();
        assert_eq!(served, ids);
    };
    let first = each(&proxy.wait_for_size(2), "id");
    served(&first);
    let ended = get(&proxy.url("/end"));
    assert_eq!(ended.status, 200);
    wait_until("the ended one is replaced", || {
        let now = each(&proxy.ready(), "id");
        now.len() == 2 && now.iter().filter(|id| first.contains(id)).count() == 1
    });
    served(&each(&proxy.wait_for_size(2), "id"));
    assert!(proxy.stop().success());
}
