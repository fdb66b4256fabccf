//! Load that a backend reports with its answer: ORCA (Open Request Cost Aggregation, xds.data.orca.v3).
//!
//! The header is `endpoint-load-metrics`, its value `TEXT name=number, …` or `JSON {…}` with the names of the
//! protocol. The binary form is for gRPC; it is not understood. Utilization is `application_utilization`, or where
//! that is not said `cpu_utilization`, and each failure costs as much as the whole backend (gRFC A58):
//! utilization + errors per second ÷ requests per second.

use serde::Deserialize;

/// The header's name.
pub const HEADER: &str = "endpoint-load-metrics";

/// Longest value that is read.
const BYTES_MAX: usize = 4096;

/// What is more is taken for this.
const UTILIZATION_MAX: f32 = 1e6;

/// Why a report is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("it is neither TEXT nor JSON")]
    Format,
    #[error("it is longer than 4096 bytes")]
    Long,
    #[error("it cannot be read")]
    Syntax,
    #[error("a value is negative, infinite or not a number")]
    Value,
    #[error("it says nothing of utilization")]
    Nothing,
}

/// What concerns us of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
struct Report {
    #[serde(alias = "applicationUtilization")]
    application_utilization: f64,
    #[serde(alias = "cpuUtilization")]
    cpu_utilization: f64,
    #[serde(alias = "rpsFractional")]
    rps_fractional: f64,
    eps: f64,
}

/// The utilization that a report comes to; above 0, and above 1 for one that is beyond its limits or fails.
///
/// # Errors
/// What is wrong with it.
pub fn utilization(value: &[u8]) -> Result<f32, Unusable> {
    if value.len() > BYTES_MAX {
        return Err(Unusable::Long);
    }
    let report = match value.split_at_checked(5) {
        Some((b"TEXT ", text)) => text_report(text)?,
        Some((b"JSON ", json)) => serde_json::from_slice(json).map_err(|_| Unusable::Syntax)?,
        _ => return Err(Unusable::Format),
    };
    report.utilization()
}

fn text_report(text: &[u8]) -> Result<Report, Unusable> {
    let text = std::str::from_utf8(text).map_err(|_| Unusable::Syntax)?;
    let mut report = Report::default();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once(['=', ':']).ok_or(Unusable::Syntax)?;
        let field = match name.trim() {
            "application_utilization" => &mut report.application_utilization,
            "cpu_utilization" => &mut report.cpu_utilization,
            "rps_fractional" => &mut report.rps_fractional,
            "eps" => &mut report.eps,
            // Memory, costs and metrics with names of their own.
            _ => continue,
        };
        *field = value.trim().parse().map_err(|_| Unusable::Syntax)?;
    }
    Ok(report)
}

impl Report {
    fn utilization(self) -> Result<f32, Unusable> {
        let Self { application_utilization, cpu_utilization, rps_fractional, eps } = self;
        let values = [application_utilization, cpu_utilization, rps_fractional, eps];
        if !values.iter().all(|value| value.is_finite() && *value >= 0.0) {
            return Err(Unusable::Value);
        }
        // 0 is how the protocol says nothing.
        let utilization = match application_utilization {
            0.0 => cpu_utilization,
            said => said,
        };
        if utilization == 0.0 {
            return Err(Unusable::Nothing);
        }
        let penalty = if rps_fractional > 0.0 { eps / rps_fractional } else { 0.0 };
        Ok(((utilization + penalty) as f32).clamp(f32::MIN_POSITIVE, UTILIZATION_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(value: &str) -> Result<f32, Unusable> {
        utilization(value.as_bytes())
    }

    #[test]
    fn both_formats_say_the_same() {
        assert_eq!(
            of("TEXT cpu_utilization=0.25, mem_utilization=0.9,named_metrics.q=3"),
            Ok(0.25)
        );
        assert_eq!(of("TEXT application_utilization=0.5,cpu_utilization=0.25"), Ok(0.5));
        assert_eq!(of("TEXT cpu_utilization=0.25,rps_fractional=100,eps=50"), Ok(0.75));
        assert_eq!(of(r#"JSON {"cpu_utilization": 0.25, "named_metrics": {"q": 3}}"#), Ok(0.25));
        assert_eq!(
            of(r#"JSON {"applicationUtilization": 1.5, "rpsFractional": 10.0, "eps": 5}"#),
            Ok(2.0)
        );
        assert_eq!(of("TEXT cpu_utilization=0.25,eps=5"), Ok(0.25), "of how many is not said");
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (value, why) in [
            ("", Unusable::Format),
            ("cpu_utilization=0.3", Unusable::Format),
            ("BIN CZqZmZmZmdk/", Unusable::Format),
            ("TEXT cpu_utilization", Unusable::Syntax),
            ("TEXT cpu_utilization=much", Unusable::Syntax),
            ("TEXT cpu_utilization=NaN", Unusable::Value),
            ("TEXT cpu_utilization=-0.1", Unusable::Value),
            ("TEXT cpu_utilization=0.5,eps=inf", Unusable::Value),
            ("TEXT mem_utilization=0.5", Unusable::Nothing),
            ("JSON {", Unusable::Syntax),
            (r#"JSON {"cpu_utilization": "0.3"}"#, Unusable::Syntax),
            ("JSON {}", Unusable::Nothing),
        ] {
            assert_eq!(of(value), Err(why), "{value}");
        }
        assert_eq!(of(&format!("TEXT {}", "x".repeat(5000))), Err(Unusable::Long));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_it_is_a_number_above_0_or_a_reason(value in "(TEXT |JSON )?\\PC{0,60}") {
            if let Ok(utilization) = of(&value) {
                prop_assert!(utilization > 0.0);
            }
        }
    }
}
