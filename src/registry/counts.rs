//! How long starts take.

use std::collections::VecDeque;
use std::time::Duration;

use crate::telemetry::histogram::Merged;

/// Starts remembered.
const KEPT: usize = 20;

/// Time from a start to the first pass: of the last 20 starts, and of all.
#[derive(Debug, Default)]
pub struct LeadTime {
    starts: VecDeque<Duration>,
    all: Merged,
}

impl LeadTime {
    pub fn record(&mut self, lead: Duration) {
        if self.starts.len() == KEPT {
            self.starts.pop_front();
        }
        self.starts.push_back(lead);
        self.all.record(lead.as_micros() as u64);
    }

    pub fn all(&self) -> &Merged {
        &self.all
    }

    /// The 90th percentile (nearest rank); `None` before the first start.
    pub fn p90(&self) -> Option<Duration> {
        let mut sorted: Vec<_> = self.starts.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * 9).div_ceil(10);
        sorted.get(rank.checked_sub(1)?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_90th_percentile_of_the_last_twenty() {
        let mut lead = LeadTime::default();
        assert_eq!(lead.p90(), None);
        lead.record(Duration::from_secs(99));
        assert_eq!(lead.p90(), Some(Duration::from_secs(99)));
        for s in 1..=20 {
            lead.record(Duration::from_secs(s));
        }
        assert_eq!(lead.p90(), Some(Duration::from_secs(18)), "99 s is forgotten");
        assert_eq!(lead.all().count(), 21, "but counted");
    }
}
