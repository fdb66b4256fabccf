//! Ports for children: one allocator for all services of this process.
//!
//! A port that is in use by anyone is skipped, and a port that was given back rests for a
//! while, so that late connections to an ended backend do not reach its successor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::{Clock, Micros};

/// How long a port rests while there are others.
const REST: Duration = Duration::from_secs(60);

/// Gives out ports. Clones share them.
#[derive(Debug, Clone)]
pub struct Ports {
    clock: Clock,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    leased: BTreeSet<u16>,
    /// When a port was given back; forgotten after [`REST`].
    resting: BTreeMap<u16, Micros>,
    /// The last port given out of each range (by its first port).
    last: BTreeMap<u16, u16>,
}

/// A port of one child, given back when dropped.
#[derive(Debug)]
pub(super) struct Lease {
    port: u16,
    from: Ports,
}

impl Ports {
    /// An allocator that knows nothing of others; tests use it. See [`Ports::shared`].
    pub fn new(clock: Clock) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// The allocator of this process.
    pub fn shared() -> Self {
        static SHARED: LazyLock<Ports> = LazyLock::new(|| Ports::new(Clock::real()));
        SHARED.clone()
    }

    /// A port of the range that nobody uses; `None` if there is none.
    pub(super) fn lease(&self, range: &RangeInclusive<u16>) -> Option<Lease> {
        self.lease_where(range, is_free)
    }

    /// Takes one particular port, for a child that was found again and listens on it.
    pub(super) fn adopt(&self, port: u16) -> Lease {
        self.lock().leased.insert(port);
        Lease { port, from: self.clone() }
    }

    fn lease_where(
        &self,
        range: &RangeInclusive<u16>,
        free: impl Fn(u16) -> bool,
    ) -> Option<Lease> {
        let now = self.clock.now();
        let mut state = self.lock();
        state.resting.retain(|_, &mut since| now < since + REST.as_micros() as Micros);
        let last = state.last.get(range.start()).copied();
        let after = last.filter(|p| range.contains(p)).unwrap_or(*range.end());
        // In a circle from the last one; the rested first, then those that rest longest.
        let circle =
            range.clone().filter(|&p| p > after).chain(range.clone().take_while(|&p| p <= after));
        let mut tired: Vec<u16> =
            state.resting.keys().copied().filter(|port| range.contains(port)).collect();
        tired.sort_by_key(|port| state.resting.get(port).copied());
        let port = circle
            .filter(|port| !state.resting.contains_key(port))
            .chain(tired)
            .find(|port| !state.leased.contains(port) && free(*port))?;
        state.leased.insert(port);
        state.resting.remove(&port);
        state.last.insert(*range.start(), port);
        Some(Lease { port, from: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease {
    pub(super) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let now = self.from.clock.now();
        let mut state = self.from.lock();
        state.leased.remove(&self.port);
        state.resting.insert(self.port, now);
    }
}

/// Whether nobody listens on or is bound to the port, on any address of either family. std sets
/// SO_REUSEADDR, so connections in TIME_WAIT do not count.
fn is_free(port: u16) -> bool {
    let v4 = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
    if v4.is_err() {
        return false;
    }
    drop(v4);
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)) {
        Ok(_) => true,
        Err(error) => error.kind() != std::io::ErrorKind::AddrInUse,
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn ports() -> (Clock, Ports) {
        let clock = Clock::manual(SystemTime::UNIX_EPOCH);
        (clock.clone(), Ports::new(clock))
    }

    #[test]
    fn a_port_rests_before_it_is_used_again() {
        let (clock, ports) = ports();
        let take = || ports.lease_where(&(10..=12), |_| true);
        let first = take().expect("free");
        assert_eq!(first.port(), 10);
        drop(first);
        let (second, third) = (take().expect("free"), take().expect("free"));
        assert_eq!((second.port(), third.port()), (11, 12));
        drop(second);
        clock.advance(Duration::from_secs(30));
        drop(third);
        clock.advance(Duration::from_secs(31));
        // 12 still rests, 10 and 11 do not; then 12 is better than none.
        let rest: Vec<_> = (0..3).filter_map(|_| take()).collect();
        assert_eq!(rest.iter().map(Lease::port).collect::<Vec<_>>(), [10, 11, 12]);
        assert!(take().is_none());
    }

    #[test]
    fn ports_of_strangers_and_of_other_services_are_skipped() {
        let (_, ports) = ports();
        let adopted = ports.adopt(21);
        let lease = ports.lease_where(&(20..=22), |port| port != 20).expect("22 is free");
        assert_eq!((adopted.port(), lease.port()), (21, 22));
        let stranger = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = stranger.local_addr().expect("bound").port();
        assert!(ports.lease(&(port..=port)).is_none());
        drop(stranger);
        assert!(ports.lease(&(port..=port)).is_some());
    }
}
