//! What arrives: a rate for each second, and Poisson numbers drawn from it.

use super::poisson::poisson;

/// Requests over time, in whole seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// For people: the file and how it was scaled, or the name of a shape.
    pub name: String,
    /// Expected requests in each second.
    pub rates: Vec<f64>,
    /// The rates are counts of what arrived; nothing is drawn.
    pub exact: bool,
    /// When it begins, in milliseconds since 1970; `None`: it could be any day.
    pub begins: Option<u64>,
}

/// Loads that need no file. Rates in requests per second; what is "before" lets each policy settle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// 150 to 1500 in ten steps of 60 s, then 300 s at 1500.
    Ramp,
    /// 300 s at 60, then 600 s at 1000.
    Step,
    /// 600 s at 100, 60 s at 1500, 900 s at 100.
    Spike,
}

impl Shape {
    pub const ALL: [Self; 3] = [Self::Ramp, Self::Step, Self::Spike];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ramp => "ramp",
            Self::Step => "step",
            Self::Spike => "spike",
        }
    }

    /// (seconds, rate), one after the other.
    fn phases(self) -> Vec<(usize, f64)> {
        match self {
            Self::Ramp => {
                let steps = (1..=10).map(|step| (60, 150.0 * f64::from(step)));
                steps.chain([(300, 1500.0)]).collect()
            }
            Self::Step => vec![(300, 60.0), (600, 1000.0)],
            Self::Spike => vec![(600, 100.0), (60, 1500.0), (900, 100.0)],
        }
    }

    pub fn load(self) -> Load {
        let rates =
            self.phases().into_iter().flat_map(|(n, rate)| std::iter::repeat_n(rate, n)).collect();
        Load { name: self.name().to_owned(), rates, exact: false, begins: None }
    }
}

impl Load {
    /// The highest rate.
    pub fn peak(&self) -> f64 {
        self.rates.iter().copied().fold(0.0, f64::max)
    }

    /// Scaled so that this is the highest rate. What was counted is then only a rate.
    pub fn with_peak(mut self, peak: f64) -> Self {
        let now = self.peak();
        if now > 0.0 && (now - peak).abs() > 1e-9 {
            let factor = peak / now;
            self.rates.iter_mut().for_each(|rate| *rate *= factor);
            self.exact = false;
            self.name = format!("{}, × {} to a peak of {peak}/s", self.name, short(factor));
        }
        self
    }

    /// Arrivals of each second. The same seed gives the same numbers.
    pub fn arrivals(&self, seed: u64) -> Vec<f64> {
        if self.exact {
            return self.rates.clone();
        }
        let mut rng = fastrand::Rng::with_seed(seed);
        self.rates.iter().map(|rate| poisson(*rate, &mut rng)).collect()
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    let digits = (2 - value.abs().log10().floor() as i32).clamp(0, 6) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_what_they_say() {
        let [ramp, step, spike] = Shape::ALL.map(Shape::load);
        assert_eq!((ramp.rates.len(), step.rates.len(), spike.rates.len()), (900, 900, 1560));
        assert_eq!([ramp.rates[0], ramp.rates[60], ramp.rates[899]], [150.0, 300.0, 1500.0]);
        assert_eq!([step.rates[299], step.rates[300]], [60.0, 1000.0]);
        assert_eq!([599, 600, 659, 660].map(|t| spike.rates[t]), [100.0, 1500.0, 1500.0, 100.0]);
    }

    #[test]
    fn a_load_scales_to_a_peak_and_says_by_how_much() {
        let load = Load { name: "x.csv".into(), rates: vec![1.0, 4.0], exact: true, begins: None };
        assert_eq!(load.arrivals(1), load.arrivals(2), "counts are not drawn");
        let scaled = load.with_peak(1200.0);
        assert_eq!((&scaled.rates[..], scaled.exact), (&[300.0, 1200.0][..], false));
        assert_eq!(scaled.name, "x.csv, × 300 to a peak of 1200/s");
    }

    #[test]
    fn the_same_seed_gives_the_same_arrivals() {
        let load = Shape::Step.load();
        assert_eq!(load.arrivals(3), load.arrivals(3));
        assert_ne!(load.arrivals(3), load.arrivals(4));
    }
}
