//! The last resort, where backends turn requests away themselves (503, 429): a share of the requests is not even sent.
//!
//! p = max(0, (requests − 2 · accepts) ÷ (requests + 1)) over two minutes (client-side throttling, Google's Site
//! Reliability Engineering, ch. 21). What is dropped counts as a request, so backends that go on refusing get ever fewer.
//! At most nine of ten are dropped: the others tell when it is over.

use std::collections::VecDeque;

/// Parts of the window, and seconds of each.
const PARTS: usize = 12;
const PART: f64 = 10.0;
/// Accepts count so many times.
const K: f64 = 2.0;
const MOST: f64 = 0.9;
/// With fewer requests in the window nothing is concluded.
const FEWEST: u64 = 100;

/// Requests of some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Heard {
    /// All that came.
    pub requests: u64,
    /// What was dropped before it was sent.
    pub dropped: u64,
    /// What backends turned away.
    pub rejected: u64,
}

#[derive(Debug, Default)]
pub struct Throttle {
    /// Newest last, with the seconds that it has.
    parts: VecDeque<(f64, Heard)>,
    /// Share that is dropped.
    dropped: f64,
}

impl Throttle {
    /// Takes in `span` seconds; the share of requests to drop from now on.
    pub fn hear(&mut self, heard: Heard, span: f64) -> f64 {
        match self.parts.back_mut() {
            Some((seconds, part)) if *seconds < PART => {
                *seconds += span;
                part.requests += heard.requests;
                part.dropped += heard.dropped;
                part.rejected += heard.rejected;
            }
            _ => self.parts.push_back((span, heard)),
        }
        if self.parts.len() > PARTS {
            self.parts.pop_front();
        }
        let sum = |of: fn(&Heard) -> u64| self.parts.iter().map(|(_, part)| of(part)).sum::<u64>();
        let (requests, rejected) = (sum(|h| h.requests), sum(|h| h.rejected));
        let accepts = requests.saturating_sub(rejected + sum(|h| h.dropped)) as f64;
        let p = (requests as f64 - K * accepts) / (requests as f64 + 1.0);
        self.dropped = if requests < FEWEST || rejected == 0 { 0.0 } else { p.clamp(0.0, MOST) };
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many seconds of 100 requests each, of which backends turn a share away of what is sent.
    fn run(throttle: &mut Throttle, seconds: u32, share: f64) -> f64 {
        let mut dropped = throttle.dropped;
        for _ in 0..seconds {
            let unsent = (100.0 * dropped) as u64;
            let rejected = ((100 - unsent) as f64 * share) as u64;
            let heard = Heard { requests: 100, dropped: unsent, rejected };
            dropped = throttle.hear(heard, 1.0);
        }
        dropped
    }

    #[test]
    fn a_service_that_answers_most_is_left_alone() {
        for share in [0.0, 0.01, 0.3, 0.49] {
            assert_eq!(run(&mut Throttle::default(), 300, share), 0.0, "{share}");
        }
    }

    #[test]
    fn the_formula() {
        let mut throttle = Throttle::default();
        // 1000 requests, 100 accepts.
        let p = throttle.hear(Heard { requests: 1000, dropped: 0, rejected: 900 }, 1.0);
        assert!((p - 800.0 / 1001.0).abs() < 1e-9, "{p}");
    }

    #[test]
    fn few_requests_say_nothing() {
        assert_eq!(
            Throttle::default().hear(Heard { requests: 99, dropped: 0, rejected: 99 }, 1.0),
            0.0
        );
    }

    #[test]
    fn it_ends_when_backends_answer_again() {
        let mut throttle = Throttle::default();
        assert_eq!(run(&mut throttle, 60, 1.0), MOST);
        assert_eq!(run(&mut throttle, 130, 0.0), 0.0);
    }
}
