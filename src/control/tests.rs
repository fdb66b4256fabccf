//! The control plane as a whole, over orchestrators that only pretend and workers without
//! listeners: what it orders, what it lets go of, and whom it waits for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::broadcast;

use super::journal::Scribes;
use super::reload::Reloader;
use super::services::Tasks;
use super::*;
use crate::admin::view::Event;
use crate::config::Problem;
use crate::orchestrator::memory::{Memory, Mood};
use crate::orchestrator::{Context, Factory, Orchestrator, OrchestratorError, Plan};
use crate::registry::DrainedBy;
use crate::upstream::backend::Backend;
use crate::upstream::queue::Line;

const DEADLINE: Duration = Duration::from_secs(60);

/// Makes orchestrators in memory and keeps them for the test, by service. What is there already
/// is handed out, as instances are found again.
#[derive(Clone, Default)]
struct InMemory(Arc<Mutex<BTreeMap<String, Arc<Memory>>>>);

impl InMemory {
    fn of(&self, service: &str) -> Arc<Memory> {
        let new = || Arc::new(Memory::new(Clock::real(), Duration::ZERO, Duration::ZERO));
        lock(&self.0).entry(service.to_owned()).or_insert_with(new).clone()
    }
}

impl Factory for InMemory {
    fn check(&self, _: &Context) -> Vec<Problem> {
        Vec::new()
    }

    fn build(&self, context: Context) -> Result<Arc<dyn Orchestrator>, OrchestratorError> {
        Ok(self.of(&context.service))
    }
}

struct World {
    control: Arc<Control>,
    memory: InMemory,
    events: broadcast::Receiver<Arc<Event>>,
    folder: TempDir,
}

/// A service that an orchestrator in memory runs; what runs is ready.
fn orchestrated(name: &str, min: u32, keys: &str) -> String {
    format!(
        "[service.{name}]\n[service.{name}.health]\nkind = \"none\"\n\
         [service.{name}.orchestrator]\nkind = \"memory\"\n{keys}\n\
         [service.{name}.scaling]\nmin = {min}\nmax = 9\n[service.{name}.scaling.concurrency]\ntarget = 4\n"
    )
}

fn write(folder: &Path, services: &str) {
    let text = format!(
        "[runtime]\nworkers = 1\nstate_dir = {:?}\n[admin]\nlisten = \"127.0.0.1:0\"\n\
         [[listener]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\n{services}",
        folder.join("state")
    );
    std::fs::write(folder.join("tidegate.toml"), text).expect("it is ours");
}

impl World {
    async fn start(services: &str) -> Self {
        Self::start_with(services, InMemory::default()).await
    }

    async fn start_with(services: &str, memory: InMemory) -> Self {
        let (control, folder) = Self::prepare(services, &memory);
        let events = control.events.subscribe();
        control.start(|| Ok(())).await.expect("nothing stands in the way");
        Self { control, memory, events, folder }
    }

    /// Everything before the start.
    fn prepare(services: &str, memory: &InMemory) -> (Arc<Control>, TempDir) {
        let folder = tempfile::tempdir().expect("a temporary directory");
        write(folder.path(), services);
        let path = folder.path().join("tidegate.toml");
        let mut kinds = Kinds::default();
        kinds.register("memory", Arc::new(memory.clone())).expect("a free name");
        let loaded = config::load(&path, &kinds, &Env::of_process()).expect("valid");
        let state = StateDir::lock(&loaded.config.runtime.state_dir).expect("a new folder");
        let clock = Clock::real();
        let plane = DataPlane::start(Params {
            workers: 1,
            clock: clock.clone(),
            given: Default::default(),
            heap: Default::default(),
        })
        .expect("a thread");
        let reloader = Reloader {
            kinds,
            tls: crate::tls::Loader::default(),
            scribes: Scribes::start(state.path()).expect("a thread"),
            access: None,
            tasks: Tasks::default(),
        };
        let control = Control::new(clock, plane, Applied::new(path, loaded), reloader);
        (control, folder)
    }

    fn ready(&self, service: &str) -> Vec<Arc<Backend>> {
        let registry = lock(&self.control.registry);
        let pool = registry.pool(service).into_iter();
        pool.flat_map(|p| p.entries())
            .filter(|e| e.is_available())
            .filter_map(|e| e.backend.clone())
            .collect()
    }

    /// Waits until so many take requests.
    async fn wait_for_ready(&self, service: &str, n: usize) -> Vec<Arc<Backend>> {
        eventually(|| self.ready(service).len() == n).await;
        self.ready(service)
    }

    /// Waits for an event of a kind, as in its data.
    async fn event(&mut self, kind: &str, step: &str) -> serde_json::Value {
        let found = async {
            loop {
                let event = self.events.recv().await.expect("few events");
                if event.data["kind"] == kind && event.data["step"] == step {
                    return event.data.clone();
                }
            }
        };
        tokio::time::timeout(DEADLINE, found).await.expect("an event within a minute")
    }

    async fn reload(&self, services: &str) -> crate::admin::view::ReloadOk {
        write(self.folder.path(), services);
        self.control.reload().await.expect("valid")
    }
}

async fn eventually(mut holds: impl FnMut() -> bool) {
    let looking = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(DEADLINE, looking).await.expect("within a minute");
}

#[tokio::test]
async fn what_is_missing_is_started_and_what_is_found_is_kept() {
    let memory = InMemory::default();
    let found = Plan { generation: 1, desired: 3, remove: Vec::new() };
    memory.of("more").apply(found.clone()).await.expect("accepted");
    let services = orchestrated("fewer", 2, "") + &orchestrated("more", 1, "");
    let world = World::start_with(&services, memory).await;
    world.wait_for_ready("fewer", 2).await;
    let kept = world.wait_for_ready("more", 3).await;
    let ids: Vec<_> = kept.iter().map(|b| &*b.id).collect();
    assert_eq!(ids, ["mem-1", "mem-2", "mem-3"], "nothing was started, nothing cut");
}

#[tokio::test]
async fn a_hanging_orchestrator_holds_up_nobody_else() {
    let memory = InMemory::default();
    memory.of("hangs").set_mood(Mood::Hanging);
    let services = orchestrated("hangs", 2, "") + &orchestrated("works", 2, "");
    let world = World::start_with(&services, memory).await;
    world.wait_for_ready("works", 2).await;
    world.control.tick();
    let more = "[service.new]\n[[service.new.backend]]\naddress = \"127.0.0.1:1\"\n";
    assert_eq!(world.reload(&(services + more)).await.generation, 2);
    assert!(world.ready("hangs").is_empty());
    assert_eq!(world.control.managed("hangs").map(|m| m.size()), Some(0), "nothing was ordered");
}

#[tokio::test]
async fn an_overload_that_begins_is_not_left_to_the_next_tick() {
    let slowly = orchestrated("app", 1, "").replace("max = 9", "max = 9\ninterval = \"1h\"");
    let world = World::start(&slowly).await;
    world.wait_for_ready("app", 1).await;
    // Windows have nothing to say before the second one.
    world.control.tick();
    world.control.tick();
    let size = || world.control.managed("app").map(|managed| managed.size());
    let look = || world.control.look_for_overload();
    let due = || world.control.managed("app").map(|managed| lock(&managed.scaling).due);
    let regular = due();
    look();
    assert_eq!(size(), Some(1));
    let snapshot = world.control.plane.current();
    let queue = snapshot.services.iter().find(|service| &*service.config.name == "app");
    let line = Line::new(queue.expect("it is configured").queue.clone(), 0);
    let join = |_| line.join(100, 0, false, world.control.clock.now());
    let waiting: Vec<_> = (0..100).filter_map(join).collect();
    assert_eq!(waiting.len(), 100);
    // Nobody ticks; it is a second after the last decision.
    eventually(|| {
        look();
        size() > Some(1)
    })
    .await;
    assert_eq!(due(), regular, "the next decision is not put off by it");
}

#[tokio::test]
async fn a_reload_lets_go_of_everything_before_it() {
    let services = "[[route]]\nservice = \"app\"\n\
                    [service.app]\nbackend = [{ address = \"127.0.0.1:1\" }]\n";
    let world = World::start(services).await;
    world.control.tick();
    let before = world.control.plane.current();
    let snapshot = Arc::downgrade(&before);
    let service = Arc::downgrade(&before.services[0].config);
    let route = Arc::downgrade(&before.routes[0].config);
    drop(before);
    assert_eq!(world.reload(services).await.generation, 2);
    eventually(|| snapshot.strong_count() == 0).await;
    assert_eq!((service.strong_count(), route.strong_count()), (0, 0));
}

#[tokio::test]
async fn an_idle_backend_is_drained_and_stopped() {
    let mut world = World::start(&orchestrated("app", 2, "")).await;
    let first = world.wait_for_ready("app", 2).await.remove(0);
    let managed = world.control.managed("app").expect("it is there");
    managed.order_size(1);
    world.control.clone().drain_and_stop("app".into(), first.id.clone(), DrainedBy::Scaling).await;
    world.event("drain", "idle").await;
    eventually(|| !world.memory.of("app").has(&first.id)).await;
    let left = world.wait_for_ready("app", 1).await;
    assert_ne!(left[0].id, first.id);
    assert!(!first.gate.enter(), "no pick reaches it");
}

#[tokio::test]
async fn a_drain_at_its_limit_says_what_was_cut() {
    let keys = "drain_timeout = \"50ms\"\ntunnel_drain_timeout = \"50ms\"";
    let mut world = World::start(&orchestrated("app", 2, keys)).await;
    let first = world.wait_for_ready("app", 2).await.remove(0);
    assert!(first.gate.enter() && first.gate.enter(), "two requests");
    let tunnel = first.tunnel();
    world.control.managed("app").expect("it is there").order_size(1);
    world.control.clone().drain_and_stop("app".into(), first.id.clone(), DrainedBy::Scaling).await;
    let forced = world.event("drain", "forced").await;
    assert_eq!((&forced["in_flight"], &forced["tunnels"]), (&1.into(), &1.into()));
    assert!(tunnel.is_cut());
    eventually(|| !world.memory.of("app").has(&first.id)).await;
}

#[tokio::test]
async fn upgraded_connections_have_a_limit_of_their_own() {
    let keys = "drain_timeout = \"1h\"\ntunnel_drain_timeout = \"20ms\"";
    let mut world = World::start(&orchestrated("app", 2, keys)).await;
    let first = world.wait_for_ready("app", 2).await.remove(0);
    assert!(first.gate.enter());
    let tunnel = first.tunnel();
    world.control.managed("app").expect("it is there").order_size(1);
    let draining =
        world.control.clone().drain_and_stop("app".into(), first.id.clone(), DrainedBy::Scaling);
    let relay = async {
        eventually(|| tunnel.is_cut()).await;
        drop(tunnel);
        first.gate.leave();
    };
    tokio::join!(draining, relay);
    let forced = world.event("drain", "forced").await;
    assert_eq!(forced["tunnels"], 1, "{forced}");
    assert_eq!(first.tunnels(), 0);
}

#[tokio::test]
async fn a_drain_that_is_taken_back_stops_nothing() {
    let world = World::start(&orchestrated("app", 1, "")).await;
    let only = world.wait_for_ready("app", 1).await.remove(0);
    assert!(only.gate.enter(), "it is busy");
    let draining =
        world.control.clone().drain_and_stop("app".into(), only.id.clone(), DrainedBy::Scaling);
    let back = async {
        eventually(|| world.ready("app").is_empty()).await;
        let undrained = lock(&world.control.registry).undrain("app", &only.id, DrainedBy::Operator);
        world.control.act(undrained.expect("it drains"));
    };
    tokio::join!(draining, back);
    only.gate.leave();
    assert_eq!(world.ready("app").len(), 1);
    assert_eq!(world.memory.of("app").plan().remove, [] as [Arc<str>; 0]);
}

#[tokio::test]
async fn what_leaves_the_configuration_is_drained_and_stopped() {
    let (gone, alone) = (orchestrated("gone", 2, ""), orchestrated("alone", 2, ""));
    let world = World::start(&(gone + &alone)).await;
    world.wait_for_ready("gone", 2).await;
    let busy = world.wait_for_ready("alone", 2).await.remove(0);
    assert!(busy.gate.enter(), "a request");
    let fixed = "[service.alone]\n[[service.alone.backend]]\naddress = \"127.0.0.1:1\"\n";
    world.reload(fixed).await;
    eventually(|| world.memory.of("gone").live() == 0).await;
    let left = world.wait_for_ready("alone", 1).await;
    assert_eq!(
        left[0].address.tcp().map(|at| at.port()),
        Some(1),
        "the service goes on with its fixed one"
    );
    assert_eq!(world.memory.of("alone").live(), 2, "what runs is finished first");
    // Meanwhile it cannot be given to another orchestrator.
    write(world.folder.path(), &alone);
    let refused = world.control.reload().await.expect_err("it is still being ended");
    assert!(refused[0].message.contains("still being ended"), "{refused:?}");
    busy.gate.leave();
    eventually(|| world.memory.of("alone").live() == 0).await;
    eventually(|| lock(&world.control.ending).is_empty()).await;
}

#[tokio::test]
async fn another_kind_for_a_service_that_stays_needs_a_restart() {
    let text = orchestrated("app", 1, "");
    let world = World::start(&text).await;
    world.wait_for_ready("app", 1).await;
    let process = text.replace("\"memory\"", "\"process\"\ncommand = [\"sleep\", \"1\"]");
    let ok = world.reload(&process).await;
    assert_eq!(ok.restart_required, ["service.app.orchestrator"]);
    assert_eq!(world.ready("app").len(), 1, "the old one goes on");
}

#[tokio::test]
async fn nothing_is_started_when_rights_cannot_be_dropped() {
    let memory = InMemory::default();
    let (control, _folder) = World::prepare(&orchestrated("app", 2, ""), &memory);
    let refused = control.start(|| Err(privileges::DropError::NotRoot)).await.expect_err("refused");
    assert!(refused[0].message.contains("need root"), "{refused:?}");
    assert!(lock(&memory.0).is_empty(), "no orchestrator was made");
    assert!(control.plane.addresses().is_empty());
}

#[tokio::test]
async fn rights_are_dropped_before_an_orchestrator_is_made() {
    let memory = InMemory::default();
    let (control, _folder) = World::prepare(&orchestrated("app", 2, ""), &memory);
    let seen = memory.clone();
    let drop_rights = move || {
        assert!(lock(&seen.0).is_empty(), "it was made with all rights");
        Ok(())
    };
    control.start(drop_rights).await.expect("nothing stands in the way");
    assert_eq!(lock(&memory.0).len(), 1);
}
