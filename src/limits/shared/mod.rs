//! Rates that several tidegates count together, in one Redis.
//!
//! One round trip decides about all of a request's shared limits by a script, over one pipelined connection for each
//! worker. Redis gets [`BUDGET`] for that. Once it fails or takes longer, everybody counts for itself, as
//! limits that are not shared do, and one request a second tries again: whoever is behind Redis waits for it no more
//! than that.

mod connection;
mod reply;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::clock::{Clock, Micros};
use crate::config::types::Redis;

/// How long a request waits for Redis.
pub const BUDGET: Duration = Duration::from_millis(20);
/// Between two tries while it is away.
const PAUSE: Micros = 1_000_000;
/// Requests of one worker that wait at once; more count for themselves.
const WAITING: usize = 1024;

/// Decides about every limit of a request (GCRA, as `rate` does), and takes from all of them or from none. For
/// each: how many could follow, or -1 - µs until one would pass. Times are Redis's own, in µs.
const SCRIPT: &str = "\
local t = redis.call('TIME') \
local now = t[1] * 1000000 + t[2] \
local said, next, pass = {}, {}, true \
for i, key in ipairs(KEYS) do \
  local each, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i]) \
  local tat = math.max(tonumber(redis.call('GET', key) or '0'), now) \
  local wait = tat - each * (burst - 1) - now \
  if wait > 0.5 then \
    pass = false \
    said[i] = -1 - math.ceil(wait) \
  else \
    next[i] = tat + each \
    said[i] = math.max(0, math.floor((now + each * burst - next[i]) / each + 0.001)) \
  end \
end \
if pass then \
  for i, key in ipairs(KEYS) do \
    redis.call('SET', key, string.format('%.3f', next[i]), 'PX', math.ceil((next[i] - now) / 1000)) \
  end \
end \
return said";

/// How it stands with Redis; one for all workers.
#[derive(Debug, Default)]
pub struct Status {
    /// Nobody asks before this; 0 while it answers.
    away_until: AtomicU64,
    failures: AtomicU64,
    /// Requests that were counted here alone.
    alone: AtomicU64,
    /// Why it was away last.
    why: Mutex<String>,
    /// People were told that it is away.
    told: AtomicBool,
}

/// One key of one limit.
#[derive(Debug, Clone)]
pub struct Question {
    pub key: String,
    /// Between two requests of an even flow, µs.
    pub each: f64,
    pub burst: u32,
}

/// What waits for an answer.
struct Ask {
    questions: Vec<Question>,
    tell: oneshot::Sender<Vec<i64>>,
}

/// A worker's way to Redis.
pub struct Asker {
    clock: Clock,
    status: Arc<Status>,
    link: RefCell<Option<Link>>,
}

/// To the task that has the connection; it ends with this.
struct Link {
    redis: Arc<Redis>,
    asks: mpsc::Sender<Ask>,
    /// The connection is made.
    ready: Rc<Cell<bool>>,
}

impl Status {
    /// Whether Redis does not answer.
    pub fn is_away(&self) -> bool {
        self.away_until.load(Relaxed) > 0
    }

    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Requests of shared limits that were counted here alone.
    pub fn alone(&self) -> u64 {
        self.alone.load(Relaxed)
    }

    /// Why it was away last.
    pub fn why(&self) -> String {
        self.why.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it went away or came back since the last look.
    pub fn news(&self) -> Option<bool> {
        let away = self.is_away();
        (self.told.swap(away, Relaxed) != away).then_some(away)
    }

    /// Whether to ask: always while it answers, else once in a while.
    fn may_ask(&self, now: Micros) -> bool {
        let until = self.away_until.load(Relaxed);
        let next = now + PAUSE;
        until == 0
            || now >= until
                && self.away_until.compare_exchange(until, next, Relaxed, Relaxed).is_ok()
    }

    fn answers(&self) {
        if self.is_away() {
            self.away_until.store(0, Relaxed);
        }
    }

    fn failed(&self, now: Micros, why: &str) {
        self.failures.fetch_add(1, Relaxed);
        why.clone_into(&mut self.why.lock().unwrap_or_else(PoisonError::into_inner));
        self.away_until.store(now + PAUSE, Relaxed);
    }
}

impl Asker {
    pub fn new(clock: Clock, status: Arc<Status>) -> Self {
        Self { clock, status, link: RefCell::default() }
    }

    /// Asks, unless Redis is away: then, and when it does not answer, everybody counts for itself. The answer is
    /// one number a question; it is to be waited for at most [`BUDGET`], and then [`Asker::settle`].
    pub fn ask(
        &self,
        redis: &Arc<Redis>,
        questions: Vec<Question>,
    ) -> Option<oneshot::Receiver<Vec<i64>>> {
        if !self.status.may_ask(self.clock.now()) {
            self.status.alone.fetch_add(1, Relaxed);
            return None;
        }
        let (tell, answer) = oneshot::channel();
        let mut link = self.link.borrow_mut();
        let fits = |link: &Link| *link.redis == **redis && !link.asks.is_closed();
        let link = match &mut *link {
            Some(link) if fits(link) => link,
            link => link.insert(self.connect(redis)),
        };
        if link.asks.try_send(Ask { questions, tell }).is_err() {
            self.status.alone.fetch_add(1, Relaxed);
            return None;
        }
        Some(answer)
    }

    /// What came of a question: an answer, the end of the connection, or (`None`) nothing in time.
    pub fn settle<E>(&self, answer: Option<Result<Vec<i64>, E>>, many: usize) -> Option<Vec<i64>> {
        let said = match answer {
            Some(Ok(said)) if said.len() == many => {
                self.status.answers();
                return Some(said);
            }
            // It said itself why.
            Some(Err(_)) => None,
            Some(Ok(_)) => Some("it answered something else".to_owned()),
            None => Some(format!("no answer within {BUDGET:?}")),
        };
        if let Some(why) = said {
            self.status.failed(self.clock.now(), &why);
            // What it says later is for nobody. One that is still being made is of use for the next.
            self.link.borrow_mut().take_if(|link| link.ready.get());
        }
        self.status.alone.fetch_add(1, Relaxed);
        None
    }

    fn connect(&self, redis: &Arc<Redis>) -> Link {
        let (asks, to_ask) = mpsc::channel(WAITING);
        let (clock, status, at) = (self.clock.clone(), self.status.clone(), redis.clone());
        let ready = Rc::<Cell<bool>>::default();
        let made = ready.clone();
        tokio::task::spawn_local(async move {
            if let Err(error) = connection::run(&at, to_ask, &made).await {
                status.failed(clock.now(), &error.to_string());
            }
        });
        Link { redis: redis.clone(), asks, ready }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn while_it_is_away_one_in_a_while_asks() {
        let status = Status::default();
        assert!(status.may_ask(0) && status.may_ask(0) && !status.is_away());
        status.failed(10, "broken");
        assert!(status.is_away() && !status.may_ask(11));
        let later = 10 + PAUSE;
        assert!(status.may_ask(later), "one tries");
        assert!(!status.may_ask(later), "the others do not wait for it");
        status.answers();
        assert!(!status.is_away() && status.may_ask(later));
        assert_eq!((status.failures(), &*status.why()), (1, "broken"));
    }
}
