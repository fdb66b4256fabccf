//! Who may be picked: one tier of a service's members, seen by one pick.

use std::time::Duration;

use crate::clock::Micros;
use crate::snapshot::Member;
use crate::upstream::backend::Backend;
use crate::upstream::gate::Gate;

use super::reports;

/// Weight of a member whose configured weight is 1, so that slow start has fractions to work with.
const UNIT: f32 = 256.0;

/// How well a backend must stand to be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Among {
    Available,
    /// Ejected ones as well.
    Healthy,
    /// Unhealthy ones as well: in panic.
    Ready,
}

impl Among {
    pub(super) fn panic(panic: bool) -> Self {
        if panic { Self::Ready } else { Self::Available }
    }
}

/// What a backend may have in flight; 0: as much as comes.
#[inline]
pub(super) fn limit(backend: &Backend, max_in_flight: u32) -> u32 {
    if max_in_flight == 0 { backend.limit.most() } else { max_in_flight }
}

#[inline]
fn has_place(backend: &Backend, max_in_flight: u32) -> bool {
    let most = limit(backend, max_in_flight);
    most == 0 || backend.gate.in_flight() < most
}

/// One tier (the members or the backups), with what a pick holds against each.
pub(super) struct Candidates<'a> {
    pub(super) members: &'a [Member],
    /// Indexes into `members`.
    pub(super) tier: &'a [usize],
    /// `uid`s that the request was sent to already.
    pub(super) tried: &'a [u64],
    pub(super) among: Among,
    /// Who has so many requests in flight is full; 0 = each has a limit of its own, or none.
    pub(super) max_in_flight: u32,
    pub(super) now: Micros,
    /// `None`: slow start is off for now.
    pub(super) slow_start: Option<Duration>,
    /// All weights of the tier are equal, and none is ramping.
    pub(super) uniform: bool,
    /// Of the tier's configured weights.
    pub(super) mean_weight: f32,
    /// Sums of the configured weights up to each position; empty when they are all equal.
    pub(super) sums: &'a [u64],
    /// The mean of what backends report of themselves, where that counts.
    pub(super) reported: Option<f32>,
}

impl<'a> Candidates<'a> {
    /// Members of the tier, eligible or not.
    pub(super) fn len(&self) -> usize {
        self.tier.len()
    }

    pub(super) fn member(&self, i: usize) -> &'a Member {
        &self.members[i]
    }

    /// Index of the member at a position of the tier, if it is eligible.
    #[inline]
    pub(super) fn at(&self, position: usize) -> Option<usize> {
        let i = self.tier[position];
        self.eligible(i).then_some(i)
    }

    /// Indexes of all members of the tier.
    pub(super) fn indexes(&self) -> impl Iterator<Item = usize> {
        self.tier.iter().copied()
    }

    /// Indexes of the eligible ones.
    pub(super) fn iter(&self) -> impl Iterator<Item = usize> {
        self.indexes().filter(|&i| self.eligible(i))
    }

    #[inline]
    pub(super) fn eligible(&self, i: usize) -> bool {
        let backend = &self.members[i].backend;
        let gate = &backend.gate;
        self.serves(gate)
            && has_place(backend, self.max_in_flight)
            && !self.tried.contains(&backend.uid)
    }

    /// Takes requests, for all that is known of its health.
    #[inline]
    pub(super) fn serves(&self, gate: &Gate) -> bool {
        match self.among {
            Among::Available => gate.is_available(),
            Among::Healthy => gate.is_healthy_and_ready(),
            Among::Ready => gate.is_ready(),
        }
    }

    /// Index of a member, eligible or not, as likely as its configured weight has it. The tier is not empty.
    #[inline]
    pub(super) fn drawn(&self, rng: &mut fastrand::Rng) -> usize {
        let position = match self.sums.last() {
            None => rng.usize(..self.tier.len()),
            Some(&total) => {
                let drawn = rng.u64(..total);
                self.sums.partition_point(|&sum| sum <= drawn)
            }
        };
        self.tier[position]
    }

    /// Weight in 1/256, slow start applied; at least 1.
    #[inline]
    pub(super) fn weight(&self, i: usize) -> u64 {
        ((self.members[i].weight as f32 * UNIT * self.ramp(i)) as u64).max(1)
    }

    /// What a member's load counts for, by what it reports.
    #[inline]
    pub(super) fn reported(&self, i: usize) -> f32 {
        self.reported.map_or(1.0, |mean| reports::factor(&self.members[i].backend, mean, self.now))
    }

    /// Share of its weight that a member gets now.
    #[inline]
    pub(super) fn ramp(&self, i: usize) -> f32 {
        let backend = &self.members[i].backend;
        self.slow_start.map_or(1.0, |slow_start| backend.ramp_factor(self.now, slow_start))
    }
}
