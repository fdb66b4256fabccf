//! How often one target is written to: a token bucket of [`BURST`] requests that fills by one a second, which is
//! what Slack takes of an incoming webhook.

use std::time::Duration;

use tokio::time::Instant;

const BURST: u32 = 5;
const PER: Duration = Duration::from_secs(1);

/// A token bucket, kept as the moment in which it would be full (GCRA).
#[derive(Debug, Default)]
pub struct Pace(Option<Instant>);

impl Pace {
    /// How long to wait for the next request.
    pub fn wait(&self, now: Instant) -> Duration {
        let full = self.0.map_or(Duration::ZERO, |full| full.saturating_duration_since(now));
        full.saturating_sub(PER * (BURST - 1))
    }

    /// One is sent.
    pub fn sent(&mut self, now: Instant) {
        self.0 = Some(self.0.map_or(now, |full| full.max(now)) + PER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_a_second() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        for _ in 0..BURST {
            assert_eq!(pace.wait(start), Duration::ZERO);
            pace.sent(start);
        }
        assert_eq!(pace.wait(start), PER);
        let later = start + PER / 4;
        assert_eq!(pace.wait(later), PER * 3 / 4);
        let rested = start + PER * 60;
        assert_eq!(pace.wait(rested), Duration::ZERO);
        (0..BURST).for_each(|_| pace.sent(rested));
        assert_eq!(pace.wait(rested), PER, "what was not used does not add up");
    }
}
