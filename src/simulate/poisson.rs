//! Poisson numbers: how many arrivals there are in a second of a given rate.
//!
//! Source of the method for large means: W. Hörmann, The transformed rejection method for
//! generating Poisson random variables (1993), algorithm PTRS.

/// Below this mean the product of uniform numbers is quicker (Knuth, TAOCP 2, 3.4.1).
const SMALL: f64 = 12.0;

/// One number with that mean; 0 for a mean of 0 or below.
pub fn poisson(mean: f64, rng: &mut fastrand::Rng) -> f64 {
    if mean <= 0.0 || !mean.is_finite() {
        return 0.0;
    }
    if mean < SMALL {
        let limit = (-mean).exp();
        let mut product = rng.f64();
        let mut n = 0.0;
        while product > limit {
            product *= rng.f64();
            n += 1.0;
        }
        return n;
    }
    let b = 0.931 + 2.53 * mean.sqrt();
    let a = -0.059 + 0.024_83 * b;
    let inverse_alpha = 1.1239 + 1.1328 / (b - 3.4);
    let quick = 0.9277 - 3.6224 / (b - 2.0);
    let log_mean = mean.ln();
    loop {
        let u = rng.f64() - 0.5;
        let v = 1.0 - rng.f64();
        let us = 0.5 - u.abs();
        let k = ((2.0 * a / us + b) * u + mean + 0.43).floor();
        if us >= 0.07 && v <= quick {
            return k;
        }
        if k < 0.0 || (us < 0.013 && v > us) {
            continue;
        }
        let left = (v * inverse_alpha / (a / (us * us) + b)).ln();
        if left <= k * log_mean - mean - log_factorial(k) {
            return k;
        }
    }
}

/// ln(k!), by Stirling's series above 10 (better than 1e-9 there).
fn log_factorial(k: f64) -> f64 {
    if k < 10.0 {
        return (2..=k as u32).map(|n| f64::from(n).ln()).sum();
    }
    let series = 1.0 / (12.0 * k) - 1.0 / (360.0 * k.powi(3)) + 1.0 / (1260.0 * k.powi(5));
    k * k.ln() - k + 0.5 * (std::f64::consts::TAU * k).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mean_and_variance_are_the_rate() {
        let mut rng = fastrand::Rng::with_seed(7);
        for mean in [0.3, 5.0, 11.9, 12.1, 150.0, 1500.0] {
            let n = 40_000;
            let all: Vec<f64> = (0..n).map(|_| poisson(mean, &mut rng)).collect();
            let n = f64::from(n);
            let found = all.iter().sum::<f64>() / n;
            let variance = all.iter().map(|x| (x - found).powi(2)).sum::<f64>() / n;
            // Five standard errors; that of the variance is about mean·√(2/n).
            assert!((found - mean).abs() < 5.0 * (mean / n).sqrt(), "{mean}: {found}");
            let allowed = 5.0 * mean * ((2.0 + 1.0 / mean) / n).sqrt();
            assert!((variance - mean).abs() < allowed, "{mean}: variance {variance}");
        }
    }

    #[test]
    fn nothing_comes_without_a_rate() {
        let mut rng = fastrand::Rng::with_seed(1);
        assert_eq!([0.0, -1.0, f64::NAN].map(|mean| poisson(mean, &mut rng)), [0.0; 3]);
    }

    #[test]
    fn log_factorials() {
        assert!((log_factorial(10.0) - 3_628_800_f64.ln()).abs() < 1e-9);
        assert!((log_factorial(9.0) - 362_880_f64.ln()).abs() < 1e-9);
    }
}
