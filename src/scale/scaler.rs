//! The scaler of one service: its state, and one tick from observation to record.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::{Scaling, ScalingMode};

use super::history::History;
use super::memory::{Memory, Past, micros};
use super::outcome::Watch;
use super::pipeline::{self, Verdict, View};
use super::policy::{self, Input, Policy, Wanted};
use super::record::{Action, Outcome, Proposed, Reason, Record, Stage};
use super::refusal::Refusals;
use super::schedule::{self, Scheduled};
use super::season::Window;
use super::{Learned, Override, Plan, Sample, Season, report};

/// Decides for one service. Holds history and nothing that talks to the world.
#[derive(Debug)]
pub struct Scaler {
    service: Arc<str>,
    params: Scaling,
    /// The same with the bounds of the schedules that hold now.
    bound: Scaling,
    scheduled: Scheduled,
    policies: Vec<Box<dyn Policy>>,
    history: History,
    /// The days before; nothing without a policy that asks for them.
    season: Season,
    /// A window that is over and was not handed out yet.
    window: Option<Window>,
    memory: Memory,
    /// Changes of size before a restart, until the first tick tells what time it is.
    past: Vec<Past>,
    operator: Option<Override>,
    /// The size that is wanted; `None` before the first tick.
    desired: Option<u32>,
    /// The size of the last plan.
    told: Option<u32>,
    /// Backends that went away by themselves and are not in a record yet.
    lost: u32,
    generation: u64,
    next_seq: u64,
    refusals: Refusals,
    watch: Option<Watch>,
    status: Status,
}

/// What one tick came to.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tick {
    /// What to do; `None` in modes that do nothing.
    pub plan: Option<Plan>,
    /// For the journal.
    pub record: Option<Record>,
    /// The outcome of an earlier record, by its seq.
    pub outcome: Option<(u64, Outcome)>,
}

/// What `/v1/services/NAME/scaling` shows.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Status {
    pub desired: u32,
    /// The last stage that changed the number in the last tick, and why.
    pub limited_by: Option<(Stage, Reason)>,
    pub cooldown_until: Option<Micros>,
    pub operator: Option<Override>,
    /// The least capacity that would hold the load of the last tick, where a policy can tell.
    pub needs: Option<u32>,
    /// (policy, n) of the last tick.
    pub proposals: Vec<(String, u32)>,
}

impl Scaler {
    /// `next_seq`: one more than the last record of the journal (1 without one).
    pub fn new(service: Arc<str>, params: Scaling, next_seq: u64) -> Self {
        Self {
            policies: policy::build(&params),
            service,
            bound: params.clone(),
            scheduled: Scheduled::default(),
            params,
            history: History::default(),
            season: Season::default(),
            window: None,
            memory: Memory::default(),
            past: Vec::new(),
            operator: None,
            desired: None,
            told: None,
            lost: 0,
            generation: 0,
            next_seq,
            refusals: Refusals::default(),
            watch: None,
            status: Status::default(),
        }
    }

    /// The signals that every sample must carry.
    pub fn wanted(&self) -> Vec<Wanted> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for new in self.policies.iter().flat_map(|policy| policy.wanted()) {
            if !wanted.contains(&new) {
                wanted.push(new);
            }
        }
        wanted
    }

    /// Takes new parameters and keeps the history.
    pub fn reconfigure(&mut self, params: Scaling) {
        let learned = self.learned();
        let same = params.slo == self.params.slo && params.concurrency == self.params.concurrency;
        let before = self.renew_policies(&params);
        if same {
            policy::keep_learned(&mut self.policies, before);
        } else if let Some(learned) = learned {
            self.believe(&learned);
        }
        self.scheduled = Scheduled::default();
        self.bound = params.clone();
        self.params = params;
    }

    /// What was learned of the backends.
    pub fn learned(&self) -> Option<Learned> {
        self.policies.iter().find_map(|policy| policy.learned())
    }

    /// Takes what was learned before for true, until it knows better.
    pub fn believe(&mut self, learned: &Learned) {
        self.policies.iter_mut().for_each(|policy| policy.remember(learned));
    }

    /// The backends are others now: what was learned of them is dropped.
    pub fn forget_learned(&mut self) {
        self.renew_policies(&self.params.clone());
    }

    /// New policies in the place of those that are returned; a panic goes on.
    fn renew_policies(&mut self, params: &Scaling) -> Vec<Box<dyn Policy>> {
        let panic = self.policies.iter().find_map(|policy| policy.panic());
        let before = std::mem::replace(&mut self.policies, policy::build(params));
        if let Some(panic) = panic {
            self.policies.iter_mut().for_each(|policy| policy.resume(panic));
        }
        before
    }

    /// Goes on after a restart: `records` of the journal, oldest first. To be called before the first tick.
    pub fn recall<'r>(&mut self, records: impl Iterator<Item = &'r Record>) {
        self.past.extend(records.filter_map(|record| match record.action {
            Action::Scale { from, to, .. } => Some((record.time, from, to)),
            _ => None,
        }));
    }

    /// Goes on with the days before a restart.
    pub fn recall_season(&mut self, windows: impl IntoIterator<Item = Window>) {
        if is_seasonal(&self.params) {
            self.season.recall(windows);
        }
    }

    /// The window of arrivals that is over since the last call, to be kept for a restart.
    pub fn take_window(&mut self) -> Option<Window> {
        self.window.take()
    }

    /// Pins or pauses; `None` ends it.
    pub fn set_override(&mut self, operator: Option<Override>) {
        self.operator = operator;
        self.status.operator = operator;
    }

    pub fn params(&self) -> &Scaling {
        &self.params
    }

    /// The least and the most that hold now, by schedules where one has its own.
    pub fn bounds(&self) -> (u32, u32) {
        (self.bound.min, self.bound.max)
    }

    pub fn status(&self) -> &Status {
        &self.status
    }

    #[cfg(test)]
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    #[cfg(test)]
    pub(crate) fn seq(&self) -> u64 {
        self.next_seq
    }

    /// One decision. The time is the sample's.
    pub fn tick(&mut self, sample: &Sample) -> Tick {
        let adopted = self.adopt(sample);
        let from = self.observe(sample);
        let proposals = self.propose(sample, from);
        let view = self.view(sample, from, &proposals);
        let needs = view.needs;
        let verdict = pipeline::run(&view, None);
        let action = self.action(&view, &verdict, adopted);
        let record = action
            .map(|action| report::record(&self.service, self.next_seq, &view, &verdict, action));
        self.refusals = self.refusals.after(&view, &verdict, record.is_some());
        let outcome = self.remember(sample, from, &verdict, record.as_ref());
        self.show(sample.at, &verdict, &proposals, needs);
        Tick { plan: self.plan(sample, verdict.to), record: self.number(record), outcome }
    }

    /// Takes over a size that someone else has set, and the one found at the start.
    fn adopt(&mut self, sample: &Sample) -> Option<(u32, u32)> {
        let found = sample.desired.unwrap_or(sample.counts.size());
        let Some(desired) = self.desired else {
            self.desired = Some(found);
            self.memory.recall(&std::mem::take(&mut self.past), sample);
            if found > 0 {
                let own = self.params.slo.as_ref().map_or(Duration::ZERO, |_| policy::SLO_HISTORY);
                let history = own.max(self.params.down.stabilization);
                self.memory.hold_until = sample.at + micros(history);
                self.memory.found = Some((sample.at, found));
            }
            return None;
        };
        if sample.stale || sample.desired.is_none() || sample.desired == self.told {
            return None;
        }
        self.told = sample.desired;
        self.desired = Some(found);
        (found != desired).then(|| {
            self.memory.outside = Some(sample.at);
            (desired, found)
        })
    }

    /// Files the sample away; returns the size wanted until now.
    fn observe(&mut self, sample: &Sample) -> u32 {
        self.memory.stale = if sample.stale { self.memory.stale + 1 } else { 0 };
        self.memory.forget(sample.at, &self.params);
        self.lost += sample.lost;
        self.history.push(sample);
        if is_seasonal(&self.params) && !sample.stale {
            let over = self.season.add(sample.wall, sample.span, sample.traffic.arrivals);
            self.window = over.or(self.window);
        }
        let scheduled = schedule::at(&self.params.schedules, sample.wall);
        if scheduled != self.scheduled {
            self.bound = scheduled.bound(&self.params);
            self.scheduled = scheduled;
        }
        if self.operator.is_some_and(|operator| operator.is_over(sample.at)) {
            self.set_override(None);
        }
        self.desired.unwrap_or(0)
    }

    fn propose(&mut self, sample: &Sample, from: u32) -> Vec<Proposed> {
        let input = input(&self.params, &self.history, &self.season, sample, from);
        self.policies.iter_mut().map(|policy| policy.propose(&input)).collect()
    }

    fn view<'a>(&'a self, sample: &'a Sample, from: u32, proposals: &'a [Proposed]) -> View<'a> {
        let input = input(&self.params, &self.history, &self.season, sample, from);
        let needs = self.policies.iter().filter_map(|policy| policy.needs(&input)).max();
        View {
            now: sample.at,
            sample,
            params: &self.bound,
            memory: &self.memory,
            from,
            proposals,
            winner: pipeline::winner(proposals),
            needs,
            asked: self.scheduled.floor.is_some_and(|floor| floor > 0) || self.is_asked(proposals),
            operator: self.operator,
            scheduled: self.scheduled,
        }
    }

    fn is_asked(&self, proposals: &[Proposed]) -> bool {
        let asking = self.policies.iter().zip(proposals).filter(|(policy, _)| policy.asks());
        asking.into_iter().any(|(_, proposed)| proposed.n > 0)
    }

    /// What is worth a record, if anything.
    fn action(
        &self,
        view: &View<'_>,
        verdict: &Verdict,
        adopted: Option<(u32, u32)>,
    ) -> Option<Action> {
        if verdict.to != view.from {
            return Some(report::scale(view, verdict));
        }
        if let Some((from, to)) = adopted {
            return Some(Action::Adopt { from, to });
        }
        if self.lost > 0 && self.params.mode != ScalingMode::Off {
            return Some(Action::Replace { size: view.from, lost: self.lost });
        }
        self.refusals.news(view, verdict)
    }

    /// Books what was decided.
    fn remember(
        &mut self,
        sample: &Sample,
        from: u32,
        verdict: &Verdict,
        record: Option<&Record>,
    ) -> Option<(u64, Outcome)> {
        let now = sample.at;
        self.memory.wish(now, verdict.wish);
        self.desired = Some(verdict.to);
        if verdict.to != from {
            self.memory.changed(now, from, verdict.to);
            self.generation += 1;
            let ended = self.watch.take().map(|watch| watch.end(sample));
            self.watch = record.map(|record| Watch::new(record.seq, from, verdict.to, sample));
            return ended;
        }
        let known = self.watch.as_mut().and_then(|watch| watch.look(sample));
        if known.is_some() {
            self.watch = None;
        }
        known
    }

    fn show(&mut self, now: Micros, verdict: &Verdict, proposals: &[Proposed], needs: Option<u32>) {
        self.status = Status {
            desired: verdict.to,
            limited_by: verdict.moves.last().map(|step| (step.stage, step.change.reason)),
            cooldown_until: verdict
                .moves
                .iter()
                .filter(|step| step.stage == Stage::Cooldown)
                .find_map(|step| step.change.until.filter(|until| *until > now)),
            operator: self.operator,
            needs,
            proposals: proposals.iter().map(|p| (p.policy.clone(), p.n)).collect(),
        };
    }

    fn plan(&mut self, sample: &Sample, wanted: u32) -> Option<Plan> {
        if matches!(self.params.mode, ScalingMode::DryRun | ScalingMode::Off) {
            return None;
        }
        let plan = Plan::new(sample, wanted, self.params.max_surge, self.generation);
        self.told = Some(plan.size);
        Some(plan)
    }

    fn number(&mut self, record: Option<Record>) -> Option<Record> {
        if record.as_ref().is_some_and(|r| matches!(r.action, Action::Replace { .. })) {
            self.lost = 0;
        }
        self.next_seq += u64::from(record.is_some());
        record
    }
}

fn is_seasonal(params: &Scaling) -> bool {
    params.slo.as_ref().is_some_and(|slo| slo.seasonal)
}

fn input<'a>(
    params: &Scaling,
    history: &'a History,
    season: &'a Season,
    sample: &'a Sample,
    from: u32,
) -> Input<'a> {
    Input {
        now: sample.at,
        sample,
        history,
        current: from.saturating_sub(sample.counts.broken()),
        max_age: 3 * params.interval.max(policy::SLOWEST_SIGNAL),
        saturated: policy::saturated(params, sample, history),
        season: Some(season),
    }
}

#[cfg(test)]
mod tests;
