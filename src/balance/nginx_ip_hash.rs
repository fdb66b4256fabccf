//! `ip_hash` with `hash_compat = "nginx"`: the same client at the same backend as nginx's `ip_hash`.
//!
//! Best for: moving from nginx, or standing beside it, without moving anybody's session. For anything else
//! plain `ip_hash` is better: here a /24 is one client, and one backend more or less moves nearly everybody.
//!
//! nginx hashes the first three bytes of an IPv4 address, or all sixteen of an IPv6 one, walks the weights in
//! the order of the file, hashes on if it cannot have whom it finds, and after twenty such turns goes round
//! (ngx_http_upstream_ip_hash_module). The backends must be written in the same order, with the same weights.

use std::net::IpAddr;

use super::candidates::Candidates;
use super::round_robin::RoundRobin;

/// As much is nginx's.
const START: u64 = 89;
const FACTOR: u64 = 113;
const MODULUS: u64 = 6271;
const TURNS: usize = 20;

/// State of one worker: where it is when it goes round.
#[derive(Debug, Default)]
pub(super) struct NginxIpHash {
    otherwise: RoundRobin,
}

impl NginxIpHash {
    pub(super) fn sync(&mut self, members: usize, kept: impl Fn(usize) -> Option<usize>) {
        self.otherwise.sync(members, kept);
    }

    pub(super) fn choose(&mut self, candidates: &Candidates<'_>, client: IpAddr) -> Option<usize> {
        let weight = |i| u64::from(candidates.member(i).weight);
        // Of all, whether they can be had or not: who is down keeps his clients in mind.
        let total: u64 = candidates.indexes().map(weight).sum();
        let mut hash = START;
        for _ in 0..=TURNS {
            hash = turn(hash, client);
            let mut left = hash.checked_rem(total)?;
            let found = candidates.indexes().find(|&i| {
                let here = left < weight(i);
                left = left.saturating_sub(weight(i));
                here
            });
            if let Some(found) = found.filter(|&i| candidates.eligible(i)) {
                return Some(found);
            }
        }
        self.otherwise.choose(candidates)
    }
}

fn turn(hash: u64, client: IpAddr) -> u64 {
    let over = |hash, bytes: &[u8]| {
        bytes.iter().fold(hash, |hash, byte| (hash * FACTOR + u64::from(*byte)) % MODULUS)
    };
    match client.to_canonical() {
        IpAddr::V4(v4) => over(hash, &v4.octets()[..3]),
        IpAddr::V6(v6) => over(hash, &v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_of_an_ipv4_address_does_not_count_and_those_of_ipv6_do() {
        let hash = |text: &str| turn(START, text.parse().expect("an address"));
        // ((89·113 + 10)·113 + 1)·113 + 2, modulo 6271 at each step
        assert_eq!(hash("10.1.2.3"), hash("10.1.2.250"));
        assert_eq!(hash("10.1.2.3"), 2680);
        assert_ne!(hash("10.1.2.3"), hash("10.1.3.3"));
        assert_ne!(hash("2001:db8::1"), hash("2001:db8::2"));
        assert_eq!(hash("::ffff:10.1.2.3"), hash("10.1.2.3"));
    }
}
