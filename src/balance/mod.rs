//! Picking: which backend of a service gets the next request.
//!
//! One [`Balancer`] per worker and service, with that worker's own state: no locks, no allocation per
//! pick. This file decides who may be picked at all (availability, backups, panic, tries before); the
//! algorithms, one file each, choose among those. Counting and connections are upstream's.

use std::net::IpAddr;

use crate::clock::Micros;
use crate::config::types::Balance;
use crate::snapshot::ServiceView;

/// What is known when a request needs a backend.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'a> {
    pub now: Micros,
    /// For `ip_hash`.
    pub client: IpAddr,
    /// `uid`s of the backends that this request was sent to already; never picked again.
    pub tried: &'a [u64],
}

/// Picking state of one worker for one service.
#[derive(Debug)]
pub struct Balancer {
    kind: Balance,
}

impl Balancer {
    pub fn new(kind: Balance) -> Self {
        Self { kind }
    }

    /// Takes up a new view; state of backends that stay is kept, by `uid`. To be called before the first
    /// pick from a view.
    pub fn sync(&mut self, _view: &ServiceView) {}

    /// Index into `view.backends`, with [`Gate::enter`](crate::upstream::gate::Gate::enter) taken: the
    /// caller must see to it that `leave` follows. `None`: nobody (else) can take the request.
    pub fn pick(
        &mut self,
        view: &ServiceView,
        pick: &Pick<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let start = rng.usize(..view.backends.len().max(1));
        let (tail, head) = view.backends.split_at_checked(start)?;
        let order = (start..).zip(head).chain((0..).zip(tail));
        for (index, member) in order {
            if !pick.tried.contains(&member.backend.uid)
                && member.backend.gate.is_available()
                && member.backend.gate.enter()
            {
                return Some(index);
            }
        }
        None
    }
}

/// Gives backends that nothing is known of the median estimate of their peers. For the control plane,
/// when it makes a view with new members.
pub fn seed_latency(view: &ServiceView, now: Micros) {
    let mut known: Vec<f32> = Vec::with_capacity(view.backends.len());
    let estimates = view.backends.iter().map(|m| &m.backend.latency);
    known.extend(estimates.clone().filter(|e| e.is_known()).map(|e| e.read(now)));
    if let Some(median) = crate::ewma::median(&mut known) {
        estimates.for_each(|e| e.seed(median, now));
    }
}
