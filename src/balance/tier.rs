//! The members of a service that are tried together, and how the whole of them stands.
//!
//! Panic and slow start depend on the whole pool, which is too much to count at each pick: it is counted
//! every 100 ms, and at once when nobody can be found.

use crate::clock::Micros;
use crate::snapshot::Member;

use super::Pool;

/// How long a count is used, in µs.
const COUNT_EVERY: Micros = 100_000;

/// The backends, or the backups.
#[derive(Debug, Default)]
pub(super) struct Tier {
    /// Indexes into the pool's members.
    pub(super) members: Vec<usize>,
    /// The share of healthy among ready ones is under the threshold.
    pub(super) panic: bool,
    /// Not one is available.
    pub(super) is_down: bool,
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
        let (mut ready, mut available, mut ramping) = (0_u32, 0_u32, 0_u32);
        for &i in &self.members {
            let backend = &pool.members[i].backend;
            ready += u32::from(backend.gate.is_ready());
            if backend.gate.is_available() {
                available += 1;
                ramping += u32::from(backend.ramp_factor(now, pool.slow_start) < 1.0);
            }
        }
        self.panic = f64::from(available) < pool.panic_threshold * f64::from(ready);
        self.is_down = available == 0;
        self.slow_start = ramping > 0 && ramping * 2 <= available;
        self.uniform = self.same_weight && !self.slow_start;
        self.counted = Some(now);
    }
}
