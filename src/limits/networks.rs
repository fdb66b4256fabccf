//! Sets of networks, for lists with hundreds of thousands of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Sorted ranges that neither touch nor overlap: a look-up is one binary search.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    pub fn new(networks: &[IpNet]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks {
            match network {
                IpNet::V4(net) => v4.push((bits4(net.network()), bits4(net.broadcast()))),
                IpNet::V6(net) => match net.network().to_ipv4_mapped() {
                    // Clients are never known by such addresses.
                    Some(first) if net.prefix_len() >= 96 => {
                        let last = net.broadcast().to_ipv4_mapped().unwrap_or(first);
                        v4.push((bits4(first), bits4(last)));
                    }
                    _ => v6.push((bits6(net.network()), bits6(net.broadcast()))),
                },
            }
        }
        Self { v4: merged(v4, 1), v6: merged(v6, 1) }
    }

    pub fn contains(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => within(&self.v4, bits4(v4)),
            IpAddr::V6(v6) => within(&self.v6, bits6(v6)),
        }
    }
}

fn bits4(address: Ipv4Addr) -> u32 {
    address.to_bits()
}

fn bits6(address: Ipv6Addr) -> u128 {
    address.to_bits()
}

fn within<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|(first, _)| *first <= address);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
}

/// `one`: from a number to the next.
fn merged<T>(mut ranges: Vec<(T, T)>, one: T) -> Box<[(T, T)]>
where
    T: Ord + Copy + std::ops::Sub<Output = T>,
{
    ranges.sort_unstable();
    let mut merged: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some((_, end)) if first <= *end || first - one <= *end => *end = last.max(*end),
            _ => merged.push((first, last)),
        }
    }
    merged.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(all: &[&str]) -> Vec<IpNet> {
        all.iter().map(|net| net.parse().expect("a network")).collect()
    }

    #[test]
    fn ranges_are_merged() {
        let set = Networks::new(&networks(&["10.0.1.0/24", "10.0.0.0/24", "10.0.0.7/32"]));
        assert_eq!(set.v4.len(), 1);
        let all = Networks::new(&networks(&["0.0.0.0/0", "10.0.0.0/8", "::/0"]));
        assert_eq!((all.v4.len(), all.v6.len()), (1, 1));
        for address in ["0.0.0.0", "255.255.255.255", "::", "ffff::", "::ffff:1.2.3.4"] {
            assert!(all.contains(address.parse().expect("an address")), "{address}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4_ones() {
        let set = Networks::new(&networks(&["::ffff:10.0.0.0/104", "2001:db8::/32"]));
        let has = |address: &str| set.contains(address.parse().expect("an address"));
        assert!(has("10.1.2.3") && has("::ffff:10.1.2.3") && has("2001:db8:1::"));
        assert!(!has("11.0.0.0") && !has("2001:db9::"));
    }

    proptest! {
        #[test]
        fn an_address_is_in_it_if_it_is_in_one_of_the_networks(
            nets in prop::collection::vec((any::<u8>(), 24u8..=32), 0..40),
            nets6 in prop::collection::vec((any::<u8>(), 120u8..=128), 0..40),
            address in any::<u8>(),
        ) {
            let v4 = nets.iter().map(|(low, prefix)| {
                IpNet::new(Ipv4Addr::new(10, 0, 0, *low).into(), *prefix).expect("a prefix")
            });
            let v6 = nets6.iter().map(|(low, prefix)| {
                IpNet::new(Ipv6Addr::from(u128::from(*low)).into(), *prefix).expect("a prefix")
            });
            let all: Vec<IpNet> = v4.chain(v6).collect();
            let set = Networks::new(&all);
            for address in [
                IpAddr::from(Ipv4Addr::new(10, 0, 0, address)),
                IpAddr::from(Ipv6Addr::from(u128::from(address))),
            ] {
                let wanted = all.iter().any(|net| net.contains(&address));
                prop_assert_eq!(set.contains(address), wanted, "{}", address);
            }
        }

        #[test]
        fn ranges_stay_sorted_and_apart(nets in prop::collection::vec((any::<u32>(), 0u8..=32), 0..60)) {
            let all: Vec<IpNet> = nets
                .iter()
                .map(|(bits, prefix)| IpNet::new(Ipv4Addr::from(*bits).into(), *prefix).expect("ok"))
                .collect();
            let set = Networks::new(&all);
            prop_assert!(set.v4.windows(2).all(|two| u64::from(two[0].1) + 1 < u64::from(two[1].0)));
        }
    }
}
