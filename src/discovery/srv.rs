//! SRV records to backends: RFC 2782.
//!
//! The lowest priority serves. All higher ones are backups, as we know two tiers. Weights are
//! taken as they are; 0, "a very small chance" beside others, is 1. Each address of a target has
//! the weight of its record.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::Found;
use super::dns::Record;

/// A record with the addresses of its target.
pub struct Located<'a> {
    pub record: &'a Record,
    pub addresses: &'a [IpAddr],
}

/// Backends in the order of priority and weight, each address once: the better record counts.
pub fn backends(located: &[Located<'_>]) -> Vec<Found> {
    let mut located: Vec<_> = located.iter().filter(|l| !l.addresses.is_empty()).collect();
    located.sort_by_key(|l| (l.record.priority, u16::MAX - l.record.weight));
    // Of those that were found: a tier without addresses does not serve anyone.
    let lowest = located.first().map(|l| l.record.priority);
    let mut found: Vec<Found> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for Located { record, addresses } in located {
        for ip in *addresses {
            let address = SocketAddr::new(*ip, record.port);
            if !seen.insert(address) {
                continue;
            }
            found.push(Found {
                named: Some((Arc::from(&*record.target), record.port)),
                weight: u32::from(record.weight).max(1),
                backup: Some(record.priority) != lowest,
                ..Found::at(address)
            });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> Record {
        Record { priority, weight, port: 3000, target: target.into() }
    }

    fn ip(last: u8) -> IpAddr {
        [10, 0, 0, last].into()
    }

    #[test]
    fn the_lowest_priority_serves_by_weight_and_the_others_back_it_up() {
        let records =
            [record(20, 5, "c"), record(10, 0, "b"), record(10, 60, "a"), record(1, 1, "x")];
        let [c, b, a] = [[ip(3)], [ip(2)], [ip(1)]];
        let addresses: [&[IpAddr]; 4] = [&c, &b, &a, &[]];
        let located: Vec<_> = records
            .iter()
            .zip(addresses)
            .map(|(record, addresses)| Located { record, addresses })
            .collect();
        let found: Vec<_> = backends(&located)
            .iter()
            .map(|f| (f.address.to_string(), f.weight, f.backup))
            .collect();
        let expected = [
            ("10.0.0.1:3000".to_owned(), 60, false),
            ("10.0.0.2:3000".to_owned(), 1, false),
            ("10.0.0.3:3000".to_owned(), 5, true),
        ];
        assert_eq!(found, expected, "a target without addresses makes no tier");
    }

    #[test]
    fn an_address_of_two_records_counts_once_with_the_better() {
        let records = [record(2, 9, "a"), record(1, 3, "b")];
        let both = [ip(1), ip(2)];
        let located = [
            Located { record: &records[0], addresses: &both },
            Located { record: &records[1], addresses: &both[..1] },
        ];
        let found = backends(&located);
        let seen: Vec<_> = found.iter().map(|f| (&*f.id, f.weight, f.backup)).collect();
        assert_eq!(seen, [("10.0.0.1-3000", 3, false), ("10.0.0.2-3000", 9, true)]);
    }
}
