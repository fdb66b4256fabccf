//! What the hours of a service say about its bounds: a `max` that was too low, a `min` that nobody needs, hours
//! of the day that always need more, backends that use little of what a core and a machine are.
//!
//! A hint is given only for what was the same every time: over at least a week for bounds, and two weeks for
//! schedules. All hours are UTC.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::Hour;

/// Hours with less than so many seconds seen say nothing.
const WHOLE: f64 = 1800.0;
const WEEK: usize = 7 * 24;
/// Of the time, in which `max` was not enough.
const TOO_OFTEN: f64 = 0.005;
/// A schedule's need above what other hours need.
const FACTOR: f64 = 1.5;
/// Cores below which a backend uses little.
const LITTLE: f64 = 0.5;
/// Days of one kind (working days, or weekend) that a schedule is drawn from.
const WEEKDAYS: usize = 10;
const WEEKENDS: usize = 4;

/// One thing that could be better, as a sentence, and the line of configuration that does it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    pub text: String,
    /// TOML below `[service.NAME.scaling]`.
    pub toml: String,
}

/// What `hours` (oldest first) say about a service with these bounds.
pub fn hints(hours: &[Hour], min: u32, max: u32) -> Vec<Hint> {
    let seen: Vec<&Hour> = hours.iter().filter(|hour| hour.seen >= WHOLE).collect();
    let mut found = Vec::new();
    if seen.len() >= WEEK {
        found.extend(higher_max(&seen, max));
        found.extend(lower_min(&seen, min));
        found.extend(smaller(&seen));
    }
    for (days, least, is_in) in [
        ("mon-fri", WEEKDAYS, (|day| day < 5) as fn(u64) -> bool),
        ("sat,sun", WEEKENDS, |day| day >= 5),
    ] {
        let of: Vec<&Hour> = seen.iter().copied().filter(|h| is_in(weekday(h))).collect();
        found.extend(schedule(&of, days, least, min));
    }
    found
}

fn higher_max(hours: &[&Hour], max: u32) -> Option<Hint> {
    let (seen, at_max): (f64, f64) =
        hours.iter().fold((0.0, 0.0), |sum, hour| (sum.0 + hour.seen, sum.1 + hour.at_max));
    let demand = hours.iter().map(|hour| hour.demand).max()?;
    (at_max > TOO_OFTEN * seen && demand > max).then(|| Hint {
        text: format!(
            "for {:.1} of {:.0} hours max = {max} or more were needed, {demand} at the most",
            at_max / 3600.0,
            seen / 3600.0
        ),
        toml: format!("max = {demand}"),
    })
}

fn lower_min(hours: &[&Hour], min: u32) -> Option<Hint> {
    let demand = hours.iter().map(|hour| hour.demand).max()?;
    // One stays; whether a service may go to none is for people to say.
    let enough = demand.max(1);
    (enough < min).then(|| {
        let saved = f64::from(min - enough) * 24.0 * 7.0;
        Hint {
            text: format!(
                "in {} hours never more than {enough} were needed; min = {min} is {saved:.0} backend-hours \
                 a week more",
                hours.len()
            ),
            toml: format!("min = {enough}"),
        }
    })
}

/// Backends of which none ever used half a core. What a smaller one costs is not known here, and is not guessed at.
fn smaller(hours: &[&Hour]) -> Option<Hint> {
    let cores = hours.iter().map(|hour| hour.cores).fold(0.0, f64::max);
    let memory = hours.iter().map(|hour| hour.memory).max()?;
    let mib = memory.div_ceil(1 << 20);
    (cores > 0.0 && cores < LITTLE && memory > 0).then(|| Hint {
        text: format!(
            "in {} hours no backend used more than {:.0} % of a core and {mib} MiB; one that is given more than \
             twice that is given what it never needs",
            hours.len(),
            (cores * 100.0).ceil()
        ),
        toml: format!("# enough for one backend: {:.2} cores, {} MiB", 2.0 * cores, 2 * mib),
    })
}

/// The longest stretch of a day whose need is always clearly above that of the day's other hours.
fn schedule(hours: &[&Hour], days: &str, least: usize, min: u32) -> Option<Hint> {
    let mut needs: [Vec<u32>; 24] = Default::default();
    for hour in hours {
        needs[(hour.start.0 / 3_600_000 % 24) as usize].push(hour.demand);
    }
    if needs.iter().any(|of| of.len() < least) {
        return None;
    }
    // What four of five such days need in that hour.
    let floors = needs.map(|mut of| {
        of.sort_unstable();
        of[of.len() / 5]
    });
    let base = (*floors.iter().min()?).max(min);
    let high = |hour: usize| {
        let need = floors[hour % 24];
        need > base && f64::from(need) >= FACTOR * f64::from(base)
    };
    let stretches = (0..24).filter(|&hour| high(hour) && !high(hour + 23)).map(|first| {
        let length = (0..24).take_while(|more| high(first + more)).count();
        let need = (0..length).map(|more| floors[(first + more) % 24]).min().unwrap_or(base);
        (length, first, need)
    });
    let (length, first, need) = stretches.max_by_key(|(length, ..)| *length)?;
    let mut toml = String::from("[[schedule]]\n");
    let _ = write!(
        toml,
        "name = \"{days} {first:02}:00\"\ncron = \"0 {first} * * {days}\"\nfor = \"{length}h\"\nmin = {need}"
    );
    Some(Hint {
        text: format!(
            "{days} from {first:02}:00 UTC for {length} h four of five days need {need} or more, other hours {base}"
        ),
        toml,
    })
}

/// 0 = Monday. The first of January 1970 was a Thursday.
fn weekday(hour: &Hour) -> u64 {
    (hour.start.0 / 86_400_000 + 3) % 7
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::Wall;

    /// Hours from Monday, 5 January 1970, each with what it needs.
    fn hours(count: u64, demand: impl Fn(u64, u64) -> u32) -> Vec<Hour> {
        let hour = |n: u64| {
            let need = demand(n / 24 % 7, n % 24);
            let start = Wall((4 * 24 + n) * 3_600_000);
            Hour { start, seen: 3600.0, demand: need, peak: need, ..Hour::default() }
        };
        (0..count).map(hour).collect()
    }

    #[test]
    fn nothing_is_said_of_a_few_days_or_of_what_fits() {
        assert_eq!(hints(&hours(100, |_, _| 1), 5, 10), []);
        assert_eq!(hints(&hours(14 * 24, |_, _| 5), 5, 10), []);
    }

    #[test]
    fn a_min_that_nobody_needs() {
        let [hint] = &hints(&hours(14 * 24, |_, hour| (hour % 3) as u32), 5, 10)[..] else {
            panic!("one hint")
        };
        assert_eq!(hint.toml, "min = 2");
        assert!(hint.text.contains("in 336 hours never more than 2"), "{}", hint.text);
        assert!(hint.text.contains("504 backend-hours a week"), "{}", hint.text);
    }

    #[test]
    fn a_max_that_was_too_low() {
        let mut all = hours(7 * 24, |_, _| 3);
        all[20].demand = 14;
        all[20].at_max = 3600.0;
        let [hint] = &hints(&all, 1, 10)[..] else { panic!("one hint") };
        assert_eq!(hint.toml, "max = 14");
        all[20].at_max = 60.0;
        assert_eq!(hints(&all, 1, 10), [], "once for a minute is no reason");
    }

    #[test]
    fn backends_that_use_little() {
        let mut all = hours(7 * 24, |_, _| 3);
        all[50].cores = 0.113;
        all[70].memory = 80 << 20;
        let [hint] = &hints(&all, 1, 10)[..] else { panic!("one hint") };
        let text = "in 168 hours no backend used more than 12 % of a core and 80 MiB;";
        assert!(hint.text.starts_with(text), "{}", hint.text);
        assert_eq!(hint.toml, "# enough for one backend: 0.23 cores, 160 MiB");
        all[51].cores = 0.9;
        assert_eq!(hints(&all, 1, 10), [], "one that is busy once needs its core");
    }

    #[test]
    fn hours_that_always_need_more_are_a_schedule() {
        let busy = |day: u64, hour: u64| if day < 5 && (8..18).contains(&hour) { 6 } else { 2 };
        let [hint] = &hints(&hours(14 * 24, busy), 2, 10)[..] else { panic!("one hint") };
        let toml = "[[schedule]]\nname = \"mon-fri 08:00\"\ncron = \"0 8 * * mon-fri\"\nfor = \"10h\"\nmin = 6";
        assert_eq!(hint.toml, toml);
        // Over midnight, and only on weekends.
        let night = |day: u64, hour: u64| if day >= 5 && !(3..22).contains(&hour) { 9 } else { 2 };
        let [hint] = &hints(&hours(14 * 24, night), 2, 10)[..] else { panic!("one hint") };
        assert!(
            hint.toml.contains("cron = \"0 22 * * sat,sun\"\nfor = \"5h\"\nmin = 9"),
            "{}",
            hint.toml
        );
        // Every third day is no habit.
        let mut days = hours(14 * 24, |_, _| 2);
        days.iter_mut().step_by(72).for_each(|hour| hour.demand = 9);
        assert_eq!(hints(&days, 2, 10), []);
    }
}
