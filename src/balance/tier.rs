//! The members of a service that are tried together, and how the whole of them stands.
//!
//! Panic and slow start depend on the whole pool, which is too much to count at each pick: it is counted
//! every 100 ms, and at once when nobody can be found.

use crate::clock::Micros;
use crate::snapshot::Member;

use super::Pool;
use super::zone::Standing;

/// How long a count is used, in µs.
const COUNT_EVERY: Micros = 100_000;

/// The backends, or the backups.
#[derive(Debug, Default)]
pub(super) struct Tier {
    /// Indexes into the pool's members.
    pub(super) members: Vec<usize>,
    pub(super) standing: Standing,
    /// Healthy or not.
    pub(super) ready: u32,
    /// Slow start applies: at most half of the available ones are ramping.
    pub(super) slow_start: bool,
    /// All weights are equal and no ramp changes them.
    pub(super) uniform: bool,
    pub(super) mean_weight: f32,
    /// Sums of the weights up to each position, for draws; empty when they are all equal.
    pub(super) sums: Vec<u64>,
    same_weight: bool,
    counted: Option<Micros>,
}

impl Tier {
    pub(super) fn new(members: &[Member], belongs: impl Fn(&Member) -> bool) -> Self {
        let indexes: Vec<usize> =
            members.iter().enumerate().filter(|(_, m)| belongs(m)).map(|(i, _)| i).collect();
        let same_weight =
            indexes.windows(2).all(|pair| members[pair[0]].weight == members[pair[1]].weight);
        let weights = indexes.iter().map(|&i| members[i].weight as f32);
        let mean_weight = weights.sum::<f32>() / indexes.len().max(1) as f32;
        let mut sum = 0;
        let add = |i: &usize| {
            sum += u64::from(members[*i].weight);
            sum
        };
        let sums = if same_weight { Vec::new() } else { indexes.iter().map(add).collect() };
        Self { members: indexes, same_weight, mean_weight, sums, ..Self::default() }
    }

    /// Counts again if the last count is old.
    #[inline]
    pub(super) fn refresh(&mut self, pool: &Pool<'_>, now: Micros) {
        let fresh = |at| (at..at + COUNT_EVERY).contains(&now);
        if !self.counted.is_some_and(fresh) {
            self.count(pool, now);
        }
    }

    pub(super) fn count(&mut self, pool: &Pool<'_>, now: Micros) {
        let (mut ready, mut ramping) = (0, 0);
        let mut standing = Standing::default();
        for member in self.members.iter().map(|&i| &pool.members[i]) {
            let backend = &member.backend;
            if backend.gate.is_ready() {
                ready += 1;
                standing.ready_weight += u64::from(member.weight);
            }
            if backend.gate.is_available() {
                standing.available += 1;
                standing.available_weight += u64::from(member.weight);
                standing.in_flight += u64::from(backend.gate.in_flight());
                ramping += u32::from(backend.ramp_factor(now, pool.slow_start) < 1.0);
            }
        }
        (self.ready, self.standing) = (ready, standing);
        self.slow_start = ramping > 0 && ramping * 2 <= standing.available;
        self.uniform = self.same_weight && !self.slow_start;
        self.counted = Some(now);
    }
}
