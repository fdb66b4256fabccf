//! The arithmetic of the `slo` policy: from arrivals and a queue to a number of backends.
//!
//! It asks: how many backends keep the share of requests that wait longer than the budget under
//! a bound, for the rate of now, for the rate when a backend ordered now is ready, and for what
//! waits already. State and signals go in, a number and its reason come out; no clock, no
//! randomness. One tick reads from top to bottom in [`Slo::tick`]. Limits to the number (minimum,
//! maximum, surge) and where the signals come from are left to others.
//!
//! - `staffing`: how many for a rate (Erlang C).
//! - `arrivals`: the last minutes of arrivals, their means and their noise.
//! - `trend`: where the rate will be.
//! - `hold`: what was needed lately, so that the number does not fall at once.

mod arrivals;
mod hold;
mod staffing;
mod trend;

#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;

use arrivals::Arrivals;
use hold::Needs;
use staffing::Staffing;

pub use staffing::wait_probability;

/// Windows, in seconds, in which a rise is looked for next to the long mean.
const SHORT_WINDOWS: [u32; 4] = [2, 5, 10, 30];
/// The long window of the level, in seconds.
const LONG_WINDOW: u32 = 60;
/// A trend is carried this much beyond the lead time, in seconds: the next decisions' delay.
const LOOK_AHEAD: f64 = 4.0;
/// From this service time on (seconds) every queued request counts as backlog: half a wait budget
/// of such a service is a second of work, which would stay hidden.
const SLOW_SERVICE: f64 = 0.5;

/// What can be chosen. The defaults are the policy's; other values are for experiments.
#[derive(Debug, Clone, PartialEq)]
pub struct Params {
    /// Head-room on the present rate, at least 1.
    pub headroom: f64,
    /// Ceiling of the utilization, in (0, 1].
    pub max_utilization: f64,
    /// Share of requests that may wait longer than the budget, in (0, 1).
    pub wait_probability: f64,
    /// Standard errors that a short window must lie above the long one to count, and below it to
    /// be a collapse.
    pub level_sigmas: f64,
    /// Standard errors that a slope must have to count as one.
    pub slope_gate: f64,
    /// Standard errors that are taken off a slope before it is carried forward.
    pub slope_sigmas: f64,
    /// A forecast is at most this many times the level.
    pub forecast_cap: f64,
    /// The number stays at the largest need of this time, in seconds.
    pub hold: u32,
    /// For small steps down: this time, in seconds.
    pub trim_hold: u32,
    /// What a small step is: this share of the backends, at least one.
    pub small: f64,
    /// A collapse is a rate below this share of the long mean.
    pub collapse_ratio: f64,
}

/// One second of one service.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signals {
    /// Requests that arrived in this second.
    pub arrivals: f64,
    /// Requests that wait for a slot now.
    pub queued: f64,
    /// Backends that take requests.
    pub ready: u32,
    /// Ready and starting ones, without those that drain.
    pub spec: u32,
    /// From ordering a backend until it is ready, in seconds.
    pub lead: f64,
    /// Requests that one backend serves well at the same time.
    pub slots: f64,
    /// Time that one request takes without waiting, in seconds.
    pub service: f64,
    /// How long a request may wait, in seconds.
    pub wait: f64,
    /// Requests per second that a season lets expect by the time that a backend ordered now is ready; 0: nothing.
    pub season: f64,
}

/// What a tick came to. Rates are in requests per second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Decision {
    /// Backends wanted (ready and starting together), before minimum and maximum.
    pub n: u32,
    pub why: Why,
    /// The rate of now.
    pub level: f64,
    /// The rate when a backend ordered now will be ready; at least the level.
    pub forecast: f64,
    /// The rate that clears the backlog within one wait budget; 0 without one.
    pub backlog: f64,
    /// Backends for the level alone.
    pub base: u32,
    /// Backends for level, forecast and backlog, or for the season.
    pub need: u32,
    /// The need is the season's.
    pub seasonal: bool,
    /// The need after the holds; `n` is never above it.
    pub wish: u32,
    /// Index of dispersion of the arrivals (1 = Poisson), between 1 and 4.
    pub dispersion: f64,
}

/// What decided about the number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Why {
    /// The rate of now, as the mean of that many seconds.
    Level { window: u32 },
    /// The rate rises by that much each second (requests/s²).
    Trend { slope: f64 },
    /// More waits than the ready slots can clear in time.
    Backlog,
    /// More came at this time a day or a week ago.
    Season,
    /// So many were needed within the last 60 s.
    Hold60,
    /// A small step down waits until nothing in 180 s needed more.
    Hold180,
    /// The rate fell by more than half: what was needed before counts no more.
    Collapse,
}

/// The policy's state for one service.
#[derive(Debug, Clone)]
pub struct Slo {
    params: Params,
    staffing: Staffing,
    arrivals: Arrivals,
    needs: Needs,
    bases: Needs,
    /// The last collapse, by the tick's number.
    collapsed: Option<u64>,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            headroom: 1.25,
            max_utilization: 0.95,
            wait_probability: 0.002,
            level_sigmas: 3.0,
            slope_gate: 3.0,
            slope_sigmas: 2.0,
            forecast_cap: 2.0,
            hold: 60,
            trim_hold: 180,
            small: 0.10,
            collapse_ratio: 0.5,
        }
    }
}

impl Slo {
    pub fn new(params: Params) -> Self {
        Self {
            staffing: Staffing::default(),
            arrivals: Arrivals::default(),
            needs: Needs::new(params.hold),
            bases: Needs::new(params.trim_hold),
            collapsed: None,
            params,
        }
    }

    /// Decides once a second.
    pub fn tick(&mut self, signals: &Signals) -> Decision {
        let signals = signals.sane();
        self.arrivals.push(signals.arrivals);
        let dispersion = self.arrivals.dispersion();
        self.forget_after_collapse(&signals, dispersion);

        let (level, window) = self.level(dispersion);
        let rise = trend::rise(&self.arrivals, dispersion, &self.params);
        let forecast = rise.map_or(level, |rise| {
            level.max(rise.at(signals.lead + LOOK_AHEAD)).min(self.params.forecast_cap * level)
        });
        let held_back = if signals.service >= SLOW_SERVICE { 0.0 } else { signals.tolerable() };
        let backlog = (signals.queued - held_back).max(0.0) / signals.wait;

        let present = self.params.headroom * level;
        let rate = present.max(forecast);
        let base = self.staff(&signals, present);
        let own = self.staff(&signals, rate + backlog);
        let need = match signals.season > 0.0 {
            true => own.max(self.staff(&signals, self.params.headroom * signals.season)),
            false => own,
        };
        let seasonal = need > own;
        self.needs.push(need);
        self.bases.push(base);

        let cause = if seasonal {
            Why::Season
        } else if backlog > 0.0 && (backlog > rate || self.staff(&signals, rate) < need) {
            Why::Backlog
        } else if let Some(rise) = rise.filter(|_| forecast > present) {
            Why::Trend { slope: rise.slope }
        } else {
            Why::Level { window }
        };
        let (wish, why) = self.hold(need, signals.spec, cause);
        let n = if need > signals.spec { need } else { wish.min(signals.spec) };
        Decision { n, why, level, forecast, backlog, base, need, seasonal, wish, dispersion }
    }

    /// The rate of now: the long mean, or any short window that is higher beyond noise.
    fn level(&self, dispersion: f64) -> (f64, u32) {
        let valid = self.arrivals.valid();
        let long = LONG_WINDOW.min(valid);
        let shorter = SHORT_WINDOWS.into_iter().filter(|window| *window < long);
        shorter.fold((self.arrivals.mean(long), long), |best, window| {
            let mean = self.arrivals.mean(window);
            let sure = mean - self.params.level_sigmas * error(mean, window, dispersion);
            if sure > best.0 { (sure, window) } else { best }
        })
    }

    /// A confirmed drop: history before it is forgotten, and not held against it.
    fn forget_after_collapse(&mut self, signals: &Signals, dispersion: f64) {
        let window = arrivals::clamp_window((signals.lead / 3.0).floor().max(10.0));
        let valid = self.arrivals.valid();
        if valid < window + 10 || signals.queued > signals.tolerable() {
            return;
        }
        let mean = self.arrivals.mean(window);
        let most = mean + self.params.level_sigmas * error(mean, window, dispersion);
        if most >= self.params.collapse_ratio * self.arrivals.mean(LONG_WINDOW.min(valid)) {
            return;
        }
        self.arrivals.forget_before(window);
        let n = self.staff(signals, self.params.headroom * most);
        self.needs.restart(n);
        self.bases.restart(n);
        self.collapsed = Some(self.arrivals.ticks());
    }

    /// What the number may fall to, and what holds it.
    fn hold(&self, need: u32, spec: u32, cause: Why) -> (u32, Why) {
        if need > spec {
            return (need, cause);
        }
        let mut wish = self.needs.most();
        let mut why = if wish == need { cause } else { Why::Hold60 };
        let small = (self.params.small * f64::from(spec)).max(1.0);
        if wish < spec && f64::from(spec - wish) <= small && self.bases.most() > wish {
            wish = self.bases.most();
            why = Why::Hold180;
        }
        let recent = |at: u64| self.arrivals.ticks() < at + u64::from(self.params.hold);
        if wish < spec && self.collapsed.is_some_and(recent) {
            why = Why::Collapse;
        }
        (wish, why)
    }

    /// Backends for a rate.
    fn staff(&mut self, signals: &Signals, rate: f64) -> u32 {
        let Params { max_utilization, wait_probability, .. } = self.params;
        let model = staffing::Model {
            slots: signals.slots,
            service: signals.service,
            wait: signals.wait,
            max_utilization,
            wait_probability,
        };
        self.staffing.backends(&model, rate)
    }
}

impl Signals {
    /// What the ready slots clear in half a wait budget.
    fn tolerable(&self) -> f64 {
        let capacity = f64::from(self.ready) * self.slots / self.service;
        self.wait * capacity / 2.0
    }

    /// Numbers that cannot be divided by or that no clock shows are replaced by the nearest that can.
    fn sane(&self) -> Self {
        let least = |value: f64, least: f64| if value > least { value.min(1e12) } else { least };
        Self {
            arrivals: least(self.arrivals, 0.0),
            queued: least(self.queued, 0.0),
            lead: least(self.lead, 0.0),
            slots: least(self.slots, 1.0),
            service: least(self.service, 1e-6),
            wait: least(self.wait, 1e-6),
            season: least(self.season, 0.0),
            ..*self
        }
    }
}

/// Standard error of a mean of so many seconds.
fn error(mean: f64, seconds: u32, dispersion: f64) -> f64 {
    (dispersion * mean.max(1.0) / f64::from(seconds)).sqrt()
}
