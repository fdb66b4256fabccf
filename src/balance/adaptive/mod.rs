//! `adaptive`, the default: least connections × learned slowness.
//!
//! Best for: everything, unless a client must stay with its backend. Backends that are alike get what
//! `least_connections` gives them; those that are slower, stall or fail get as much less as they deserve, and
//! are tried again one request at a time.
//!
//! Cost = `factor · ((in_flight + 1) ÷ weight + 1)`, weights of mean 1, the least wins, ties at random. The
//! factor is [`learned`](crate::upstream::learned)'s: from 1 up, so that nobody buys traffic by being fast. An
//! idle backend within [`BAND`] counts as 1: else the fastest by a hair would get everything at low load. The
//! `+ 1` at the end makes a slow backend's first place dear: doubling a factor doubles the cost of an idle one
//! as well. With `load_report` the factor is multiplied with that of [`reports`](super::reports). Large pools are sampled, and more is drawn while all that was drawn is slow.

#[cfg(test)]
mod tests;

use crate::clock::Micros;
use crate::upstream::learned::{BAND, Observer};

use super::Pool;
use super::candidates::Candidates;

/// Up to this many members all are looked at.
const SCAN: usize = 32;
/// Distinct candidates drawn at a time from more.
const D: usize = 5;
/// While the best of them is slower than this, more are drawn, up to `D · ROUNDS`.
const SLOW: f32 = 2.0;
const ROUNDS: usize = 4;
/// Draws for one distinct eligible candidate before all are looked at.
const PATIENCE: usize = 4;
/// What an upgraded connection counts as: it lives for hours and asks little.
const TUNNEL: f32 = 0.1;

/// State of one worker.
#[derive(Debug, Default)]
pub(super) struct Adaptive {
    observer: Observer,
}

impl Adaptive {
    /// Looks at the whole pool when that is due.
    #[inline]
    pub(super) fn refresh(&mut self, pool: &Pool<'_>, now: Micros) {
        if pool.peers.is_due(now, pool.members.len()) {
            let members = pool.members.iter().map(|m| &m.backend);
            let backends = members.map(|b| (&b.learned, b.gate.is_available()));
            pool.peers.look(&mut self.observer, backends, now);
        }
    }
}

pub(super) fn choose(candidates: &Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    if candidates.len() > SCAN
        && let Some(found) = sample(candidates, rng)
    {
        return Some(found);
    }
    let mut best = Best::default();
    for position in 0..candidates.len() {
        let Some(i) = candidates.at(position) else { continue };
        match bid(candidates, i, rng) {
            Bid::Probe => return Some(i),
            Bid::Cost { cost, factor } => best.offer(i, cost, factor, rng),
        }
    }
    best.member
}

/// The best of a few; `None` if too few are eligible to be found by drawing.
fn sample(candidates: &Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    let mut drawn = [0; D * ROUNDS];
    let mut n = 0;
    let mut best = Best::default();
    for round in 1..=ROUNDS {
        for _ in 0..D * PATIENCE {
            let Some(i) = candidates.at(rng.usize(..candidates.len())) else { continue };
            if drawn[..n].contains(&i) {
                continue;
            }
            drawn[n] = i;
            n += 1;
            match bid(candidates, i, rng) {
                Bid::Probe => return Some(i),
                Bid::Cost { cost, factor } => best.offer(i, cost, factor, rng),
            }
            if n == D * round {
                break;
            }
        }
        if n < D * round {
            return None;
        }
        if best.factor <= SLOW {
            break;
        }
    }
    best.member
}

/// What a candidate has to say for itself.
#[derive(Debug)]
enum Bid {
    /// It is to be tried again now, and this request was made its probe.
    Probe,
    Cost {
        cost: f32,
        factor: f32,
    },
}

#[inline]
fn bid(candidates: &Candidates<'_>, i: usize, rng: &mut fastrand::Rng) -> Bid {
    let member = candidates.member(i);
    let backend = &member.backend;
    let tunnels = backend.tunnels();
    let requests = backend.gate.in_flight().saturating_sub(tunnels);
    let standing = backend.learned.standing();
    let mut factor = standing.factor * candidates.reported(i);
    if requests == 0 {
        // A request that failed once already is no probe.
        if standing.is_due(candidates.now)
            && candidates.tried.is_empty()
            && backend.learned.claim(standing, candidates.now)
        {
            return Bid::Probe;
        }
        if factor <= BAND {
            factor = 1.0;
        }
    }
    let load = requests as f32 + TUNNEL * tunnels as f32;
    let per_weight = if candidates.uniform {
        1.0
    } else {
        let ramp = candidates.ramp(i);
        // By its cost alone one that ramps gets nothing while another is idle: at low load it would never
        // be warm. So when idle it counts in full as often as its share says.
        let full = ramp < 1.0 && requests == 0 && rng.f32() < ramp;
        candidates.mean_weight / (member.weight as f32 * if full { 1.0 } else { ramp })
    };
    Bid::Cost { cost: factor * ((load + 1.0) * per_weight + 1.0), factor }
}

/// The cheapest so far; equal ones are equally likely.
#[derive(Debug)]
struct Best {
    member: Option<usize>,
    cost: f32,
    factor: f32,
    ties: u32,
}

impl Default for Best {
    fn default() -> Self {
        Self { member: None, cost: f32::INFINITY, factor: f32::INFINITY, ties: 0 }
    }
}

impl Best {
    #[inline]
    fn offer(&mut self, member: usize, cost: f32, factor: f32, rng: &mut fastrand::Rng) {
        let ties = if cost == self.cost { self.ties + 1 } else { 1 };
        if cost < self.cost || (cost == self.cost && rng.u32(..ties) == 0) {
            *self = Self { member: Some(member), cost, factor, ties };
        } else if cost == self.cost {
            self.ties = ties;
        }
    }
}
