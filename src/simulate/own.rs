//! A configured service in the simulator: the scaler that runs live, its whole pipeline, on a clock
//! that is moved on by hand.
//!
//! Samples are filled from the plant as the control plane fills them from the data plane, of a
//! service without `max_in_flight`: what waits for a slot waits at its backend and is in flight;
//! without any backend it is held. What the plant does not have (memory, metrics from elsewhere)
//! stays unknown, as a lost metric would.

use std::time::Duration;

use crate::config::types::{Metric, Scaling, ScalingMode};
use crate::scale::{Counts, Sample, Scaler, Signal, Traffic, Wall, Wanted};

use super::lognormal;
use super::policy::{Policy, Seen};
use super::recent::Recent;
use super::setting::Setting;

/// The first second of a load that is of no day: 2026-01-01, a Thursday.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// Spread of service times, and in how many equal parts their distribution is told.
const SERVICE_CV: f64 = 0.5;
const PARTS: u32 = 50;

/// A scaler that is fed by the plant.
#[derive(Debug)]
pub struct Own {
    scaler: Scaler,
    setting: Setting,
    interval: u64,
    /// The first second, in milliseconds since 1970.
    begins: u64,
    /// When a request came last, in µs.
    last_request: Option<u64>,
    size: u32,
    /// Service times, each of the same share of requests, in seconds.
    times: Vec<f64>,
    /// Since the last tick of the scaler.
    span: Span,
    /// For what is taken over a window.
    recent: Recent,
}

/// Sums of the seconds between two ticks.
#[derive(Debug, Clone, Copy, Default)]
struct Span {
    seconds: f64,
    busy: f64,
    arrivals: f64,
    dropped: f64,
}

impl Own {
    /// A service's scaling as configured. Modes that would do nothing are simulated as `on`.
    pub fn new(name: &str, scaling: &Scaling, setting: &Setting) -> Self {
        let mut scaling = scaling.clone();
        if matches!(scaling.mode, ScalingMode::Off | ScalingMode::DryRun) {
            scaling.mode = ScalingMode::On;
        }
        let interval = scaling.interval.as_secs_f64().round().max(1.0) as u64;
        let scaler = Scaler::new(name.into(), scaling, 1);
        let middle = |part: u32| (f64::from(part) + 0.5) / f64::from(PARTS);
        let times = (0..PARTS)
            .map(|part| lognormal::quantile(setting.service, SERVICE_CV, middle(part)))
            .collect();
        let recent = Recent::new(longest(&scaler, interval), setting.service, SERVICE_CV);
        Self {
            scaler,
            setting: setting.clone(),
            interval,
            begins: EPOCH_MS,
            last_request: None,
            size: 0,
            times,
            span: Span::default(),
            recent,
        }
    }

    /// The same from that moment on, in milliseconds since 1970: schedules go by it.
    pub fn beginning(mut self, at: Option<u64>) -> Self {
        self.begins = at.unwrap_or(EPOCH_MS);
        self
    }

    fn sample(&self, seen: &Seen, stale: bool) -> Sample {
        let Span { seconds, busy, .. } = self.span;
        let now = seen.second + 1;
        Sample {
            at: now * 1_000_000,
            wall: Wall(self.begins + now * 1000),
            span: Duration::from_secs_f64(seconds),
            counts: Counts {
                ready: seen.ready,
                starting: seen.size - seen.ready,
                ..Counts::default()
            },
            desired: Some(self.size),
            in_flight: busy / seconds + at_backends(seen),
            queued: seen.queued - at_backends(seen),
            last_request: self.last_request,
            traffic: self.traffic(seen),
            lead: Some(Duration::from_secs_f64(seen.lead)),
            signals: self.scaler.wanted().iter().map(|wanted| self.signal(wanted, seen)).collect(),
            stale,
            ..Sample::default()
        }
    }

    fn traffic(&self, seen: &Seen) -> Traffic {
        let Span { seconds, busy, arrivals, dropped } = self.span;
        let abandoned = dropped.round() as u64;
        let finished = self.finished(busy, seen).round() as u64;
        let wait = self.wait(seen);
        let parts = u64::from(PARTS);
        // Of fewer requests than parts: those in the middle.
        let (skipped, each) = match finished < parts {
            true => ((parts - finished) / 2, 1),
            false => (0, finished / parts),
        };
        let times = self.times.iter().skip(skipped as usize);
        let durations = times.take(finished.min(parts) as usize);
        Traffic {
            arrivals,
            busy: busy / seconds + at_backends(seen),
            finished: finished + abandoned,
            failed: 0,
            abandoned,
            shed: 0,
            mean: if finished > 0 { self.setting.service + wait } else { 0.0 },
            durations: durations.map(|time| (time + wait, each)).collect(),
        }
    }

    /// Requests whose work took so many seconds of slots.
    fn finished(&self, busy: f64, seen: &Seen) -> f64 {
        busy / (self.setting.service + seen.blocked)
    }

    /// What is before a request that comes now, in seconds.
    fn wait(&self, seen: &Seen) -> f64 {
        seen.blocked + seen.queued / self.setting.capacity(seen.ready.max(1))
    }

    fn signal(&self, wanted: &Wanted, seen: &Seen) -> Signal {
        let Span { seconds, busy, arrivals, .. } = self.span;
        let (ready, slots) = (f64::from(seen.ready), self.setting.slots);
        let each = |total: f64| (seen.ready > 0).then(|| total / ready);
        let in_flight = busy / seconds + seen.queued;
        let windowed = || self.recent.reading(wanted.window.max(Duration::from_secs_f64(seconds)));
        let value = match &wanted.metric {
            Metric::Cpu => each(busy / seconds / slots),
            // Nothing here tells them.
            Metric::Memory | Metric::External(_) => None,
            Metric::ResponseTime => windowed().and_then(|t| t.seconds(wanted.quantile)),
            Metric::ErrorRate => windowed().and_then(|t| t.ratio_of(t.failed)),
            // Nobody sends what is refused for its own sake.
            Metric::ClientErrorRate => windowed().and_then(|t| t.ratio_of(t.client_errors)),
            Metric::InFlight | Metric::Connections => each(in_flight),
            // Who waits does so at a backend.
            Metric::Queued => each(0.0),
            Metric::Rps => each(arrivals / seconds),
        };
        let missing = if value.is_none() { seen.ready } else { 0 };
        Signal {
            metric: wanted.metric.clone(),
            quantile: wanted.quantile,
            window: wanted.window,
            value,
            missing,
            age: Duration::ZERO,
            oldest: None,
        }
    }

    fn decide(&mut self, seen: &Seen, stale: bool) -> u32 {
        self.span.seconds += 1.0;
        self.span.busy += seen.busy;
        self.span.arrivals += seen.arrivals;
        self.span.dropped += seen.dropped;
        self.recent.second(seen, self.finished(seen.busy, seen), self.wait(seen));
        if seen.arrivals > 0.0 {
            self.last_request = Some((seen.second + 1) * 1_000_000);
        }
        if self.size == 0 {
            self.size = seen.size;
        }
        if !(seen.second + 1).is_multiple_of(self.interval) {
            return self.size;
        }
        let sample = self.sample(seen, stale);
        self.span = Span::default();
        if let Some(plan) = self.scaler.tick(&sample).plan {
            self.size = plan.size;
        }
        self.size
    }
}

/// How far back its policies look for quantiles and ratios; zero if none does.
fn longest(scaler: &Scaler, interval: u64) -> Duration {
    let wanted = scaler.wanted();
    let windows = wanted.iter().filter(|w| w.metric.is_windowed()).map(|w| w.window);
    windows.max().map_or(Duration::ZERO, |longest| longest.max(Duration::from_secs(interval)))
}

/// Who waits does so at a backend, and while there is none is held.
fn at_backends(seen: &Seen) -> f64 {
    if seen.ready > 0 { seen.queued } else { 0.0 }
}

impl Policy for Own {
    fn tick(&mut self, seen: &Seen) -> u32 {
        self.decide(seen, false)
    }

    fn blind(&mut self, seen: &Seen) -> u32 {
        self.decide(seen, true)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::config::types::{Hold, Schedule, Starts, TargetPolicy};
    use crate::scale::fixture;

    /// As the control plane counts it for backends that take whatever comes.
    #[test]
    fn who_waits_for_a_slot_is_in_flight_and_takes_longer() {
        let mut own = Own::new("app", &fixture::params(), &Setting::standard(30.0));
        let seen = Seen {
            second: 4,
            arrivals: 100.0,
            busy: 8.0,
            queued: 40.0,
            ready: 2,
            size: 3,
            lead: 30.0,
            ..Seen::default()
        };
        own.span = Span { seconds: 1.0, busy: 8.0, arrivals: 100.0, dropped: 0.0 };
        let sample = own.sample(&seen, false);
        assert_eq!((sample.counts.ready, sample.counts.starting), (2, 1));
        assert_eq!((sample.in_flight, sample.queued, sample.traffic.busy), (48.0, 0.0, 48.0));
        // 8 busy slots of 100 ms make 80 in a second; 40 of 80 a second are before whoever comes.
        assert_eq!((sample.traffic.finished, sample.traffic.arrivals), (80, 100.0));
        assert!((sample.traffic.mean - 0.6).abs() < 1e-9, "{}", sample.traffic.mean);
        let times: Vec<f64> = sample.traffic.durations.iter().map(|(time, _)| *time).collect();
        assert!(times.iter().all(|time| *time > 0.5) && times.is_sorted_by(|a, b| a < b));
        assert_eq!(sample.lead, Some(Duration::from_secs(30)));
    }

    /// As live: a short slow moment is in a short window and not in the 95 % of a long one.
    #[test]
    fn quantiles_and_ratios_are_of_the_policys_window() {
        let slow = |name: &str, metric: Metric, window: u64| {
            let window = Duration::from_secs(window);
            let target = TargetPolicy { window, ..fixture::target(metric, 1.0) };
            (Arc::from(name), target)
        };
        let (time, errors) = (Metric::ResponseTime, Metric::ErrorRate);
        let targets = vec![
            slow("now", time.clone(), 1),
            slow("long", time.clone(), 60),
            slow("errors", errors.clone(), 60),
        ];
        let params = Scaling { targets, ..fixture::params() };
        let mut own = Own::new("app", &params, &Setting::standard(30.0));
        let calm = Seen { arrivals: 20.0, busy: 2.0, ready: 1, size: 1, ..Seen::default() };
        let value = |own: &Own, seen: &Seen, metric: &Metric, window: u64| {
            let (metric, window) = (metric.clone(), Duration::from_secs(window));
            own.signal(&Wanted { metric, quantile: 0.95, window }, seen).value
        };
        for second in 0..60 {
            own.tick(&Seen { second, ..calm });
        }
        own.span.seconds = 1.0;
        let before = value(&own, &calm, &time, 60).expect("requests");
        assert!((0.15..0.25).contains(&before), "{before}");
        // One second in which 80 wait before whoever comes, and two requests are dropped.
        let slow = Seen { second: 60, queued: 80.0, dropped: 2.0, ..calm };
        own.tick(&slow);
        own.span.seconds = 1.0;
        assert!(value(&own, &slow, &time, 1).is_some_and(|p95| p95 > 2.0));
        let (long, ratio) = (value(&own, &slow, &time, 60), value(&own, &slow, &errors, 60));
        assert!(long.is_some_and(|p95| p95 < 0.25), "{long:?}");
        assert!(ratio.is_some_and(|ratio| (ratio - 2.0 / 1202.0).abs() < 1e-3), "{ratio:?}");
        // It is forgotten when its window is over, not before.
        own.tick(&Seen { second: 61, ..calm });
        own.span.seconds = 1.0;
        assert!(value(&own, &calm, &time, 1).is_some_and(|p95| p95 < 1.0));
        assert!(value(&own, &calm, &time, 2).is_some_and(|p95| p95 > 2.0));
    }

    fn size_of(own: &mut Own, second: u64, arrivals: f64, ready: u32) -> u32 {
        let queued = if ready == 0 { arrivals } else { 0.0 };
        let busy = if ready == 0 { 0.0 } else { 0.1 * arrivals };
        own.tick(&Seen { second, arrivals, busy, queued, ready, size: ready, ..Seen::default() })
    }

    /// What a trace's dates say is the time of the schedules.
    #[test]
    fn schedules_hold_at_the_hours_of_the_load() {
        let starts = Starts::Once(jiff::civil::date(2023, 11, 14).at(22, 13, 40, 0));
        let schedule = Schedule {
            name: "noon".into(),
            starts,
            lasts: Duration::from_secs(20),
            zone: jiff::tz::TimeZone::UTC,
            min: Some(5),
            max: None,
            desired: None,
        };
        let params = Scaling { schedules: vec![Arc::new(schedule)], ..fixture::quick() };
        let sizes = |begins| -> Vec<u32> {
            let own = Own::new("app", &params, &Setting::standard(30.0));
            let (mut own, mut ready) = (own.beginning(begins), 2);
            let mut sizes: Vec<u32> = (0..60)
                .map(|second| {
                    ready = size_of(&mut own, second, 10.0, ready);
                    ready
                })
                .collect();
            sizes.dedup();
            sizes
        };
        assert_eq!(sizes(Some(1_700_000_000_000)), [2, 5], "which stays without a policy");
        assert_eq!(sizes(None), [2], "on another day");
    }

    /// With `min = 0`: asleep after `idle_after`, awake while requests come, and for as many as are held.
    #[test]
    fn a_service_sleeps_and_wakes() {
        let hold = Hold {
            idle_after: Duration::from_secs(60),
            queue: 1000,
            bytes: 1 << 20,
            per_client: 100,
            timeout: Duration::from_secs(30),
            ignore_paths: Vec::new(),
            page: None,
            slots: 4,
        };
        let concurrency = fixture::concurrency(4.0, 0.7);
        let params = Scaling { min: 0, hold: Some(hold), concurrency, ..fixture::quick() };
        let mut own = Own::new("app", &params, &Setting::standard(30.0));
        let mut ready = 1;
        for second in 0..300 {
            ready = size_of(&mut own, second, 1.0, ready);
            assert_eq!(ready, 1, "one request a second keeps it awake: {second}");
        }
        for second in 300..359 {
            ready = size_of(&mut own, second, 0.0, ready);
            assert_eq!(ready, 1, "{second}");
        }
        ready = size_of(&mut own, 359, 0.0, ready);
        assert_eq!(ready, 0, "a minute without any");
        assert_eq!(size_of(&mut own, 360, 0.0, 0), 0);
        assert_eq!(size_of(&mut own, 361, 20.0, 0), 5, "20 are held, 4 slots each");
    }
}
