//! The service as it is known: what is configured, else what was learned, else what may be tried.

use crate::config::types as config;

use super::learn::Learner;

/// Slots that a backend is taken for before anything was seen.
pub(super) const START: f64 = 2.0;
/// The goal where none is configured, as a multiple of the service quantile.
const AUTO: f64 = 2.5;
/// What the service quantile is taken for while only the service time is known.
const ASSUMED: f64 = 2.0;
/// Requests may wait for at least this share of a service time.
const LEAST_WAIT: f64 = 0.25;
/// Fewer slots than this are told in quarters.
const FEW: f64 = 8.0;
/// Requests per backend at which nobody waits, where its slots are not configured.
const QUIET: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Model {
    pub slots: f64,
    /// Seconds.
    pub service: f64,
    /// What the quantile of the response time should stay under, in seconds.
    pub goal: f64,
    /// How long a request may wait, in seconds.
    pub wait: f64,
    /// The goal and what a request takes without waiting, both at the quantile, in seconds, if the
    /// goal cannot be reached by any number of backends.
    pub unreachable: Option<(f64, f64)>,
    /// What is still to be found out; more backends than twice the ready ones are not ordered for it.
    pub unknown: Option<Unknown>,
}

/// What a model does without.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unknown {
    /// So many were seen to be served well at the same time; there may be room for more.
    Slots { seen: f64 },
    /// At most that of the model: requests may have waited all the time.
    ServiceTime,
    /// Requests wait although backends get far less done than they did.
    Cause,
    /// Whether more backends bring anything: the last ones did not.
    Use,
}

impl Model {
    /// `None` before enough requests were answered.
    pub fn of(config: &config::SloPolicy, start: f64, learner: &Learner) -> Option<Self> {
        let quiet = quiet(config);
        let learned = learner.service(quiet);
        let sure = config.service_time.map(|time| time.as_secs_f64()).or(learned);
        let pace = learner.pace();
        let limit = pace.most().filter(|_| pace.is_limited());
        let service = match (sure, limit) {
            (Some(sure), _) => sure,
            // So many slots that together get that much done.
            (None, Some(limit)) => {
                let slots = config.slots.unwrap_or(f64::INFINITY);
                learner.service_at_most()?.min(slots / limit)
            }
            (None, None) => learner.service_at_most()?,
        };
        // At the quantile, and not below the mean, which measured in other seconds it might be.
        let quantile = learner.quantile(quiet, config.quantile);
        let quantile = quantile.filter(|_| learned.is_some()).unwrap_or(ASSUMED * service);
        let quantile = quantile.max(service);
        let goal = config.latency.map_or(AUTO * quantile, |latency| latency.as_secs_f64());
        let (slots, room) = match config.slots {
            Some(slots) => (slots, None),
            None => slots(start, service, learner),
        };
        let (wait, least) = (goal - quantile, LEAST_WAIT * service);
        Some(Self {
            slots,
            service,
            goal,
            wait: wait.max(least),
            unreachable: (sure.is_some() && wait < least).then_some((goal, quantile)),
            // Of two that are both too long, slots and service time, only the quotient counts.
            unknown: room
                .or(sure.or(limit).is_none().then_some(Unknown::ServiceTime))
                .or(pace.is_slower().then_some(Unknown::Cause))
                .or(learner.is_doubtful().then_some(Unknown::Use)),
        })
    }
}

/// Requests per backend at which surely nobody waits.
pub(super) fn quiet(config: &config::SloPolicy) -> f64 {
    config.slots.map_or(QUIET, |slots| slots / 2.0)
}

fn slots(start: f64, service: f64, learner: &Learner) -> (f64, Option<Unknown>) {
    let pace = learner.pace();
    let slots = |pace: f64| told(pace * service);
    let seen = pace.seen().map(slots);
    match (pace.most().map(slots), pace.is_limited()) {
        (Some(most), true) => (most, None),
        (most, _) => {
            let seen = Unknown::Slots { seen: seen.unwrap_or(0.0) };
            (most.map_or(start, |most| most.max(start)), Some(seen))
        }
    }
}

/// As exactly as it is worth: another number every second would be another formula every second.
fn told(slots: f64) -> f64 {
    let parts = if slots < FEW { 4.0 } else { 1.0 };
    ((slots * parts).round() / parts).max(1.0)
}
