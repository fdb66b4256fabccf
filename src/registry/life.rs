//! How an instance moves in its life: passes, failures, drains, its end.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;
use crate::health::judge::Verdict;
use crate::upstream::backend::Backend;
use crate::upstream::gate::{State, Terms};
use crate::upstream::outlier::Back;

use super::{Change, Drain, DrainError, DrainedBy, Entry, Pool};

impl Pool {
    pub(super) fn verdict(
        &mut self,
        uid: u64,
        verdict: Verdict,
        why: Option<String>,
        now: Micros,
        warm: bool,
    ) -> Vec<Change> {
        let Some(entry) = self.entry_of(uid) else { return Vec::new() };
        let Some(backend) = entry.backend.clone() else { return Vec::new() };
        entry.checked = true;
        match verdict {
            Verdict::Healthy => {
                entry.last_error = None;
                backend.learned.check_passed(now);
                let was_healthy = backend.gate.is_healthy();
                backend.gate.set_healthy(true);
                match backend.gate.state() {
                    State::Pending | State::Starting => {
                        entry.since = now;
                        let adopted = entry.adopted;
                        let age = now.saturating_sub(entry.ordered);
                        let after = entry.is_orchestrated().then(|| Duration::from_micros(age));
                        backend.set_state(State::Ready);
                        if let Some(after) = after.filter(|_| !adopted) {
                            self.lead.record(after);
                            self.hold().set_lead(self.lead.p90());
                        }
                        let ramp = self.ramp(&backend, now, warm);
                        self.queue.wake();
                        vec![Change::Ready { backend, after, ramp }]
                    }
                    State::Draining => {
                        // Ready when the drain is taken back.
                        if let Some(drain) = &mut entry.drain {
                            drain.was_ready = true;
                        }
                        Vec::new()
                    }
                    State::Ready if !was_healthy => {
                        // It recovered: what it did before is no news any more.
                        self.uneject(&backend, |_| true, now);
                        let ramp = self.ramp(&backend, now, warm);
                        self.queue.wake();
                        vec![Change::Healthy { backend, ramp }]
                    }
                    State::Ready | State::Gone => Vec::new(),
                }
            }
            Verdict::Unhealthy => {
                entry.last_error.clone_from(&why);
                backend.learned.check_failed();
                backend.gate.set_healthy(false);
                let why = why.unwrap_or_default();
                match backend.gate.state() {
                    State::Ready => vec![Change::Unhealthy { backend, why }],
                    _ => Vec::new(),
                }
            }
        }
    }

    pub(super) fn drain(
        &mut self,
        id: &str,
        by: DrainedBy,
        now: Micros,
    ) -> Result<Vec<Change>, DrainError> {
        let entry = self.entries.get_mut(id).ok_or(DrainError::NoBackend)?;
        if entry.stopping {
            return Err(DrainError::Stopping);
        }
        if let Some(drain) = &mut entry.drain {
            // An operator's word outlives the scaler's, whichever came first.
            if matches!(by, DrainedBy::Operator | DrainedBy::Removed) {
                drain.by = by;
            }
            return Ok(Vec::new());
        }
        let was_ready = entry.state() == State::Ready;
        entry.drain = Some(Drain { by, since: now, was_ready });
        entry.since = now;
        let Some(backend) = entry.backend.clone() else { return Ok(Vec::new()) };
        backend.set_state(State::Draining);
        self.view = None;
        Ok(vec![Change::Draining { backend, by }])
    }

    pub(super) fn undrain(
        &mut self,
        id: &str,
        by: DrainedBy,
        now: Micros,
        warm: bool,
    ) -> Result<Vec<Change>, DrainError> {
        let entry = self.entries.get_mut(id).ok_or(DrainError::NoBackend)?;
        if entry.stopping || entry.leaving {
            return Err(DrainError::Stopping);
        }
        let drain = match entry.drain {
            // The scaler does not take back what a person ordered.
            Some(drain) if by == DrainedBy::Operator || drain.by == by => drain,
            _ => return Err(DrainError::NotDraining),
        };
        entry.drain = None;
        entry.since = now;
        let Some(backend) = entry.backend.clone() else { return Ok(Vec::new()) };
        backend.cut_tunnels(false);
        backend.set_state(if drain.was_ready { State::Ready } else { State::Starting });
        self.view = None;
        if drain.was_ready {
            self.ramp(&backend, now, warm);
        }
        Ok(vec![Change::Undrained { backend, by }])
    }

    pub(super) fn begin_stop(&mut self, id: &str) -> bool {
        let Some(entry) = self.entries.get_mut(id) else { return false };
        let wanted = match entry.drain {
            Some(drain) => drain.by != DrainedBy::Operator,
            None => matches!(entry.state(), State::Pending | State::Starting),
        };
        if !wanted || !entry.is_orchestrated() || entry.stopping {
            return false;
        }
        // One that was only starting must not become ready on its way out.
        if let Some(backend) = &entry.backend {
            backend.set_state(State::Draining);
        }
        entry.stopping = true;
        true
    }

    pub(super) fn remove(&mut self, id: &str, crash: Option<String>) -> Option<Change> {
        let entry = self.entries.get(id)?;
        if entry.is_orchestrated() && !entry.stopping && entry.state() == State::Ready {
            self.lost += 1;
        }
        let started = entry.state() >= State::Ready || entry.stopping;
        if let Some(backend) = &entry.backend {
            backend.set_state(State::Gone);
        }
        let failed = crash.clone().filter(|_| !started);
        let change = self.forget(id, crash);
        if let Some(cause) = failed {
            self.start_failed(&cause);
        }
        change
    }

    /// The same without a word to those who may be picking it.
    pub(super) fn forget(&mut self, id: &str, crash: Option<String>) -> Option<Change> {
        let entry = self.entries.remove(id)?;
        self.view = None;
        // What was told to stop did not crash.
        let crash = crash.filter(|_| !entry.stopping);
        let service = self.config.name.clone();
        Some(Change::Gone { service, id: entry.id, backend: entry.backend, crash })
    }

    /// Takes the orchestrated ones out.
    pub(super) fn release(&mut self) -> Vec<Arc<Backend>> {
        self.view = None;
        let entries = std::mem::take(&mut self.entries);
        let (out, kept) = entries.into_iter().partition(|(_, entry)| entry.is_orchestrated());
        self.entries = kept;
        let out: std::collections::BTreeMap<_, Entry> = out;
        out.into_values().filter_map(|entry| entry.backend).collect()
    }

    /// A check passed as those before: it says little of a backend that fails requests. But once its time out
    /// is over, and no request came to try it, that is enough.
    pub(super) fn passed(&mut self, uid: u64, now: Micros) {
        let Some(entry) = self.entry_of(uid) else { return };
        entry.checked = true;
        entry.last_error = None;
        let Some(backend) = entry.backend.clone() else { return };
        backend.learned.check_passed(now);
        if backend.gate.is_ejected() {
            self.uneject(&backend, |terms| terms.moment <= now / 1000, now);
        }
    }

    fn uneject(&self, backend: &Arc<Backend>, when: impl Fn(Terms) -> bool, now: Micros) {
        self.outliers().uneject(backend, Back::Check, when, self.config.slow_start, now);
        self.queue.wake();
    }

    /// Begins slow start, unless the process has only just started; how long it is noticed.
    fn ramp(&mut self, backend: &Arc<Backend>, now: Micros, warm: bool) -> Option<Duration> {
        let slow_start = self.config.slow_start;
        if !warm || slow_start.is_zero() {
            return None;
        }
        backend.ramp(now);
        self.slow_starts(now).then_some(slow_start)
    }

    /// Whether ramps count. Where more than half would ramp they do not, as holding many back
    /// would only push their load onto few; picking goes by the same rule. The ramps themselves
    /// go on meanwhile, so the rest of one counts again once others are through.
    pub fn slow_starts(&self, now: Micros) -> bool {
        let slow_start = self.config.slow_start;
        let available = || self.entries.values().filter(|e| e.is_available());
        let ramping = available()
            .filter_map(|e| e.backend.as_ref())
            .filter(|b| !b.ramp_left(now, slow_start).is_zero());
        ramping.count() * 2 <= available().count()
    }
}
