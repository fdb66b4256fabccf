//! From a number to orders: whom to bring back, how many to start, whom to call off or drain.

use std::sync::Arc;

use super::{Life, Sample, victims};

/// What the control plane is to do. Idempotent: the same sample and size give the same plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Grows with every change of size; older plans are refused by orchestrators.
    pub generation: u64,
    /// Backends that are meant to exist, without the draining ones. What an orchestrator is told
    /// is this number plus the draining ones it still has. Below the wanted size while
    /// `max_surge` holds starts back.
    pub size: u32,
    /// Draining ones to bring back first.
    pub undrain: Vec<Arc<str>>,
    /// New ones to order now.
    pub start: u32,
    /// Starting ones to stop; they serve nobody.
    pub cancel: Vec<Arc<str>>,
    /// Ready ones to drain, then to stop.
    pub drain: Vec<Arc<str>>,
}

impl Plan {
    /// Orders that bring a service to a size. `max_surge`: most that may be starting at once, 0 = any number.
    pub fn new(sample: &Sample, wanted: u32, max_surge: u32, generation: u64) -> Self {
        let size = sample.counts.size();
        let mut plan = Self { generation, size: wanted, ..Self::default() };
        if wanted > size {
            let back = victims::bring_back(&sample.candidates, (wanted - size) as usize);
            plan.undrain = back.into_iter().map(|candidate| candidate.id.clone()).collect();
            let missing = wanted - size - plan.undrain.len() as u32;
            plan.start = match max_surge {
                0 => missing,
                most => missing.min(most.saturating_sub(sample.counts.starting)),
            };
            plan.size = wanted - (missing - plan.start);
        } else {
            for victim in victims::choose(&sample.candidates, (size - wanted) as usize) {
                match victim.life {
                    Life::Starting => plan.cancel.push(victim.id.clone()),
                    Life::Ready | Life::Draining => plan.drain.push(victim.id.clone()),
                }
            }
        }
        plan
    }

    /// Nothing to do.
    pub fn is_empty(&self) -> bool {
        self.undrain.is_empty()
            && self.start == 0
            && self.cancel.is_empty()
            && self.drain.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::{Candidate, Counts};

    fn sample(lives: &[(Life, u32)]) -> Sample {
        let candidates: Vec<Candidate> = lives
            .iter()
            .enumerate()
            .map(|(i, (life, in_flight))| Candidate {
                id: format!("b{i}").into(),
                zone: None,
                life: *life,
                broken: false,
                in_flight: *in_flight,
                latency: 0.0,
                since: i as u64,
            })
            .collect();
        let count = |life| candidates.iter().filter(|c| c.life == life).count() as u32;
        let counts = Counts {
            ready: count(Life::Ready),
            starting: count(Life::Starting),
            draining: count(Life::Draining),
            ..Counts::default()
        };
        Sample { counts, candidates, ..Sample::default() }
    }

    #[test]
    fn draining_ones_come_back_before_new_ones_start() {
        let sample = sample(&[(Life::Ready, 1), (Life::Draining, 2)]);
        let plan = Plan::new(&sample, 4, 0, 1);
        assert_eq!((&*plan.undrain[0], plan.start, plan.size), ("b1", 2, 4));
    }

    #[test]
    fn starting_ones_are_called_off_before_ready_ones_drain() {
        let sample = sample(&[(Life::Ready, 1), (Life::Ready, 0), (Life::Starting, 0)]);
        let plan = Plan::new(&sample, 1, 0, 1);
        assert_eq!((&*plan.cancel[0], &*plan.drain[0], plan.size), ("b2", "b1", 1));
    }

    #[test]
    fn no_more_start_at_once_than_max_surge() {
        let sample = sample(&[(Life::Ready, 1), (Life::Starting, 0)]);
        let plan = Plan::new(&sample, 9, 3, 1);
        assert_eq!((plan.start, plan.size), (2, 4));
    }

    #[test]
    fn the_right_size_needs_nothing() {
        assert!(Plan::new(&sample(&[(Life::Ready, 1)]), 1, 0, 1).is_empty());
    }
}
