//! Who is let in while a service has less capacity than it is asked for.
//!
//! Off, at the cost of one load a request, until the control plane has learned that backends are overloaded
//! (`overload`). Then each request passes, in this order: the last resort ([`Throttle`]), while backends turn requests
//! away themselves; the share of its client ([`Shares`]); and the rate at which the backends answer ([`Rate`]), with the
//! request's class. Whoever is let in may still have to wait for a place (`upstream::queue`).
//!
//! Numbers of one service, for all workers; they live through reloads.

mod rate;
mod shares;

pub use rate::Rate;
pub use shares::{Share, Shares};

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crate::clock::Micros;
use crate::config::types::Priority;

/// See the module.
#[derive(Debug, Default)]
pub struct Admission {
    /// Any of the following is to be asked.
    on: AtomicBool,
    rate: Rate,
    shares: Arc<Shares>,
    throttle: Throttle,
    /// Requests that the backends may have in flight together; 0: no limit.
    places: AtomicU32,
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
}

impl fmt::Display for Refused {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rate => out.write_str("more requests come than the backends answer"),
            Self::Share { most } => write!(out, "this client has its share of {most} under way"),
            Self::Throttled => out.write_str("the backends turn requests away"),
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
    /// Whether [`enter`](Self::enter) is to be asked.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.on.load(Relaxed)
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

    /// Control plane only.
    pub fn set(&self, terms: Terms) {
        self.rate.set(terms.rate);
        self.throttle.0.store((terms.dropped * f64::from(u32::MAX)) as u32, Relaxed);
        self.places.store(terms.places, Relaxed);
        let on = terms.rate.is_finite() || terms.places > 0 || terms.dropped > 0.0;
        self.on.store(on, Relaxed);
    }

    /// Lets a request in or not. What is returned is held until the request is over.
    ///
    /// # Errors
    /// Why not.
    pub fn enter(
        &self,
        client: IpAddr,
        class: Priority,
        now: Micros,
        rng: &mut fastrand::Rng,
    ) -> Result<Share, Refused> {
        if class != Priority::Critical && self.throttle.hits(rng) {
            return Err(Refused::Throttled);
        }
        let mut share = Shares::enter(&self.shares, client);
        let most = self.shares.fair(self.places());
        if share.count() > most && class != Priority::Critical {
            return Err(Refused::Share { most });
        }
        share.judge(most);
        match self.rate.admits(class, share.is_modest(), now) {
            true => Ok(share),
            false => Err(Refused::Rate),
        }
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
