//! Request by request: what the fluid cannot show, such as slow services, drains and failed starts.
//!
//! Requests come at random moments of their second, go to the backend with the fewest in flight that has
//! a free slot, and wait in one line while there is none. Service times are lognormal (coefficient of variation
//! 0.5), start-up times too (0.25), and policies know the lead time only as it was measured:
//! the 90th percentile of the last 20 starts. A backend that is taken away serves what it has first. What all
//! backends share, if there is such a thing, serves one request after the other, which keep their slots meanwhile.

mod backends;
mod line;

use std::time::Duration;

use super::lognormal::Lognormal;
use super::policy::{Policy, Seen};
use super::run::Course;
use super::score::{Point, Score};
use super::setting::Setting;

use backends::Backends;
use line::Line;

/// Spread of service times, and of start-up times.
const SERVICE_CV: f64 = 0.5;
const START_CV: f64 = 0.25;

/// Nanoseconds since the start.
type Nanos = u64;
const SECOND: Nanos = 1_000_000_000;

/// What goes wrong.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Faults {
    /// Share of starts that fail; noticed after [`START_TIMEOUT`].
    pub start_failures: f64,
    /// Share of seconds without metrics.
    pub lost_metrics: f64,
}

/// A start that was not ready by then has failed.
pub const START_TIMEOUT: Duration = Duration::from_secs(60);

/// One run, all randomness from one seed.
struct Run<'a> {
    setting: &'a Setting,
    backends: Backends,
    line: Line,
    service: Lognormal,
    rng: fastrand::Rng,
    score: Score,
    second: Point,
    /// Sum over the second of busy slots × time, and since when so many are busy.
    busy: f64,
    since: Nanos,
    /// When what all backends share is free, and how long requests of this second waited for it, in seconds.
    shared: Nanos,
    blocked: (f64, f64),
}

/// Runs a policy over a course. Service times, starts and moments of arrival come from the seed.
pub fn run(
    course: &Course<'_>,
    seed: u64,
    faults: Faults,
    policy: &mut dyn Policy,
    mut watch: impl FnMut(&Point),
) -> Score {
    let Course { setting, load, arrivals, needs } = *course;
    let first = setting.start(load.rates.first().copied().unwrap_or(0.0));
    let mut run = Run {
        setting,
        backends: Backends::new(first, setting, faults.start_failures, START_CV),
        line: Line::default(),
        service: Lognormal::new(setting.service, SERVICE_CV),
        // Not the stream that the arrivals were drawn from.
        rng: fastrand::Rng::with_seed(seed ^ 0x9e37_79b9_7f4a_7c15),
        score: Score::default(),
        second: Point::default(),
        busy: 0.0,
        since: 0,
        shared: 0,
        blocked: (0.0, 0.0),
    };
    let mut moments = Vec::new();
    for (second, (arrived, need)) in arrivals.iter().zip(needs).enumerate() {
        run.second = Point { arrivals: *arrived, need: *need, ..Point::default() };
        if let Some(size) = policy.foresee(load.rates[second]) {
            run.backends.set(size);
            run.refill(second as Nanos * SECOND);
        }
        run.score.decided(run.backends.size());
        moments.clear();
        let begin = second as Nanos * SECOND;
        moments.extend((0..*arrived as u64).map(|_| begin + run.rng.u64(..SECOND)));
        moments.sort_unstable();
        let point = run.pass(&moments, begin + SECOND);
        run.score.add(&point);
        watch(&point);
        let seen = Seen {
            second: second as u64,
            arrivals: *arrived,
            busy: std::mem::take(&mut run.busy) / SECOND as f64,
            queued: point.queued,
            dropped: point.dropped,
            ready: run.backends.ready(),
            size: run.backends.size(),
            lead: run.backends.lead(),
            blocked: run.blocked(),
        };
        let lost = faults.lost_metrics > 0.0 && run.rng.f64() < faults.lost_metrics;
        let size = if lost { policy.blind(&seen) } else { policy.tick(&seen) };
        run.backends.resize(size.min(setting.max), begin + SECOND, &mut run.rng);
    }
    run.score.finish()
}

impl Run<'_> {
    /// One second: arrivals, ends of requests and new backends, in order.
    fn pass(&mut self, moments: &[Nanos], end: Nanos) -> Point {
        for now in moments {
            self.until(*now);
            self.arrive(*now);
        }
        self.until(end);
        self.tally(end);
        self.expire(end);
        Point {
            queued: self.line.len() as f64,
            ready: self.backends.ready(),
            paid: self.backends.paid(),
            ..self.second
        }
    }

    /// Everything that happens by itself before a moment.
    fn until(&mut self, now: Nanos) {
        while let Some((at, event)) = self.backends.next(now) {
            self.tally(at);
            self.backends.happen(event);
            self.refill(at);
        }
    }

    fn arrive(&mut self, now: Nanos) {
        // Whoever came earlier and can be served is being served already.
        match self.backends.pick() {
            Some(backend) => {
                self.tally(now);
                self.begin(backend, now, now);
            }
            None => self.line.push(now),
        }
    }

    /// Serves who waits, as far as there are free slots.
    fn refill(&mut self, now: Nanos) {
        while !self.line.is_empty() {
            let Some(backend) = self.backends.pick() else { return };
            self.expire(now);
            let Some(came) = self.line.pop() else { return };
            self.begin(backend, came, now);
        }
    }

    /// Drops who has waited too long.
    fn expire(&mut self, now: Nanos) {
        let dropped = self.line.expire(now) as f64;
        self.second.dropped += dropped;
        self.second.late += dropped;
        self.score.waits.at(super::setting::PATIENCE, dropped);
    }

    fn begin(&mut self, backend: usize, came: Nanos, now: Nanos) {
        let waited = (now - came) as f64 / SECOND as f64;
        self.second.served += 1.0;
        self.second.late += f64::from(u8::from(waited > self.setting.wait));
        self.score.waits.at(waited, 1.0);
        let takes = (self.service.draw(&mut self.rng) * SECOND as f64) as Nanos;
        let blocked = self.block(now);
        self.backends.begin(backend, now + blocked + takes.max(1));
    }

    /// A request waits in its slot for what all backends share.
    fn block(&mut self, now: Nanos) -> Nanos {
        let Some(rate) = self.setting.shared else { return 0 };
        let from = self.shared.max(now);
        self.shared = from + (SECOND as f64 / rate) as Nanos;
        self.blocked.0 += (from - now) as f64 / SECOND as f64;
        self.blocked.1 += 1.0;
        from - now
    }

    /// The mean of the second that has passed, in seconds.
    fn blocked(&mut self) -> f64 {
        let (sum, requests) = std::mem::take(&mut self.blocked);
        if requests > 0.0 { sum / requests } else { 0.0 }
    }

    /// Books the busy slots up to a moment.
    fn tally(&mut self, now: Nanos) {
        self.busy += self.backends.busy() as f64 * (now - self.since) as f64;
        self.since = now;
    }
}
