//! The scaling loop: sample → decision → orders → record. One tick reads top to bottom in
//! `Control::scale`; it is synchronous and talks to nobody outside the process, so no
//! orchestrator can hold it up. The decision itself is left to `scale`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use serde::Serialize;

use crate::clock::Micros;
use crate::registry::DrainedBy;
use crate::scale::record::Outcome;
use crate::scale::{Action, Journal, Plan, Reason, Record, Scaler, Tick};

use super::core::Control;
use super::cost::Books;
use super::events::Kind;
use super::journal::Scribe;
use super::learned::Memory;
use super::managed::Managed;
use super::{lock, sample};

/// Between a decision and one that is made because an overload begins: policies go by seconds, and what they would order for
/// the first part of one would only have to wait for a cooldown then. A little less, as ticks are never quite on time.
const EARLIEST: Duration = Duration::from_millis(900);

/// Records kept in memory for each service.
pub const JOURNAL: usize = 1000;

/// How often the size was changed, by direction (up: true) and reason.
pub type Changes = BTreeMap<(bool, String), u64>;

/// What the scaling of one service holds.
pub struct Scaling {
    /// `None` without `[service.NAME.scaling]`: then what there is stays, and at least one.
    pub scaler: Option<Scaler>,
    pub journal: Journal,
    pub scribe: Scribe,
    pub books: Books,
    pub learned: Memory,
    /// Who writes down what comes in each window; `None`: it is kept in memory only.
    pub diary: Option<Scribe>,
    /// For the metrics.
    pub changes: Changes,
    /// When the next tick is due.
    pub due: Micros,
    /// The sample before.
    pub last: Option<Micros>,
}

impl Scaling {
    pub fn new(scaler: Option<Scaler>, journal: Journal, scribe: Scribe) -> Self {
        let (books, changes) = (Books::default(), Changes::new());
        let learned = Memory::default();
        Self { scaler, journal, scribe, books, learned, diary: None, changes, due: 0, last: None }
    }
}

impl Control {
    /// Time between two decisions of a service.
    pub fn scaling_interval(&self, service: &str) -> Duration {
        let registry = lock(&self.registry);
        let scaling = registry.pool(service).and_then(|p| p.config().scaling.as_ref());
        scaling.map_or(Duration::from_secs(1), |s| s.interval)
    }

    /// One tick of everything that is looked at once a second.
    pub fn tick(self: &Arc<Self>) {
        self.ticked.store(self.clock.now(), Relaxed);
        self.measure_traffic();
        self.write_recordings();
        let metrics = lock(&self.applied).taken.config.metrics.clone();
        self.signals.follow(&metrics, &self.clock);
        lock(&self.errors).tick(&self.plane.current().services, self.clock.now());
        self.judge_outliers();
        self.sweep_limits();
        self.tell_of_floods();
        self.tell_of_certificates();
        let managed: Vec<_> = lock(&self.managed).values().cloned().collect();
        for managed in managed {
            self.replace_overdue(&managed);
            self.heal(&managed);
            self.scale(&managed);
        }
    }

    /// Reads the workers' counters into the windows.
    fn measure_traffic(&self) {
        let snapshot = self.plane.current();
        let mut windows = lock(&self.windows);
        let mut tick = windows.tick(self.clock.now());
        for service in &snapshot.services {
            tick.service(&service.config.name, &service.stats, sample::longest(&service.config));
            for member in &service.backends {
                tick.backend(member.backend.uid, &member.backend.stats);
            }
        }
        for target in snapshot.routes.iter().flat_map(|r| r.targets.iter().chain(&r.mirror)) {
            tick.route(&target.stats);
        }
        tick.workers(self.plane.worker_stats());
    }

    /// Somebody asks for a service of which nothing runs: that is not left to the next tick.
    pub(super) fn wake(self: &Arc<Self>, managed: &Arc<Managed>) {
        if managed.size() == 0 {
            lock(&managed.scaling).due = 0;
            self.scale(managed);
        }
    }

    /// Decides about services that are overloaded since then, unless that was done meanwhile or the last decision was a
    /// moment ago; returns who is done with.
    pub(super) fn decide_early(
        self: &Arc<Self>,
        services: Vec<(Arc<str>, Micros)>,
    ) -> Vec<Arc<str>> {
        let moment = EARLIEST.as_micros() as Micros;
        let (mut done, mut measured) = (Vec::new(), false);
        for (name, since) in services {
            if let Some(managed) = self.managed(&name) {
                let last = lock(&managed.scaling).last;
                if last.is_some_and(|last| last + moment > self.clock.now() && last <= since) {
                    continue;
                }
                if last.is_none_or(|last| last <= since) {
                    if !std::mem::replace(&mut measured, true) {
                        // What came since the last tick is what it is about.
                        self.measure_traffic();
                    }
                    let due = std::mem::take(&mut lock(&managed.scaling).due);
                    self.scale(&managed);
                    // The next one comes when it would have, or a moment after this one.
                    let soonest = self.clock.now() + moment / 2;
                    let scaling = &mut *lock(&managed.scaling);
                    scaling.due = due.min(scaling.due).max(soonest);
                }
            }
            done.push(name);
        }
        done
    }

    /// One decision of one service, if it is due.
    fn scale(self: &Arc<Self>, managed: &Arc<Managed>) {
        // Before the first size there is nothing to decide about; the start orders it.
        let decides = self.standing.may_change() && !self.stopping.load(Relaxed);
        if !decides || !managed.sized.load(Relaxed) {
            return;
        }
        let now = self.clock.now();
        let interval = self.scaling_interval(&managed.service);
        let mut scaling = lock(&managed.scaling);
        let scaling = &mut *scaling;
        let Some(scaler) = scaling.scaler.as_mut().filter(|_| now >= scaling.due) else { return };
        // The loop ticks once a second: half a tick of tolerance keeps a 1 s interval at 1 s.
        scaling.due = now + interval.as_micros() as u64 - 500_000.min(interval.as_micros() as u64);

        let since = scaling
            .last
            .replace(now)
            .map_or(interval, |last| Duration::from_micros(now.saturating_sub(last)));
        let mut sample = self.sample(managed, &scaler.wanted(), now, since);
        sample.spent = scaling.books.month(sample.wall, scaler.params().cost.per_backend_hour);
        let Tick { plan, record, outcome } = scaler.tick(&sample);
        let used = managed.measured().of.values().fold((0.0_f64, 0), |(cores, bytes), usage| {
            (cores.max(usage.cpu), bytes.max(usage.memory_bytes))
        });
        scaling.books.tick(&sample, scaler.params(), scaler.status().needs, used);
        scaling.learned.tick(now, sample.wall, scaler, &scaling.scribe);
        if let (Some(window), Some(diary)) = (scaler.take_window(), &scaling.diary) {
            diary.window(&window);
        }
        let size = managed.size();
        if let Some(plan) = plan {
            self.order(managed, plan);
        }
        self.expect_growth(managed, scaler, size, now);
        if let Some(record) = record {
            self.tell_decision(managed, &record);
            if let Action::Scale { from, to, reason, .. } = &record.action {
                *scaling.changes.entry((to > from, word(*reason))).or_default() += 1;
            }
            scaling.scribe.record(&record);
            scaling.journal.push(record);
        }
        if let Some((seq, outcome)) = outcome {
            scaling.scribe.outcome(seq, &outcome);
            amend(&mut scaling.journal, seq, outcome);
        }
    }

    fn sample(
        &self,
        managed: &Managed,
        wanted: &[crate::scale::Wanted],
        now: Micros,
        span: Duration,
    ) -> crate::scale::Sample {
        let windows = lock(&self.windows);
        let usage = managed.measured();
        let mut registry = lock(&self.registry);
        let lost = registry.take_lost(&managed.service);
        let pool = registry.pool(&managed.service);
        let mut sample = sample::take(&sample::From {
            service: &managed.service,
            pool,
            windows: &windows,
            signals: &self.signals,
            usage: &usage,
            wanted,
            now,
            span,
        });
        sample.lost = lost;
        sample.wall = self.clock.wall(now).into();
        // What somebody else makes of it is no change of what is wanted.
        sample.desired = (!managed.built().is_elsewhere()).then(|| managed.size());
        sample
    }

    /// Turns a plan into orders: bring back, the new size, call off, drain. What is drained and stopped before a smaller size
    /// is known would be replaced; what is not brought back before a larger one is started once more.
    fn order(self: &Arc<Self>, managed: &Arc<Managed>, plan: Plan) {
        let service = &managed.service;
        if managed.built().is_elsewhere() {
            return managed.order_size(plan.size);
        }
        for id in &plan.undrain {
            // It may have become idle and been stopped meanwhile; the next tick sees it.
            let changes = lock(&self.registry).undrain(service, id, DrainedBy::Scaling);
            self.act(changes.unwrap_or_default());
        }
        managed.order_size(plan.size);
        for id in &plan.cancel {
            self.stop_now(service, id);
        }
        for id in plan.drain {
            tokio::spawn(self.clone().drain_and_stop(service.clone(), id, DrainedBy::Scaling));
        }
    }

    fn tell_decision(&self, managed: &Managed, record: &Record) {
        let decision = record.seq;
        let kind = match &record.action {
            Action::Scale { from, to, reason, .. } => {
                let winner =
                    record.proposals.iter().find(|p| Some(&p.policy) == record.winner.as_ref());
                let reason = match winner {
                    Some(winner) if reason.is_wish() => {
                        format!("{}: {}", winner.policy, winner.formula)
                    }
                    _ => word(*reason),
                };
                Kind::Scaled { from: *from, to: *to, reason, decision }
            }
            Action::Replace { size, lost } => Kind::Replaced { lost: *lost, size: *size, decision },
            Action::Refuse { at, wanted, reason } if wanted > at => Kind::ScaleBlocked {
                reason: format!("{wanted} wanted, {at} kept: {}", word(*reason)),
                // It goes on as soon as a moment has passed.
                routine: matches!(
                    reason,
                    Reason::Limit
                        | Reason::Cooldown
                        | Reason::Stabilization
                        | Reason::MaxSurge
                        | Reason::BacklogSurge
                ),
            },
            _ => return,
        };
        self.events.send(Some(&managed.service), kind);
    }
}

fn amend(journal: &mut Journal, seq: u64, outcome: Outcome) {
    journal.amend(seq, outcome);
}

/// A reason or a stage as in the record's JSON: `at_max`.
pub fn word(of: impl Serialize + Debug) -> String {
    match serde_json::to_value(&of) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{of:?}"),
    }
}
