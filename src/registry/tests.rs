//! Lives of instances, told step by step.

mod feeds;
mod queue;
mod zones;

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::*;
use crate::config::types::{
    Balance, Check, FixedBackend, Forwarded, HashOn, Health, HealthKind, Hedge, HostRule, Outlier,
    Overload, Protocol, QueueLimit, Retry, RetryOn, Service, Transport,
};
use crate::orchestrator::InstanceState;

fn service(fixed: &[(&str, u16)]) -> Arc<Service> {
    let second = Duration::from_secs(1);
    Arc::new(Service {
        name: "app".into(),
        balance: Balance::RoundRobin,
        hash_on: HashOn::ClientIp,
        hash_balance: 1.25,
        sticky: None,
        load_report: false,
        max_in_flight: 0,
        slow_start: Duration::from_secs(10),
        panic_threshold: 0.0,
        forwarded: Forwarded::XForwarded,
        host: HostRule::Preserve,
        backends: fixed
            .iter()
            .map(|&(id, port)| FixedBackend {
                id: id.into(),
                host: "127.0.0.1".into(),
                port,
                weight: 1,
                backup: false,
                zone: None,
            })
            .collect(),
        discovery: None,
        transport: Transport {
            protocol: Protocol::Http1,
            tls: None,
            connect_timeout: second,
            response_timeout: second,
            read_timeout: second,
            write_timeout: second,
            idle_timeout: second,
            max_idle_per_worker: 1,
            proxy_protocol: config::ProxyHeader::Off,
        },
        health: Health {
            kind: HealthKind { fixed: Check::None, orchestrated: Check::Tcp },
            path: String::new(),
            method: http::Method::GET,
            port: 0,
            host: None,
            expect_status: vec![(200, 399)],
            expect_body: String::new(),
            interval: second,
            timeout: second,
            healthy_after: 2,
            unhealthy_after: 3,
            start_period: Duration::ZERO,
            max_parallel: 1,
        },
        overload: Overload {
            concurrency: true,
            rate_limit: true,
            queue: QueueLimit::Auto,
            queue_timeout: second,
        },
        outlier: Outlier {
            consecutive_failures: 5,
            success_rate_deviations: 1.9,
            failure_percent: 85,
            ejection_time: second,
            max_ejection_time: second,
            max_ejected: 0.5,
        },
        retry: Retry {
            attempts: 0,
            on: RetryOn::default(),
            methods: vec![],
            budget: 0.2,
            budget_min: 3,
            body_buffer: 0,
            backoff: second,
            hedge: Hedge::Off,
        },
        orchestrator: None,
        scaling: None,
    })
}

fn instance(id: &str, port: u16, state: InstanceState) -> Instance {
    Instance {
        id: id.into(),
        address: (port > 0).then(|| ([127, 0, 0, 1], port).into()),
        state,
        labels: BTreeMap::new(),
        zone: None,
        started_at: SystemTime::UNIX_EPOCH,
    }
}

struct World {
    clock: Clock,
    registry: Registry,
}

impl World {
    fn new() -> Self {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        clock.advance(Duration::from_secs(1));
        let mut registry = Registry::new(clock.clone(), 2);
        registry.configure(&service(&[]));
        Self { clock, registry }
    }

    fn running(&mut self, ids: &[&str]) -> Vec<Change> {
        let instances: Vec<_> = ids
            .iter()
            .zip(20_000..)
            .map(|(id, port)| instance(id, port, InstanceState::Running))
            .collect();
        self.registry.observe("app", &instances)
    }

    fn backend(&self, id: &str) -> Arc<Backend> {
        let entry = self.registry.pool("app").and_then(|p| p.get(id)).expect("an instance");
        entry.backend.clone().expect("an address")
    }

    fn pass(&mut self, id: &str) -> Vec<Change> {
        let uid = self.backend(id).uid;
        self.registry.verdict(uid, Verdict::Healthy, None)
    }

    fn fail(&mut self, id: &str) -> Vec<Change> {
        let uid = self.backend(id).uid;
        self.registry.verdict(uid, Verdict::Unhealthy, Some("status 500".into()))
    }

    fn view(&mut self) -> Arc<crate::snapshot::ServiceView> {
        self.registry.pool_mut("app").expect("the service").view()
    }

    fn ramps(&self, id: &str) -> bool {
        let pool = self.registry.pool("app").expect("it is there");
        if !pool.slow_starts(self.clock.now()) {
            return false;
        }
        self.backend(id).ramp_factor(self.clock.now(), Duration::from_secs(10)) < 1.0
    }
}

#[test]
fn an_instance_waits_for_its_address_then_for_its_first_pass() {
    let mut world = World::new();
    let ordered = instance("a", 0, InstanceState::Starting);
    assert!(world.registry.observe("app", &[ordered]).is_empty());
    assert_eq!(world.registry.pool("app").unwrap().get("a").unwrap().state(), State::Pending);
    assert!(world.view().backends.is_empty());

    let changes = world.running(&["a"]);
    assert!(matches!(&changes[..], [Change::Joined { .. }]), "{changes:?}");
    let backend = world.backend("a");
    assert_eq!(backend.gate.state(), State::Starting);
    assert!(!backend.gate.enter(), "nothing is sent before the first pass");
    assert!(world.running(&["a"]).is_empty(), "the same list changes nothing");

    world.clock.advance(Duration::from_millis(310));
    let changes = world.pass("a");
    let [Change::Ready { after: Some(_), ramp: None, .. }] = &changes[..] else {
        panic!("{changes:?}");
    };
    assert!(backend.gate.enter());
}

#[test]
fn an_unchanged_service_keeps_its_view() {
    let mut world = World::new();
    world.running(&["a"]);
    let before = world.view();
    world.running(&["a"]);
    world.pass("a");
    assert!(Arc::ptr_eq(&before, &world.view()), "health is in the gate, not in the view");
    world.running(&["a", "b"]);
    let after = world.view();
    assert!(!Arc::ptr_eq(&before, &after));
    assert!(Arc::ptr_eq(&before.backends[0].backend, &after.backends[0].backend));
    assert!(Arc::ptr_eq(&before.stats, &after.stats));
}

#[test]
fn who_joins_later_ramps_unless_most_would() {
    let mut world = World::new();
    world.running(&["a", "b", "c", "d"]);
    world.pass("a");
    world.pass("b");
    assert!(!world.ramps("a") && !world.ramps("b"), "nobody ramps at the start");
    world.registry.set_warm();
    world.pass("c");
    assert!(world.ramps("c"), "one of three");
    world.pass("d");
    assert!(world.ramps("c") && world.ramps("d"), "two of four are not more than half");
    world.fail("a");
    let changes = world.pass("a");
    assert!(matches!(&changes[..], [Change::Healthy { ramp: None, .. }]), "{changes:?}");
    assert!(!world.ramps("a") && !world.ramps("c") && !world.ramps("d"), "three of four");
    world.running(&["a", "b", "c", "d", "e"]);
    world.pass("e");
    assert!(!world.ramps("e"), "four of five: who comes next does not ramp alone");
}

#[test]
fn a_backend_that_recovers_ramps() {
    let mut world = World::new();
    world.running(&["a", "b"]);
    world.pass("a");
    world.pass("b");
    world.registry.set_warm();
    assert!(matches!(&world.fail("b")[..], [Change::Unhealthy { why, .. }] if why == "status 500"));
    assert!(!world.backend("b").gate.is_available());
    assert!(matches!(&world.pass("b")[..], [Change::Healthy { ramp: Some(_), .. }]));
    assert!(world.ramps("b"));
}

#[test]
fn an_instance_with_a_used_id_or_port_is_told_apart() {
    let mut world = World::new();
    world.running(&["a"]);
    let first = world.backend("a");
    let changes = world.running(&["b"]);
    assert!(
        changes.iter().any(|c| matches!(c, Change::Gone { id, crash: None, .. } if **id == *"a"))
    );
    let second = world.backend("b");
    assert_eq!(first.address, second.address);
    assert_ne!(first.uid, second.uid);
    assert_eq!(first.gate.state(), State::Gone);
    assert_eq!(second.gate.state(), State::Starting, "it starts clean");
}

#[test]
fn one_that_ended_by_itself_is_gone_at_once_and_says_why() {
    let mut world = World::new();
    world.running(&["a"]);
    world.pass("a");
    let backend = world.backend("a");
    let exited = instance("a", 20_000, InstanceState::Exited("signal: 9".into()));
    let changes = world.registry.observe("app", std::slice::from_ref(&exited));
    assert!(
        matches!(&changes[..], [Change::Gone { crash: Some(cause), .. }] if cause == "signal: 9"),
        "{changes:?}"
    );
    assert!(!backend.gate.enter());
    assert!(world.registry.observe("app", &[exited]).is_empty(), "told once");
    assert_eq!(world.registry.take_lost("app"), 1);
    assert_eq!(world.registry.take_lost("app"), 0, "counted once");
}

#[test]
fn only_an_idle_drain_by_the_scaler_ends_in_a_stop() {
    let mut world = World::new();
    world.running(&["a", "b"]);
    world.pass("a");
    world.pass("b");
    assert!(!world.registry.begin_stop("app", "a"), "it serves");
    world.registry.drain("app", "a", DrainedBy::Operator).expect("drained");
    assert!(!world.registry.begin_stop("app", "a"), "an operator's drain keeps it");
    world.registry.drain("app", "b", DrainedBy::Scaling).expect("drained");
    assert!(world.registry.begin_stop("app", "b"));
    assert!(!world.registry.begin_stop("app", "b"), "once");
    assert_eq!(
        world.registry.undrain("app", "b", DrainedBy::Scaling).err(),
        Some(DrainError::Stopping)
    );
    // Its end is not a crash: it was told to.
    let exited = instance("b", 20_001, InstanceState::Exited("signal: 15".into()));
    let a = instance("a", 20_000, InstanceState::Running);
    let changes = world.registry.observe("app", &[a, exited]);
    assert!(matches!(&changes[..], [Change::Gone { crash: None, .. }]), "{changes:?}");
    assert_eq!(world.registry.take_lost("app"), 0);
}

#[test]
fn an_operators_drain_is_not_undone_by_the_scaler_and_survives_a_reload() {
    let mut world = World::new();
    world.running(&["a"]);
    world.pass("a");
    world.registry.drain("app", "a", DrainedBy::Scaling).expect("drained");
    world.registry.drain("app", "a", DrainedBy::Operator).expect("taken over");
    assert_eq!(
        world.registry.undrain("app", "a", DrainedBy::Scaling).err(),
        Some(DrainError::NotDraining)
    );
    world.registry.configure(&service(&[]));
    assert_eq!(world.backend("a").gate.state(), State::Draining);
    world.registry.undrain("app", "a", DrainedBy::Operator).expect("undrained");
    assert!(world.backend("a").gate.is_available());
}

#[test]
fn a_drained_starting_backend_still_waits_for_its_pass_afterwards() {
    let mut world = World::new();
    world.running(&["a"]);
    world.registry.drain("app", "a", DrainedBy::Operator).expect("drained");
    world.registry.undrain("app", "a", DrainedBy::Operator).expect("undrained");
    assert_eq!(world.backend("a").gate.state(), State::Starting);
    world.registry.drain("app", "a", DrainedBy::Operator).expect("drained");
    assert!(world.pass("a").is_empty());
    world.registry.undrain("app", "a", DrainedBy::Operator).expect("undrained");
    assert!(world.backend("a").gate.is_available(), "it passed meanwhile");
}

#[test]
fn fixed_backends_are_up_until_checks_fail_and_go_with_the_file() {
    let mut world = World::new();
    world.registry.configure(&service(&[("x", 3000), ("y", 3001)]));
    assert!(world.view().backends.is_empty(), "not resolved yet");
    let address = |port| Address::from(([127, 0, 0, 1], port));
    world.registry.resolved("app", "y", address(3001));
    world.registry.resolved("app", "x", address(3000));
    let ids: Vec<_> = world.view().backends.iter().map(|m| m.backend.id.to_string()).collect();
    assert_eq!(ids, ["x", "y"], "in file order");
    assert!(world.backend("x").gate.is_available());

    let before = world.backend("x");
    let changes = world.registry.configure(&service(&[("x", 3000)]));
    assert!(matches!(&changes[..], [Change::Gone { id, .. }] if **id == *"y"), "{changes:?}");
    assert!(world.registry.resolved("app", "x", address(3000)).is_empty());
    assert!(Arc::ptr_eq(&before, &world.backend("x")), "what stays keeps its state");
    // A name that now means another address is another backend.
    world.registry.resolved("app", "x", address(3005));
    assert_eq!(world.backend("x").address, address(3005));
    assert_ne!(world.backend("x").uid, before.uid);
    assert!(before.gate.is_available(), "for requests of the snapshot before");
}

#[test]
fn what_never_becomes_ready_is_overdue() {
    let mut world = World::new();
    world.running(&["a", "b"]);
    world.pass("a");
    let limit = Duration::from_secs(60);
    assert!(world.registry.overdue("app", limit).is_empty());
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(world.registry.overdue("app", limit), [Arc::from("b")]);
    assert!(world.registry.begin_stop("app", "b"));
    assert!(world.registry.overdue("app", limit).is_empty(), "it is being stopped");
}

#[test]
fn the_table_of_hash_is_kept_while_its_members_are() {
    let mut service = Service::clone(&service(&[("a", 1), ("b", 2)]));
    service.balance = Balance::Hash;
    let service = Arc::new(service);
    let mut registry = Registry::new(Clock::manual(SystemTime::UNIX_EPOCH), 1);
    registry.configure(&service);
    let view = |registry: &mut Registry| {
        let pool = registry.pool_mut("app").expect("the service");
        pool.touch();
        pool.view().maglev.clone().expect("it hashes")
    };
    let at = |registry: &mut Registry, id: &str, port| {
        registry.resolved("app", id, ([127, 0, 0, 1], port).into());
    };
    at(&mut registry, "a", 1);
    at(&mut registry, "b", 2);
    let first = view(&mut registry);
    assert!(Arc::ptr_eq(&first, &view(&mut registry)));
    // Another address is another backend, but the same member.
    at(&mut registry, "b", 3);
    assert!(Arc::ptr_eq(&first, &view(&mut registry)));
    let mut heavier = Service::clone(&service);
    heavier.backends[1].weight = 2;
    registry.configure(&Arc::new(heavier));
    assert!(!Arc::ptr_eq(&first, &view(&mut registry)));
}
