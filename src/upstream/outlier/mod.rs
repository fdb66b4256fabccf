//! Outlier ejection: a backend that fails live traffic is left alone for a while, then tried again with one
//! request, and comes back with slow start.
//!
//! Failures in a row are counted and judged on the data plane, by the worker that sees the last of them; rates
//! by the control plane, once a second. Either way [`Outliers::eject`] takes a place under the [`Cap`], then
//! the backend's [`Gate`](super::gate::Gate); no lock, and nobody waits. What was done is told through a
//! bounded queue; who reads it is the control plane's affair. What a pick pays while nobody is ejected is one
//! relaxed load ([`Outliers::is_due`]), and what a good answer pays another ([`Outlier::succeeded`]).
//!
//! What counts as a failure is `proxy`'s to say; the numbers are [`rule`]'s.

mod cap;
pub mod rule;
#[cfg(test)]
mod tests;
mod why;

pub use cap::Cap;
pub use why::{Back, Blow, Reason, Why};

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Micros;
use crate::config::types as config;
use crate::telemetry::counter::Label;

use super::backend::Backend;
use super::gate::Terms;

/// Notices that may wait to be read; with more, single ones are lost and counted.
pub const NOTICES: usize = 1024;
/// Nobody is out.
const NEVER: Micros = Micros::MAX;
/// Whom to try is looked for at most so often, in µs: a service of unsafe methods would look at each request.
const LOOK_EVERY: Micros = 10_000;

/// What ejection knows of one backend besides its gate.
#[derive(Debug, Default)]
pub struct Outlier {
    /// Gateway failures since the last other outcome, of all workers together.
    in_a_row: AtomicU32,
    /// The one of its service.
    cap: Arc<Cap>,
}

impl Outlier {
    pub fn new(cap: Arc<Cap>) -> Self {
        Self { in_a_row: AtomicU32::new(0), cap }
    }

    /// It answered, and not with a gateway failure.
    #[inline]
    pub fn succeeded(&self) {
        // A store for each answer would take the line from everybody else.
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
        }
    }

    /// A gateway failure. How many that makes in a row, each time that it is a multiple of `limit` (0: never):
    /// where there was no place under the cap, not every failure asks for one again.
    pub fn failed(&self, limit: u32) -> Option<u32> {
        if limit == 0 {
            return None;
        }
        let failures = self.in_a_row.fetch_add(1, Relaxed).wrapping_add(1);
        failures.is_multiple_of(limit).then_some(failures)
    }

    /// Ejects without a rule, for tests of what follows from it.
    #[cfg(test)]
    pub fn eject_anyway(backend: &Backend) {
        backend.outlier.cap.take(|| u32::MAX, || backend.gate.eject(|terms| terms));
    }

    /// An ejection ended with the backend's time in the pool.
    pub(super) fn give_back(&self) {
        self.cap.give_back();
    }
}

/// What all who eject backends of one service share. Lives through reloads.
#[derive(Debug)]
pub struct Outliers {
    cap: Arc<Cap>,
    /// When one may be tried at the earliest.
    next: AtomicU64,
    ejections: [AtomicU64; Reason::COUNT],
    notices: mpsc::Sender<Notice>,
    lost: AtomicU64,
}

/// Something that people are to be told.
#[derive(Debug, Clone)]
pub struct Notice {
    pub backend: Arc<Backend>,
    pub told: Told,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Told {
    Ejected { why: Why, lasts: Duration, times: u16 },
    Back(Back),
}

impl Default for Outliers {
    /// One that tells nobody.
    fn default() -> Self {
        Self::new(mpsc::channel(1).0)
    }
}

impl Outliers {
    pub fn new(notices: mpsc::Sender<Notice>) -> Self {
        Self {
            cap: Arc::default(),
            next: AtomicU64::new(NEVER),
            ejections: Default::default(),
            notices,
            lost: AtomicU64::new(0),
        }
    }

    /// For the backends of the service.
    pub fn cap(&self) -> &Arc<Cap> {
        &self.cap
    }

    /// How many are ejected now.
    pub fn ejected(&self) -> u32 {
        self.cap.taken()
    }

    /// How often backends were ejected, by reason.
    pub fn ejections(&self) -> impl Iterator<Item = (Reason, u64)> {
        Reason::ALL.iter().map(|&reason| (reason, self.ejections[reason.index()].load(Relaxed)))
    }

    /// Notices that found no room, since this was last asked.
    pub fn take_lost(&self) -> u64 {
        self.lost.swap(0, Relaxed)
    }

    /// Goes on with an ejection of before a hand-over, if there is a place for it under the cap. Nobody is told.
    pub fn resume<'a>(
        &self,
        backend: &Backend,
        terms: Terms,
        rules: &config::Outlier,
        members: impl Iterator<Item = &'a Backend> + Clone,
    ) -> bool {
        let most = || places(members.clone(), rules.max_ejected);
        let resumed = self.cap.take(most, || backend.gate.eject(|_| terms)).is_some();
        if resumed {
            self.wake_at(micros(terms.moment));
        }
        resumed
    }

    /// Takes a backend out, if it is available, there is a place for it under the cap, and it is not the last
    /// that could serve. `members`: all of the service, itself included.
    pub fn eject<'a>(
        &self,
        backend: &Arc<Backend>,
        why: Why,
        rules: &config::Outlier,
        members: impl Iterator<Item = &'a Backend> + Clone,
        rng: &mut fastrand::Rng,
        now: Micros,
    ) -> bool {
        let (random, now) = (rng.f64(), millis(now));
        let terms = |before: Terms| {
            let stayed = Duration::from_millis(now.saturating_sub(before.moment));
            let times = rule::times(before.times, stayed, rules);
            let reason = why.reason().index() as u8;
            match why {
                // It does not grow: nothing is wrong with one that says when it is there again.
                Why::RetryAfter { wait } => Terms {
                    reason,
                    times: times - 1,
                    moment: now + wait.min(rule::RETRY_AFTER_MAX).as_millis() as u64,
                },
                _ => Terms {
                    reason,
                    times,
                    moment: now + rule::term(times, random, rules).as_millis() as u64,
                },
            }
        };
        let most = || places(members.clone(), rules.max_ejected);
        let Some(terms) = self.cap.take(most, || backend.gate.eject(terms)) else { return false };
        self.is_out(backend, why, terms, now);
        true
    }

    /// The request that tried an ejected backend failed: it stays out, for longer.
    pub fn probe_failed(
        &self,
        backend: &Arc<Backend>,
        why: Why,
        rules: &config::Outlier,
        rng: &mut fastrand::Rng,
        now: Micros,
    ) {
        let (random, now) = (rng.f64(), millis(now));
        let terms = backend.gate.prolong(|before| {
            Some(match why {
                Why::RetryAfter { wait } => Terms {
                    moment: now + wait.min(rule::RETRY_AFTER_MAX).as_millis() as u64,
                    ..before
                },
                _ => {
                    let times = before.times.saturating_add(1);
                    let term = rule::term(times, random, rules);
                    Terms { times, moment: now + term.as_millis() as u64, ..before }
                }
            })
        });
        if let Some(terms) = terms {
            self.is_out(backend, why, terms, now);
        }
    }

    /// Lets a backend back if it is ejected and `when` agrees with the terms of that, with slow start.
    pub fn uneject(
        &self,
        backend: &Arc<Backend>,
        back: Back,
        when: impl Fn(Terms) -> bool,
        slow_start: Duration,
        now: Micros,
    ) -> bool {
        if !backend.gate.uneject(millis(now), when) {
            return false;
        }
        backend.outlier.in_a_row.store(0, Relaxed);
        backend.outlier.give_back();
        if !slow_start.is_zero() {
            backend.ramp(now);
        }
        // What made it an outlier made it suspect, too: it is not to wait for a second probe.
        backend.learned.is_back(now);
        self.tell(backend, Told::Back(back));
        true
    }

    /// Lets all back whose time has been over for `patience`, where nobody is sent to try them first: with its
    /// next failure each is out again.
    pub fn release<'a>(
        &self,
        backends: impl Iterator<Item = &'a Arc<Backend>>,
        rules: &config::Outlier,
        patience: Duration,
        slow_start: Duration,
        now: Micros,
    ) {
        self.next.store(NEVER, SeqCst);
        let time = millis(now).saturating_sub(patience.as_millis() as u64);
        for backend in backends {
            let over = |terms: Terms| terms.moment <= time;
            if self.uneject(backend, Back::Time, over, slow_start, now) {
                let but_one = rules.consecutive_failures.saturating_sub(1);
                backend.outlier.in_a_row.store(but_one, Relaxed);
            } else if let Some(terms) = backend.gate.ejection() {
                self.wake_at(micros(terms.moment).max(now + LOOK_EVERY));
            }
        }
    }

    /// Whether to look for one that may be tried; what each pick pays for.
    #[inline]
    pub fn is_due(&self, now: Micros) -> bool {
        self.next.load(Relaxed) <= now
    }

    /// Takes the first of those whose time is over for the request that is sent now, so that no other request
    /// does: should nothing come of it, another may try after `again`. `patience`: how much longer this
    /// request leaves it to others.
    pub fn probe<'a>(
        &self,
        candidates: impl Iterator<Item = (usize, &'a Arc<Backend>)>,
        patience: Duration,
        again: Duration,
        now: Micros,
    ) -> Option<usize> {
        // Who is ejected meanwhile either is seen below or lowers what stands here afterwards.
        self.next.store(NEVER, SeqCst);
        let (time, again) = (millis(now), again.as_millis() as u64);
        let mut next = NEVER;
        let mut found = None;
        for (i, backend) in candidates {
            let Some(Terms { moment, .. }) = backend.gate.ejection() else { continue };
            let due = moment + patience.as_millis() as u64;
            let claim = |terms: Terms| {
                (terms.moment == moment).then(|| Terms { moment: time + again, ..terms })
            };
            if found.is_none() && due <= time && backend.gate.prolong(claim).is_some() {
                found = Some(i);
                next = next.min(micros(time + again));
            } else {
                next = next.min(micros(moment));
            }
        }
        self.wake_at(next.max(now + LOOK_EVERY));
        found
    }

    /// One is to be tried at that time. The control plane says so again and again: a worker that looked with
    /// an older view may have overlooked one.
    pub fn wake_at(&self, at: Micros) {
        if at < self.next.load(SeqCst) {
            self.next.fetch_min(at, SeqCst);
        }
    }

    fn is_out(&self, backend: &Arc<Backend>, why: Why, terms: Terms, now: u64) {
        backend.outlier.in_a_row.store(0, Relaxed);
        self.wake_at(micros(terms.moment));
        self.ejections[why.reason().index()].fetch_add(1, Relaxed);
        let lasts = Duration::from_millis(terms.moment.saturating_sub(now));
        self.tell(backend, Told::Ejected { why, lasts, times: terms.times });
    }

    fn tell(&self, backend: &Arc<Backend>, told: Told) {
        let notice = Notice { backend: backend.clone(), told };
        if let Err(mpsc::error::TrySendError::Full(_)) = self.notices.try_send(notice) {
            self.lost.fetch_add(1, Relaxed);
        }
    }
}

/// The reason of an ejection.
pub fn reason(terms: Terms) -> Reason {
    Reason::ALL.get(usize::from(terms.reason)).copied().unwrap_or(Reason::Consecutive)
}

/// How many of these may be out, as they stand now.
fn places<'a>(members: impl Iterator<Item = &'a Backend>, max_ejected: f64) -> u32 {
    let (mut ready, mut healthy, mut hidden) = (0, 0, 0);
    for backend in members.filter(|b| b.gate.is_ready()) {
        ready += 1;
        match (backend.gate.is_healthy(), backend.gate.is_ejected()) {
            (true, _) => healthy += 1,
            (false, true) => hidden += 1,
            (false, false) => {}
        }
    }
    rule::places(max_ejected, ready, healthy, hidden)
}

fn millis(now: Micros) -> u64 {
    now / 1000
}

fn micros(ms: u64) -> Micros {
    ms.saturating_mul(1000)
}
