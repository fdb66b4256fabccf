//! What the last seconds of a simulated service came to, told by the code that tells it live: the same windows, the
//! same histograms. Only the counting is done here, as nobody records requests that are not there.

use std::time::Duration;

use crate::telemetry::histogram::Sparse;
use crate::telemetry::window::{ServiceReading, Stretch, Stretches};

use super::lognormal;
use super::policy::Seen;
use super::setting::PATIENCE;

/// In so many equal parts the distribution of service times is told.
const PARTS: usize = 200;
/// From one request's part to that of the next: over the golden ratio, so that few requests are spread well, too.
const STRIDE: usize = 123;

/// Seconds that are kept for as long as a policy looks back.
#[derive(Debug)]
pub struct Recent {
    span: Duration,
    seconds: Stretches,
    /// Service times, each of the same share of requests, in seconds.
    times: Vec<f64>,
    /// The next request's.
    part: usize,
    /// A fluid's parts of requests that were not counted yet.
    finished: f64,
    dropped: f64,
}

impl Recent {
    /// Keeps `span`; zero: nothing. Service times are lognormal.
    pub fn new(span: Duration, service: f64, cv: f64) -> Self {
        let middle = |part: usize| (part as f64 + 0.5) / PARTS as f64;
        let times = (0..PARTS).map(|part| lognormal::quantile(service, cv, middle(part)));
        Self {
            span,
            seconds: Stretches::default(),
            times: times.collect(),
            part: 0,
            finished: 0.0,
            dropped: 0.0,
        }
    }

    /// A second in which so many were answered, after such a wait before their service.
    pub fn second(&mut self, seen: &Seen, finished: f64, wait: f64) {
        if self.span.is_zero() {
            return;
        }
        let answered = whole(&mut self.finished, finished);
        let dropped = whole(&mut self.dropped, seen.dropped);
        let given_up = ((PATIENCE * 1e6) as u64, dropped);
        let stretch = Stretch {
            from: seen.second * 1_000_000,
            to: (seen.second + 1) * 1_000_000,
            arrivals: seen.arrivals.round() as u64,
            area: (seen.in_flight() * 1e6) as u64,
            finished: u64::from(answered + dropped),
            failed: dropped.into(),
            duration: Sparse::of(self.durations(answered, wait).chain([given_up])),
            ..Stretch::default()
        };
        self.seconds.push(stretch, self.span);
    }

    /// The last `span`, as the control plane would read it.
    pub fn reading(&self, span: Duration) -> Option<ServiceReading> {
        self.seconds.reading(span)
    }

    /// Times of so many requests in µs, each with how many took it.
    fn durations(&mut self, requests: u32, wait: f64) -> impl Iterator<Item = (u64, u32)> + use<> {
        let mut counts = [requests / PARTS as u32; PARTS];
        for _ in 0..requests as usize % PARTS {
            counts[self.part] += 1;
            self.part = (self.part + STRIDE) % PARTS;
        }
        let took: Vec<u64> = self.times.iter().map(|time| ((time + wait) * 1e6) as u64).collect();
        took.into_iter().zip(counts)
    }
}

/// Adds to what is left over, and takes the whole ones.
fn whole(left: &mut f64, more: f64) -> u32 {
    *left += more;
    let whole = left.floor().max(0.0);
    *left -= whole;
    whole as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64, arrivals: f64) -> Seen {
        Seen { second: n, arrivals, busy: arrivals * 0.1, ready: 1, size: 1, ..Seen::default() }
    }

    #[test]
    fn quantiles_are_those_of_the_service_whatever_the_rate() {
        for rate in [0.4, 10.0, 333.0, 5000.0] {
            let mut recent = Recent::new(Duration::from_secs(300), 0.1, 0.5);
            (0..300).for_each(|n| recent.second(&second(n, rate), rate, 0.0));
            let reading = recent.reading(Duration::from_secs(300)).expect("seconds");
            assert!(reading.finished.abs_diff((300.0 * rate) as u64) <= 1, "{rate}");
            for q in [0.5, 0.95] {
                let (told, is) =
                    (reading.seconds(q).expect("some"), lognormal::quantile(0.1, 0.5, q));
                // A bucket is an eighth wide.
                assert!((told / is - 1.0).abs() < 0.15, "{rate}/s, {q}: {told} for {is}");
            }
        }
    }

    #[test]
    fn who_gave_up_took_that_long_and_failed() {
        let mut recent = Recent::new(Duration::from_secs(10), 0.1, 0.5);
        (0..10).for_each(|n| recent.second(&Seen { dropped: 0.5, ..second(n, 1.0) }, 0.5, 0.0));
        let reading = recent.reading(Duration::from_secs(10)).expect("seconds");
        assert_eq!((reading.finished, reading.ratio_of(reading.failed)), (10, Some(0.5)));
        assert!(reading.seconds(0.9).is_some_and(|time| time > 9.0), "{:?}", reading.seconds(0.9));
    }
}
