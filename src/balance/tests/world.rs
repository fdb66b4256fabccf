//! A service in virtual time: members, and the balancer of one worker.

use super::*;

pub(in crate::balance) fn member(uid: u64, weight: u32, backup: bool) -> Member {
    let backend = Backend::new(
        uid,
        "app".into(),
        format!("app-{uid}").into(),
        ([127, 0, 0, 1], 1).into(),
        http::HeaderValue::from_static("app"),
        Source::Fixed,
        State::Ready,
        1,
    );
    Member { backend: Arc::new(backend), weight, backup, near: true }
}

/// Members with these weights; uids from 1.
pub(in crate::balance) fn members(weights: &[u32]) -> Vec<Member> {
    (1..).zip(weights).map(|(uid, weight)| member(uid, *weight, false)).collect()
}

pub(in crate::balance) struct World {
    pub(in crate::balance) members: Vec<Member>,
    pub(in crate::balance) balancer: Balancer,
    pub(in crate::balance) peers: Peers,
    pub(in crate::balance) outliers: Outliers,
    pub(in crate::balance) rng: fastrand::Rng,
    pub(in crate::balance) now: Micros,
    pub(in crate::balance) max_in_flight: u32,
    pub(in crate::balance) panic_threshold: f64,
    pub(in crate::balance) hash_balance: f64,
    pub(in crate::balance) client: IpAddr,
    /// `None`: made from the client.
    pub(in crate::balance) key: Option<Option<u64>>,
    pub(in crate::balance) maglev: Maglev,
    pub(in crate::balance) sessions: Option<Sessions>,
    pub(in crate::balance) session: Option<u64>,
    pub(in crate::balance) load_report: bool,
}

impl World {
    pub(in crate::balance) fn new(kind: Balance, members: Vec<Member>) -> Self {
        let mut balancer = Balancer::new(kind);
        balancer.sync_members(&members);
        let maglev = Maglev::new(if kind == Balance::Hash { &members } else { &[] });
        let client = IpAddr::from([192, 0, 2, 1]);
        let rng = fastrand::Rng::with_seed(7);
        let peers = Peers::new(1);
        Self {
            members,
            balancer,
            peers,
            outliers: Outliers::default(),
            rng,
            now: SECOND,
            max_in_flight: 0,
            panic_threshold: 0.0,
            hash_balance: 1.25,
            client,
            key: None,
            maglev,
            sessions: None,
            session: None,
            load_report: false,
        }
    }

    /// Takes up the members as they are now.
    pub(in crate::balance) fn sync(&mut self) {
        self.balancer.sync_members(&self.members);
        let hashes = matches!(self.balancer.algorithm, Algorithm::Hash(_));
        self.maglev = Maglev::new(if hashes { &self.members } else { &[] });
    }

    /// Picks and keeps the request in flight.
    pub(in crate::balance) fn pick(&mut self, tried: &[u64]) -> Option<usize> {
        let pool = Pool {
            members: &self.members,
            peers: &self.peers,
            outliers: &self.outliers,
            max_in_flight: self.max_in_flight,
            slow_start: Duration::from_secs(10),
            panic_threshold: self.panic_threshold,
            hash_balance: self.hash_balance,
            load_report: self.load_report,
            maglev: Some(&self.maglev),
            sessions: self.sessions.as_ref(),
        };
        let key = self.key.unwrap_or_else(|| Some(hash::client(self.client)));
        let (client, session) = (self.client, self.session);
        let pick = Pick { now: self.now, client, key, session, tried };
        self.balancer.pick_from(&pool, &pick, &mut self.rng)
    }

    /// Picks and finishes at once; the uid.
    pub(in crate::balance) fn touch(&mut self, tried: &[u64]) -> Option<u64> {
        let picked = self.pick(tried)?;
        let backend = &self.members[picked].backend;
        backend.gate.leave();
        Some(backend.uid)
    }

    pub(in crate::balance) fn sequence(&mut self, n: usize) -> Vec<u64> {
        (0..n).map(|_| self.touch(&[]).expect("somebody is available")).collect()
    }

    /// How often each member is picked.
    pub(in crate::balance) fn shares(&mut self, picks: usize) -> Vec<f64> {
        let mut counts = vec![0_u32; self.members.len()];
        for uid in self.sequence(picks) {
            counts[self.members.iter().position(|m| m.backend.uid == uid).expect("a member")] += 1;
        }
        counts.iter().map(|n| f64::from(*n) / picks as f64).collect()
    }
}
