//! What every orchestrator has to do, as a suite to run against one.
//!
//! It is part of the library so that whoever writes an orchestrator of their own can run it in
//! their tests: `conformance::run(subject).await`, which panics with what was wrong. It waits
//! for events, up to a minute each, and never for a time. How instances are ended from outside
//! and seen to be gone differs by kind and is given with the subject.

#![allow(clippy::missing_panics_doc, reason = "panicking is how a test suite speaks")]

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{Applied, Instance, InstanceId, InstanceState, Orchestrator, OrchestratorError, Plan};
use super::{Capabilities, Victims};

const DEADLINE: Duration = Duration::from_secs(60);

/// An orchestrator without instances, and what the suite has to know of it.
pub struct Subject {
    pub orchestrator: Arc<dyn Orchestrator>,
    /// Ends an instance from outside, without asking: `kill -9`.
    pub kill: Box<dyn Fn(&Instance) + Send + Sync>,
    /// Whether anything of an instance is still there.
    pub exists: Box<dyn Fn(&Instance) -> bool + Send + Sync>,
}

/// Runs the whole suite; the subject is shut down at its end.
pub async fn run(subject: Subject) {
    let capabilities = subject.orchestrator.capabilities();
    starts_what_is_wanted_once(&subject).await;
    refuses_old_plans(&subject).await;
    wakes_who_waits(&subject).await;
    tells_usage_of_each(&subject, capabilities).await;
    removes_exactly_who_is_named(&subject, capabilities).await;
    replaces_what_was_killed(&subject).await;
    leaves_nothing(&subject).await;
}

async fn starts_what_is_wanted_once(subject: &Subject) {
    assert_eq!(list(subject).await, [], "nothing runs before the first plan");
    let first = apply(subject, 1, 3, &[]).await;
    assert_eq!(first.started.len(), 3, "three were wanted: {first:?}");
    let running = until(subject, "three run", |all| running(all) == 3 && all.len() == 3).await;
    let mut addresses: Vec<_> = running.iter().map(|i| i.address).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 3, "each has its own address: {running:#?}");
    assert!(addresses.iter().all(Option::is_some), "a running one has one: {running:#?}");
    assert!(running.iter().all(|i| first.started.contains(&i.id)), "{first:?} {running:#?}");

    let again = apply(subject, 1, 3, &[]).await;
    assert_eq!(again, Applied::default(), "the same plan again changes nothing");
    assert_eq!(ids(&list(subject).await), ids(&running), "the order is stable");
}

async fn refuses_old_plans(subject: &Subject) {
    apply(subject, 5, 3, &[]).await;
    let plan = Plan { generation: 4, desired: 9, remove: Vec::new() };
    let refused = subject.orchestrator.apply(plan).await;
    assert_eq!(refused, Err(OrchestratorError::Stale { got: 4, applied: 5 }));
    assert_eq!(list(subject).await.len(), 3, "a refused plan changes nothing");
}

async fn wakes_who_waits(subject: &Subject) {
    list(subject).await;
    let waiting = subject.orchestrator.changed();
    apply(subject, 6, 4, &[]).await;
    timeout_at(Instant::now() + DEADLINE, waiting).await.expect("a start wakes who waits");
    until(subject, "four run", |all| running(all) == 4).await;
}

async fn tells_usage_of_each(subject: &Subject, capabilities: Capabilities) {
    let usage = subject.orchestrator.usage().await.expect("usage works");
    if !capabilities.usage {
        return;
    }
    for instance in list(subject).await {
        let usage = usage.get(&instance.id).expect("usage tells of every instance");
        assert!(usage.cpu.is_finite() && usage.cpu >= 0.0, "{usage:?}");
    }
}

async fn removes_exactly_who_is_named(subject: &Subject, capabilities: Capabilities) {
    if capabilities.victims != Victims::Exact {
        return;
    }
    let before = list(subject).await;
    let victim = before[1].clone();
    let unknown: InstanceId = "nobody-has-this-id".into();
    let applied = apply(subject, 7, 3, &[victim.id.clone(), unknown]).await;
    assert_eq!(
        applied.stopping,
        std::slice::from_ref(&victim.id),
        "the named one is stopped, once"
    );
    assert_eq!(applied.started, [], "three are left, as wanted");
    let left = until(subject, "the victim is gone", |all| all.len() == 3).await;
    assert!(!left.iter().any(|i| i.id == victim.id), "{left:#?}");
    assert!(left.iter().all(|i| before.iter().any(|b| b.id == i.id)), "the others stay");
    assert!(!(subject.exists)(&victim), "nothing of the victim is left: {victim:#?}");
    let fewer = apply(subject, 8, 1, &[]).await;
    assert_eq!(fewer.stopping, [], "who is not named is not stopped");
    apply(subject, 9, 3, &[]).await;
}

async fn replaces_what_was_killed(subject: &Subject) {
    let before = until(subject, "all run", |all| running(all) == all.len()).await;
    let victim = &before[0];
    (subject.kill)(victim);
    let mut told = 0;
    let after = until(subject, "the killed one is replaced", |all| {
        let exited = |i: &&Instance| matches!(i.state, InstanceState::Exited(_));
        told += all.iter().filter(exited).filter(|i| i.id == victim.id).count();
        running(all) == before.len() && !all.iter().any(|i| i.id == victim.id)
    })
    .await;
    assert_eq!(told, 1, "an exit is told once");
    let new = after.iter().filter(|i| !before.iter().any(|b| b.id == i.id)).count();
    assert_eq!(new, 1, "one new instance, with an id of its own: {after:#?}");
}

async fn leaves_nothing(subject: &Subject) {
    let before = list(subject).await;
    subject.orchestrator.shutdown(true).await.expect("shutdown works");
    for instance in &before {
        assert!(!(subject.exists)(instance), "left behind: {instance:#?}");
    }
    let plan = Plan { generation: 100, desired: 1, remove: Vec::new() };
    assert!(subject.orchestrator.apply(plan).await.is_err(), "it was shut down");
}

/// Lists until the condition holds.
pub async fn until(
    subject: &Subject,
    what: &str,
    mut holds: impl FnMut(&[Instance]) -> bool,
) -> Vec<Instance> {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let all = list(subject).await;
        if holds(&all) {
            return all;
        }
        let changed = timeout_at(deadline, subject.orchestrator.changed()).await;
        assert!(changed.is_ok(), "within {DEADLINE:?}: {what}; there is {all:#?}");
    }
}

async fn list(subject: &Subject) -> Vec<Instance> {
    subject.orchestrator.list().await.expect("list works")
}

async fn apply(subject: &Subject, generation: u64, desired: u32, remove: &[InstanceId]) -> Applied {
    let plan = Plan { generation, desired, remove: remove.to_vec() };
    subject.orchestrator.apply(plan).await.expect("the plan is accepted")
}

fn running(all: &[Instance]) -> usize {
    all.iter().filter(|i| i.state == InstanceState::Running).count()
}

fn ids(all: &[Instance]) -> Vec<InstanceId> {
    all.iter().map(|i| i.id.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;
    use crate::clock::Clock;

    #[tokio::test]
    async fn memory_conforms() {
        let delay = Duration::from_millis(2);
        let memory = Arc::new(Memory::new(Clock::real(), delay, delay));
        let (killed, seen) = (memory.clone(), memory.clone());
        run(Subject {
            orchestrator: memory,
            kill: Box::new(move |instance| assert!(killed.crash(&instance.id))),
            exists: Box::new(move |instance| seen.has(&instance.id)),
        })
        .await;
    }
}
