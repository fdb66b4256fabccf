//! The HPA's documented examples and behaviours, and the stages one by one.

use std::time::Duration;

use super::*;
use crate::config::types::{ScaleLimit, ScalingMode, Select};
use crate::scale::fixture::{backends, params, percent, sample, seconds};
use crate::scale::memory::then;

const NOW: Micros = 10_000_000_000;

/// A pipeline with one policy that wants a number.
struct Case {
    params: Scaling,
    memory: Memory,
    sample: Sample,
    from: u32,
    needs: u32,
    valid: bool,
    operator: Option<Override>,
}

impl Case {
    fn new(from: u32) -> Self {
        let sample = Sample { at: NOW, ..sample(0, from, 0.0) };
        Self {
            params: params(),
            memory: Memory::default(),
            sample,
            from,
            needs: 0,
            valid: true,
            operator: None,
        }
    }

    fn up(mut self, select: Select, limits: &[ScaleLimit]) -> Self {
        self.params.up.select = select;
        self.params.up.limits = limits.to_vec();
        self
    }

    fn down(mut self, select: Select, limits: &[ScaleLimit]) -> Self {
        self.params.down.select = select;
        self.params.down.limits = limits.to_vec();
        self
    }

    fn changed(mut self, seconds_ago: u64, by: i64) -> Self {
        self.memory.changes.push_back((then(NOW - seconds_ago * 1_000_000), by));
        self
    }

    fn wished(mut self, seconds_ago: u64, n: u32) -> Self {
        self.memory.wishes.push_back((NOW - seconds_ago * 1_000_000, n));
        self
    }

    fn verdict(&self, wish: u32) -> Verdict {
        let proposal = Proposed {
            policy: "test".to_owned(),
            n: wish,
            formula: format!("{wish} = {wish}"),
            wanted: wish,
            cause: None,
            held: None,
            valid: self.valid,
            note: None,
        };
        let proposals = [proposal];
        run(
            &View {
                now: NOW,
                sample: &self.sample,
                params: &self.params,
                memory: &self.memory,
                from: self.from,
                proposals: &proposals,
                winner: winner(&proposals),
                needs: Some(self.needs),
                asked: false,
                operator: self.operator,
                scheduled: Default::default(),
            },
            None,
        )
    }

    fn to(&self, wish: u32) -> u32 {
        self.verdict(wish).to
    }

    fn reason(&self, wish: u32) -> Reason {
        self.verdict(wish).moves.last().expect("a stage changed the number").change.reason
    }
}

#[test]
fn down_by_4_or_10_percent_a_minute_takes_8_of_80() {
    let limits = [backends(4, 60), percent(10, 60)];
    let case = |from| Case::new(from).down(Select::Max, &limits);
    assert_eq!(case(80).to(10), 72);
    // 10 % of 72 is 7.2; the remaining number is truncated, so that 8 go.
    assert_eq!(case(72).to(10), 64);
    assert_eq!(case(40).to(10), 36);
    assert_eq!(case(39).to(10), 35);
}

#[test]
fn a_spent_period_allows_nothing_more() {
    let limits = [backends(4, 60), percent(10, 60)];
    let case = Case::new(72).changed(30, -8).down(Select::Max, &limits);
    assert_eq!((case.to(10), case.reason(10)), (72, Reason::Limit));
    assert_eq!(Case::new(72).changed(60, -8).down(Select::Max, &limits).to(10), 64);
}

#[test]
fn select_min_takes_the_smaller_change() {
    let limits = [percent(10, 60), backends(5, 60)];
    assert_eq!(Case::new(100).down(Select::Min, &limits).to(10), 95);
    assert_eq!(Case::new(20).down(Select::Min, &limits).to(10), 18);
}

#[test]
fn select_disabled_closes_a_direction() {
    let case = Case::new(10).down(Select::Disabled, &[]);
    assert_eq!((case.to(2), case.reason(2)), (10, Reason::Disabled));
    assert_eq!(case.to(12), 12);
    assert_eq!(Case::new(10).up(Select::Disabled, &[]).to(20), 10);
}

#[test]
fn defaults_double_or_add_four_every_15_seconds() {
    assert_eq!(Case::new(1).to(100), 5);
    assert_eq!(Case::new(5).to(100), 10);
    assert_eq!(Case::new(10).to(100), 20);
    // Within the period the start is what was there before it.
    assert_eq!(Case::new(5).changed(10, 4).to(100), 5);
    assert_eq!(Case::new(5).changed(15, 4).to(100), 10);
    assert_eq!(Case::new(50).to(10), 10, "100 % may go at once");
}

#[test]
fn a_period_starts_from_what_is_without_added_and_with_removed() {
    let case = Case::new(10).changed(30, 3).changed(20, -1).up(Select::Max, &[backends(4, 60)]);
    // 10 − 3 + 1 = 8, and 4 more.
    assert_eq!(case.to(100), 12);
    assert_eq!(Case::new(5).changed(30, 2).up(Select::Max, &[backends(4, 60)]).to(100), 7);
    assert_eq!(Case::new(10).changed(30, -1).down(Select::Max, &[percent(20, 60)]).to(1), 8);
}

#[test]
fn percentages_round_up_upwards_and_without_binary_fractions() {
    assert_eq!(Case::new(10).up(Select::Max, &[percent(10, 60)]).to(100), 11);
    assert_eq!(Case::new(11).up(Select::Max, &[percent(10, 60)]).to(100), 13);
    assert_eq!(Case::new(10).up(Select::Max, &[percent(50, 60)]).to(100), 15);
}

#[test]
fn down_goes_to_the_largest_wish_of_the_window() {
    let case = Case::new(10).wished(299, 9).wished(100, 7);
    assert_eq!((case.to(3), case.reason(3)), (9, Reason::Stabilization));
    assert_eq!(Case::new(10).wished(300, 9).wished(100, 7).to(3), 7, "the 9 has left the window");
    let until = case.verdict(3).moves[0].change.until;
    assert_eq!(until, Some(NOW + 200_000_000), "when the 7 leaves it");
}

#[test]
fn up_goes_to_the_smallest_wish_of_the_window() {
    let mut case = Case::new(4).wished(30, 6).wished(10, 5);
    case.params.up.stabilization = seconds(60);
    assert_eq!(case.to(8), 5);
    case.memory.wishes.push_back((NOW, 3));
    assert_eq!(case.to(8), 4, "a wish for fewer keeps the present size");
}

#[test]
fn flapping_doubles_the_window_and_says_so() {
    let mut case = Case::new(5).wished(500, 5);
    assert_eq!(case.to(3), 3);
    for i in 0..8 {
        let at = NOW - (9 - i) * 1_000_000;
        case.memory.changed(at, 4 + (i as u32 % 2), 5 - (i as u32 % 2));
    }
    case.params.down.limits.clear();
    assert_eq!((case.to(3), case.reason(3)), (5, Reason::Flapping));
}

#[test]
fn an_up_does_not_wait_for_the_cooldown_of_a_down() {
    let mut case = Case::new(5);
    case.params.up.cooldown = seconds(30);
    case.params.down.cooldown = seconds(30);
    case.memory.last_down = Some(then(NOW - 1_000_000));
    assert_eq!(case.to(7), 7);
    assert_eq!((case.to(3), case.reason(3)), (5, Reason::Cooldown));
    case.memory.last_up = Some(then(NOW - 1_000_000));
    assert_eq!((case.to(7), case.reason(7)), (5, Reason::Cooldown));
    case.memory.last_up = Some(then(NOW - 30_000_000));
    assert_eq!(case.to(7), 7);
}

#[test]
fn min_and_max_hold_whatever_is_wished() {
    let mut case = Case::new(50).up(Select::Max, &[]);
    (case.params.min, case.params.max) = (5, 60);
    assert_eq!((case.to(1), case.reason(1)), (5, Reason::AtMin));
    assert_eq!((case.to(99), case.reason(99)), (60, Reason::AtMax));
    case.from = 2;
    assert_eq!(case.to(2), 5, "below min is lifted at once");
}

#[test]
fn nothing_is_added_once_the_budget_is_spent() {
    let mut case = Case::new(4).up(Select::Max, &[]);
    case.params.cost.budget_per_month = 100.0;
    case.sample.spent = Some(99.9);
    assert_eq!(case.to(9), 9);
    case.sample.spent = Some(100.0);
    assert_eq!((case.to(9), case.reason(9)), (4, Reason::Budget));
    assert_eq!(case.to(2), 2, "less is always possible");
    case.params.min = 6;
    assert_eq!(case.to(9), 6, "min holds");
    (case.params.min, case.from) = (0, 0);
    assert_eq!(case.to(9), 1, "a service that sleeps is woken");
    case.params.cost.budget_per_month = 0.0;
    assert_eq!(case.to(9), 9);
}

#[test]
fn nothing_goes_while_fewer_than_min_are_healthy() {
    let mut case = Case::new(6);
    case.params.min = 3;
    case.sample.counts.ready = 2;
    case.sample.counts.starting = 4;
    assert_eq!((case.to(4), case.reason(4)), (6, Reason::MinHealthy));
}

#[test]
fn broken_backends_come_on_top_of_what_is_needed() {
    let mut case = Case::new(4);
    (case.sample.counts.ready, case.sample.counts.ejected) = (3, 1);
    assert_eq!(case.to(3), 4, "three are enough: nothing changes");
    assert_eq!(case.to(4), 5, "four are needed and one is broken");
}

#[test]
fn what_would_not_fit_is_not_removed() {
    let mut case = Case::new(10);
    case.needs = 6;
    assert_eq!((case.to(3), case.reason(3)), (6, Reason::Projection));
    case.needs = 20;
    assert_eq!(case.to(3), 10);
}

#[test]
fn missing_data_removes_nothing() {
    let mut case = Case::new(5);
    case.valid = false;
    assert_eq!((case.to(3), case.reason(3)), (5, Reason::MetricMissing));
    case.valid = true;
    case.memory.stale = 1;
    assert_eq!((case.to(3), case.reason(3)), (5, Reason::StaleUpOnly));
    assert_eq!(case.to(7), 7);
    case.memory.stale = 4;
    assert_eq!((case.to(7), case.reason(7)), (5, Reason::Stale));
}

#[test]
fn modes_and_operators() {
    let mut case = Case::new(5);
    case.params.mode = ScalingMode::UpOnly;
    assert_eq!((case.to(3), case.reason(3), case.to(7)), (5, Reason::UpOnly, 7));
    case.params.mode = ScalingMode::DryRun;
    assert_eq!((case.to(7), case.reason(7)), (5, Reason::DryRun));
    case.params.mode = ScalingMode::On;
    case.operator = Some(Override::Pause { until: Some(NOW + 1) });
    assert_eq!((case.to(7), case.reason(7)), (5, Reason::Paused));
    case.operator = Some(Override::Pin { replicas: 500, until: None });
    assert_eq!((case.to(7), case.reason(7)), (100, Reason::Pinned));
}

#[test]
fn a_restart_and_a_change_from_outside_are_waited_for() {
    let mut case = Case::new(5);
    case.memory.hold_until = NOW + 1;
    assert_eq!((case.to(3), case.reason(3), case.to(7)), (5, Reason::RestartHold, 7));
    case.memory = Memory::default();
    case.memory.outside = Some(NOW);
    assert_eq!((case.to(7), case.reason(7)), (5, Reason::OutsideCooldown));
    assert_eq!(case.memory.outside_until(Duration::ZERO), Some(NOW + 15_000_000));
}

/// What was added and removed again within a period may be more than there is.
#[test]
fn a_period_of_ups_and_downs_starts_where_it_did() {
    let case = Case::new(1).changed(9, 4).changed(8, -4).up(Select::Max, &[percent(100, 15)]);
    assert_eq!(case.to(100), 2, "1 − 4 + 4 = 1, and as many again");
}
