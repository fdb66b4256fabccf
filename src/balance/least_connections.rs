//! `least_connections`: the least in-flight requests for its weight; ties by smooth weighted round robin.
//!
//! Best for: requests whose cost differs much, on backends that are alike or whose weights say how they differ.
//! One that fails fast has few requests in flight and so gets most of them: it needs health checks or ejection,
//! and against one that answers 500 at once, which is the application's answer and counts as one, neither helps.
//!
//! In-flight counts are those of all workers. Compared as `a.in_flight · b.weight < b.in_flight · a.weight`,
//! so nothing is divided. The rule needs every candidate's count, so a pick is O(N); where all weights are
//! equal one pass does, and ties go round with a cursor.

use super::candidates::Candidates;
use super::round_robin::RoundRobin;

/// State of one worker.
#[derive(Debug, Default)]
pub(super) struct LeastConnections {
    ties: RoundRobin,
    /// In-flight of each member as of this pick; counts move while we look.
    seen: Vec<Option<u32>>,
    /// Position in the tier after the one picked last.
    cursor: usize,
}

impl LeastConnections {
    pub(super) fn sync(&mut self, members: usize, kept: impl Fn(usize) -> Option<usize>) {
        self.ties.sync(members, kept);
        self.seen.clear();
        self.seen.resize(members, None);
    }

    pub(super) fn choose(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        if candidates.uniform { self.fewest(candidates) } else { self.weighted(candidates) }
    }

    /// The first with the fewest after the one picked last.
    fn fewest(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
        let len = candidates.len();
        let start = self.cursor % len.max(1);
        // (in-flight, position in the tier)
        let mut fewest: Option<(u32, usize)> = None;
        for at in (start..len).chain(0..start) {
            let Some(i) = candidates.at(at) else { continue };
            let in_flight = candidates.member(i).backend.gate.in_flight();
            if fewest.is_none_or(|(least, _)| in_flight < least) {
                fewest = Some((in_flight, at));
                if in_flight == 0 {
                    break;
                }
            }
        }
        let (_, at) = fewest?;
        self.cursor = at + 1;
        Some(candidates.tier[at])
    }

    fn weighted(&mut self, candidates: &Candidates<'_>) -> Option<usize> {
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
