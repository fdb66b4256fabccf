//! What the benches work on: a validated configuration, and services with backends.

use std::sync::Arc;

use tidegate::config::types::{Balance, Config};
use tidegate::config::{self, Env, Kinds, OwnKeys, Problem};
use tidegate::snapshot::maglev::Maglev;
use tidegate::snapshot::{Member, ServiceView};
use tidegate::telemetry::PerWorker;
use tidegate::upstream::backend::{Backend, Source};
use tidegate::upstream::gate::State;
use tidegate::upstream::learned::Peers;
use tidegate::upstream::queue::Queue;

/// A moment long enough after the start for averages to have decayed, in µs.
pub const NOW: u64 = 60_000_000;

/// No orchestrator is needed here.
struct NoKinds;

impl Kinds for NoKinds {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn check(&self, _: &OwnKeys<'_>) -> Vec<Problem> {
        Vec::new()
    }
}

/// What the program makes of this text.
pub fn config(text: &str) -> Config {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), text).expect("the file can be written");
    let loaded = config::load(file.path(), &NoKinds, &Env::of_process());
    loaded.unwrap_or_else(|problems| panic!("{}", config::report(&problems))).config
}

/// A service whose backends are ready and busy, each with another latency, as they are under load.
/// The same for the same arguments.
pub fn service(balance: Balance, backends: usize) -> ServiceView {
    let text = "[[listener]]\nname = \"http\"\naddress = \"127.0.0.1:80\"\n[[route]]\nservice = \"app\"\n\
                [service.app]\nbackend = [{ address = \"127.0.0.1:8080\" }]\n";
    let config = config(text);
    let mut service = config.services.into_values().next().expect("the one service");
    Arc::make_mut(&mut service).balance = balance;
    let mut rng = fastrand::Rng::with_seed(7);
    let backends: Vec<_> = (1..=backends as u64).map(|uid| member(uid, &mut rng)).collect();
    let view = ServiceView {
        tls: None,
        config: service,
        maglev: (balance == Balance::Hash).then(|| Arc::new(Maglev::new(&backends))),
        backends,
        sessions: None,
        stats: Arc::new(PerWorker::new(1)),
        budget: Arc::default(),
        hedges: Arc::default(),
        outliers: Arc::default(),
        peers: Arc::new(Peers::new(1)),
        queue: Arc::new(Queue::new(1)),
        admission: Arc::default(),
        hold: None,
    };
    for member in &view.backends {
        for _ in 0..20 {
            let took = 500 + rng.u64(..10_000);
            view.peers.answered(&member.backend.learned, 0, took, NOW - 1_000_000);
        }
    }
    view
}

fn member(uid: u64, rng: &mut fastrand::Rng) -> Member {
    let backend = Backend::new(
        uid,
        "app".into(),
        format!("app-{uid}").into(),
        ([127, 0, 0, 1], 8080).into(),
        http::HeaderValue::from_static("127.0.0.1:8080"),
        Source::Fixed,
        State::Ready,
        1,
    );
    backend.latency.record(rng.f32() * 10_000.0 + 500.0, NOW - 1_000_000);
    for _ in 0..rng.u32(..4) {
        assert!(backend.gate.enter(), "it is ready");
    }
    Member { backend: Arc::new(backend), weight: 1, backup: false, near: true }
}
