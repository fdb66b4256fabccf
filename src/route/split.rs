//! Which of several services gets a request: at random, each as often as its weight says.
//!
//! A request is drawn for on its own, whatever the others got: a client that stays with one version is a matter
//! of sticky sessions or of a header condition, not of this.

/// Weights, summed up from the first on. One service needs no draw.
#[derive(Debug)]
pub struct Split {
    /// Of each, the sum of the weights up to and with it.
    until: Box<[u64]>,
}

impl Split {
    /// At least one weight must be above 0, which the configuration sees to.
    pub fn new(weights: impl IntoIterator<Item = u32>) -> Self {
        let mut sum = 0;
        let until = weights.into_iter().map(|weight| {
            sum += u64::from(weight);
            sum
        });
        Self { until: until.collect() }
    }

    /// Index into the weights; O(log n).
    #[inline]
    pub fn choose(&self, rng: &mut fastrand::Rng) -> usize {
        match *self.until {
            [] | [_] => 0,
            [.., all] => {
                let drawn = rng.u64(..all.max(1));
                self.until.partition_point(|until| *until <= drawn).min(self.until.len() - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_service_costs_no_draw() {
        let mut rng = fastrand::Rng::with_seed(1);
        let before = rng.clone();
        assert_eq!(Split::new([7]).choose(&mut rng), 0);
        assert_eq!(rng, before);
    }

    proptest! {
        /// Each gets its share, within five standard deviations of the binomial distribution, and what has
        /// no weight gets nothing.
        #[test]
        fn each_gets_its_share(weights in prop::collection::vec(0_u32..=65_535, 1..9), seed: u64) {
            let sum: u64 = weights.iter().map(|w| u64::from(*w)).sum();
            prop_assume!(sum > 0);
            let split = Split::new(weights.iter().copied());
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut got = vec![0_u32; weights.len()];
            const DRAWS: u32 = 2000;
            (0..DRAWS).for_each(|_| got[split.choose(&mut rng)] += 1);
            for (weight, got) in weights.iter().zip(&got) {
                let share = f64::from(*weight) / sum as f64;
                let deviation = (f64::from(DRAWS) * share * (1.0 - share)).sqrt();
                let off = (f64::from(*got) - f64::from(DRAWS) * share).abs();
                prop_assert!(off <= 5.0 * deviation + 1.0, "{weights:?}: {got} of {share}");
                prop_assert!(*weight > 0 || weights.len() == 1 || *got == 0);
            }
        }
    }
}
