//! `ip_hash`: a client's address decides, by weighted rendezvous hashing.
//!
//! Best for: backends that keep something of a client, such as a session or a cache, when no cookie can be set.
//! Neither load nor latency counts, and clients behind one address are one client. With `hash_compat = "nginx"`
//! it is [`nginx_ip_hash`](super::nginx_ip_hash).
//!
//! Every member scores `−weight / ln(u)`, u in (0, 1) a hash of address and member, and the highest score
//! wins (Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker 2005). When a member
//! leaves or fails only its own clients move, each to its second choice; when one joins it takes its share
//! from all. Members are hashed by id, so several proxies, and a restarted one, agree. Slow start does not
//! apply: it would move clients twice.

use std::net::IpAddr;

use crate::snapshot::Member;
use crate::snapshot::hash::{self, fnv1a, mix};

use super::candidates::Candidates;

/// State: each member's id, hashed.
#[derive(Debug, Default)]
pub(super) struct IpHash {
    ids: Vec<u64>,
}

impl IpHash {
    pub(super) fn sync(&mut self, members: &[Member]) {
        self.ids.clear();
        self.ids.extend(members.iter().map(|m| fnv1a(hash::START, m.backend.id.as_bytes())));
    }

    pub(super) fn choose(&self, candidates: &Candidates<'_>, client: IpAddr) -> Option<usize> {
        let key = hash::client(client);
        let mut best: Option<(usize, f64)> = None;
        // Scores first: most members are beaten without a look at their gate.
        for i in candidates.indexes() {
            let score = score(key, self.ids[i], candidates.member(i).weight);
            if best.is_none_or(|(_, highest)| score > highest) && candidates.eligible(i) {
                best = Some((i, score));
            }
        }
        best.map(|(i, _)| i)
    }
}

/// What a member bids for a key.
#[inline]
pub(super) fn score(key: u64, id: u64, weight: u32) -> f64 {
    let unit = (mix(key ^ id) >> 11) as f64 + 0.5;
    -f64::from(weight) / (unit / (1u64 << 53) as f64).ln()
}
