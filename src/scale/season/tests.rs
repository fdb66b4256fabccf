//! What is expected, from when on, and which loads are never believed to repeat themselves.

use super::*;

/// A Thursday, 00:00 UTC.
const START: u64 = 1_767_225_600_000;
const LEAD: Duration = Duration::from_secs(30);

/// Plays days of windows; for each window what is expected half a minute before it begins.
fn play(
    season: &mut Season,
    windows: std::ops::Range<u64>,
    rate: impl Fn(u64) -> f64,
) -> Vec<Option<Expected>> {
    let mut expected = Vec::new();
    for window in windows {
        expected.push(season.expects(Wall(START + window * WINDOW - 20_000), LEAD));
        for part in 1..=30 {
            let wall = Wall(START + window * WINDOW + part * 10_000);
            season.add(wall, Duration::from_secs(10), 10.0 * rate(window));
        }
    }
    expected
}

/// 100 requests/s, and each day from 8, 12, 16 and 20 h on for two hours 400 requests/s.
fn shifts(window: u64) -> f64 {
    let hour = window % DAY / 12;
    if hour >= 8 && (hour - 8) % 4 < 2 { 400.0 } else { 100.0 }
}

#[test]
fn a_rise_of_every_day_is_expected_once_six_came_as_expected() {
    let mut season = Season::default();
    let expected = play(&mut season, 0..4 * DAY, shifts);
    let rises = |day: u64| [8, 12, 16, 20].map(|hour| expected[(day * DAY + hour * 12) as usize]);
    let yesterday = Some(Expected { came: 400.0, share: 1.0, days: 1 });
    assert_eq!([rises(0), rises(1)], [[None; 4]; 2], "first it has to prove itself");
    assert_eq!(rises(2), [None, None, yesterday, yesterday]);
    assert_eq!(rises(3), [yesterday; 4]);
    // Half a minute before it, and while it is there and no window of it is over.
    assert_eq!(expected.iter().flatten().count(), 2 * 6, "nothing else is raised");
}

#[test]
fn a_quieter_day_is_expected_to_stay_quieter() {
    let mut season = Season::default();
    play(&mut season, 0..3 * DAY, shifts);
    let expected = play(&mut season, 3 * DAY..4 * DAY, |window| 0.8 * shifts(window));
    let first = expected[8 * 12].expect("a rise, though smaller");
    assert!((first.rate() - 320.0).abs() < 1.0 && (first.share - 0.8).abs() < 1e-3, "{first:?}");
}

#[test]
fn a_monday_is_expected_to_be_like_the_last_one() {
    let mut season = Season::default();
    let weekday = |window: u64| if window / DAY % 7 < 5 { shifts(window) } else { 100.0 };
    let expected = play(&mut season, 0..8 * DAY, weekday);
    let monday = expected[(7 * DAY + 8 * 12) as usize].expect("as a week ago");
    assert_eq!((monday.days, monday.came), (7, 400.0));
}

#[test]
fn what_stops_coming_is_not_expected_any_more() {
    let mut season = Season::default();
    play(&mut season, 0..3 * DAY, shifts);
    // From now on the load is another one, at other times: at the latest when the half hour shows it.
    let expected = play(&mut season, 3 * DAY..5 * DAY, |_| 100.0);
    let false_ones = expected.iter().flatten().count();
    assert!(false_ones <= 4 * 6, "{false_ones}");
    assert!(expected[DAY as usize..].iter().all(Option::is_none));
}

/// Poisson noise about a rate of each window.
fn noisy(rate: impl Fn(u64) -> f64, seed: u64) -> impl Fn(u64) -> f64 {
    move |window| {
        let mut rng = fastrand::Rng::with_seed(seed * 1_000_003 + window);
        let normal: f64 = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        (rate(window) + normal * (rate(window) / 300.0).sqrt()).max(0.0)
    }
}

#[test]
fn a_load_without_a_season_is_never_raised() {
    for seed in 0..3 {
        // Another level every so many windows.
        let steps = |each: u64, least: f64| {
            move |window: u64| {
                let mut rng = fastrand::Rng::with_seed(seed * 7919 + window / each);
                least + (1200.0 - least) * rng.f64()
            }
        };
        let spike = |window: u64| if window == 100 + seed { 1500.0 } else { 100.0 };
        let loads: [Box<dyn Fn(u64) -> f64>; 7] = [
            Box::new(noisy(|_| 1000.0, seed)),
            Box::new(noisy(|_| 0.5, seed)),
            Box::new(|_| 0.0),
            Box::new(noisy(spike, seed)),
            Box::new(steps(1, 100.0)),
            Box::new(steps(4, 100.0)),
            Box::new(steps(2, 800.0)),
        ];
        for (i, load) in loads.iter().enumerate() {
            let mut season = Season::default();
            // Longer ones take their time: each window is a back-test of a week.
            let expected = play(&mut season, 0..4 * DAY, load);
            assert_eq!(expected.iter().flatten().count(), 0, "load {i}, seed {seed}");
        }
    }
}

#[test]
fn a_day_that_rises_slowly_needs_no_expectations() {
    let mut season = Season::default();
    let sine =
        |window: u64| 600.0 - 500.0 * (window as f64 / DAY as f64 * std::f64::consts::TAU).cos();
    let expected = play(&mut season, 0..4 * DAY, sine);
    assert_eq!(expected.iter().flatten().count(), 0);
}

#[test]
fn it_goes_on_after_a_restart() {
    let (mut season, mut windows) = (Season::default(), Vec::new());
    for window in 0..3 * DAY {
        for part in 1..=30 {
            let wall = Wall(START + window * WINDOW + part * 10_000);
            windows.extend(season.add(wall, Duration::from_secs(10), 10.0 * shifts(window)));
        }
    }
    let lines: Vec<String> =
        windows.iter().map(|w| serde_json::to_string(w).expect("json")).collect();
    let mut again = Season::default();
    again.recall(lines.iter().map(|line| serde_json::from_str(line).expect("its own output")));
    let soon = Wall(START + (3 * DAY + 8 * 12) * WINDOW - 20_000);
    let expected = [&mut season, &mut again].map(|s| {
        play(s, 3 * DAY..3 * DAY + 8 * 12, shifts);
        s.expects(soon, LEAD)
    });
    // The last window was not over yet: it is missing in the second, and nothing else is.
    assert_eq!(expected[0].map(|e| e.came), Some(400.0));
    assert_eq!(expected[0], expected[1]);
}

#[test]
fn its_memory_is_bounded_and_clocks_may_be_set() {
    let mut season = Season::default();
    play(&mut season, 0..20 * DAY, shifts);
    assert_eq!(season.rates.len(), KEPT as usize);
    assert_eq!(season.get(START / WINDOW), None, "20 days ago");
    // Years ahead, and back again.
    season.put(&Window { from: Wall(START * 2), rate: 5.0 });
    season.put(&Window { from: Wall(START), rate: 7.0 });
    season.put(&Window { from: Wall(START + 3 * WINDOW), rate: f64::NAN });
    assert_eq!((season.get(START / WINDOW), season.newest), (Some(7.0), START / WINDOW));
    assert_eq!(season.rates.len(), KEPT as usize);
}

#[test]
fn a_window_is_its_mean_or_its_busiest_half_minute() {
    let mut season = Season::default();
    let mut window = |spike: f64| {
        let mut present = Present::default();
        for second in 0..300 {
            let rate = if (60..90).contains(&second) { spike } else { 100.0 };
            present.add(1.0, rate);
        }
        season = Season::default();
        present.over().expect("all of it was seen").rate
    };
    assert_eq!(window(103.0), 100.3, "noise");
    assert!((480.0..500.0).contains(&window(500.0)));
    let mut half = Present::default();
    (0..150).for_each(|_| half.add(1.0, 100.0));
    assert_eq!(half.over(), None);
}
