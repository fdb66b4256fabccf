//! Who is let in while a service has less capacity than it is asked for.
//!
//! Off, at the cost of one load a request, until the control plane has learned that backends are overloaded
//! (`overload`), or that there is no memory for them (`memory`): then only some classes are let in. Each request passes, in this order: the last resort ([`Throttle`]), while backends turn requests
//! away themselves; the share of its client ([`Shares`]); and the rate at which the backends answer ([`Rate`]), with the
//! request's class. Whoever is let in may still have to wait for a place (`upstream::queue`). While more capacity is
//! [`Expected`] soon, share and rate turn no normal request away: it waits.
//!
//! Numbers of one service, for all workers; they live through reloads.

mod expected;
mod rate;
mod shares;

pub use expected::Expected;
pub use rate::Rate;
pub use shares::{Share, Shares};

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use crate::clock::Micros;
use crate::config::types::Priority;

/// See the module.
#[derive(Debug, Default)]
pub struct Admission {
    /// Which of the following is to be asked: [`LEARNED`], and the classes that are refused for want of memory.
    on: AtomicU8,
    rate: Rate,
    shares: Arc<Shares>,
    throttle: Throttle,
    /// Requests that the backends may have in flight together; 0: no limit.
    places: AtomicU32,
    expected: Expected,
}

/// Why a request was not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// More come than the backends answer, and others go first.
    Rate,
    /// Its client has so many under way, which is its share while there is not enough for all.
    Share { most: u32 },
    /// Backends turn away so many themselves that this one is not even sent.
    Throttled,
    /// There is no memory for requests of its class.
    Memory,
}

/// Rate, shares or throttle.
const LEARNED: u8 = 1;
const CLASSES: [Priority; 3] = [Priority::Critical, Priority::Normal, Priority::Sheddable];

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate => out.write_str("more requests come than the backends answer"),
            Self::Share { most } => write!(out, "this client has its share of {most} under way"),
            Self::Throttled => out.write_str("the backends turn requests away"),
            Self::Memory => out.write_str("tidegate has no memory left for it"),
        }
    }
}

/// Drops a share of the requests before they are sent (client-side throttling of Google's SRE book, ch. 21).
#[derive(Debug, Default)]
pub struct Throttle(AtomicU32);

/// What the control plane has learned.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Terms {
    /// Requests a second to let in; infinite: all.
    pub rate: f64,
    /// Requests that the backends may have in flight together; 0: no limit.
    pub places: u32,
    /// Share of the requests to drop, 0..=1.
    pub dropped: f64,
}

impl Admission {
    /// Whether some requests are refused for want of memory.
    pub fn lacks_memory(&self) -> bool {
        self.on.load(Relaxed) & !LEARNED != 0
    }

    /// Whether [`enter`](Self::enter) is to be asked.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed) != 0
    }

    /// Requests that the backends may have in flight together; 0: nothing was learned, or no limit.
    pub fn places(&self) -> u32 {
        self.places.load(Relaxed)
    }

    /// Requests a second that are let in; infinite: all.
    pub fn rate(&self) -> f64 {
        self.rate.get()
    }

    /// Share of the requests that are dropped before they are sent.
    pub fn dropped(&self) -> f64 {
        self.throttle.get()
    }

    /// How many times the present capacity is expected soon; `None`: no more than there is.
    pub fn expected(&self, now: Micros) -> Option<f64> {
        self.expected.get(now)
    }

    /// So many times the present capacity is expected, and worth to wait for until then. Control plane only.
    pub fn expect(&self, times: f64, until: Micros) {
        self.expected.set(until, times);
    }

    /// Control plane only.
    pub fn set(&self, terms: Terms) {
        self.rate.set(terms.rate);
        self.throttle.0.store((terms.dropped * f64::from(u32::MAX)) as u32, Relaxed);
        self.places.store(terms.places, Relaxed);
        let on = terms.rate.is_finite() || terms.places > 0 || terms.dropped > 0.0;
        match on {
            true => self.on.fetch_or(LEARNED, Relaxed),
            false => self.on.fetch_and(!LEARNED, Relaxed),
        };
    }

    /// There is memory only for requests of this class, and of those that go before it, or for none. Control plane only,
    /// and one caller at a time.
    pub fn spare(&self, lowest: Option<Priority>) {
        let refused = CLASSES.into_iter().filter(|class| lowest.is_none_or(|low| *class > low));
        let refused = refused.fold(0, |bits, class| bits | bit(class));
        // It is said again and again; a word that every request reads is not written for nothing.
        if self.on.load(Relaxed) & !LEARNED != refused {
            self.on.fetch_or(refused, Relaxed);
            self.on.fetch_and(LEARNED | refused, Relaxed);
        }
    }

    /// Lets a request in or not. What is returned is held until the request is over. `free`: nobody waits for a place.
    ///
    /// # Errors
    /// Why not.
    pub fn enter(
        &self,
        client: IpAddr,
        class: Priority,
        free: bool,
        now: Micros,
        rng: &mut fastrand::Rng,
    ) -> Result<Share, Refused> {
        if self.on.load(Relaxed) & bit(class) != 0 {
            return Err(Refused::Memory);
        }
        if class != Priority::Critical && self.throttle.hits(rng) {
            return Err(Refused::Throttled);
        }
        let mut share = Shares::enter(&self.shares, client);
        let is_normal = class == Priority::Normal;
        let waits = is_normal && self.expected(now).is_some();
        let most = self.shares.fair(self.places());
        if share.count() > most && class != Priority::Critical && !waits {
            return Err(Refused::Share { most });
        }
        share.judge(most);
        // The rate keeps the queue short, and it is what was answered while too much came: where nobody waits there is more.
        let may = waits || is_normal && free;
        match self.rate.admits(class, share.is_modest(), now) || may {
            true => Ok(share),
            false => Err(Refused::Rate),
        }
    }
}

/// Of [`Admission::on`]: the class is refused.
fn bit(class: Priority) -> u8 {
    match class {
        Priority::Critical => LEARNED << 1,
        Priority::Normal => LEARNED << 2,
        Priority::Sheddable => LEARNED << 3,
    }
}

impl Throttle {
    fn get(&self) -> f64 {
        f64::from(self.0.load(Relaxed)) / f64::from(u32::MAX)
    }

    #[inline]
    fn hits(&self, rng: &mut fastrand::Rng) -> bool {
        let dropped = self.0.load(Relaxed);
        dropped != 0 && rng.u32(..) < dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why each class is not let in.
    fn lets_in(admission: &Admission) -> [Option<Refused>; 3] {
        let mut rng = fastrand::Rng::with_seed(1);
        let client = IpAddr::from([127, 0, 0, 1]);
        CLASSES.map(|class| admission.enter(client, class, false, 0, &mut rng).err())
    }

    #[test]
    fn classes_are_refused_for_memory_from_the_lowest_up() {
        let admission = Admission::default();
        let no = Some(Refused::Memory);
        admission.spare(Some(Priority::Normal));
        assert!(admission.is_on());
        assert_eq!(lets_in(&admission), [None, None, no]);
        admission.spare(Some(Priority::Critical));
        assert_eq!(lets_in(&admission), [None, no, no]);
        admission.spare(None);
        assert_eq!(lets_in(&admission), [no; 3]);
        assert!(admission.lacks_memory());
        admission.spare(Some(Priority::Normal));
        assert_eq!(lets_in(&admission), [None, None, no]);
        admission.spare(Some(Priority::Sheddable));
        assert!(!admission.is_on() && !admission.lacks_memory());
    }

    #[test]
    fn normal_requests_wait_for_capacity_that_is_expected() {
        let admission = Admission::default();
        admission.set(Terms { rate: 1.0, places: 2, dropped: 0.0 });
        let mut rng = fastrand::Rng::with_seed(1);
        let client = IpAddr::from([127, 0, 0, 1]);
        let mut enter = |class, now| admission.enter(client, class, false, now, &mut rng);
        let most = Some(Refused::Share { most: 4 });
        let held: Vec<_> = (0..20).map_while(|_| enter(Priority::Normal, 5).ok()).collect();
        assert_eq!(held.len(), 4);
        assert_eq!(enter(Priority::Normal, 5).err(), most);
        admission.expect(3.0, 9);
        let more: Vec<_> = (0..20).map_while(|_| enter(Priority::Normal, 8).ok()).collect();
        assert_eq!(more.len(), 20);
        assert_eq!(enter(Priority::Sheddable, 8).err(), most);
        assert_eq!(enter(Priority::Normal, 9).err(), most);
    }

    #[test]
    fn the_rate_refuses_no_normal_request_while_nobody_waits() {
        let admission = Admission::default();
        admission.set(Terms { rate: 1.0, places: 1000, dropped: 0.0 });
        let client = IpAddr::from([127, 0, 0, 1]);
        let mut rng = fastrand::Rng::with_seed(1);
        let mut enter = |class, free| admission.enter(client, class, free, 5, &mut rng);
        // Of a client that is not modest any more.
        let held: Vec<_> = (0..900).map_while(|_| enter(Priority::Normal, true).ok()).collect();
        assert_eq!(held.len(), 900);
        assert_eq!(enter(Priority::Normal, false).err(), Some(Refused::Rate));
        assert_eq!(enter(Priority::Sheddable, true).err(), Some(Refused::Rate));
    }

    #[test]
    fn what_was_learned_and_what_memory_allows_are_apart() {
        let (admission, all) = (Admission::default(), f64::INFINITY);
        admission.set(Terms { rate: all, places: 10, dropped: 0.0 });
        admission.spare(Some(Priority::Normal));
        admission.set(Terms { rate: all, places: 0, dropped: 0.0 });
        assert_eq!(lets_in(&admission)[2], Some(Refused::Memory));
        admission.set(Terms { rate: all, places: 10, dropped: 0.0 });
        admission.spare(Some(Priority::Sheddable));
        assert!(admission.is_on(), "for the places");
        assert_eq!(lets_in(&admission), [None; 3]);
    }
}
