//! Counters of one service: arrivals, in-flight requests and their integral, retries, errors by cause.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, Ordering::Relaxed, fence};
use std::time::Duration;

use crate::clock::{Clock, Micros};

use super::PerWorker;
use super::counter::{By, Counter, Gauge, Label, labels};
use super::histogram::Histogram;

labels! {
    /// Why a request was sent again.
    RetryReason {
        Connect = "connect",
        Reset = "reset",
        Refused = "refused",
        Timeout = "timeout",
        Status = "status",
        /// A pooled connection was found closed before a byte was written.
        Stale = "stale",
        /// The first backend took long; it was not given up for that.
        Hedge = "hedge",
    }
}

labels! {
    /// Why no connection to a backend came about.
    ConnectError {
        Refused = "refused",
        Timeout = "timeout",
        Unreachable = "unreachable",
        Tls = "tls",
        Reset = "reset",
        Other = "other",
    }
}

labels! {
    /// Why a request was turned away for want of capacity.
    ShedReason {
        NoBackend = "no_backend",
        Starting = "starting",
        QueueFull = "queue_full",
        QueueTimeout = "queue_timeout",
        /// The route had as many requests in flight as it may have.
        RouteLimit = "route_limit",
        /// More comes than the backends answer.
        Rate = "rate",
        /// Its client has its share under way.
        Share = "share",
        /// Backends turn requests away themselves.
        Throttled = "throttled",
        /// tidegate itself has used up its `max_memory`.
        Memory = "memory",
    }
}

labels! {
    /// Why tidegate itself answered 502, 503 or 504.
    Cause {
        NoBackend = "no_backend",
        Connect = "connect",
        ConnectTimeout = "connect_timeout",
        Reset = "reset",
        Protocol = "protocol",
        ResponseTimeout = "response_timeout",
        RouteTimeout = "route_timeout",
        Overload = "overload",
        Internal = "internal",
    }
}

/// The last answer of tidegate's own making.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastError {
    pub cause: Cause,
    /// The backend of the last try, its lower 32 bits; 0 = none was picked.
    pub uid: u64,
    /// How long that try took.
    pub after: Duration,
}

/// One word holds it: 32 bits of uid, 4 of cause, 28 of milliseconds.
const UID: u64 = 0xffff_ffff;
const AFTER: u64 = 0xfff_ffff;

/// Counters of one service (per worker).
#[derive(Debug, Default)]
pub struct ServiceStats {
    flow: Flow,
    /// Answers by class, 1xx to 5xx, own ones included.
    classes: [Counter; 5],
    pub errors: By<Cause, { Cause::COUNT }>,
    /// See [`LastError`]; 0 = none yet.
    last_error: AtomicU64,
    pub retries: By<RetryReason, { RetryReason::COUNT }>,
    /// Retries that the budget did not allow.
    pub retries_denied: Counter,
    pub connect_errors: By<ConnectError, { ConnectError::COUNT }>,
    pub shed: By<ShedReason, { ShedReason::COUNT }>,
    /// Requests whose client went away before the answer was complete.
    pub cancelled: Counter,
    /// Those of them whose answer had not begun.
    pub abandoned: Counter,
    /// Connections to backends that carry a request.
    pub connections_active: Gauge,
    /// Connections to backends that wait in the pool.
    pub connections_idle: Gauge,
    /// From the request's head to the head of the answer, as the client sees it (all tries).
    pub ttfb: Histogram,
    /// From the request's head to the end of the answer.
    pub duration: Histogram,
    /// Of requests that waited for a place at a backend, whether they got one or not.
    pub queue_wait: Histogram,
}

impl ServiceStats {
    /// Counts a finished request by the status that the client got.
    #[inline]
    pub fn finished(&self, status: u16, us: u64) {
        self.classes[usize::from(status.clamp(100, 599)) / 100 - 1].inc();
        self.duration.record(us);
    }

    /// Counts an answer of tidegate's own making. `uid`: the backend of the last try, 0 = none was picked,
    /// and how long it was tried.
    pub fn went_wrong(&self, cause: Cause, uid: u64, after: Duration) {
        self.errors.inc(cause);
        let ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).min(AFTER);
        let word = (uid & UID) << 32 | (cause.index() as u64) << 28 | ms;
        self.last_error.store(word, Relaxed);
    }

    /// What [`went_wrong`](Self::went_wrong) was told last.
    pub fn last_error(&self) -> Option<LastError> {
        let word = self.last_error.load(Relaxed);
        let cause = *Cause::ALL.get((word >> 28 & 0xf) as usize)?;
        (word != 0).then(|| LastError {
            cause,
            uid: word >> 32,
            after: Duration::from_millis(word & AFTER),
        })
    }

    /// Requests that were turned away because more came than the backends take.
    pub fn shed_for_capacity(&self) -> u64 {
        use ShedReason::{QueueFull, QueueTimeout, Rate, Share};
        [Rate, Share, QueueFull, QueueTimeout].map(|reason| self.shed.get(reason)).iter().sum()
    }

    /// Answers of one class, 1..=5.
    pub fn class(&self, class: usize) -> u64 {
        self.classes[class - 1].get()
    }

    /// Arrivals, in-flight count and its integral up to `now`, all of one moment.
    pub fn flow(&self, now: Micros) -> FlowReading {
        self.flow.read(now)
    }
}

/// One request of a service that is in flight; leaves when dropped, on the worker that made it.
#[derive(Debug)]
pub struct InFlight {
    stats: Arc<PerWorker<ServiceStats>>,
    worker: usize,
    clock: Clock,
    leaves_at: Option<Micros>,
}

impl InFlight {
    /// Counts an arrival at `now`.
    pub fn enter(
        stats: &Arc<PerWorker<ServiceStats>>,
        worker: usize,
        clock: &Clock,
        now: Micros,
    ) -> Self {
        stats.of(worker).flow.change(now, 1);
        Self { stats: stats.clone(), worker, clock: clock.clone(), leaves_at: None }
    }

    /// It will be dropped now: saves a look at the clock.
    pub fn leaves_at(&mut self, now: Micros) {
        self.leaves_at = Some(now);
    }

    /// This worker's counters of the service.
    #[inline]
    pub fn stats(&self) -> &ServiceStats {
        self.stats.of(self.worker)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let now = self.leaves_at.unwrap_or_else(|| self.clock.now());
        self.stats().flow.change(now, -1);
    }
}

/// What [`ServiceStats::flow`] says; sums over workers are made by adding the fields.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FlowReading {
    pub arrivals: u64,
    pub in_flight: u64,
    /// Integral of in-flight over time, in µs·requests: its difference over a span, divided by the
    /// span, is the exact mean, whatever happened between two looks.
    pub area: u64,
}

/// In-flight and its integral, in a seqlock: the four words are written by the worker and must be
/// read as of one moment, or a mean would be off by whole request durations.
#[derive(Debug, Default)]
struct Flow {
    version: AtomicU64,
    arrivals: AtomicU64,
    in_flight: AtomicU64,
    area: AtomicU64,
    since: AtomicU64,
}

impl Flow {
    #[inline]
    fn change(&self, now: Micros, by: i64) {
        use Ordering::{Relaxed, Release};
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);
        let n = self.in_flight.load(Relaxed);
        let since = self.since.load(Relaxed);
        let area = self.area.load(Relaxed);
        self.area.store(area.wrapping_add(n * now.saturating_sub(since)), Relaxed);
        self.since.store(now.max(since), Relaxed);
        self.in_flight.store(n.saturating_add_signed(by), Relaxed);
        if by > 0 {
            self.arrivals.store(self.arrivals.load(Relaxed).wrapping_add(1), Relaxed);
        }
        self.version.store(version.wrapping_add(2), Release);
    }

    fn read(&self, now: Micros) -> FlowReading {
        use Ordering::{Acquire, Relaxed};
        loop {
            let version = self.version.load(Acquire);
            let in_flight = self.in_flight.load(Relaxed);
            let since = self.since.load(Relaxed);
            let reading = FlowReading {
                arrivals: self.arrivals.load(Relaxed),
                in_flight,
                area: self.area.load(Relaxed).wrapping_add(in_flight * now.saturating_sub(since)),
            };
            fence(Acquire);
            if version & 1 == 0 && version == self.version.load(Relaxed) {
                return reading;
            }
            std::hint::spin_loop();
        }
    }
}
