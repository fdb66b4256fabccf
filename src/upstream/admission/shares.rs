//! What each client has under way at a service while there is not enough for all.
//!
//! A fixed table, so no number of clients makes it grow; clients that fall on the same cell share it, which can only
//! make one's share smaller. Cells are chosen with a key of this process, so that nobody can aim at another's.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// Of the table: 16 KiB, once a service was overloaded.
const CELLS: usize = 4096;

/// See the module.
#[derive(Debug, Default)]
pub struct Shares {
    table: OnceLock<Table>,
    /// Cells that are not empty.
    active: AtomicU32,
}

#[derive(Debug)]
struct Table {
    key: u64,
    cells: Box<[AtomicU32]>,
}

/// One request of a client; leaves the table when dropped.
#[derive(Debug)]
pub struct Share {
    shares: Arc<Shares>,
    cell: usize,
    /// With this one.
    count: u32,
    modest: bool,
}

impl Shares {
    /// Counts a request of a client.
    pub fn enter(shares: &Arc<Self>, client: IpAddr) -> Share {
        let table = shares.table.get_or_init(Table::new);
        let cell = table.cell(client);
        let before = table.cells[cell].fetch_add(1, Relaxed);
        if before == 0 {
            shares.active.fetch_add(1, Relaxed);
        }
        Share { shares: shares.clone(), cell, count: before + 1, modest: false }
    }

    /// Clients that have something under way.
    pub fn active(&self) -> u32 {
        self.active.load(Relaxed)
    }

    /// What one may have under way of so many places, when all who have anything get the same; at least 1. What waits
    /// counts as well, so it is a little more than the places. 0 places: no limit.
    pub fn fair(&self, places: u32) -> u32 {
        match places {
            0 => u32::MAX,
            places => {
                let most = places.saturating_add(places.div_ceil(2)).saturating_add(1);
                (most / self.active().max(1)).max(1)
            }
        }
    }
}

impl Table {
    fn new() -> Self {
        let cells = std::iter::repeat_with(AtomicU32::default).take(CELLS).collect();
        Self { key: fastrand::u64(..), cells }
    }

    /// IPv6 by its /64: that is what one customer has.
    fn cell(&self, client: IpAddr) -> usize {
        let number = match client.to_canonical() {
            IpAddr::V4(ip) => u64::from(ip.to_bits()),
            IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ 1 << 63,
        };
        // Finalizer of SplitMix64 (Steele, Lea, Flood 2014).
        let mixed = (number ^ self.key).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) as usize % CELLS
    }
}

impl Share {
    /// Requests that its client had under way when it came, with this one.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Its client has less than its share, or, where it is the only one, no more than half of all.
    pub fn is_modest(&self) -> bool {
        self.modest
    }

    pub(super) fn judge(&mut self, most: u32) {
        self.modest = match self.shares.active() {
            0 | 1 => self.count <= most / 2,
            _ => self.count < most,
        };
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(table) = self.shares.table.get() else { return };
        if table.cells[self.cell].fetch_sub(1, Relaxed) == 1 {
            self.shares.active.fetch_sub(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn who_is_alone_has_all_and_two_have_half() {
        let shares = Arc::default();
        let first = Shares::enter(&shares, client(1));
        assert_eq!((first.count(), shares.active(), shares.fair(20)), (1, 1, 31));
        let second = Shares::enter(&shares, client(2));
        let third = Shares::enter(&shares, client(1));
        assert_eq!((second.count(), third.count(), shares.fair(20)), (1, 2, 15));
        drop((first, third));
        assert_eq!((shares.active(), shares.fair(20), shares.fair(0)), (1, 31, u32::MAX));
    }

    #[test]
    fn nothing_is_left_behind() {
        let shares = Arc::default();
        let all: Vec<_> = (0..10_000).map(|n| Shares::enter(&shares, client(n % 3000))).collect();
        assert!(shares.active() > 1500, "{}", shares.active());
        assert_eq!(shares.fair(100), 1);
        drop(all);
        assert_eq!(shares.active(), 0);
    }

    #[test]
    fn an_ipv6_customer_is_one_client() {
        let shares = Arc::default();
        let of = |text: &str| Shares::enter(&shares, text.parse().expect("an address"));
        let all = [of("2001:db8::1"), of("2001:db8::ffff:1"), of("2001:db8:0:1::1")];
        assert_eq!(all.each_ref().map(Share::count), [1, 2, 1]);
    }
}
