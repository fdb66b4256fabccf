//! `random`: of two backends drawn by weight, the one that is less busy.
//!
//! Best for: many proxies before the same backends. Each of them sees a part of the load only, and where all
//! run to the backend that looks least busy to them, they run together; two draws keep them apart. A pick costs
//! the same for three backends and for three thousand.
//!
//! The power of two choices (Mitzenmacher 2001), as HAProxy and nginx (`random two least_conn`) have it: two
//! distinct draws, fewer requests in flight for its weight wins. At low load nearly all are ties; they go to
//! the one that this worker picked less often of late, so that nobody is warm while another is forgotten.

use crate::clock::Micros;

use super::candidates::Candidates;

/// Draws for one distinct eligible candidate before all are looked at.
const DRAWS: usize = 16;
/// How fast past picks are forgotten, in µs.
const TAU: f32 = 1_000_000.0;

/// State of one worker: how often it picked each member lately.
#[derive(Debug, Default)]
pub(super) struct Random {
    recent: Vec<Recent>,
}

/// Picks, each worth less the longer it is past.
#[derive(Debug, Clone, Copy, Default)]
struct Recent {
    at: Micros,
    picks: f32,
}

impl Random {
    pub(super) fn sync(&mut self, members: usize, kept: impl Fn(usize) -> Option<usize>) {
        let old = std::mem::take(&mut self.recent);
        let state = |i| kept(i).and_then(|before| old.get(before)).copied().unwrap_or_default();
        self.recent = (0..members).map(state).collect();
    }

    pub(super) fn choose(
        &mut self,
        candidates: &Candidates<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let first = draw(candidates, rng, None)?;
        let chosen = match draw(candidates, rng, Some(first)) {
            Some(second) if self.is_better(candidates, second, first) => second,
            _ => first,
        };
        let recent = &mut self.recent[chosen];
        *recent = Recent { at: candidates.now, picks: recent.picks(candidates.now) + 1.0 };
        Some(chosen)
    }

    /// Whether `a` is to be preferred to `b`, which was drawn first.
    fn is_better(&self, candidates: &Candidates<'_>, a: usize, b: usize) -> bool {
        let in_flight = |i| u64::from(candidates.member(i).backend.gate.in_flight());
        let (weight_a, weight_b) = (candidates.weight(a), candidates.weight(b));
        let (load_a, load_b) = (in_flight(a) * weight_b, in_flight(b) * weight_a);
        if load_a != load_b {
            return load_a < load_b;
        }
        let rate = |i: usize, weight| self.recent[i].picks(candidates.now) / weight as f32;
        rate(a, weight_a) < rate(b, weight_b)
    }
}

impl Recent {
    fn picks(self, now: Micros) -> f32 {
        self.picks * (-(now.saturating_sub(self.at) as f32) / TAU).exp()
    }
}

/// The less busy of two, without regard to the past: for those who keep no state for it.
pub(super) fn less_busy(candidates: &Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    let first = draw(candidates, rng, None)?;
    let load = |i| u64::from(candidates.member(i).backend.gate.in_flight());
    match draw(candidates, rng, Some(first)) {
        Some(second)
            if load(second) * candidates.weight(first)
                < load(first) * candidates.weight(second) =>
        {
            Some(second)
        }
        _ => Some(first),
    }
}

/// An eligible member other than `not`, as likely as its weight has it.
fn draw(candidates: &Candidates<'_>, rng: &mut fastrand::Rng, not: Option<usize>) -> Option<usize> {
    for _ in 0..DRAWS.min(candidates.len() * 4) {
        let i = candidates.drawn(rng);
        if Some(i) != not && candidates.eligible(i) && is_warm(candidates, i, rng) {
            return Some(i);
        }
    }
    // Most are unavailable, or one outweighs all others.
    let mut found = None;
    let mut total = 0;
    for i in candidates.iter().filter(|&i| Some(i) != not) {
        total += candidates.weight(i);
        if rng.u64(..total) < candidates.weight(i) {
            found = Some(i);
        }
    }
    found
}

/// One that ramps is drawn as often as its share of its weight says.
fn is_warm(candidates: &Candidates<'_>, i: usize, rng: &mut fastrand::Rng) -> bool {
    if candidates.slow_start.is_none() {
        return true;
    }
    let ramp = candidates.ramp(i);
    ramp >= 1.0 || rng.f32() < ramp
}
