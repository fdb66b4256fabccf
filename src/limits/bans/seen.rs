//! The bans as requests look at them: never changed, replaced as a whole.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use crate::clock::Micros;

/// Until when each network is banned, and nothing else.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    until: HashMap<IpNet, Micros, RandomState>,
    /// Lengths of prefixes that are in it, a bit each: IPv4's, then IPv6's from 0 to 128.
    v4: u64,
    v6: [u64; 3],
}

impl Seen {
    pub fn with_capacity(many: usize) -> Self {
        let until = HashMap::with_capacity_and_hasher(many, RandomState::default());
        Self { until, ..Self::default() }
    }

    pub fn insert(&mut self, network: IpNet, until: Micros) {
        let length = network.prefix_len();
        let lengths = match network {
            IpNet::V4(_) => &mut self.v4,
            IpNet::V6(_) => &mut self.v6[usize::from(length / 64)],
        };
        *lengths |= 1 << (length % 64);
        self.until.insert(network, until);
    }

    pub fn len(&self) -> usize {
        self.until.len()
    }

    /// The latest end of the bans that an address is under. One look for each length of prefix, mostly one or two.
    pub fn until(&self, address: IpAddr) -> Option<Micros> {
        self.networks(address).filter_map(|network| self.until.get(&network).copied()).max()
    }

    /// Every network that could be banned and that the address is in.
    fn networks(&self, address: IpAddr) -> impl Iterator<Item = IpNet> + use<> {
        let mut words = match address {
            IpAddr::V4(_) => [self.v4, 0, 0],
            IpAddr::V6(_) => self.v6,
        };
        let lengths = std::iter::from_fn(move || {
            let word = words.iter().position(|word| *word != 0)?;
            let bit = words[word].trailing_zeros();
            words[word] &= words[word] - 1;
            Some(word as u8 * 64 + bit as u8)
        });
        lengths.filter_map(move |length| {
            IpNet::new(address, length).ok().map(|network| network.trunc())
        })
    }
}
