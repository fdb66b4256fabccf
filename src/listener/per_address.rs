//! Connections per client address, for `max_connections_per_ip`: counted over all workers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use foldhash::fast::RandomState;

const SHARDS: usize = 16;

/// Open connections by (listener, address); IPv6 counts by /64. A listener without a limit
/// costs nothing here.
#[derive(Debug, Default)]
pub struct PerAddress {
    shards: [Mutex<HashMap<Key, usize, RandomState>>; SHARDS],
}

type Key = (Arc<str>, IpAddr);

/// One counted connection; given back when dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<PerAddress>,
    key: Key,
}

impl PerAddress {
    /// Takes a place, or `None` if that address has `most` connections already.
    pub fn enter(self: &Arc<Self>, listener: &Arc<str>, ip: IpAddr, most: usize) -> Option<Place> {
        let key = (listener.clone(), limit_key(ip));
        let mut shard = self.shard(&key).lock().unwrap_or_else(PoisonError::into_inner);
        let count = shard.entry(key.clone()).or_default();
        if *count >= most {
            return None;
        }
        *count += 1;
        drop(shard);
        Some(Place { counts: self.clone(), key })
    }

    fn shard(&self, key: &Key) -> &Mutex<HashMap<Key, usize, RandomState>> {
        let octet = match key.1 {
            IpAddr::V4(v4) => v4.octets()[3],
            IpAddr::V6(v6) => v6.octets()[7],
        };
        &self.shards[octet as usize % SHARDS]
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shard = self.counts.shard(&self.key).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = shard.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(&self.key);
            }
        }
    }
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 one.
fn limit_key(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => {
            let mut octets = v6.octets();
            octets[8..].fill(0);
            IpAddr::from(octets)
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_holds_and_places_come_back() {
        let counts = Arc::new(PerAddress::default());
        let (a, b): (Arc<str>, Arc<str>) = ("a".into(), "b".into());
        let ip: IpAddr = [127, 0, 0, 1].into();
        let first = counts.enter(&a, ip, 1).expect("free");
        assert!(counts.enter(&a, ip, 1).is_none());
        assert!(counts.enter(&b, ip, 1).is_some(), "listeners count apart");
        drop(first);
        assert!(counts.enter(&a, ip, 1).is_some());
        assert!(counts.shards.iter().all(|s| s.lock().expect("lock").is_empty()));
    }

    #[test]
    fn ipv6_counts_by_network_and_mapped_addresses_as_ipv4() {
        let counts = Arc::new(PerAddress::default());
        let a: Arc<str> = "a".into();
        let ip = |s: &str| s.parse::<IpAddr>().expect("address");
        let _one = counts.enter(&a, ip("2001:db8::1"), 1).expect("free");
        assert!(counts.enter(&a, ip("2001:db8::2"), 1).is_none());
        let _two = counts.enter(&a, ip("10.0.0.1"), 1).expect("free");
        assert!(counts.enter(&a, ip("::ffff:10.0.0.1"), 1).is_none());
    }
}
