//! `tidegate origin`: a small, honest backend to try things with.
//!
//! It behaves like an application that can work on a fixed number of requests at a time: a
//! request waits for a slot in order of arrival, holds it for the delay, and is answered with
//! what was received. Tests ask for odd answers in the query, see `answer.rs`. It is one thread
//! with timers, so that many of them and the proxy fit on a small machine; the proxy itself
//! uses nothing of this module.

mod answer;
mod body;
mod delay;
mod echo;
mod server;
mod shared;
mod websocket;

pub use delay::{Delay, DelayError};
pub use server::serve;

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use shared::{Locked, Shared};

/// How an origin behaves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sent as `x-origin-id` with every answer.
    pub id: String,
    /// Time a request holds its slot.
    pub delay: Delay,
    /// Requests worked on at once; 0 = no limit.
    pub slots: usize,
    /// Share of requests answered with 500, 0..=1.
    pub fail: f64,
    /// Bytes of filler that an answer has; 0 = the echo.
    pub size: u64,
    /// CPU time burned per request, within its slot, before the delay.
    pub cpu: Duration,
    /// A file that a request locks while it holds its slot: origins that name the same one work on one
    /// request at a time, all together.
    pub shared: Option<PathBuf>,
}

/// One origin: what its connections share.
#[derive(Debug)]
pub struct Origin {
    options: Options,
    id: http::HeaderValue,
    slots: Option<Arc<Semaphore>>,
    shared: Option<Shared>,
    rng: Mutex<fastrand::Rng>,
    requests: AtomicU64,
    waiting: AtomicU32,
    working: AtomicU32,
    most_working: AtomicU32,
}

impl Origin {
    /// `seed` makes delays and failures repeatable.
    ///
    /// # Errors
    /// The id holds a character that no header value may have.
    pub fn new(options: Options, seed: u64) -> Result<Self, http::header::InvalidHeaderValue> {
        Ok(Self {
            id: http::HeaderValue::from_str(&options.id)?,
            slots: (options.slots > 0).then(|| Arc::new(Semaphore::new(options.slots))),
            shared: options.shared.as_deref().map(Shared::new),
            options,
            rng: Mutex::new(fastrand::Rng::with_seed(seed)),
            requests: AtomicU64::new(0),
            waiting: AtomicU32::new(0),
            working: AtomicU32::new(0),
            most_working: AtomicU32::new(0),
        })
    }

    fn rng(&self) -> fastrand::Rng {
        self.rng.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    /// Waits for a slot, first come first served, and for what is shared. Both are given back when the place
    /// is dropped.
    ///
    /// # Errors
    /// What is shared cannot be used.
    async fn slot(self: &Arc<Self>) -> std::io::Result<Place> {
        let waiting = Counted::new(self, |origin| &origin.waiting);
        let permit = match &self.slots {
            // The semaphore is never closed, so there is always a permit in the end.
            Some(slots) => slots.clone().acquire_owned().await.ok(),
            None => None,
        };
        drop(waiting);
        let working = Counted::new(self, |origin| &origin.working);
        self.most_working.fetch_max(self.working.load(Relaxed), Relaxed);
        let shared = match &self.shared {
            Some(shared) => Some(shared.lock().await?),
            None => None,
        };
        Ok(Place { _shared: shared, _permit: permit, _working: working })
    }

    fn stats(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.options.id,
            "requests": self.requests.load(Relaxed),
            "waiting": self.waiting.load(Relaxed),
            "working": self.working.load(Relaxed),
            "most_working": self.most_working.load(Relaxed),
        })
    }
}

/// A slot, held until the answer is out or the client is gone.
#[derive(Debug)]
struct Place {
    _shared: Option<Locked>,
    _permit: Option<tokio::sync::OwnedSemaphorePermit>,
    _working: Counted,
}

/// One in a counter, for as long as it lives.
#[derive(Debug)]
struct Counted {
    origin: Arc<Origin>,
    which: fn(&Origin) -> &AtomicU32,
}

impl Counted {
    fn new(origin: &Arc<Origin>, which: fn(&Origin) -> &AtomicU32) -> Self {
        which(origin).fetch_add(1, Relaxed);
        Self { origin: origin.clone(), which }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.which)(&self.origin).fetch_sub(1, Relaxed);
    }
}
