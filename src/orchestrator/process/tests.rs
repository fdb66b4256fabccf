//! The process kind against real processes.
//!
//! The children are this test binary, run again with one "test" that plays a role; which one
//! is said in its environment. Every role ends by itself after two minutes, so that a failed
//! test leaves nothing behind for long.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::super::conformance::{self, Subject, until};
use super::super::{Context, Factory as _, InstanceState};
use super::procfs::Stat;
use super::store::Store;
use super::*;
use crate::config::tree::Table;

const ROLE: &str = "TIDEGATE_TEST_ROLE";
const DEADLINE: Duration = Duration::from_secs(60);

fn role_command() -> Vec<String> {
    let me = std::env::current_exe().expect("we are a program");
    let me = me.to_str().expect("in UTF-8").to_owned();
    let test = "orchestrator::process::tests::role";
    [&me, test, "--exact", "--ignored", "--nocapture", "--test-threads=1"].map(str::to_owned).into()
}

#[test]
#[ignore = "what the helper processes of the other tests run"]
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    std::thread::spawn(|| {
        std::thread::sleep(Duration::from_secs(120));
        std::process::exit(0);
    });
    let words: Vec<&str> = role.split(' ').collect();
    match words[..] {
        ["serve", port] => serve(port),
        ["stubborn", port] => {
            spawn::ignore_requests_to_end();
            serve(port);
        }
        ["family", port] => {
            // They are to be left behind: that is what is tested.
            std::mem::forget(play(&format!("serve {port}")));
            std::mem::forget(play("daemon"));
            rest();
        }
        ["daemon"] => {
            nix::unistd::setsid().expect("not a leader yet");
            spawn::ignore_requests_to_end();
            rest();
        }
        ["idle"] | ["idle", _] => rest(),
        ["fail"] => {
            eprintln!("no database");
            std::process::exit(3);
        }
        ["tidegate", folder, on_crash] => tidegate(Path::new(folder), on_crash),
        ["guard"] => guard_main(),
        _ => panic!("unknown role {role}"),
    }
}

fn rest() -> ! {
    loop {
        std::thread::park();
    }
}

fn play(role: &str) -> Child {
    let words = role_command();
    std::process::Command::new(&words[0])
        .args(&words[1..])
        .env(ROLE, role)
        .stdout(Stdio::null())
        .spawn()
        .expect("we can be run")
}

fn serve(port: &str) -> ! {
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).expect("the port is ours");
    println!("serving {port}");
    for stream in listener.incoming() {
        // Printing shows whether standard output survives the death of tidegate.
        println!("asked");
        let _ = stream.expect("accepted").write_all(b"ok");
    }
    unreachable!("incoming does not end")
}

/// A tidegate that starts two and lives until it is killed.
#[tokio::main(flavor = "current_thread")]
async fn tidegate(folder: &Path, on_crash: &str) {
    let all = subject(folder, "serve {port}", &format!("on_crash = \"{on_crash}\""), DEADLINE);
    apply(&all, 1, 2).await;
    rest()
}

fn context(folder: &Path, role: &str, more: &str, stop_grace: Duration) -> Context {
    let text = format!(
        "command = {:?}\nport_range = \"21000-21999\"\nenv = {{ {ROLE} = {role:?} }}\n{more}",
        role_command()
    );
    let (table, problems) = Table::parse(&text, &folder.join("tidegate.toml"));
    assert_eq!(problems, []);
    Context { service: "app".into(), table, state_dir: folder.join("app"), stop_grace }
}

fn factory() -> ProcessFactory {
    // The guard's role comes by its environment, which `env` gives it.
    let words = role_command().into_iter();
    let guard = ["env".to_owned(), format!("{ROLE}=guard")].into_iter().chain(words);
    ProcessFactory::default().guard(guard.map(OsString::from).collect())
}

fn subject(folder: &Path, role: &str, more: &str, grace: Duration) -> Subject {
    let context = context(folder, role, more, grace);
    assert_eq!(factory().check(&context), []);
    Subject {
        orchestrator: factory().build(context).expect("built"),
        kill: Box::new(|instance| kill_hard(pid(instance))),
        exists: Box::new(|instance| {
            let all = procfs::all();
            Stat::of(pid(instance)).is_some_and(|s| !s.is_dead())
                || group::Group::find(&instance.id, &all).is_some()
        }),
    }
}

async fn apply(subject: &Subject, generation: u64, desired: u32) -> Applied {
    let plan = Plan { generation, desired, remove: Vec::new() };
    subject.orchestrator.apply(plan).await.expect("accepted")
}

async fn all_run(subject: &Subject, n: usize) -> Vec<Instance> {
    let run =
        |all: &[Instance]| all.len() == n && all.iter().all(|i| i.state == InstanceState::Running);
    until(subject, "all run", run).await
}

fn pid(instance: &Instance) -> i32 {
    instance.labels["pid"].parse().expect("a number")
}

fn kill_hard(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it lives");
}

/// For what no event tells of.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "within {DEADLINE:?}: {what}");
        std::thread::yield_now();
    }
}

fn ask(instance: &Instance) -> String {
    let mut stream = TcpStream::connect(instance.address.expect("it runs")).expect("it listens");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[tokio::test]
async fn process_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    conformance::run(subject(folder.path(), "serve {port}", "", DEADLINE)).await;
    let left: Vec<_> = std::fs::read_dir(folder.path().join("app"))
        .expect("there")
        .map(|entry| entry.expect("readable").file_name())
        .collect();
    assert_eq!(left, ["instances.json"], "no output file is left");
}

#[tokio::test]
async fn a_child_keeps_nothing_of_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = std::fs::File::create(folder.path().join("secret")).expect("made");
    let clear = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty());
    nix::fcntl::fcntl(&ours, clear).expect("not close-on-exec any more");
    let all = subject(folder.path(), "serve {port}", "inherit_env = []", DEADLINE);
    apply(&all, 1, 1).await;
    let child = pid(&all_run(&all, 1).await[0]);
    for entry in std::fs::read_dir(format!("/proc/{child}/fd")).expect("it lives") {
        let target = std::fs::read_link(entry.expect("readable").path()).unwrap_or_default();
        assert!(!target.ends_with("secret"), "it has our descriptor");
    }
    let status = std::fs::read_to_string(format!("/proc/{child}/status")).expect("it lives");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("SigBlk:\t0000000000000000"), "{status}");
    let stat = Stat::of(child).expect("it lives");
    assert_eq!((stat.session, stat.group), (child, child), "a session of its own");
    let environ = std::fs::read(format!("/proc/{child}/environ")).expect("it lives");
    let names = environ.split(|&b| b == 0).filter(|pair| !pair.is_empty()).count();
    assert_eq!(names, 2, "its role and its id");
    all.orchestrator.shutdown(true).await.expect("stopped");
}

#[tokio::test]
async fn no_grandchild_is_left_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    // The daemon ignores TERM and has left the session: only its environment tells whose it is.
    let all = subject(folder.path(), "family {port}", "", Duration::from_millis(300));
    apply(&all, 1, 1).await;
    // It runs since a grandchild owns the port.
    let instance = all_run(&all, 1).await.remove(0);
    assert_eq!(ask(&instance), "ok");
    let leader = Stat::of(pid(&instance)).expect("it lives");
    let group = group::Group { id: instance.id.clone(), pid: leader.pid, start: leader.start };
    eventually("leader and server in the session, the daemon out of it", || {
        let all = procfs::all();
        group.members(&all).len() == 3 && group.in_session(&all).count() == 2
    });
    let usage = all.orchestrator.usage().await.expect("told")[&instance.id];
    assert!(usage.memory_bytes > 100_000, "{usage:?}");

    // A killed leader takes all of it along.
    kill_hard(leader.pid);
    eventually("all gone", || group.members(&procfs::all()).is_empty());
    all_run(&all, 1).await;
    all.orchestrator.shutdown(true).await.expect("stopped");
}

#[tokio::test]
async fn who_ignores_the_signal_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = subject(folder.path(), "stubborn {port}", "", Duration::from_millis(200));
    apply(&all, 1, 2).await;
    let instances = all_run(&all, 2).await;
    let begun = Instant::now();
    all.orchestrator.shutdown(true).await.expect("stopped");
    assert!(begun.elapsed() >= Duration::from_millis(200), "they had their grace");
    assert!(!instances.iter().any(|instance| (all.exists)(instance)));
}

#[tokio::test]
async fn a_stranger_on_the_port_is_not_taken_for_the_child() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = subject(folder.path(), "idle {port}", "", DEADLINE);
    apply(&all, 1, 1).await;
    let saved = Store::open(folder.path().join("app")).expect("there").load().expect("saved");
    let stranger = TcpListener::bind(("127.0.0.1", saved.instances[0].port)).expect("free");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(100) {
        all.orchestrator.usage().await.expect("each call makes it look again");
    }
    let list = all.orchestrator.list().await.expect("listed");
    assert_eq!((&list[0].state, list[0].address), (&InstanceState::Starting, None));
    drop(stranger);
    all.orchestrator.shutdown(true).await.expect("stopped");
}

#[tokio::test]
async fn a_crash_loop_is_held_back_and_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let all = subject(folder.path(), "fail", "", DEADLINE);
    apply(&all, 1, 3).await;
    let mut exits = Vec::new();
    until(&all, "three waves", |list| {
        exits.extend(list.iter().filter_map(|i| match &i.state {
            InstanceState::Exited(text) => Some(text.clone()),
            _ => None,
        }));
        exits.len() >= 7
    })
    .await;
    let whole = |e: &String| e.starts_with("exit status: 3; ") && e.ends_with("no database");
    assert!(exits.iter().all(whole), "{exits:?}");
    let held = apply(&all, 2, 3).await.held_back.expect("held back");
    assert!(held.starts_with("crash loop: ") && held.contains("no database"), "{held}");
    all.orchestrator.shutdown(true).await.expect("stopped");
}

#[tokio::test]
async fn after_a_crash_children_are_adopted() {
    let folder = tempfile::tempdir().expect("a folder");
    let saved = crash(folder.path(), "adopt");
    let all = subject(folder.path(), "serve {port}", "", DEADLINE);
    let first = all.orchestrator.list().await.expect("listed");
    assert_eq!(first.len(), 2, "also who asks first is told of all");
    let instances = all_run(&all, 2).await;
    assert_eq!(instances.iter().map(pid).collect::<Vec<_>>(), saved);
    for instance in &instances {
        assert_eq!(ask(instance), "ok", "its standard output still works");
        assert_eq!(instance.labels["adopted"], "true");
    }
    assert_eq!(apply(&all, 1, 2).await, Applied::default(), "nothing is missing");
    // One that is not our child is noticed, replaced and gone as well.
    kill_hard(saved[0]);
    until(&all, "replaced", |list| {
        list.len() == 2
            && list.iter().all(|i| pid(i) != saved[0] && i.state == InstanceState::Running)
    })
    .await;
    all.orchestrator.shutdown(true).await.expect("stopped");
    assert!(!instances.iter().any(|instance| (all.exists)(instance)));
}

#[tokio::test]
async fn after_a_crash_the_guard_stops_children() {
    let folder = tempfile::tempdir().expect("a folder");
    let saved = crash(folder.path(), "stop");
    let lives = |pid: &i32| Stat::of(*pid).is_some_and(|s| !s.is_dead());
    eventually("the guard ends them", || !saved.iter().any(lives));
}

#[tokio::test]
async fn who_was_let_go_is_found_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut before = Vec::new();
    for on_crash in ["adopt", "stop", "stop"] {
        let more = format!("on_crash = \"{on_crash}\"");
        let all = subject(folder.path(), "serve {port}", &more, DEADLINE);
        apply(&all, 1, 1).await;
        let now: Vec<i32> = all_run(&all, 1).await.iter().map(pid).collect();
        assert!(before.is_empty() || before == now, "{before:?} {now:?}");
        before = now;
        all.orchestrator.shutdown(false).await.expect("let go");
    }
    let all = subject(folder.path(), "serve {port}", "", DEADLINE);
    all_run(&all, 1).await;
    all.orchestrator.shutdown(true).await.expect("stopped");
}

#[tokio::test]
async fn a_program_that_is_no_guard_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let context = context(folder.path(), "idle", "on_crash = \"stop\"", DEADLINE);
    let factory = ProcessFactory::default().guard(vec!["true".into()]);
    let error = factory.build(context).err().expect("refused").to_string();
    assert!(error.contains("true is not a guard"), "{error}");
}

/// Runs a tidegate until its two children serve, and kills it. Returns the children's pids.
fn crash(folder: &Path, on_crash: &str) -> Vec<i32> {
    let mut tidegate = play(&format!("tidegate {} {on_crash}", folder.display()));
    let store = Store::open(folder.join("app")).expect("made");
    let mut saved = Vec::new();
    eventually("two serve", || {
        saved = store.load().expect("whole at every moment").instances;
        // Without a pid it is written down but not known to be started.
        let started = saved.len() == 2 && saved.iter().all(|record| record.pid > 0);
        started && saved.iter().all(|r| TcpStream::connect(("127.0.0.1", r.port)).is_ok())
    });
    kill_hard(tidegate.id() as i32);
    tidegate.wait().expect("ours");
    store.load().expect("whole").instances.iter().map(|record| record.pid).collect()
}

#[test]
fn what_a_crashed_tidegate_left_for_a_service_that_is_gone_is_ended() {
    let folder = tempfile::tempdir().expect("a folder");
    let children = crash(folder.path(), "adopt");
    assert!(children.iter().all(|pid| Stat::of(*pid).is_some_and(|s| !s.is_dead())));
    let app = folder.path().join("app");
    assert_eq!(leftovers::end(&app).expect("readable"), children.len());
    assert!(!children.iter().any(|pid| Stat::of(*pid).is_some_and(|s| !s.is_dead())));
    assert_eq!(leftovers::end(&app).expect("readable"), 0, "it is forgotten");
    assert_eq!(leftovers::end(folder.path()).expect("readable"), 0, "a folder of another kind");
}
