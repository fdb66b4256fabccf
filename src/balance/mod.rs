//! Picking: which backend of a service gets the next request.
//!
//! One [`Balancer`] per worker and service, with that worker's own state: no locks, no allocation per
//! pick. This file decides who may be picked at all (availability, backups, panic, tries before); the
//! algorithms, one file each, choose among those. Counting and connections are upstream's.

mod adaptive;
mod candidates;
mod hash;
mod ip_hash;
mod least_connections;
mod nginx_ip_hash;
mod p2c_ewma;
mod random;
mod reports;
mod round_robin;
mod tier;
mod zone;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::clock::Micros;
use crate::config::types::Balance;
use crate::snapshot::maglev::Maglev;
use crate::snapshot::sessions::Sessions;
use crate::snapshot::{Member, ServiceView};
use crate::upstream::learned::Peers;
use crate::upstream::outlier::Outliers;

use adaptive::Adaptive;
use candidates::{Among, Candidates};
use hash::Hash;
use ip_hash::IpHash;
use least_connections::LeastConnections;
use nginx_ip_hash::NginxIpHash;
use random::Random;
use reports::Reports;
use round_robin::RoundRobin;
use tier::Tier;

/// What is known when a request needs a backend.
#[derive(Debug, Clone, Copy)]
pub struct Pick<'a> {
    pub now: Micros,
    /// For `ip_hash`.
    pub client: IpAddr,
    /// For `hash`: the key, hashed; `None`: the request has none.
    pub key: Option<u64>,
    /// What its cookie says: a handle of [`Sessions`].
    pub session: Option<u64>,
    /// `uid`s of the backends that this request was sent to already; never picked again.
    pub tried: &'a [u64],
}

/// Picking state of one worker for one service.
#[derive(Debug)]
pub struct Balancer {
    algorithm: Algorithm,
    /// By index of the view synced last.
    uids: Vec<u64>,
    /// The own zone, or everybody where there are no zones.
    primary: Tier,
    /// Other zones.
    far: Tier,
    backup: Tier,
    reports: Reports,
}

#[derive(Debug)]
enum Algorithm {
    // Boxed: it is several times the size of the others.
    Adaptive(Box<Adaptive>),
    RoundRobin(RoundRobin),
    LeastConnections(LeastConnections),
    Random(Random),
    P2cEwma,
    IpHash(IpHash),
    NginxIpHash(NginxIpHash),
    Hash(Hash),
}

impl Balancer {
    pub fn new(kind: Balance) -> Self {
        let algorithm = match kind {
            Balance::Adaptive => Algorithm::Adaptive(Box::default()),
            Balance::RoundRobin => Algorithm::RoundRobin(RoundRobin::default()),
            Balance::LeastConnections => Algorithm::LeastConnections(LeastConnections::default()),
            Balance::Random => Algorithm::Random(Random::default()),
            Balance::P2cEwma => Algorithm::P2cEwma,
            Balance::IpHash => Algorithm::IpHash(IpHash::default()),
            Balance::NginxIpHash => Algorithm::NginxIpHash(NginxIpHash::default()),
            Balance::Hash => Algorithm::Hash(Hash::default()),
        };
        let (primary, far, backup, reports) = Default::default();
        Self { algorithm, uids: Vec::new(), primary, far, backup, reports }
    }

    /// Takes up a new view; state of backends that stay is kept, by `uid`. To be called before the first
    /// pick from a view. Another algorithm needs another balancer.
    pub fn sync(&mut self, view: &ServiceView) {
        self.sync_members(&view.backends);
    }

    fn sync_members(&mut self, members: &[Member]) {
        let before: HashMap<u64, usize, foldhash::fast::FixedState> =
            self.uids.iter().enumerate().map(|(i, uid)| (*uid, i)).collect();
        let kept = |i: usize| before.get(&members[i].backend.uid).copied();
        match &mut self.algorithm {
            Algorithm::RoundRobin(state) => state.sync(members.len(), kept),
            Algorithm::LeastConnections(state) => state.sync(members.len(), kept),
            Algorithm::Random(state) => state.sync(members.len(), kept),
            Algorithm::NginxIpHash(state) => state.sync(members.len(), kept),
            Algorithm::Adaptive(_) | Algorithm::P2cEwma => {}
            Algorithm::Hash(state) => *state = Hash::default(),
            Algorithm::IpHash(state) => state.sync(members),
        }
        self.uids = members.iter().map(|m| m.backend.uid).collect();
        let zoned = !matches!(
            self.algorithm,
            Algorithm::Hash(_) | Algorithm::IpHash(_) | Algorithm::NginxIpHash(_)
        );
        self.primary = Tier::new(members, |m| !m.backup && (m.near || !zoned));
        self.far = Tier::new(members, |m| !m.backup && !m.near && zoned);
        self.backup = Tier::new(members, |m| m.backup);
    }

    /// Index into `view.backends`, with [`Gate::enter`](crate::upstream::gate::Gate::enter) taken: the
    /// caller must see to it that `leave` follows. `None`: nobody (else) can take the request.
    ///
    /// Backups are picked when no other backend is available, or the request was sent to all of those.
    /// In panic (fewer healthy among the ready than the threshold) health is ignored, but backups that are
    /// healthy come before backends none of which is. Where nobody is available at all, backends that are only
    /// ejected are picked.
    pub fn pick(
        &mut self,
        view: &ServiceView,
        pick: &Pick<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let pool = Pool {
            members: &view.backends,
            peers: &view.peers,
            outliers: &view.outliers,
            max_in_flight: view.config.max_in_flight,
            slow_start: view.config.slow_start,
            panic_threshold: view.config.panic_threshold,
            hash_balance: view.config.hash_balance,
            load_report: view.config.load_report,
            maglev: view.maglev.as_deref(),
            sessions: view.sessions.as_ref(),
        };
        self.pick_from(&pool, pick, rng)
    }

    fn pick_from(
        &mut self,
        pool: &Pool<'_>,
        pick: &Pick<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        debug_assert_eq!(self.uids.len(), pool.members.len(), "sync comes before pick");
        self.primary.refresh(pool, pick.now);
        if !self.far.members.is_empty() {
            self.far.refresh(pool, pick.now);
        }
        self.backup.refresh(pool, pick.now);
        if let Algorithm::Adaptive(state) = &mut self.algorithm {
            state.refresh(pool, pick.now);
        }
        if pool.load_report {
            self.reports.refresh(pool, pick.now);
        }
        if let (Some(handle), Some(sessions)) = (pick.session, pool.sessions)
            && let Some(kept) = sessions.member(handle)
            && self.stays(kept, pool, pick)
        {
            return Some(kept);
        }
        let panic = pool.panic_threshold > 0.0 && self.panics(pool) && !self.is_down();
        let choice = self.take_primary(Among::panic(panic), pool, pick, rng);
        let choice = choice.or_else(|| self.take(Which::Backup, Among::Available, pool, pick, rng));
        if choice.is_some() {
            return choice;
        }
        let choice = self.in_panic(pool, pick, rng);
        choice.or_else(|| self.ejected(pool, pick, rng))
    }

    fn in_panic(
        &mut self,
        pool: &Pool<'_>,
        pick: &Pick<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        if pool.panic_threshold <= 0.0 {
            return None;
        }
        // Nobody healthy is left: what was counted a moment ago may no longer be so.
        self.primary.count(pool, pick.now);
        self.far.count(pool, pick.now);
        self.backup.count(pool, pick.now);
        let primary = self.panics(pool);
        let backup = is_panic(&[&self.backup], pool);
        let choice = primary.then(|| self.take_primary(Among::Ready, pool, pick, rng)).flatten();
        choice.or_else(|| {
            backup.then(|| self.take(Which::Backup, Among::Ready, pool, pick, rng)).flatten()
        })
    }

    /// The others drain or went down: one that is ejected is better than none. Not for a request that failed
    /// already: it had somebody.
    fn ejected(
        &mut self,
        pool: &Pool<'_>,
        pick: &Pick<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        if !pick.tried.is_empty() || pool.outliers.ejected() == 0 {
            return None;
        }
        self.primary.count(pool, pick.now);
        self.far.count(pool, pick.now);
        self.backup.count(pool, pick.now);
        if !self.is_down() || self.backup.standing.available > 0 {
            return None;
        }
        let choice = self.take_primary(Among::Healthy, pool, pick, rng);
        choice.or_else(|| self.take(Which::Backup, Among::Healthy, pool, pick, rng))
    }

    fn panics(&self, pool: &Pool<'_>) -> bool {
        is_panic(&[&self.primary, &self.far], pool)
    }

    /// Not one is available but backups.
    fn is_down(&self) -> bool {
        self.primary.standing.available + self.far.standing.available == 0
    }

    /// Chooses from all but backups, the own zone first as often as [`zone`] says.
    fn take_primary(
        &mut self,
        among: Among,
        pool: &Pool<'_>,
        pick: &Pick<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        if self.far.members.is_empty() {
            return self.take(Which::Primary, among, pool, pick, rng);
        }
        let (own, others) = (self.primary.standing, self.far.standing);
        let share = match pick.tried {
            [] => zone::own_share(own, others),
            _ => zone::retry_share(own, others),
        };
        let order = match rng.f64() < share {
            true => [Which::Primary, Which::Far],
            false => [Which::Far, Which::Primary],
        };
        order.into_iter().find_map(|which| self.take(which, among, pool, pick, rng))
    }

    /// Whether a session can stay with its backend; if so, its gate was entered. A backup keeps its sessions
    /// only as long as it has to help.
    fn stays(&self, member: usize, pool: &Pool<'_>, pick: &Pick<'_>) -> bool {
        let Member { backend, backup, .. } = &pool.members[member];
        backend.gate.is_available()
            && !pick.tried.contains(&backend.uid)
            && (!backup || self.is_down())
            && backend.gate.enter_below(candidates::limit(backend, pool.max_in_flight))
    }

    /// Chooses from one tier until a gate lets the request in.
    fn take(
        &mut self,
        which: Which,
        among: Among,
        pool: &Pool<'_>,
        pick: &Pick<'_>,
        rng: &mut fastrand::Rng,
    ) -> Option<usize> {
        let tier = match which {
            Which::Primary => &self.primary,
            Which::Far => &self.far,
            Which::Backup => &self.backup,
        };
        let candidates = Candidates {
            members: pool.members,
            tier: &tier.members,
            tried: pick.tried,
            among,
            max_in_flight: pool.max_in_flight,
            now: pick.now,
            slow_start: tier.slow_start.then_some(pool.slow_start),
            uniform: tier.uniform,
            mean_weight: tier.mean_weight,
            sums: &tier.sums,
            reported: self.reports.mean.filter(|_| pool.load_report),
        };
        // A gate that refuses is no longer ready, or full, and drops out: each turn has one candidate less.
        for _ in 0..candidates.len() {
            let choice = match &mut self.algorithm {
                Algorithm::Adaptive(_) => adaptive::choose(&candidates, rng),
                Algorithm::RoundRobin(state) => state.choose(&candidates),
                Algorithm::LeastConnections(state) => state.choose(&candidates),
                Algorithm::Random(state) => state.choose(&candidates, rng),
                Algorithm::P2cEwma => p2c_ewma::choose(&candidates, rng),
                Algorithm::IpHash(state) => state.choose(&candidates, pick.client),
                Algorithm::NginxIpHash(state) => state.choose(&candidates, pick.client),
                Algorithm::Hash(state) => match (pool.maglev, pick.key) {
                    (Some(maglev), Some(key)) => {
                        let backups = matches!(which, Which::Backup);
                        state.choose(&candidates, maglev, backups, key, pool.hash_balance)
                    }
                    _ => random::less_busy(&candidates, rng),
                },
            }?;
            // Another worker may have taken the last place meanwhile.
            let backend = &pool.members[choice].backend;
            if backend.gate.enter_below(candidates::limit(backend, pool.max_in_flight)) {
                return Some(choice);
            }
        }
        None
    }
}

/// Fewer of the ready ones are healthy than the threshold wants.
fn is_panic(tiers: &[&Tier], pool: &Pool<'_>) -> bool {
    let sum = |count: fn(&Tier) -> u32| tiers.iter().map(|tier| count(tier)).sum::<u32>();
    let (ready, available) = (sum(|tier| tier.ready), sum(|tier| tier.standing.available));
    f64::from(available) < pool.panic_threshold * f64::from(ready)
}

/// What of a service picking needs.
#[derive(Debug, Clone, Copy)]
struct Pool<'a> {
    members: &'a [Member],
    peers: &'a Peers,
    outliers: &'a Outliers,
    max_in_flight: u32,
    slow_start: Duration,
    panic_threshold: f64,
    hash_balance: f64,
    load_report: bool,
    maglev: Option<&'a Maglev>,
    sessions: Option<&'a Sessions>,
}

#[derive(Debug, Clone, Copy)]
enum Which {
    Primary,
    Far,
    Backup,
}

/// Gives backends that nothing is known of the median estimate of their peers. For the control plane,
/// when it makes a view with new members.
pub fn seed_latency(view: &ServiceView, now: Micros) {
    let estimates = view.backends.iter().map(|m| &m.backend.latency);
    let known = estimates.clone().filter(|e| e.is_known()).map(|e| e.read(now));
    if let Some(median) = crate::ewma::median(&mut known.collect::<Vec<f32>>()) {
        estimates.for_each(|e| e.seed(median, now));
    }
}
