//! `[route.concurrency_limit]`: so many requests of a route at once, over all workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Requests in flight on one route. Lives through reloads.
#[derive(Debug, Default)]
pub struct InFlight(AtomicU32);

/// One of them; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<InFlight>);

impl InFlight {
    /// A place, unless there are `max` taken.
    pub fn enter(self: &Arc<Self>, max: u32) -> Option<Place> {
        if self.0.fetch_add(1, Relaxed) < max {
            return Some(Place(self.clone()));
        }
        self.0.fetch_sub(1, Relaxed);
        None
    }

    pub fn now(&self) -> u32 {
        self.0.load(Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Relaxed);
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
        let places: Vec<_> = (0..5).filter_map(|_| route.enter(3)).collect();
        assert_eq!((places.len(), route.now()), (3, 3));
        drop(places);
        assert_eq!(route.now(), 0);
    }
}
