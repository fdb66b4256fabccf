//! Addresses that failed to say who they are, again and again: not heard for a while.
//!
//! Kept over reloads, or a change of the configuration would be ten more guesses.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::guard::Peer;

/// Failures of one address within [`MINUTE`] after which it is not heard for as long.
const FAILURES: u32 = 10;
pub const MINUTE: Duration = Duration::from_secs(60);
/// Addresses whose failures are counted at once; `admin.allow` says who can be one at all.
const MOST: usize = 4096;

/// Who failed, how often, since when.
#[derive(Debug, Default)]
pub struct Lockout {
    failures: Mutex<HashMap<IpAddr, (Instant, u32)>>,
}

impl Lockout {
    pub fn holds(&self, from: IpAddr, now: Instant) -> bool {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let of = failures.get(&from).filter(|(since, _)| now.duration_since(*since) < MINUTE);
        of.is_some_and(|(_, count)| *count >= FAILURES)
    }

    pub fn failed(&self, from: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= MOST {
            failures.retain(|_, (since, _)| now.duration_since(*since) < MINUTE);
        }
        if failures.len() >= MOST && !failures.contains_key(&from) {
            return;
        }
        let of = failures.entry(from).or_insert((now, 0));
        if now.duration_since(of.0) >= MINUTE {
            *of = (now, 0);
        }
        of.1 += 1;
        // The last one begins the minute in which it is not heard.
        if of.1 == FAILURES {
            of.0 = now;
        }
    }
}

/// What an address counts as; all peers of a unix socket are one.
pub fn address(peer: Peer) -> IpAddr {
    match peer {
        Peer::Unix { .. } => Ipv6Addr::UNSPECIFIED.into(),
        Peer::Tcp(address) => match address.ip().to_canonical() {
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
            v4 => v4,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_bounded() {
        let (lockout, begin) = (Lockout::default(), Instant::now());
        for n in 0..MOST as u32 + 100 {
            lockout.failed(std::net::Ipv4Addr::from(n).into(), begin);
        }
        assert_eq!(lockout.failures.lock().expect("lock").len(), MOST);
        lockout.failed([10, 0, 0, 1].into(), begin + MINUTE);
        assert_eq!(lockout.failures.lock().expect("lock").len(), 1);
    }

    #[test]
    fn an_ipv6_network_is_one_and_ipv4_addresses_are_not() {
        let of = |text: &str| {
            address(Peer::Tcp((text.parse::<IpAddr>().expect("an address"), 5).into()))
        };
        assert_eq!(of("2001:db8::1"), of("2001:db8::2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("127.0.0.1"), of("127.0.0.2"));
        assert_eq!(of("127.0.0.1"), of("::ffff:127.0.0.1"));
    }
}
