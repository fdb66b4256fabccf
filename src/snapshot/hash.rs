//! Hashes that every tidegate computes alike, today and after a restart.
//!
//! Affinity rests on them: several proxies before the same backends must send a key to the same one. So they
//! are written down here and take no seed. They are quick and spread well; they hide nothing, and who may
//! choose his key can choose his backend, which is what the bound of `hash` is for.

use std::net::IpAddr;

/// FNV-1a, 64 bits (Fowler, Noll, Vo), of nothing yet.
pub const START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a, gone on with.
pub fn fnv1a(start: u64, bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(start, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
}

/// The finalizer of SplitMix64 (Steele, Lea, Flood 2014): every input bit reaches every output bit.
pub fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Of a client: IPv4 by the whole address, IPv6 by its /64, which is what one subscriber has.
pub fn client(ip: IpAddr) -> u64 {
    match ip.to_canonical() {
        IpAddr::V4(v4) => mix(u64::from(v4.to_bits())),
        // Apart from every IPv4 key, which fills 32 bits only.
        IpAddr::V6(v6) => mix((v6.to_bits() >> 64) as u64 ^ 0xa5a5_0000_0000_0000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_they_were() {
        // The published test vectors of FNV-1a; of SplitMix64 the first output for the seed 0.
        assert_eq!(fnv1a(START, b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(fnv1a(START, b"foo"), b"bar"), 0x8594_4171_f739_67e8);
        assert_eq!(mix(0), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn addresses_of_one_subscriber_share_a_key() {
        let key = |s: &str| client(s.parse().expect("an address"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
        assert_eq!(key("192.0.2.1"), key("::ffff:192.0.2.1"));
    }
}
