//! What it does before it knows its service, and what it learns of it.

use super::*;

/// A second of a service whose backends have `slots` of 100 ms each.
fn served(at: u64, ready: u32, concurrency: f64, slots: f64) -> Sample {
    let time = 0.1 * (concurrency / slots).max(1.0);
    let all = f64::from(ready) * concurrency;
    let finished = (all / time).round() as u64;
    let mut sample = sample(at, ready, all);
    sample.traffic = Traffic {
        arrivals: finished as f64,
        busy: all,
        finished,
        failed: 0,
        abandoned: 0,
        shed: 0,
        mean: time,
        durations: vec![(time, finished)],
    };
    sample
}

/// What the policy says to seconds, one after the other.
struct Told {
    policy: SloPolicy,
    history: History,
    at: u64,
}

impl Told {
    fn new() -> Self {
        Self { policy: SloPolicy::new(unknown(), None), history: History::default(), at: 0 }
    }

    fn seconds(&mut self, count: u32, second: impl Fn(u64) -> Sample) -> Proposed {
        let mut last = None;
        for _ in 0..count {
            self.at += 1;
            let sample = second(self.at);
            self.history.push(&sample);
            let proposed = self.policy.propose(&Input {
                now: sample.at,
                sample: &sample,
                history: &self.history,
                current: sample.counts.ready,
                max_age: Duration::from_secs(15),
                saturated: false,
                season: None,
            });
            let (value, n) = evaluate(&proposed.formula);
            assert_eq!((value, n), (f64::from(proposed.n), proposed.n), "{}", proposed.formula);
            last = Some(proposed);
        }
        last.expect("seconds")
    }
}

#[test]
fn before_the_first_answers_it_goes_by_what_is_in_flight() {
    let mut told = Told::new();
    let unanswered = |in_flight| move |at| sample(at, 3, in_flight);
    let proposed = told.seconds(5, unanswered(5.0));
    assert_eq!(proposed.formula, "ceil(5 in flight ÷ (0.7 × 2 slots)) = 4");
    assert_eq!(proposed.cause, Some(Reason::Learning));
    let proposed = told.seconds(60, unanswered(500.0));
    assert_eq!(proposed.n, 6, "{proposed:?}");
    assert!(proposed.formula.starts_with("min(ceil("), "{proposed:?}");
}

#[test]
fn slots_that_are_not_known_are_what_was_served_well_and_a_third_more() {
    let mut told = Told::new();
    let proposed = told.seconds(2, |at| served(at, 4, 1.0, 16.0));
    assert!(proposed.formula.contains("2 slots"), "{proposed:?}");
    let proposed = told.seconds(10, |at| served(at, 4, 6.0, 16.0));
    assert!(proposed.formula.contains("8 slots"), "{proposed:?}");
    let note = proposed.note.as_deref().unwrap_or_default();
    let expected = "slots are not known yet: at least 6 seen to be served well";
    assert!(note.contains(expected), "{note}");
}

#[test]
fn one_second_of_waiting_shows_the_slots() {
    let mut told = Told::new();
    told.seconds(20, |at| served(at, 10, 2.0, 4.0));
    let proposed = told.seconds(1, |at| served(at, 10, 12.0, 4.0));
    assert!(proposed.formula.contains("4 slots"), "{proposed:?}");
    let note = proposed.note.as_deref().unwrap_or_default();
    assert!(!note.contains("not known"), "{note}");
}

/// Small backends of which nothing is known, and a load that is ten times what it was: twice as many
/// and not twenty times.
#[test]
fn while_slots_are_not_known_the_number_at_most_doubles() {
    let mut told = Told::new();
    told.seconds(20, |at| served(at, 4, 1.0, 100.0));
    let proposed = told.seconds(3, |at| Sample {
        // Nothing is answered any more, so nothing is learned.
        traffic: Traffic { arrivals: 4000.0, busy: 400.0, ..Traffic::default() },
        ..served(at, 4, 100.0, 100.0)
    });
    assert_eq!((proposed.n, proposed.cause), (8, Some(Reason::Learning)), "{proposed:?}");
    assert!(proposed.formula.contains(", 2 × 4 ready) = 8"), "{proposed:?}");
    assert!(proposed.note.as_deref().unwrap_or_default().contains("ordered at once"));
}

/// A restart into an overload: what was learned before counts from the first second on.
#[test]
fn what_was_learned_outlives_the_policy() {
    let mut told = Told::new();
    assert_eq!(told.policy.learned(), None);
    let with_lead =
        |lead, second: Sample| Sample { lead: Some(Duration::from_secs(lead)), ..second };
    told.seconds(20, |at| with_lead(12, served(at, 10, 2.0, 4.0)));
    told.seconds(1, |at| with_lead(12, served(at, 10, 12.0, 4.0)));
    let learned = told.policy.learned().expect("all is known");
    assert_eq!((learned.limited, learned.lead_time), (true, Some(12.0)));
    assert!((learned.pace * learned.service_time - 4.0).abs() < 1e-6, "{learned:?}");

    let mut next = Told::new();
    next.policy.remember(&learned);
    assert_eq!(next.policy.learned(), Some(learned), "passed on unchanged");
    let proposed = next.seconds(1, |at| served(at, 10, 12.0, 4.0));
    assert!(proposed.formula.contains("0.1 s ÷ (4 slots"), "{proposed:?}");
    assert!(!proposed.note.as_deref().unwrap_or_default().contains("not known"), "{proposed:?}");
    // And it learns on: these serve eight at once.
    let proposed = next.seconds(30, |at| served(at, 10, 8.0, 8.0));
    assert!(proposed.formula.contains("11 slots"), "{proposed:?}");
}
