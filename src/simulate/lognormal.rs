//! Times that requests and starts take: lognormal, by their mean and coefficient of variation.

/// A source of such times.
#[derive(Debug, Clone)]
pub struct Lognormal {
    mu: f64,
    sigma: f64,
    /// Normal numbers come in pairs.
    spare: Option<f64>,
}

impl Lognormal {
    /// `cv`: standard deviation over mean.
    pub fn new(mean: f64, cv: f64) -> Self {
        let (mu, sigma) = parameters(mean, cv);
        Self { mu, sigma, spare: None }
    }

    pub fn draw(&mut self, rng: &mut fastrand::Rng) -> f64 {
        (self.mu + self.sigma * self.normal(rng)).exp()
    }

    /// By the polar method (Marsaglia and Bray, 1964).
    fn normal(&mut self, rng: &mut fastrand::Rng) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        loop {
            let (x, y) = (2.0 * rng.f64() - 1.0, 2.0 * rng.f64() - 1.0);
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let factor = (-2.0 * square.ln() / square).sqrt();
                self.spare = Some(y * factor);
                return x * factor;
            }
        }
    }
}

/// The time that this share does not exceed; `q` in (0, 1).
pub fn quantile(mean: f64, cv: f64, q: f64) -> f64 {
    let (mu, sigma) = parameters(mean, cv);
    (mu + sigma * normal_quantile(q)).exp()
}

fn parameters(mean: f64, cv: f64) -> (f64, f64) {
    let variance = (1.0 + cv * cv).ln();
    (mean.ln() - variance / 2.0, variance.sqrt())
}

/// Quantile of the standard normal distribution, within 0.0005 (Abramowitz and Stegun 26.2.23).
fn normal_quantile(q: f64) -> f64 {
    let q = q.clamp(1e-9, 1.0 - 1e-9);
    let tail = q.min(1.0 - q);
    let t = (-2.0 * tail.ln()).sqrt();
    let over = 2.515_517 + t * (0.802_853 + t * 0.010_328);
    let under = 1.0 + t * (1.432_788 + t * (0.189_269 + t * 0.001_308));
    let z = t - over / under;
    if q < 0.5 { -z } else { z }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_spread_are_as_asked_for() {
        let mut rng = fastrand::Rng::with_seed(5);
        let mut times = Lognormal::new(0.1, 0.5);
        let all: Vec<f64> = (0..100_000).map(|_| times.draw(&mut rng)).collect();
        let mean = all.iter().sum::<f64>() / all.len() as f64;
        let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / all.len() as f64;
        assert!((mean - 0.1).abs() < 0.001, "{mean}");
        assert!((variance.sqrt() / mean - 0.5).abs() < 0.02, "{variance}");
        let below = all.iter().filter(|x| **x <= quantile(0.1, 0.5, 0.95)).count();
        assert!(below.abs_diff(95_000) < 500, "{below}");
    }

    #[test]
    fn normal_quantiles() {
        for (q, z) in [(0.5, 0.0), (0.95, 1.6449), (0.99, 2.3263), (0.05, -1.6449)] {
            assert!((normal_quantile(q) - z).abs() < 5e-4, "{q}");
        }
    }
}
