//! `[route.concurrency_limit]`: so many requests of a route at once, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Requests in flight on one route. Lives through reloads.
#[derive(Debug, Default)]
pub struct InFlight {
    now: AtomicU32,
    found_full: AtomicU64,
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<InFlight>);

impl InFlight {
    /// A place, unless there are `max` taken.
    pub fn enter(self: &Arc<Self>, max: u32) -> Option<Place> {
        if self.now.fetch_add(1, Relaxed) < max {
            return Some(Place(self.clone()));
        }
        self.now.fetch_sub(1, Relaxed);
        self.found_full.fetch_add(1, Relaxed);
        None
    }

    pub fn now(&self) -> u32 {
        self.now.load(Relaxed)
    }

    /// Requests that got no place.
    pub fn found_full(&self) -> u64 {
        self.found_full.load(Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_come_back_over_threads() {
        let route = Arc::new(InFlight::default());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        drop(route.enter(3));
                    }
                });
            }
        });
        assert_eq!(route.now(), 0);
        let before = route.found_full();
        let places: Vec<_> = (0..5).filter_map(|_| route.enter(3)).collect();
        assert_eq!((places.len(), route.now(), route.found_full() - before), (3, 3, 2));
        drop(places);
        assert_eq!(route.now(), 0);
    }
}
