//! How long a request takes: a fixed time or a distribution, as written on the command line.

use std::str::FromStr;
use std::time::Duration;

/// No sample is longer than this, whatever the distribution's tail says.
const LONGEST: f64 = 3600.0;

/// A time or a distribution of times; all parameters in seconds except shapes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Delay {
    /// `40ms`
    Fixed(f64),
    /// `exp:MEAN`
    Exponential { mean: f64 },
    /// `normal:MEAN,DEVIATION`; negative samples become 0.
    Normal { mean: f64, deviation: f64 },
    /// `lognormal:MEDIAN,SIGMA`; sigma is the deviation of the logarithm.
    LogNormal { median: f64, sigma: f64 },
    /// `uniform:LOW,HIGH`
    Uniform { low: f64, high: f64 },
    /// `pareto:LEAST,ALPHA`; the mean is `least × alpha ÷ (alpha − 1)` for alpha above 1.
    Pareto { least: f64, alpha: f64 },
}

/// Why a text is not a delay.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; write 40ms, exp:40ms, normal:40ms,5ms, lognormal:40ms,0.5, uniform:10ms,50ms or pareto:10ms,1.5"
)]
pub struct DelayError(String);

impl Delay {
    /// No delay at all.
    pub const NONE: Self = Self::Fixed(0.0);

    /// One time drawn from it, 0 to 1 h.
    pub fn sample(&self, rng: &mut fastrand::Rng) -> Duration {
        // In (0, 1], so that its logarithm is finite.
        let mut unit = || 1.0 - rng.f64();
        let seconds = match *self {
            Self::Fixed(seconds) => seconds,
            Self::Exponential { mean } => -unit().ln() * mean,
            Self::Normal { mean, deviation } => mean + deviation * standard(unit(), unit()),
            Self::LogNormal { median, sigma } => median * (sigma * standard(unit(), unit())).exp(),
            Self::Uniform { low, high } => low + (high - low) * unit(),
            Self::Pareto { least, alpha } => least / unit().powf(1.0 / alpha),
        };
        Duration::from_secs_f64(seconds.clamp(0.0, LONGEST))
    }
}

/// A standard normal value from two uniform ones (Box and Muller 1958).
fn standard(a: f64, b: f64) -> f64 {
    (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
}

impl FromStr for Delay {
    type Err = DelayError;

    fn from_str(text: &str) -> Result<Self, DelayError> {
        let Some((kind, parameters)) = text.split_once(':') else {
            return Ok(Self::Fixed(time(text)?));
        };
        let (first, second) = match parameters.split_once(',') {
            Some((first, second)) => (first, Some(second)),
            None => (parameters, None),
        };
        let second = |what: &str| second.ok_or_else(|| DelayError(format!("{kind} needs {what}")));
        match kind {
            "exp" => Ok(Self::Exponential { mean: time(first)? }),
            "normal" => Ok(Self::Normal {
                mean: time(first)?,
                deviation: time(second("a mean and a deviation")?)?,
            }),
            "lognormal" => Ok(Self::LogNormal {
                median: time(first)?,
                sigma: shape(second("a median and a sigma")?)?,
            }),
            "uniform" => {
                let (low, high) = (time(first)?, time(second("two times")?)?);
                if low > high {
                    return Err(DelayError(format!("{first} is more than the upper end")));
                }
                Ok(Self::Uniform { low, high })
            }
            "pareto" => {
                let alpha = shape(second("a least time and an alpha")?)?;
                if alpha == 0.0 {
                    return Err(DelayError("alpha must be above 0".into()));
                }
                Ok(Self::Pareto { least: time(first)?, alpha })
            }
            _ => Err(DelayError(format!("\"{kind}\" is no distribution"))),
        }
    }
}

fn time(text: &str) -> Result<f64, DelayError> {
    crate::units::parse_duration(text.trim())
        .map(|time| time.as_secs_f64())
        .map_err(|_| DelayError(format!("\"{text}\" is not a time")))
}

fn shape(text: &str) -> Result<f64, DelayError> {
    match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
        _ => Err(DelayError(format!("\"{text}\" is not a number of 0 or more"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Delay {
        text.parse().expect("a good delay")
    }

    #[test]
    fn reads_every_form() {
        assert_eq!(parse("40ms"), Delay::Fixed(0.04));
        assert_eq!(parse("exp:40ms"), Delay::Exponential { mean: 0.04 });
        assert_eq!(parse("normal:40ms,5ms"), Delay::Normal { mean: 0.04, deviation: 0.005 });
        assert_eq!(parse("lognormal:40ms,0.5"), Delay::LogNormal { median: 0.04, sigma: 0.5 });
        assert_eq!(parse("uniform:10ms,50ms"), Delay::Uniform { low: 0.01, high: 0.05 });
        assert_eq!(parse("pareto:10ms,1.5"), Delay::Pareto { least: 0.01, alpha: 1.5 });
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, part) in [
            ("4 parsecs", "is not a time"),
            ("gauss:1ms", "no distribution"),
            ("normal:1ms", "needs a mean and a deviation"),
            ("uniform:2ms,1ms", "upper end"),
            ("pareto:1ms,0", "above 0"),
            ("lognormal:1ms,-1", "0 or more"),
        ] {
            let error = text.parse::<Delay>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    /// Means of 200,000 samples against the formulas, within 2 % (more than 5 standard errors).
    #[test]
    fn samples_have_the_mean_of_their_formula() {
        let sigma = 0.5_f64;
        for (text, mean) in [
            ("exp:40ms", 0.04),
            ("normal:40ms,5ms", 0.04),
            ("lognormal:40ms,0.5", 0.04 * (sigma * sigma / 2.0).exp()),
            ("uniform:10ms,50ms", 0.03),
            ("pareto:10ms,4", 0.01 * 4.0 / 3.0),
        ] {
            let mut rng = fastrand::Rng::with_seed(7);
            let delay = parse(text);
            let n = 200_000;
            let sum: f64 = (0..n).map(|_| delay.sample(&mut rng).as_secs_f64()).sum();
            let seen = sum / f64::from(n);
            assert!((seen / mean - 1.0).abs() < 0.02, "{text}: {seen} instead of {mean}");
        }
    }

    #[test]
    fn a_normal_delay_is_never_negative() {
        let mut rng = fastrand::Rng::with_seed(1);
        let delay = parse("normal:1ms,100ms");
        assert!((0..1000).any(|_| delay.sample(&mut rng).is_zero()));
    }
}
