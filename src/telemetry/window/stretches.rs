//! What happened at a service, stretch by stretch, and what a span of it came to. Filled by ticks of the recorders, and
//! by the simulator on its own clock.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Micros;
use crate::telemetry::histogram::{Merged, Sparse};

use super::{SERVICE_SPAN, ServiceReading};

/// What happened between two ticks.
#[derive(Debug, Clone, Default)]
pub struct Stretch {
    pub from: Micros,
    pub to: Micros,
    pub arrivals: u64,
    /// In-flight requests, summed over time: µs.
    pub area: u64,
    pub finished: u64,
    pub failed: u64,
    pub client_errors: u64,
    pub abandoned: u64,
    pub shed: u64,
    /// Of whole requests.
    pub duration: Sparse,
    /// To the head of the answer.
    pub ttfb: Sparse,
}

/// The last ones, without gaps.
#[derive(Debug, Default)]
pub struct Stretches(VecDeque<Stretch>);

impl Stretches {
    /// Adds one, which begins where the last ended, and keeps what `span` asks for, at most [`SERVICE_SPAN`].
    pub fn push(&mut self, stretch: Stretch, span: Duration) {
        let now = stretch.to;
        match self.0.back_mut() {
            Some(before) if before.is_quiet() && stretch.is_quiet() => before.to = now,
            _ => self.0.push_back(stretch),
        }
        let oldest = now.saturating_sub(span.min(SERVICE_SPAN).as_micros() as u64);
        while self.0.front().is_some_and(|s| s.to <= oldest) {
            self.0.pop_front();
        }
        if self.0.len() == 1 {
            // The room of busier times.
            self.0.shrink_to_fit();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The last `span`; `None` before there is anything.
    pub fn reading(&self, span: Duration) -> Option<ServiceReading> {
        let oldest = self.0.back()?.to.saturating_sub(span.as_micros() as u64);
        // A tick that began before the span counts if most of it lies inside; of a quiet stretch
        // the part that does.
        let inside = |s: &&Stretch| match s.is_quiet() {
            true => s.to > oldest,
            false => s.from.midpoint(s.to) >= oldest,
        };
        let mut covered = 0;
        let (mut arrivals, mut area) = (0, 0);
        let mut reading = ServiceReading {
            span: Duration::ZERO,
            rps: 0.0,
            in_flight: 0.0,
            in_flight_now: 0,
            finished: 0,
            failed: 0,
            client_errors: 0,
            abandoned: 0,
            shed: 0,
            duration: Merged::default(),
            ttfb: Merged::default(),
        };
        for stretch in self.0.iter().rev().take_while(inside) {
            let from = if stretch.is_quiet() { stretch.from.max(oldest) } else { stretch.from };
            covered += stretch.to - from;
            arrivals += stretch.arrivals;
            area += stretch.area;
            reading.finished += stretch.finished;
            reading.failed += stretch.failed;
            reading.client_errors += stretch.client_errors;
            reading.abandoned += stretch.abandoned;
            reading.shed += stretch.shed;
            reading.duration.add(&stretch.duration);
            reading.ttfb.add(&stretch.ttfb);
        }
        if covered == 0 {
            return None;
        }
        reading.span = Duration::from_micros(covered);
        reading.rps = arrivals as f64 / reading.span.as_secs_f64();
        reading.in_flight = area as f64 / covered as f64;
        Some(reading)
    }
}

impl Stretch {
    /// Nothing came, went or was being served.
    fn is_quiet(&self) -> bool {
        self.arrivals == 0
            && self.area == 0
            && self.finished == 0
            && self.duration.is_empty()
            && self.ttfb.is_empty()
    }
}
