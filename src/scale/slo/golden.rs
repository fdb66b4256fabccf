//! The cases that define the policy: loads, and every change of the number that it must make.
//!
//! Four slots of 100 ms, a wait budget of 250 ms, 2 to 60 backends; whatever is ordered is ready
//! at once, so each tick starts from the number of the one before.

use super::*;

/// One case: what arrives and waits in each second, and where it starts.
struct Case {
    arrivals: fn(u32) -> f64,
    queued: fn(u32) -> f64,
    start: u32,
    lead: f64,
    seconds: u32,
}

impl Case {
    fn new(arrivals: fn(u32) -> f64) -> Self {
        Self { arrivals, queued: |_| 0.0, start: 2, lead: 30.0, seconds: 600 }
    }

    fn run(&self) -> Run {
        let mut slo = Slo::new(Params::default());
        let mut size = self.start;
        let mut changes = Vec::new();
        let mut ticks = Vec::new();
        for t in 0..self.seconds {
            let decision = slo.tick(&Signals {
                arrivals: (self.arrivals)(t),
                queued: (self.queued)(t),
                ready: size,
                spec: size,
                lead: self.lead,
                slots: 4.0,
                service: 0.1,
                wait: 0.25,
                season: 0.0,
            });
            let to = decision.n.clamp(2, 60);
            if to != size || t == 0 {
                changes.push((t, to));
            }
            size = to;
            ticks.push(decision);
        }
        Run { changes, ticks }
    }
}

struct Run {
    changes: Vec<(u32, u32)>,
    ticks: Vec<Decision>,
}

impl Run {
    /// Level and forecast to two digits, base, need, wish, dispersion to two digits.
    fn internals(&self, t: usize) -> (f64, f64, u32, u32, u32, f64) {
        let Decision { level, forecast, base, need, wish, dispersion, .. } = self.ticks[t];
        let cents = |value: f64| (value * 100.0).round() / 100.0;
        (cents(level), cents(forecast), base, need, wish, cents(dispersion))
    }
}

#[test]
fn g1_constant_load() {
    let run = Case { start: 10, ..Case::new(|_| 100.0) }.run();
    assert_eq!(run.changes, [(0, 4)]);
    assert_eq!(run.internals(0), (100.0, 100.0, 4, 4, 4, 1.0));
}

fn step(t: u32) -> f64 {
    if t < 100 { 60.0 } else { 1000.0 }
}

#[test]
fn g2_step() {
    let run = Case::new(step).run();
    let expected = [
        (0, 3),
        (100, 15),
        (101, 29),
        (104, 31),
        (107, 32),
        (108, 33),
        (109, 41),
        (110, 45),
        (112, 50),
        (179, 49),
        (180, 43),
        (182, 40),
        (183, 33),
    ];
    assert_eq!(run.changes, expected);
    assert_eq!(run.internals(99), (60.0, 60.0, 3, 3, 3, 1.0));
    assert_eq!(run.internals(100), (432.33, 432.33, 15, 15, 15, 4.0));
    assert_eq!(run.internals(101), (865.84, 865.84, 29, 29, 29, 4.0));
    assert!(matches!(run.ticks[100].why, Why::Level { window: 2 }));
    assert!(matches!(run.ticks[112].why, Why::Trend { slope } if slope > 0.0));
    assert_eq!(run.ticks[150].why, Why::Hold60);
}

#[test]
fn g3_step_with_a_backlog() {
    let queued = |t| match t {
        100 => 940.0,
        101..=104 => 1800.0,
        _ => 0.0,
    };
    let run = Case { queued, ..Case::new(step) }.run();
    assert_eq!(
        run.changes,
        [(0, 3), (100, 60), (165, 50), (179, 49), (180, 43), (182, 40), (183, 33)]
    );
    assert_eq!(run.internals(100), (432.33, 432.33, 15, 112, 112, 4.0));
    assert_eq!(run.ticks[100].why, Why::Backlog);
}

fn ramp(t: u32) -> f64 {
    200.0 + 2.0 * f64::from(t.clamp(100, 220) - 100)
}

#[test]
fn g4_ramp() {
    let run = Case::new(ramp).run();
    let expected = [
        (0, 7),
        (115, 8),
        (130, 9),
        (148, 10),
        (164, 11),
        (180, 12),
        (196, 13),
        (212, 14),
        (239, 15),
    ];
    assert_eq!(run.changes, expected);
    assert_eq!(run.internals(130), (235.97, 297.44, 8, 9, 9, 1.0));
    assert_eq!(run.internals(160), (294.27, 353.58, 10, 10, 10, 1.0));
}

#[test]
fn g4b_ramp_with_a_long_lead_time() {
    let run = Case { lead: 90.0, ..Case::new(ramp) }.run();
    let expected = [
        (0, 7),
        (115, 8),
        (119, 9),
        (123, 10),
        (129, 11),
        (152, 12),
        (175, 13),
        (197, 14),
        (218, 15),
    ];
    assert_eq!(run.changes, expected);
    assert_eq!(run.internals(130), (235.97, 378.8, 8, 11, 11, 1.0));
    assert_eq!(run.internals(160), (294.27, 430.21, 10, 12, 12, 1.0));
}

#[test]
fn g5_spike() {
    let run = Case::new(|t| if (100..160).contains(&t) { 1500.0 } else { 100.0 }).run();
    let expected = [
        (0, 4),
        (100, 23),
        (101, 44),
        (104, 46),
        (107, 47),
        (108, 50),
        (109, 60),
        (166, 19),
        (176, 5),
        (357, 4),
    ];
    assert_eq!(run.changes, expected);
    assert_eq!(run.internals(165), (1360.0, 1360.0, 45, 45, 76, 4.0));
    assert_eq!(run.internals(166).4, 19);
    assert_eq!(run.internals(170), (400.0, 400.0, 14, 14, 19, 4.0));
    assert_eq!(run.ticks[166].why, Why::Collapse);
}

#[test]
fn g6_dip() {
    let run = Case::new(|t| if t < 300 { 1000.0 } else { 920.0 }).run();
    assert_eq!(run.changes, [(0, 33), (500, 32), (523, 31)]);
    assert_eq!(run.internals(299), (1000.0, 1000.0, 33, 33, 33, 1.0));
    assert_eq!(run.internals(300), (998.67, 998.67, 33, 33, 33, 1.0));
    assert_eq!(run.ticks[499].why, Why::Hold180);
}

#[test]
fn g7_noise() {
    let run = Case::new(|t| if t % 2 == 0 { 545.0 } else { 455.0 }).run();
    assert_eq!(run.changes, [(0, 18), (181, 17)]);
    assert_eq!(run.internals(399), (500.0, 500.0, 17, 17, 17, 4.0));
}

#[test]
fn g8_a_queue_that_the_slots_clear_themselves() {
    let queued = |t| if t == 200 { 40.0 } else { 0.0 };
    let run = Case { queued, ..Case::new(|_| 500.0) }.run();
    assert_eq!(run.changes, [(0, 17)]);
    assert_eq!(run.internals(200), (500.0, 500.0, 17, 17, 17, 1.0));
}
