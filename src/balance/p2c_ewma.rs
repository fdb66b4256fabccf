//! `p2c_ewma`: of three random candidates the one with the least expected wait.
//!
//! Best for: thousands of backends whose latency changes from one second to the next. It follows every
//! difference, so noise moves traffic, too, and one slow answer costs a good backend its share for seconds.
//!
//! Cost = `latency(now) · (in_flight + 1) / (weight · slow_start)`, latency the peak-sensitive average.
//! With `load_report` that is multiplied with the factor of [`reports`](super::reports).
//! After Finagle and linkerd, who draw two (Mitzenmacher 2001): with 2 slow of 16, two draws are
//! forced onto a slow one in 0.83 % of picks, three never.

use crate::ewma;

use super::candidates::Candidates;

/// Distinct candidates compared.
const D: usize = 3;
/// Up to this many members, looking at all is as cheap as drawing.
const SCAN: usize = 8;
/// Draws before looking at all: enough for 3 distinct ones unless most are unavailable.
const DRAWS: usize = 16;

pub(super) fn choose(candidates: &Candidates<'_>, rng: &mut fastrand::Rng) -> Option<usize> {
    let mut drawn = [0; D];
    let n = if candidates.len() > SCAN { draw(candidates, rng, &mut drawn) } else { 0 };
    let n = if n < D { sample(candidates, rng, &mut drawn) } else { n };
    least(candidates, rng, &drawn[..n])
}

/// Draws until there are D distinct eligible ones, or too often; how many there are.
fn draw(candidates: &Candidates<'_>, rng: &mut fastrand::Rng, drawn: &mut [usize; D]) -> usize {
    let mut n = 0;
    for _ in 0..DRAWS {
        let Some(i) = candidates.at(rng.usize(..candidates.len())) else { continue };
        if !drawn[..n].contains(&i) {
            drawn[n] = i;
            n += 1;
            if n == D {
                break;
            }
        }
    }
    n
}

/// D of all eligible ones, each as likely (reservoir sampling, Vitter's algorithm R).
fn sample(candidates: &Candidates<'_>, rng: &mut fastrand::Rng, drawn: &mut [usize; D]) -> usize {
    let mut seen = 0;
    for i in candidates.iter() {
        let place = if seen < D { seen } else { rng.usize(..=seen) };
        if let Some(slot) = drawn.get_mut(place) {
            *slot = i;
        }
        seen += 1;
    }
    seen.min(D)
}

/// The cheapest; equal ones are equally likely. One that nothing is known of yet counts as the
/// median of the others: with a fixed guess it would starve beside peers that are faster than that.
fn least(candidates: &Candidates<'_>, rng: &mut fastrand::Rng, drawn: &[usize]) -> Option<usize> {
    let estimate = |i: usize| {
        let latency = &candidates.member(i).backend.latency;
        latency.is_known().then(|| latency.read(candidates.now))
    };
    let mut known = [0.0; D];
    let mut n = 0;
    for estimate in drawn.iter().filter_map(|&i| estimate(i)) {
        known[n] = estimate;
        n += 1;
    }
    let unknown = ewma::median(&mut known[..n]).unwrap_or(ewma::UNKNOWN_US);
    let mut best = None;
    let mut least = f32::INFINITY;
    let mut ties = 1;
    for &i in drawn {
        let backend = &candidates.member(i).backend;
        let load = (backend.gate.in_flight() + 1) as f32 / candidates.weight(i) as f32;
        let cost = estimate(i).unwrap_or(unknown) * load * candidates.reported(i);
        ties = if cost == least { ties + 1 } else { 1 };
        if cost < least || (cost == least && rng.u32(..ties) == 0) {
            best = Some(i);
            least = cost;
        }
    }
    best
}
