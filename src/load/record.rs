//! Collects what became of the requests while a load runs.
//!
//! Bounded: a histogram for the whole, one for each second that may still change, and a short
//! summary of each second that cannot.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use hdrhistogram::{Counter, Histogram};

use super::log::Log;
use super::outcome::{Cause, Done, Outcome};
use super::report::{Latency, Second};

/// Latencies are kept from 1 µs to 60 s.
const LONGEST_US: u64 = 60_000_000;
/// Different backends that are told apart; the rest is counted together.
const MOST_BACKENDS: usize = 10_000;

/// Everything counted so far.
pub(super) struct Recorder {
    pub(super) planned: u64,
    pub(super) not_sent: u64,
    pub(super) completed: u64,
    pub(super) backend_errors: u64,
    pub(super) errors: u64,
    pub(super) bytes: u64,
    pub(super) causes: BTreeMap<Cause, u64>,
    pub(super) status: BTreeMap<u16, u64>,
    pub(super) backends: BTreeMap<String, u64>,
    /// Where each request is written, if it is.
    pub(super) log: Option<Log>,
    latency: Histogram<u64>,
    late: Histogram<u64>,
    closed: Vec<Second>,
    open: VecDeque<(Second, Histogram<u32>)>,
    /// Seconds that a request may still change after it was due.
    keep_open: u64,
}

impl Recorder {
    pub(super) fn new(timeout: Duration) -> Self {
        Self {
            planned: 0,
            not_sent: 0,
            completed: 0,
            backend_errors: 0,
            errors: 0,
            bytes: 0,
            causes: BTreeMap::new(),
            status: BTreeMap::new(),
            backends: BTreeMap::new(),
            log: None,
            latency: histogram(3),
            late: histogram(2),
            closed: Vec::new(),
            open: VecDeque::new(),
            keep_open: timeout.as_secs() + 2,
        }
    }

    /// A request is due; `sent` unless the bound on requests under way holds it back.
    pub(super) fn due(&mut self, due: Duration, sent: bool) {
        self.planned += 1;
        self.not_sent += u64::from(!sent);
        if !sent && let Some(log) = &mut self.log {
            log.not_sent(due);
        }
        if let Some((second, _)) = self.second(due) {
            if sent {
                second.sent += 1;
            } else {
                second.not_sent += 1;
            }
        }
    }

    /// A request is over.
    pub(super) fn done(&mut self, done: Done) {
        if let Some(log) = &mut self.log {
            log.done(&done);
        }
        self.late.saturating_record(micros(done.late));
        let latency = micros(done.latency);
        let error = match &done.outcome {
            Outcome::Answer { status, .. } => {
                if let Some((second, _)) = self.second(done.due + done.latency) {
                    second.answered += 1;
                }
                status.is_client_error() || status.is_server_error()
            }
            Outcome::Failed(_) => true,
        };
        if error {
            self.errors += 1;
            if let Some((second, _)) = self.second(done.due) {
                second.errors += 1;
            }
        }
        let cause = match done.outcome {
            Outcome::Answer { status, backend, bytes, own_error } => {
                self.completed += 1;
                self.bytes += bytes;
                *self.status.entry(status.as_u16()).or_default() += 1;
                if let Some(backend) = backend {
                    self.count_backend(backend);
                }
                self.backend_errors += u64::from(status.is_server_error() && !own_error);
                if !status.is_server_error() {
                    self.latency.saturating_record(latency);
                }
                let good = !status.is_server_error();
                if let Some((second, latencies)) = self.second(done.due) {
                    second.completed += 1;
                    if good {
                        latencies.saturating_record(latency);
                    }
                }
                own_error.then_some(Cause::Status5xx)
            }
            Outcome::Failed(cause) => Some(cause),
        };
        if let Some(cause) = cause {
            *self.causes.entry(cause).or_default() += 1;
            if let Some((second, _)) = self.second(done.due) {
                if cause.is_failure() {
                    second.failed += 1;
                } else {
                    second.not_connected += 1;
                }
            }
        }
    }

    /// The second `number` as known now.
    pub(super) fn at(&self, number: u64) -> Option<Second> {
        if let Some(second) = self.closed.get(number as usize) {
            return Some(*second);
        }
        self.open.get((number - self.closed.len() as u64) as usize).map(summary)
    }

    pub(super) fn timeline(&self) -> Vec<Second> {
        self.closed.iter().copied().chain(self.open.iter().map(summary)).collect()
    }

    pub(super) fn latency(&self) -> Latency {
        Latency::of(&self.latency)
    }

    pub(super) fn late(&self) -> Latency {
        Latency::of(&self.late)
    }

    /// The entry of the second in which a request was due, made with all that are missing
    /// before it; `None` if it can no longer change.
    fn second(&mut self, due: Duration) -> Option<&mut (Second, Histogram<u32>)> {
        let number = due.as_secs();
        while self.closed.len() as u64 + self.open.len() as u64 <= number {
            let next = self.closed.len() as u64 + self.open.len() as u64;
            self.open.push_back((Second { second: next, ..Second::default() }, histogram(2)));
        }
        while self.open.len() as u64 > self.keep_open + 1 {
            self.closed.extend(self.open.pop_front().as_ref().map(summary));
        }
        self.open.get_mut(number.checked_sub(self.closed.len() as u64)? as usize)
    }

    fn count_backend(&mut self, backend: String) {
        let key = if self.backends.len() < MOST_BACKENDS || self.backends.contains_key(&backend) {
            backend
        } else {
            "others".to_owned()
        };
        *self.backends.entry(key).or_default() += 1;
    }
}

fn summary((second, latencies): &(Second, Histogram<u32>)) -> Second {
    let Latency { p50, p99, max, .. } = Latency::of(latencies);
    Second { p50_ms: p50, p99_ms: p99, max_ms: max, ..*second }
}

fn histogram<C: Counter>(digits: u8) -> Histogram<C> {
    Histogram::new_with_bounds(1, LONGEST_US, digits).expect("the bounds are in order")
}

fn micros(time: Duration) -> u64 {
    time.as_micros().clamp(1, u128::from(LONGEST_US)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::StatusCode;

    fn answer(recorder: &mut Recorder, due: u64, status: StatusCode, own_error: bool) {
        let due = Duration::from_secs(due);
        recorder.due(due, true);
        recorder.done(Done {
            due,
            latency: Duration::from_millis(20),
            late: Duration::ZERO,
            outcome: Outcome::Answer { status, backend: Some("a".into()), bytes: 3, own_error },
        });
    }

    #[test]
    fn a_backends_own_5xx_is_no_failure_of_the_proxy() {
        let mut recorder = Recorder::new(Duration::from_secs(1));
        answer(&mut recorder, 0, StatusCode::OK, false);
        answer(&mut recorder, 0, StatusCode::INTERNAL_SERVER_ERROR, false);
        answer(&mut recorder, 0, StatusCode::SERVICE_UNAVAILABLE, true);
        assert_eq!(recorder.causes, BTreeMap::from([(Cause::Status5xx, 1)]));
        assert_eq!((recorder.completed, recorder.backend_errors), (3, 1));
        assert_eq!(recorder.latency.len(), 1, "only good answers have a latency");
        assert_eq!(recorder.at(0).map(|second| second.failed), Some(1));
        assert_eq!((recorder.errors, recorder.at(0).map(|second| second.errors)), (2, Some(2)));
    }

    #[test]
    fn an_answer_counts_in_the_second_in_which_it_came() {
        let mut recorder = Recorder::new(Duration::from_secs(10));
        recorder.due(Duration::ZERO, true);
        recorder.done(Done {
            due: Duration::ZERO,
            latency: Duration::from_millis(2500),
            late: Duration::ZERO,
            outcome: Outcome::Answer {
                status: StatusCode::OK,
                backend: None,
                bytes: 0,
                own_error: false,
            },
        });
        let timeline = recorder.timeline();
        assert_eq!(timeline.iter().map(|second| second.answered).collect::<Vec<_>>(), [0, 0, 1]);
        assert_eq!(timeline.iter().map(|second| second.completed).collect::<Vec<_>>(), [1, 0, 0]);
    }

    #[test]
    fn refused_connections_are_counted_apart() {
        let mut recorder = Recorder::new(Duration::from_secs(1));
        for cause in [Cause::Refused, Cause::Reset] {
            recorder.done(Done {
                due: Duration::ZERO,
                latency: Duration::ZERO,
                late: Duration::ZERO,
                outcome: Outcome::Failed(cause),
            });
        }
        let second = recorder.at(0).expect("the first second");
        assert_eq!((second.failed, second.not_connected), (1, 1));
    }

    #[test]
    fn seconds_stay_in_order_when_they_are_closed() {
        let mut recorder = Recorder::new(Duration::from_secs(1));
        for second in [0, 3, 20, 19] {
            answer(&mut recorder, second, StatusCode::OK, false);
        }
        let timeline = recorder.timeline();
        assert_eq!(timeline.len(), 21);
        assert!(timeline.iter().enumerate().all(|(i, second)| second.second == i as u64));
        assert_eq!(timeline.iter().map(|second| second.completed).sum::<u64>(), 4);
        assert!(recorder.open.len() <= 4, "{} are open", recorder.open.len());
        assert!((19.9..20.2).contains(&timeline[0].p50_ms), "{}", timeline[0].p50_ms);
    }
}
