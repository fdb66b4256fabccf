//! `ip_hash`: a client's address decides, by weighted rendezvous hashing.
//!
//! Best for: backends that keep something of a client, such as a session or a cache, when no cookie can be set.
//! Neither load nor latency counts, and clients behind one address are one client.
//!
//! Every member scores `−weight / ln(u)`, u in (0, 1) a hash of address and member, and the highest score
//! wins (Thaler and Ravishankar 1998; weights after Schindelhauer and Schomaker 2005). When a member
//! leaves or fails only its own clients move, each to its second choice; when one joins it takes its share
//! from all. Members are hashed by id, so several proxies, and a restarted one, agree. Slow start does not
//! apply: it would move clients twice.

use std::net::IpAddr;

use crate::snapshot::Member;

use super::candidates::Candidates;

/// State: each member's id, hashed.
#[derive(Debug, Default)]
pub(super) struct IpHash {
    ids: Vec<u64>,
}

impl IpHash {
    pub(super) fn sync(&mut self, members: &[Member]) {
        self.ids.clear();
        self.ids.extend(members.iter().map(|m| fnv1a(m.backend.id.as_bytes())));
    }

    pub(super) fn choose(&self, candidates: &Candidates<'_>, client: IpAddr) -> Option<usize> {
        let key = key(client);
        let mut best: Option<(usize, f64)> = None;
        // Scores first: most members are beaten without a look at their gate.
        for i in candidates.indexes() {
            let unit = (mix(key ^ self.ids[i]) >> 11) as f64 + 0.5;
            let score = -f64::from(candidates.member(i).weight) / (unit / (1u64 << 53) as f64).ln();
            if best.is_none_or(|(_, highest)| score > highest) && candidates.eligible(i) {
                best = Some((i, score));
            }
        }
        best.map(|(i, _)| i)
    }
}

/// IPv4 by the whole address, IPv6 by its /64: what one subscriber has.
fn key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => mix(u64::from(v4.to_bits())),
        // Apart from every IPv4 key, which fills 32 bits only.
        IpAddr::V6(v6) => mix((v6.to_bits() >> 64) as u64 ^ 0xa5a5_0000_0000_0000),
    }
}

/// FNV-1a, 64 bits (Fowler, Noll, Vo).
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_subscriber_share_a_key() {
        let key = |s: &str| key(s.parse().expect("an address"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    }
}
