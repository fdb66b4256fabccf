//! What workers and the control plane share of a service that may have no backend at all: who waits for one, when a request
//! came last, and why none could be started.
//!
//! Requests wait in the service's [`Queue`](super::queue::Queue); what they are held to is `proxy::holding`'s, and how many
//! backends are started for them is the scaler's.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::clock::Micros;

/// A request that comes so soon after the one before is not noted: shared memory is written seldom.
const RESOLUTION: Micros = 250_000;

/// See the module. Lives through reloads.
#[derive(Debug)]
pub struct Hold {
    /// What its places are counted under, by client.
    pub key: Arc<str>,
    waiting: AtomicU32,
    /// Of the heads that wait.
    bytes: AtomicU64,
    /// When a request came last that keeps the service awake; 0 = none did.
    last: AtomicU64,
    /// How long a start takes, in µs; 0 = not known.
    lead: AtomicU64,
    /// Starts that failed while nothing else ran or started.
    failures: AtomicU64,
    /// Of the last of them.
    cause: Mutex<Arc<str>>,
    woken: Notify,
}

/// A request that is held; let go of when dropped.
#[derive(Debug)]
pub struct Place {
    hold: Arc<Hold>,
    bytes: u64,
    /// Failures that there were when it came.
    failures: u64,
}

impl Hold {
    pub fn new(service: &str) -> Self {
        Self {
            key: format!("held for {service}").into(),
            waiting: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            last: AtomicU64::new(0),
            lead: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            cause: Mutex::new("".into()),
            woken: Notify::new(),
        }
    }

    /// A request came that keeps the service awake.
    #[inline]
    pub fn note(&self, now: Micros) {
        if self.last.load(Relaxed).saturating_add(RESOLUTION) <= now {
            self.last.store(now.max(1), Relaxed);
        }
    }

    /// When that was, to a quarter of a second; `None`: never.
    pub fn last(&self) -> Option<Micros> {
        Some(self.last.load(Relaxed)).filter(|last| *last > 0)
    }

    /// Requests that are held.
    pub fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Nothing runs, and somebody wants it to.
    pub fn wake(&self) {
        self.woken.notify_one();
    }

    /// Resolves once somebody has said so since this was last asked.
    pub async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Holds a request with a head of so many bytes, unless all would have more than `most`.
    pub fn enter(self: &Arc<Self>, bytes: u64, most: u64) -> Option<Place> {
        let fits = |held: u64| held.checked_add(bytes).filter(|all| *all <= most);
        self.bytes.fetch_update(SeqCst, SeqCst, fits).ok()?;
        self.waiting.fetch_add(1, SeqCst);
        Some(Place { hold: self.clone(), bytes, failures: self.failures.load(SeqCst) })
    }

    /// Nothing could be started. Who waits hears of it when its turn to look comes.
    pub fn fail(&self, cause: &str) {
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause.into();
        self.failures.fetch_add(1, SeqCst);
    }

    pub fn set_lead(&self, lead: Option<Duration>) {
        self.lead.store(lead.map_or(0, |lead| lead.as_micros() as u64), Relaxed);
    }

    /// How long a start takes, where that was seen.
    pub fn lead(&self) -> Option<Duration> {
        Some(self.lead.load(Relaxed)).filter(|lead| *lead > 0).map(Duration::from_micros)
    }
}

impl Place {
    /// Why there will be nobody, if a start has failed since it came.
    pub fn failure(&self) -> Option<Arc<str>> {
        (self.hold.failures.load(SeqCst) != self.failures)
            .then(|| self.hold.cause.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hold.bytes.fetch_sub(self.bytes, SeqCst);
        self.hold.waiting.fetch_sub(1, SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let hold = Arc::new(Hold::new("a"));
        let places: Vec<_> = (0..5).filter_map(|_| hold.enter(30, 100)).collect();
        assert_eq!((places.len(), hold.waiting()), (3, 3));
        assert!(hold.enter(10, 100).is_some() && hold.enter(u64::MAX, u64::MAX).is_none());
        drop(places);
        assert_eq!(hold.waiting(), 0);
        assert!(hold.enter(100, 100).is_some());
    }

    #[test]
    fn a_failure_is_for_those_who_wait_and_not_for_those_who_come() {
        let hold = Arc::new(Hold::new("a"));
        let before = hold.enter(1, 9).expect("room");
        assert_eq!(before.failure(), None);
        hold.fail("it crashed");
        assert_eq!(before.failure().as_deref(), Some("it crashed"));
        assert_eq!(hold.enter(1, 9).expect("room").failure(), None);
    }

    #[test]
    fn the_last_request_is_known_to_a_quarter_of_a_second() {
        let hold = Hold::new("a");
        assert_eq!(hold.last(), None);
        hold.note(1_000_000);
        hold.note(1_200_000);
        assert_eq!(hold.last(), Some(1_000_000));
        hold.note(1_250_000);
        assert_eq!(hold.last(), Some(1_250_000));
    }
}
