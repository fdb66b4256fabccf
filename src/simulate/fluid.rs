//! One second of a service as a fluid: arrivals, a backlog, and how long requests wait.
//!
//! While nothing waits and the load is below capacity, waiting is that of the steady state
//! (Erlang C). Otherwise the backlog rises or falls evenly over the second, and a request waits as
//! long as what is before it takes. Both are wrong where a request takes a good part of a second;
//! [`super::requests`] is for that.

use super::erlang;
use super::setting::{PATIENCE, Setting};
use super::waits::Waits;

/// What waits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Fluid {
    /// Requests that wait for a slot.
    backlog: f64,
    /// Arrivals of the last seconds that nobody served, while there is no capacity at all.
    unserved: Vec<f64>,
}

/// What one second came to, in requests.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Second {
    pub served: f64,
    pub dropped: f64,
    /// Arrivals of this second that wait longer than the budget or are dropped.
    pub late: f64,
    /// Waiting at its end.
    pub queued: f64,
}

impl Fluid {
    /// Lets a second pass with so many arrivals and ready backends.
    pub fn pass(&mut self, of: &Setting, arrivals: f64, ready: u32, waits: &mut Waits) -> Second {
        let capacity = of.capacity(ready);
        let before = self.backlog;
        let pushed = before + arrivals - capacity;
        // Whoever would wait longer than anyone's patience is not taken.
        let room = self.room(arrivals, capacity);
        let after = pushed.clamp(0.0, room);
        let dropped = (pushed - room).max(0.0);
        let taken = (arrivals - dropped).max(0.0);
        self.backlog = after;
        let late = if capacity <= 0.0 {
            waits.at(PATIENCE, taken);
            taken
        } else if before <= 0.0 && pushed <= 0.0 {
            steady(of, arrivals, ready, taken, waits)
        } else {
            moving(of, before, pushed, ready, taken, arrivals, waits)
        };
        let lost = dropped.min(arrivals);
        waits.at(PATIENCE, lost);
        Second {
            served: before + arrivals - dropped - after,
            dropped,
            late: late + lost,
            queued: after,
        }
    }

    /// The most that may wait.
    fn room(&mut self, arrivals: f64, capacity: f64) -> f64 {
        if capacity > 0.0 {
            self.unserved.clear();
            return PATIENCE * capacity;
        }
        // Nobody serves: who came within the last seconds still waits.
        self.unserved.push(arrivals);
        let old = self.unserved.len().saturating_sub(PATIENCE as usize);
        self.unserved.drain(..old);
        self.unserved.iter().sum()
    }
}

/// Nothing waits for longer than chance makes it.
fn steady(of: &Setting, arrivals: f64, ready: u32, taken: f64, waits: &mut Waits) -> f64 {
    let servers = f64::from(ready) * of.slots;
    let offered = arrivals * of.service;
    let waiting = erlang::waits(servers, offered);
    let pace = (servers - offered) / of.service;
    waits.exponential(waiting, pace, taken);
    taken * waiting * (-pace * of.wait).exp()
}

/// The backlog goes evenly from `before` to `pushed`, and stays at 0 once it is there.
fn moving(
    of: &Setting,
    before: f64,
    pushed: f64,
    ready: u32,
    taken: f64,
    arrivals: f64,
    waits: &mut Waits,
) -> f64 {
    let capacity = of.capacity(ready);
    let (from, to) = (before / capacity, pushed / capacity);
    // The part of the second in which something waits.
    let busy = if to < 0.0 { from / (from - to) } else { 1.0 };
    let share = above(from, to.max(0.0), of.wait);
    waits.between(from, to.max(0.0), taken * busy);
    let rest = taken * (1.0 - busy);
    let calm = if rest > 0.0 { steady(of, arrivals, ready, rest, waits) } else { 0.0 };
    taken * busy * share + calm
}

/// The share of a straight line from `from` to `to` that is above `limit`.
fn above(from: f64, to: f64, limit: f64) -> f64 {
    let (low, high) = if from < to { (from, to) } else { (to, from) };
    if low >= limit {
        return if high > limit { 1.0 } else { 0.0 };
    }
    if high <= limit { 0.0 } else { (high - limit) / (high - low) }
}
