//! The table of `balance = "hash"`: which backend each of 65537 keys belongs to.
//!
//! Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4): every backend has its own order in which it wants
//! the places of the table, and they take their next free one in turn. Shares are even to about a percent, and
//! when a backend leaves, few places but its own change hands. A heavier one takes its turn more often.
//! Orders and turns depend on ids and weights alone, so all proxies make the same table. It is made by the
//! control plane, once for a membership: a thousand backends take milliseconds, which no worker has to spare.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::Member;
use super::hash::{self, fnv1a, mix};

/// Places of a table: a prime, and some dozen for each of a thousand backends.
pub const PLACES: usize = 65_537;

/// Nobody's yet.
const FREE: u16 = u16::MAX;
/// Members beyond have no place of their own; `hash` finds them when the others cannot be had.
const MEMBERS_MAX: usize = FREE as usize;

/// The tables of a service, for the order of members that they were made of.
#[derive(Debug)]
pub struct Maglev {
    made_of: Vec<(Arc<str>, u32, bool)>,
    ids: Box<[u64]>,
    primary: Box<[u16]>,
    /// Empty if there are no backups.
    backup: Box<[u16]>,
}

impl Maglev {
    pub fn new(members: &[Member]) -> Self {
        let id = |m: &Member| fnv1a(hash::START, m.backend.id.as_bytes());
        let ids: Box<[u64]> = members.iter().map(id).collect();
        let made_of = members.iter().map(describe).collect();
        let (primary, backup) = (fill(members, &ids, false), fill(members, &ids, true));
        Self { made_of, ids, primary, backup }
    }

    /// Whether these members would give the same tables.
    pub fn fits(&self, members: &[Member]) -> bool {
        let same = |(m, made): (&Member, &(Arc<str>, u32, bool))| {
            (m.weight, m.backup) == (made.1, made.2) && m.backend.id == made.0
        };
        members.len() == self.made_of.len() && members.iter().zip(&self.made_of).all(same)
    }

    /// Indexes of members, by place; empty if none is of this kind.
    #[inline]
    pub fn places(&self, backups: bool) -> &[u16] {
        if backups { &self.backup } else { &self.primary }
    }

    /// The member's id, hashed.
    #[inline]
    pub fn id(&self, member: usize) -> u64 {
        self.ids[member]
    }
}

fn describe(member: &Member) -> (Arc<str>, u32, bool) {
    (member.backend.id.clone(), member.weight, member.backup)
}

/// One that takes places: its permutation of them is offset, offset + skip, …
struct Taker {
    index: u16,
    weight: u64,
    next: usize,
    skip: usize,
    taken: u64,
}

impl Taker {
    fn new(index: usize, id: u64, weight: u32) -> Self {
        let places = PLACES as u64;
        // Two hashes that have nothing to do with each other, of one id.
        let (offset, skip) = (mix(id) % places, mix(!id) % (places - 1) + 1);
        let (next, skip) = (offset as usize, skip as usize);
        Self { index: index as u16, weight: u64::from(weight.max(1)), next, skip, taken: 0 }
    }

    /// When it takes its next place; the heavier it is the earlier.
    fn turn(&self) -> u64 {
        ((self.taken + 1) << 32) / self.weight
    }

    fn take(&mut self, table: &mut [u16]) {
        while table[self.next] != FREE {
            self.next = (self.next + self.skip) % PLACES;
        }
        table[self.next] = self.index;
        self.taken += 1;
    }
}

fn fill(members: &[Member], ids: &[u64], backups: bool) -> Box<[u16]> {
    let mut chosen: Vec<usize> =
        (0..members.len().min(MEMBERS_MAX)).filter(|&i| members[i].backup == backups).collect();
    if chosen.is_empty() {
        return Box::default();
    }
    // Members come in another order at another proxy.
    chosen.sort_unstable_by(|&a, &b| members[a].backend.id.cmp(&members[b].backend.id));
    let mut takers: Vec<_> =
        chosen.iter().map(|&i| Taker::new(i, ids[i], members[i].weight)).collect();
    let mut turns: BinaryHeap<Reverse<(u64, usize)>> =
        takers.iter().enumerate().map(|(n, taker)| Reverse((taker.turn(), n))).collect();
    let mut table = vec![FREE; PLACES].into_boxed_slice();
    for _ in 0..PLACES {
        let Some(mut first) = turns.peek_mut() else { break };
        let Reverse((turn, n)) = &mut *first;
        let taker = &mut takers[*n];
        taker.take(&mut table);
        *turn = taker.turn();
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::backend::{Backend, Source};
    use crate::upstream::gate::State;

    fn member(id: &str, weight: u32) -> Member {
        let backend = Backend::new(
            1,
            "app".into(),
            id.into(),
            ([127, 0, 0, 1], 1).into(),
            http::HeaderValue::from_static("app"),
            Source::Fixed,
            State::Ready,
            1,
        );
        Member { backend: Arc::new(backend), weight, backup: false, near: true }
    }

    fn members(ids: std::ops::Range<usize>, weight: impl Fn(usize) -> u32) -> Vec<Member> {
        ids.map(|i| member(&format!("app-{i}"), weight(i))).collect()
    }

    /// Who has each place, by id.
    fn owners(members: &[Member]) -> Vec<&str> {
        let maglev = Maglev::new(members);
        let id = |i: &u16| &*members[usize::from(*i)].backend.id;
        maglev.places(false).iter().map(id).collect()
    }

    fn count(owners: &[&str], id: &str) -> usize {
        owners.iter().filter(|owner| **owner == id).count()
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        let pool = members(0..40, |i| 1 + i as u32 % 3);
        let owners = owners(&pool);
        let total: u32 = pool.iter().map(|m| m.weight).sum();
        for m in &pool {
            let share = count(&owners, &m.backend.id) as f64 / PLACES as f64;
            let due = f64::from(m.weight) / f64::from(total);
            assert!((share / due - 1.0).abs() < 0.01, "{share} for {due}");
        }
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let pool = members(0..30, |_| 1);
        let mut other = pool.clone();
        other.reverse();
        assert_eq!(owners(&pool), owners(&other));
    }

    #[test]
    fn who_leaves_takes_little_with_him() {
        let pool = members(0..30, |_| 1);
        let (before, after) = (owners(&pool), owners(&pool[1..]));
        let moved = before.iter().zip(&after).filter(|(b, a)| b != a && **b != "app-0").count();
        // The paper finds about as many as this (section 5.3); modulo hashing would move nearly all.
        assert!(moved < PLACES / 20, "{moved} of the others' places");
        assert_eq!(count(&after, "app-0"), 0);
    }

    #[test]
    fn a_thousand_and_the_unequal_have_their_places() {
        let pool = members(0..1000, |i| if i == 0 { 65_535 } else { 1 });
        let owners = owners(&pool);
        assert_eq!(owners.len(), PLACES);
        assert!(count(&owners, "app-0") > PLACES * 9 / 10);
        assert!(count(&owners, "app-999") <= 2);
    }

    #[test]
    fn it_fits_the_members_it_was_made_of() {
        let pool = members(0..3, |_| 1);
        let maglev = Maglev::new(&pool);
        assert!(maglev.fits(&members(0..3, |_| 1)));
        assert!(!maglev.fits(&members(0..4, |_| 1)));
        assert!(!maglev.fits(&members(0..3, |i| i as u32 + 1)));
        assert!(maglev.places(true).is_empty());
    }
}
