//! `least_connections`: the least in-flight requests for its weight; ties by smooth weighted round robin.
//!
//! In-flight counts are those of all workers. Compared as `a.in_flight · b.weight < b.in_flight · a.weight`,
//! so nothing is divided. The rule needs every candidate's count, so a pick is O(N).

use super::candidates::Candidates;
use super::round_robin::RoundRobin;

/// State of one worker.
#[derive(Debug, Default)]
pub(super) struct LeastConnections {
    ties: RoundRobin,
    /// In-flight of each member as of this pick; counts move while we look.
    seen: Vec<Option<u32>>,
}

impl LeastConnections {
    pub(super) fn sync(&mut self, members: usize, kept: impl Fn(usize) -> Option<usize>) {
        self.ties.sync(members, kept);
        self.seen.clear();
        self.seen.resize(members, None);
    }

    pub(super) fn choose(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        self.seen.fill(None);
        // (in-flight, weight) of the least loaded
        let mut least: Option<(u64, u64)> = None;
        for i in candidates.iter() {
            let in_flight = candidates.member(i).backend.gate.in_flight();
            self.seen[i] = Some(in_flight);
            let (n, weight) = (u64::from(in_flight), candidates.weight(i));
            if least.is_none_or(|(least_n, least_weight)| n * least_weight < least_n * weight) {
                least = Some((n, weight));
            }
        }
        let (least_n, least_weight) = least?;
        let seen = &self.seen;
        self.ties.smooth(candidates, |i| {
            seen[i].is_some_and(|n| u64::from(n) * least_weight == least_n * candidates.weight(i))
        })
    }
}
