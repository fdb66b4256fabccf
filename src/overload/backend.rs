//! What is known of one backend.

use super::climb::{Step, Trial};
use super::{BINDS, LEARN, PICKS, Seen};

/// Up to this multiple of what requests take in calm it is still calm.
pub(super) const CALM: f64 = 1.5;
/// Requests without company that say what one takes.
const FEW: u64 = 3;
/// How many weigh as much as what was known before.
const WEIGHT: f64 = 50.0;
/// Seconds in which those with company say what one takes, while it is calm.
pub(super) const SLOWLY: f64 = 5.0;
/// And while it is neither calm nor an overload.
const SLOWEST: f64 = 10.0;
/// Before so many answers are known, each counts the same.
const TRUSTED: f64 = 200.0;
/// Least limit: one is served and one is on its way, so that the backend never waits for us.
const LEAST: f64 = 2.0;
/// Room above the knee, in square roots of it: arrivals and ends do not alternate.
const SLACK: f64 = 0.5;
/// Share of a difference that the number of long-lived requests moves by, up and down.
const LONG: [f64; 2] = [0.7, 0.3];
/// Fewer than this share of what is in flight are noise.
const NOISE: f64 = 0.25;

/// Knee and capacity, as far as they are known.
pub(super) type Peers = (Option<f64>, Option<f64>);

/// So many answers of the others count beside a backend's own: for how many there are a second, for what they take.
const PRIOR: f64 = 20.0;
const PRIOR_KNOWN: f64 = 50.0;

/// What requests that had company show of what one takes in calm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    Nothing,
    Little,
    Calm,
    /// It is learned anew.
    All,
}

#[derive(Debug, Default)]
pub(super) struct Backend {
    /// Seconds of a request in calm.
    pub usual: Option<f64>,
    /// That, before requests were found to take longer.
    before: Option<f64>,
    /// Answers a second that it can give.
    pub capacity: Option<f64>,
    /// Requests in flight at which it gives them.
    pub knee: Option<f64>,
    /// Requests in flight that are answered but do not end: streams, downloads by slow clients.
    long: f64,
    /// How many answers say what it takes in calm.
    pub known: f64,
    group: Seen,
    /// Seconds of the group that it was there.
    span: f64,
    ticks: u32,
    in_flight: f64,
    throughput: f64,
    /// Of the last group; 0: none was answered.
    mean: f64,
}

impl Backend {
    pub fn add(&mut self, seen: &Seen, span: f64) {
        self.span += span;
        let group = &mut self.group;
        group.done += seen.done;
        group.time += seen.time;
        group.low += seen.low;
        group.low_time += seen.low_time;
        group.picks += seen.picks;
        group.near += seen.near;
        group.ramp = seen.ramp;
        group.tunnels = seen.tunnels;
        self.ticks += 1;
        let now = f64::from(seen.in_flight.saturating_sub(seen.tunnels));
        self.in_flight += (now - self.in_flight) / f64::from(self.ticks);
    }

    /// A group is whole.
    pub fn conclude(&mut self, shows: Shows) {
        let group = &self.group;
        self.throughput = group.done as f64 / self.span.max(1e-9);
        self.mean = group.time / group.done.max(1) as f64;
        let (low, done) = (group.low as f64, group.done as f64);
        let first = self.known < TRUSTED;
        let (time, weight, share) = if group.low >= FEW || group.low > 0 && self.known == 0.0 {
            (group.low_time / low, low, (low / WEIGHT).clamp(0.05, 0.5))
        } else if group.done >= FEW {
            let share = match shows {
                Shows::Nothing => return,
                Shows::All => 1.0,
                // Those that are answered soonest are not what requests take.
                Shows::Calm | Shows::Little if first => done / (self.known + done),
                Shows::Calm => self.span / SLOWLY,
                Shows::Little => self.span / SLOWEST,
            };
            (self.mean, done, share.min(1.0))
        } else {
            return;
        };
        self.known += weight;
        self.usual = Some(self.usual.map_or(time, |usual| usual + share * (time - usual)));
    }

    pub fn forget_group(&mut self) {
        self.group = Seen { ramp: self.group.ramp, ..Seen::default() };
        (self.ticks, self.in_flight, self.span) = (0, 0.0, 0.0);
    }

    pub fn serves(&self) -> bool {
        self.group.ramp > 0.0
    }

    /// What it counts for where backends are taken together.
    pub fn weight(&self) -> f64 {
        self.throughput.max(1e-3)
    }

    /// An overload begins; `usual` and `each`: seconds of a request, and answers a second of one backend, in the whole
    /// service. A few answers of its own say little, so it is taken for one like the others until there are more.
    pub fn start(&mut self, usual: f64, each: f64) {
        if !self.serves() || each <= 0.0 {
            return;
        }
        let own = self.usual.unwrap_or(usual);
        let usual = (own * self.known + usual * PRIOR_KNOWN) / (self.known + PRIOR_KNOWN);
        let rate = (self.group.done as f64 + PRIOR) / (self.span + PRIOR / each);
        self.capacity = Some(rate);
        self.knee = Some((rate * usual).max(1.0));
    }

    /// What it took in this group is what requests take now.
    pub fn takes_longer(&mut self) {
        self.before = self.usual;
        if self.mean > 0.0 {
            self.usual = Some(self.mean);
        }
    }

    /// That was wrong.
    pub fn took_no_longer(&mut self) {
        self.usual = self.before.or(self.usual);
    }

    pub fn free(&mut self) {
        (self.knee, self.capacity, self.long) = (None, None, 0.0);
    }

    /// No limit kept requests back in this group.
    pub fn was_not_bound(&mut self, step: Step) {
        if let Some(knee) = &mut self.knee {
            *knee *= step.factor();
        }
        if let Some(capacity) = &mut self.capacity {
            *capacity = capacity.max(self.throughput);
        }
        self.count_long();
    }

    /// Limits kept requests back; `trial` is what was tried in this group and `step` what came of it.
    /// `peers`: knee and capacity that are usual.
    pub fn was_bound(&mut self, trial: Trial, step: Step, span: f64, peers: Peers) {
        let bound =
            self.group.picks > PICKS && self.group.near as f64 >= BINDS * self.group.picks as f64;
        let (Some(capacity), Some(knee)) = (&mut self.capacity, &mut self.knee) else {
            // It joined meanwhile, and is like the others until a whole group of its own is seen.
            if let (Some(knee), Some(capacity)) = peers
                && self.serves()
                && self.span > 0.9 * span
            {
                (self.knee, self.capacity) = (Some(knee * step.factor()), Some(capacity));
            }
            return;
        };
        if trial != Trial::Less || step != Step::Stay {
            *capacity = match bound {
                true => *capacity + LEARN * (self.throughput - *capacity),
                false => capacity.max(self.throughput),
            };
        } else if self.mean > 0.0 {
            // With fewer than it can take nobody waits at it: that is what a request takes.
            self.usual = Some(self.mean);
        }
        *knee = (*knee * step.factor()).max(1.0);
        self.count_long();
    }

    /// By Little's law what is under way and ends is throughput × time; the rest stays.
    fn count_long(&mut self) {
        let ends = self.throughput * self.mean;
        let rest = self.in_flight - ends;
        let rest = if rest > NOISE * self.in_flight && rest > 2.0 { rest } else { 0.0 };
        let share = LONG[usize::from(rest < self.long)];
        self.long += share * (rest - self.long);
    }

    /// Most requests in flight, with the knee taken `scale` times; `peers`: the usual knee, for one that is new.
    /// A smaller one is tried without room above it: the knee is what is to be found, not what has room already.
    pub fn most(&self, scale: f64, peers: Option<f64>, tunnels: u32) -> u32 {
        let Some(knee) = self.knee.or(peers) else { return 0 };
        let usual = (knee + SLACK * knee.sqrt()).ceil().max(LEAST);
        let room = if scale > 1.0 {
            (usual * scale).ceil()
        } else if scale < 1.0 {
            (knee * scale).ceil().clamp(1.0, usual - 1.0)
        } else {
            usual
        };
        (room + self.long.round()) as u32 + tunnels
    }

    /// Who finds no more than this waits for nobody.
    pub fn low(&self) -> u32 {
        let calm = self.usual.unwrap_or(0.0) * self.throughput;
        let knee = self.knee.unwrap_or(calm);
        ((knee / 2.0) as u32).max(1)
    }
}
