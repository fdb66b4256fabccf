//! `round_robin`: smooth weighted round robin, as nginx does it.
//!
//! Best for: backends and requests that are all alike, and where a plain, predictable order is wanted. It sees
//! neither load nor latency.
//!
//! At each pick every candidate gains its weight, the one with most is picked and pays the sum. Weights 5, 1, 1
//! give a a b a c a a: in proportion, and never the heavy one five times in a row. The scan is O(N); pools
//! whose weights are all equal, which large ones are, go round with a cursor instead, which is the same order.

use super::candidates::Candidates;

/// State of one worker: the current weight of each member.
#[derive(Debug, Default)]
pub(super) struct RoundRobin {
    current: Vec<i64>,
    /// Position in the tier after the one picked last.
    cursor: usize,
}

impl RoundRobin {
    /// Takes up new members; `kept(i)` is the index that new member `i` had before.
    pub(super) fn sync(&mut self, members: usize, kept: impl Fn(usize) -> Option<usize>) {
        let old = std::mem::take(&mut self.current);
        let state = |i| kept(i).and_then(|before| old.get(before)).copied().unwrap_or(0);
        self.current = (0..members).map(state).collect();
    }

    pub(super) fn choose(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        if candidates.uniform { self.next(candidates) } else { self.smooth(candidates, |_| true) }
    }

    /// The rule itself, over those that pass the filter. Also settles ties of `least_connections`.
    pub(super) fn smooth(
        &mut self,
        candidates: &Candidates<'_>,
        filter: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        let mut best = None;
        let mut total = 0;
        for i in candidates.iter().filter(|&i| filter(i)) {
            let weight = candidates.weight(i) as i64;
            total += weight;
            self.current[i] += weight;
            if best.is_none_or(|b| self.current[i] > self.current[b]) {
                best = Some(i);
            }
        }
        if let Some(best) = best {
            self.current[best] -= total;
        }
        best
    }

    /// The next eligible one after the last.
    fn next(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        let len = candidates.len();
        let start = self.cursor % len.max(1);
        let at = (start..len).chain(0..start).find(|&at| candidates.at(at).is_some())?;
        self.cursor = at + 1;
        candidates.at(at)
    }
}
