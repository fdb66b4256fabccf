//! `hash`: a key of the request decides (address, target, header, cookie), and load only past a bound.
//!
//! Best for: backends that cache, each its part of the keys; sessions whose id is in a header. With one key that
//! has most of the traffic the bound is what keeps its backend alive.
//!
//! The key's place in the [`Maglev`] table names its backend. One that cannot be had, or has more than
//! `hash_balance` × its share of what is in flight (consistent hashing with bounded loads: Mirrokni, Thorup,
//! Zadimoghaddam 2016), is passed over for the owner of the next place, and so on: neighbouring places belong
//! to backends as good as drawn, so the keys of one that fails spread over all others, no other key moves, and
//! they come home when it does. A request without the key is not anybody's: two are drawn, as by `random`.
//! nginx and HAProxy go round with these and Envoy draws one; nobody sends them all to the same backend.
//! Slow start does not apply: it would move keys twice.

use crate::snapshot::maglev::Maglev;

use super::candidates::Candidates;
use super::ip_hash::score;

/// Places looked at before all members are.
const STEPS: usize = 64;
/// In larger pools what is in flight is counted again only every so many-th part of their number of picks.
const COUNTED: usize = 16;

/// State of one worker, one for each tier.
#[derive(Debug, Default)]
pub(super) struct Hash {
    bounds: [Bound; 2],
}

/// What one backend may have: `factor` × its share of what all have.
#[derive(Debug, Clone, Copy, Default)]
struct Bound {
    in_flight: u64,
    weight: u64,
    /// Picks until it is counted again.
    left: usize,
}

impl Hash {
    /// `factor`: 0 = no bound.
    pub(super) fn choose(
        &mut self,
        candidates: &Candidates<'_>,
        maglev: &Maglev,
        backups: bool,
        key: u64,
        factor: f64,
    ) -> Option<usize> {
        let bound = &mut self.bounds[usize::from(backups)];
        bound.left = bound.left.saturating_sub(1);
        let places = maglev.places(backups);
        let start = key.checked_rem(places.len() as u64)? as usize;
        let walk = places[start..].iter().chain(&places[..start]).take(STEPS);
        for i in walk.map(|&i| usize::from(i)) {
            if candidates.eligible(i) && bound.has_room(candidates, i, factor) {
                return Some(i);
            }
        }
        // Few can be had: they bid for the key, so that it is again the same one that gets it.
        let mut bid = |i: usize| {
            let room = bound.has_room(candidates, i, factor);
            (room, score(key, maglev.id(i), candidates.member(i).weight))
        };
        let bids = candidates.iter().map(|i| (bid(i), i));
        let best = bids.max_by(|((a, x), _), ((b, y), _)| a.cmp(b).then(x.total_cmp(y)));
        best.map(|(_, i)| i)
    }
}

impl Bound {
    /// Whether a member may have one request more.
    fn has_room(&mut self, candidates: &Candidates<'_>, i: usize, factor: f64) -> bool {
        let member = candidates.member(i);
        let in_flight = member.backend.gate.in_flight();
        // Everybody may have one.
        if in_flight == 0 || factor == 0.0 {
            return true;
        }
        if self.left == 0 {
            self.count(candidates);
        }
        let share = f64::from(member.weight) / self.weight.max(1) as f64;
        f64::from(in_flight) < (factor * (self.in_flight + 1) as f64 * share).ceil()
    }

    fn count(&mut self, candidates: &Candidates<'_>) {
        (self.in_flight, self.weight) = (0, 0);
        for member in candidates.indexes().map(|i| candidates.member(i)) {
            if candidates.serves(&member.backend.gate) {
                self.in_flight += u64::from(member.backend.gate.in_flight());
                self.weight += u64::from(member.weight);
            }
        }
        self.left = (candidates.len() / COUNTED).max(1);
    }
}
