//! Whether a scaling test was passed: the criteria, what was found, and what it comes to.
//!
//! A generator that could not keep its rate proves nothing about a server, so then nothing is
//! said of it: the verdict is `inconclusive`, whatever the criteria found.

use serde::Serialize;

use super::outcome::Cause;
use super::{Report, Sizes};

/// Share of requests that may fail.
const ERRORS: f64 = 0.001;
/// Milliseconds; the 99th percentile of the latency has to be below.
pub const P99_MS: f64 = 200.0;
/// Share of the planned requests that may be missing before the rate counts as not kept.
const NOT_SENT: f64 = 0.001;
/// Milliseconds: with a p99 of the lateness above it, this generator shows in the latencies.
pub const LATE_MS: f64 = 50.0;

/// What a test came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    pub result: Judgement,
    /// One sentence that says why.
    pub because: String,
    pub criteria: Vec<Criterion>,
    /// Why the rate was not kept; `None`: it was.
    pub rate_not_kept: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// Every criterion was met.
    Passed,
    /// At least one was not.
    Failed,
    /// Neither is proven.
    Inconclusive,
}

/// One thing that is asked for.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Criterion {
    /// `errors`, `p99`, `backends_reached`, `none_crashed`
    pub name: &'static str,
    pub wanted: String,
    pub found: String,
    /// `None`: it is not known.
    pub met: Option<bool>,
}

impl Verdict {
    /// Of a test that was planned to last `planned_s` seconds. Without `sizes`, nothing is
    /// asked of backends.
    pub fn of(report: &Report, planned_s: f64, sizes: Option<&Sizes>) -> Self {
        let mut criteria = vec![errors(report), latency(report)];
        criteria
            .extend(sizes.into_iter().flat_map(|sizes| [reached(sizes), crashed(sizes, report)]));
        let rate_not_kept = rate_not_kept(report);
        let named = |met| {
            let found = criteria.iter().filter(|criterion| criterion.met == met);
            let found: Vec<_> = found.map(|c| format!("{}: {}", c.title(), c.found)).collect();
            (!found.is_empty()).then(|| found.join("; "))
        };
        let (result, because) = if let Some(why) = &rate_not_kept {
            (Judgement::Inconclusive, format!("the generator could not keep the rate: {why}"))
        } else if let Some(missed) = named(Some(false)) {
            (Judgement::Failed, missed)
        } else if report.seconds < planned_s * 0.999 {
            let why = format!("ended after {:.1} of {planned_s:.1} s", report.seconds);
            (Judgement::Inconclusive, why)
        } else if let Some(unknown) = named(None) {
            (Judgement::Inconclusive, unknown)
        } else {
            (Judgement::Passed, "every criterion is met".to_owned())
        };
        Self { result, because, criteria, rate_not_kept }
    }
}

impl Judgement {
    /// As people read it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "PASSED",
            Self::Failed => "FAILED",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }
}

impl Criterion {
    /// The name with spaces.
    pub fn title(&self) -> String {
        self.name.replace('_', " ")
    }

    pub fn word(&self) -> &'static str {
        match self.met {
            Some(true) => "met",
            Some(false) => "missed",
            None => "not known",
        }
    }
}

fn errors(report: &Report) -> Criterion {
    let over = report.sent - report.unfinished;
    let share = report.errors as f64 / over.max(1) as f64;
    Criterion {
        name: "errors",
        wanted: format!("below {} %", ERRORS * 100.0),
        found: format!("{:.3} % ({} of {over} requests)", share * 100.0, report.errors),
        met: Some(share < ERRORS),
    }
}

fn latency(report: &Report) -> Criterion {
    let p99 = report.latency_ms.p99;
    // Only good answers have a latency; without one there is nothing to be quick.
    let none = report.latency_ms.max <= 0.0;
    Criterion {
        name: "p99",
        wanted: format!("below {P99_MS:.0} ms"),
        found: if none { "no good answer".to_owned() } else { format!("{p99:.1} ms") },
        met: Some(!none && p99 < P99_MS),
    }
}

fn reached(sizes: &Sizes) -> Criterion {
    let (ready, desired) = (sizes.most_ready(), sizes.most_desired());
    let first = sizes.looks.first().map_or(0, |look| look.ready);
    let at_max = sizes.looks.iter().filter(|look| Some(look.desired) == look.max).count();
    let mut found = match sizes.looks.first() {
        None => "nothing was seen of them".to_owned(),
        Some(_) => format!("{first} at the start, {desired} wanted at most, {ready} ready at most"),
    };
    if at_max > 0 {
        found.push_str(&format!(" (as many as its max allows for {at_max} s)"));
    }
    Criterion {
        name: "backends_reached",
        wanted: "as many ready as were ever wanted".to_owned(),
        found,
        met: sizes.reached(),
    }
}

fn crashed(sizes: &Sizes, report: &Report) -> Criterion {
    let blind: f64 = sizes.gaps(report.seconds).iter().map(|(from, to)| to - from).sum();
    let known = !sizes.missed_events && blind <= 0.0;
    let bad = sizes.crashed + sizes.unhealthy;
    let mut found = match bad {
        0 => "none".to_owned(),
        _ => format!("{} ended by themselves, {} became unhealthy", sizes.crashed, sizes.unhealthy),
    };
    if !known {
        found.push_str(&match blind > 0.0 {
            true => format!(" seen, but the admin was away for {blind:.0} s"),
            false => " seen, but some events were missed".to_owned(),
        });
    }
    Criterion {
        name: "none_crashed",
        wanted: "no backend ended by itself or became unhealthy".to_owned(),
        found,
        met: if bad > 0 { Some(false) } else { known.then_some(true) },
    }
}

fn rate_not_kept(report: &Report) -> Option<String> {
    let Report { planned, not_sent, late_ms, .. } = report;
    let local = report.not_connected.get(&Cause::Local).copied().unwrap_or(0);
    let too_many = |count: u64| count as f64 > NOT_SENT * *planned as f64;
    if report.sent == 0 && *not_sent == 0 {
        Some("no request was due in that time".to_owned())
    } else if too_many(*not_sent) {
        Some(format!(
            "{not_sent} of {planned} requests were not sent, as the most that may be under way were \
             (--max-in-flight)"
        ))
    } else if too_many(local) {
        Some(format!("{local} of {planned} requests had no port or descriptor on this machine"))
    } else if late_ms.p99 > LATE_MS {
        Some(format!("requests were sent late, p99 {:.0} ms after they were due", late_ms.p99))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::fixture::{look, report};

    fn words(verdict: &Verdict) -> Vec<(&'static str, &'static str)> {
        verdict.criteria.iter().map(|c| (c.name, c.word())).collect()
    }

    /// Three seconds with two backends, of which one more was wanted and came.
    fn sizes() -> Sizes {
        let looks = vec![look(0.1, 2, 2), look(1.1, 2, 3), look(2.1, 3, 3)];
        Sizes { service: "app".into(), looks, ..Sizes::default() }
    }

    #[test]
    fn a_good_test_passes_with_and_without_an_admin() {
        let good = report(3, 1000, 0, 20);
        let verdict = Verdict::of(&good, 3.0, None);
        assert_eq!((verdict.result, words(&verdict).len()), (Judgement::Passed, 2));
        let verdict = Verdict::of(&good, 3.0, Some(&sizes()));
        assert_eq!(verdict.result, Judgement::Passed);
        assert_eq!(
            words(&verdict),
            [
                ("errors", "met"),
                ("p99", "met"),
                ("backends_reached", "met"),
                ("none_crashed", "met")
            ]
        );
        assert_eq!(verdict.criteria[2].found, "2 at the start, 3 wanted at most, 3 ready at most");
    }

    #[test]
    fn one_in_a_thousand_is_too_many_errors_and_200_ms_is_too_slow() {
        assert_eq!(Verdict::of(&report(3, 1999, 1, 20), 3.0, None).result, Judgement::Passed);
        let verdict = Verdict::of(&report(3, 999, 1, 20), 3.0, None);
        assert_eq!(verdict.result, Judgement::Failed);
        assert_eq!(verdict.because, "errors: 0.100 % (1 of 1000 requests)");
        let verdict = Verdict::of(&report(3, 1000, 0, 250), 3.0, None);
        assert_eq!(words(&verdict), [("errors", "met"), ("p99", "missed")]);
        assert_eq!(verdict.result, Judgement::Failed);
        // Nothing but errors is not quick.
        let verdict = Verdict::of(&report(3, 0, 10, 20), 3.0, None);
        assert_eq!(words(&verdict), [("errors", "missed"), ("p99", "missed")]);
    }

    #[test]
    fn a_generator_that_could_not_keep_the_rate_blames_nobody() {
        let mut bad = report(3, 0, 1000, 20);
        (bad.planned, bad.not_sent) = (1100, 100);
        let verdict = Verdict::of(&bad, 3.0, None);
        assert_eq!(verdict.result, Judgement::Inconclusive);
        assert!(verdict.because.starts_with("the generator could not keep the rate: 100 of 1100"));
        let mut late = report(3, 1000, 0, 20);
        late.late_ms.p99 = LATE_MS + 1.0;
        assert!(Verdict::of(&late, 3.0, None).rate_not_kept.is_some());
        let mut ports = report(3, 1000, 0, 20);
        ports.not_connected.insert(Cause::Local, 2);
        assert!(Verdict::of(&ports, 3.0, None).rate_not_kept.is_some());
        assert_eq!(Verdict::of(&report(3, 0, 0, 0), 3.0, None).result, Judgement::Inconclusive);
    }

    #[test]
    fn an_early_end_proves_a_failure_only() {
        let ends = |report| Verdict::of(&report, 60.0, None);
        let verdict = ends(report(3, 1000, 0, 20));
        assert_eq!(verdict.result, Judgement::Inconclusive);
        assert_eq!(verdict.because, "ended after 3.0 of 60.0 s");
        assert_eq!(ends(report(3, 0, 1000, 20)).result, Judgement::Failed);
    }

    #[test]
    fn backends_have_to_come_and_to_stay() {
        let good = report(3, 1000, 0, 20);
        let mut never = sizes();
        never.looks.truncate(2);
        let verdict = Verdict::of(&good, 3.0, Some(&never));
        assert_eq!((verdict.result, words(&verdict)[2].1), (Judgement::Failed, "missed"));
        let crashed = Sizes { crashed: 1, ..sizes() };
        assert_eq!(words(&Verdict::of(&good, 3.0, Some(&crashed)))[3].1, "missed");
        let unhealthy = Sizes { unhealthy: 1, missed_events: true, ..sizes() };
        assert_eq!(words(&Verdict::of(&good, 3.0, Some(&unhealthy)))[3].1, "missed");
    }

    #[test]
    fn what_was_not_seen_is_not_known() {
        let deaf = Sizes { missed_events: true, ..sizes() };
        let verdict = Verdict::of(&report(3, 1000, 0, 20), 3.0, Some(&deaf));
        assert_eq!(words(&verdict)[3].1, "not known");
        assert_eq!(verdict.result, Judgement::Inconclusive);
        let long = report(30, 1000, 0, 20);
        let verdict = Verdict::of(&long, 30.0, Some(&sizes()));
        assert_eq!(verdict.criteria[3].found, "none seen, but the admin was away for 28 s");
        let verdict = Verdict::of(&long, 30.0, Some(&Sizes::default()));
        assert_eq!(words(&verdict)[2].1, "not known");
    }
}
