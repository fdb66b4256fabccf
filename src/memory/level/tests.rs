//! Levels in simulated time, and a process that refuses by them.

use super::*;

const LIMIT: u64 = 1_000_000;
const SECOND: Micros = 1_000_000;

/// The level after each share of the limit (in %), half a second apart.
fn after(shares: &[u64]) -> Vec<Level> {
    let mut monitor = Monitor::new(LIMIT);
    let look = |(i, share): (usize, &u64)| {
        monitor.look(LIMIT / 100 * share, i as Micros * SECOND / 2);
        monitor.level()
    };
    shares.iter().enumerate().map(look).collect()
}

#[test]
fn each_level_begins_at_its_share_and_ends_five_percent_below() {
    use Level::{Calm, Critical, Full, Over, Shed, Trim};
    let up = after(&[0, 79, 80, 89, 90, 94, 95, 99, 100, 104, 105]);
    assert_eq!(up, [Calm, Calm, Trim, Trim, Shed, Shed, Critical, Critical, Full, Full, Over]);
    assert_eq!(after(&[250, 101, 99]), [Over, Over, Full]);
    let down = after(&[100, 96, 95, 94, 91, 90, 89, 86, 85, 84, 76, 75, 74]);
    let wanted =
        [Full, Full, Full, Critical, Critical, Critical, Shed, Shed, Shed, Trim, Trim, Trim, Calm];
    assert_eq!(down, wanted);
    assert_eq!(after(&[100, 10]), [Full, Calm], "whatever the level before");
    assert_eq!(after(&[84, 76, 74, 76]), [Trim, Trim, Calm, Calm], "once left, as at first");
}

#[test]
fn memory_is_given_back_before_it_is_judged_and_once_a_second() {
    let mut monitor = Monitor::new(LIMIT);
    assert!(!monitor.wants_back(LIMIT / 100 * 79, 0));
    assert!(monitor.wants_back(LIMIT / 100 * 80, 0));
    monitor.gave_back(0);
    assert!(!monitor.wants_back(LIMIT, SECOND - 1));
    assert!(monitor.wants_back(LIMIT, SECOND));
    monitor.look(LIMIT / 100 * 81, 0);
    monitor.gave_back(SECOND);
    assert!(monitor.wants_back(LIMIT / 100 * 76, 2 * SECOND), "as long as the level lasts");
}

/// Looks ten times a second from `from` until `to` (in seconds) at so much in use.
fn hold(monitor: &mut Monitor, used: u64, from: u64, to: u64) {
    for tenth in from * 10..to * 10 {
        monitor.look(used, tenth * SECOND / 10);
    }
}

#[test]
fn a_level_that_changes_nothing_is_left_step_by_step() {
    let mut monitor = Monitor::new(LIMIT);
    let used = LIMIT / 100 * 104;
    hold(&mut monitor, used, 0, 30);
    assert_eq!(monitor.level(), Level::Full);
    hold(&mut monitor, used, 30, 31);
    assert_eq!(monitor.level(), Level::Critical);
    hold(&mut monitor, used, 31, 61);
    assert_eq!(monitor.level(), Level::Shed);
    hold(&mut monitor, used, 61, 91);
    assert_eq!(monitor.level(), Level::Trim, "nothing is refused for ever");
    hold(&mut monitor, used, 91, 1000);
    assert_eq!(monitor.level(), Level::Trim, "and memory is given back for as long as it lasts");
}

#[test]
fn what_was_let_in_too_early_takes_twice_as_long_the_next_time() {
    let mut monitor = Monitor::new(LIMIT);
    let (used, more) = (LIMIT / 100 * 91, LIMIT / 100 * 94);
    hold(&mut monitor, used, 0, 31);
    assert_eq!(monitor.level(), Level::Trim);
    monitor.look(used + LIMIT / 100, 31 * SECOND);
    assert_eq!(monitor.level(), Level::Trim, "a little is no change");
    monitor.look(more, 32 * SECOND);
    assert_eq!(monitor.level(), Level::Shed);
    hold(&mut monitor, more, 33, 92);
    assert_eq!(monitor.level(), Level::Shed);
    hold(&mut monitor, more, 92, 93);
    assert_eq!(monitor.level(), Level::Trim);
    // Calm in between: it begins anew.
    monitor.look(0, 93 * SECOND);
    hold(&mut monitor, used, 94, 125);
    assert_eq!(monitor.level(), Level::Trim);
}

#[test]
fn a_level_under_which_memory_moves_is_kept() {
    for step in [LIMIT / 2000, LIMIT / 1000] {
        let (mut rising, mut falling) = (Monitor::new(LIMIT), Monitor::new(LIMIT));
        for second in 0..90 {
            // More than GRAIN in every PATIENCE.
            rising.look(2 * LIMIT + second * 2 * step, second * SECOND);
            falling.look(2 * LIMIT - second * 2 * step, second * SECOND);
            assert_eq!((rising.level(), falling.level()), (Level::Over, Level::Over));
        }
    }
}

#[test]
fn another_limit_is_judged_by_itself() {
    let mut monitor = Monitor::new(LIMIT);
    hold(&mut monitor, LIMIT, 0, 31);
    assert_eq!(monitor.level(), Level::Critical);
    monitor.set_limit(2 * LIMIT);
    monitor.look(LIMIT, 31 * SECOND);
    assert_eq!(monitor.level(), Level::Calm);
    monitor.set_limit(LIMIT);
    monitor.look(LIMIT, 32 * SECOND);
    assert_eq!(monitor.level(), Level::Full);
    assert_eq!(monitor.end(), Some(News::Over { worst: Level::Full, peak: LIMIT }));
    assert_eq!(Monitor::new(LIMIT).end(), None);
}

#[test]
fn it_is_told_when_something_is_refused_when_more_is_and_when_nothing_was_for_a_while() {
    let mut monitor = Monitor::new(LIMIT);
    let mut look = |share, second: u64| monitor.look(LIMIT / 100 * share, second * SECOND);
    assert_eq!(look(85, 0), None, "giving back is no news");
    assert_eq!(look(91, 1), Some(News::Begun(Level::Shed)));
    assert_eq!(look(92, 2), None);
    assert_eq!(look(97, 3), Some(News::Worse { level: Level::Critical, peak: LIMIT / 100 * 97 }));
    assert_eq!(look(91, 4), None);
    assert_eq!(look(50, 5), None);
    assert_eq!(look(93, 8), None, "the same pressure still");
    assert_eq!(look(50, 12), None);
    let over = News::Over { worst: Level::Critical, peak: LIMIT / 100 * 97 };
    assert_eq!(look(50, 13), Some(over));
    assert_eq!(look(50, 14), None);
    assert_eq!(look(100, 15), Some(News::Begun(Level::Full)));
}

/// A process whose sheddable requests take memory far faster than they leave it.
#[test]
fn memory_stays_bounded_while_more_comes_than_there_is_room_for() {
    let mut monitor = Monitor::new(LIMIT);
    let (mut used, mut peak) = (0, 0);
    for tenth in 0..6000_u64 {
        monitor.look(used, tenth * SECOND / 10);
        // 5 % of the limit a second comes, half a percent of what there is goes.
        if monitor.level() < Level::Shed {
            used += LIMIT / 200;
        }
        used -= used / 2000;
        peak = peak.max(used);
    }
    assert!(peak < LIMIT, "{peak}");
}
