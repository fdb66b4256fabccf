//! Limits as a whole: what is let through, what is refused, and what is left afterwards.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::config::types::{LimitKey, PathPattern, Rate as PerTime, RateLimit, RouteAction};

fn rate(name: &str, count: u32, per: u64, burst: u32) -> RateLimit {
    RateLimit {
        name: name.into(),
        key: LimitKey::ClientIp,
        rate: PerTime { count, per: Duration::from_secs(per) },
        burst,
        ipv4_prefix: 32,
        ipv6_prefix: 64,
        max_keys: 1000,
        ban_after: None,
        ban_for: Duration::from_secs(1),
        shared: false,
        dry_run: false,
    }
}

fn route(rate_limits: Vec<RateLimit>) -> config::Route {
    config::Route {
        priority: config::Priority::Normal,
        name: "test".into(),
        listeners: Vec::new(),
        host: Vec::new(),
        path: PathPattern::Prefix("/".to_owned()),
        methods: Vec::new(),
        headers: Vec::new(),
        action: RouteAction::Service("app".into()),
        mirror: None,
        timeout: None,
        max_body: None,
        rate_bytes: None,
        rewrite: None,
        headers_in: config::HeaderRules::default(),
        headers_out: config::HeaderRules::default(),
        access: config::Access::default(),
        rate_limits,
        concurrency_limit: None,
    }
}

fn clock() -> Clock {
    Clock::manual(SystemTime::UNIX_EPOCH)
}

fn limits(rates: Vec<RateLimit>, clock: &Clock) -> Arc<Limits> {
    Limits::new(&route(rates), None, clock, None).expect("limits")
}

fn ask(limits: &Limits, client: [u8; 4]) -> Result<(), Refused> {
    admit(limits, client).result.map(drop)
}

fn admit(limits: &Limits, client: [u8; 4]) -> Verdict {
    admit_with(limits, client, &Bans::default())
}

fn admit_with(limits: &Limits, client: [u8; 4], bans: &Bans) -> Verdict {
    let trusted = ["192.0.2.0/24".parse().expect("a network")];
    let headers = HeaderMap::new();
    limits.admit(&Asked { headers: &headers, client: client.into(), trusted: &trusted, bans })
}

fn limited(limit: &str, wait: Duration) -> Result<(), Refused> {
    Err(Refused::Limited { limit: limit.into(), wait, banned: false })
}

const A: [u8; 4] = [10, 0, 0, 1];
const B: [u8; 4] = [10, 0, 0, 2];

#[test]
fn a_route_without_limits_has_none() {
    assert!(Limits::new(&route(Vec::new()), None, &clock(), None).is_none());
}

#[test]
fn a_burst_passes_and_then_the_rate() {
    let clock = clock();
    let limits = limits(vec![rate("slow", 10, 1, 3)], &clock);
    for _ in 0..3 {
        assert_eq!(ask(&limits, A), Ok(()));
    }
    assert_eq!(ask(&limits, A), limited("slow", Duration::from_millis(100)));
    assert_eq!(ask(&limits, B), Ok(()), "others are not affected");
    clock.advance(Duration::from_millis(99));
    assert_eq!(ask(&limits, A), limited("slow", Duration::from_millis(1)));
    clock.advance(Duration::from_millis(1));
    assert_eq!(ask(&limits, A), Ok(()));
    clock.advance(Duration::from_secs(3600));
    let passed = (0..10).filter(|_| ask(&limits, A).is_ok()).count();
    assert_eq!(passed, 3, "no more than the burst is saved up");
    assert_eq!(limits.rates()[0].limit.counts.refused.load(Relaxed), 9);
}

#[test]
fn the_strictest_answers_and_the_others_give_back_what_they_took() {
    let clock = clock();
    let all = vec![rate("wide", 1, 1, 10), rate("narrow", 1, 60, 2), rate("day", 1, 3600, 3)];
    let limits = limits(all, &clock);
    assert_eq!((ask(&limits, A), ask(&limits, A)), (Ok(()), Ok(())));
    for _ in 0..20 {
        assert_eq!(ask(&limits, A), limited("narrow", Duration::from_secs(60)));
    }
    clock.advance(Duration::from_secs(60));
    assert_eq!(ask(&limits, A), Ok(()));
    assert_eq!(ask(&limits, A), limited("day", Duration::from_secs(3540)));
}

#[test]
fn a_dry_run_counts_and_refuses_nothing() {
    let clock = clock();
    let dry = RateLimit { dry_run: true, ..rate("dry", 1, 1, 1) };
    let limits = limits(vec![dry], &clock);
    for _ in 0..5 {
        let verdict = admit(&limits, A);
        assert!(verdict.result.is_ok() && verdict.fields.is_none());
    }
    let counts = &limits.rates()[0].limit.counts;
    assert_eq!((counts.refused.load(Relaxed), counts.dry_run.load(Relaxed)), (0, 4));
}

#[test]
fn clients_are_told_where_they_stand() {
    let clock = clock();
    let dry = RateLimit { dry_run: true, ..rate("dry", 1, 1, 1) };
    let limits = limits(vec![rate("a", 100, 1, 50), dry, rate("b", 30, 60, 2)], &clock);
    let told = || {
        let mut headers = HeaderMap::new();
        let verdict = admit(&limits, A);
        verdict.fields.expect("there are limits").write(&mut headers);
        let text = |name: &str| headers[name].to_str().expect("text").to_owned();
        assert_eq!(text("ratelimit-policy"), "\"a\";q=100;w=1, \"b\";q=30;w=60");
        text("ratelimit")
    };
    assert_eq!(told(), "\"a\";r=49;t=1, \"b\";r=1;t=2");
    assert_eq!(told(), "\"a\";r=48;t=1, \"b\";r=0;t=4");
    assert_eq!(told(), "\"a\";r=48;t=1, \"b\";r=0;t=2", "refused: the first took nothing");
}

#[test]
fn a_reload_keeps_the_counts_of_what_stays_the_same() {
    let clock = clock();
    let first = limits(vec![rate("a", 1, 60, 2), rate("b", 1, 60, 2)], &clock);
    assert_eq!((ask(&first, A), ask(&first, A)), (Ok(()), Ok(())));
    let dry = RateLimit { dry_run: true, ..rate("b", 1, 60, 2) };
    let next = Limits::new(&route(vec![dry, rate("a", 1, 60, 2)]), Some(&first), &clock, None);
    let next = next.expect("limits");
    assert_eq!(ask(&next, A), limited("a", Duration::from_secs(60)));
    let wider = Limits::new(&route(vec![rate("a", 1, 60, 3)]), Some(&next), &clock, None);
    assert_eq!(ask(&wider.expect("limits"), A), Ok(()), "another limit begins anew");
}

#[test]
fn what_is_denied_is_denied_within_what_is_allowed() {
    let one = |net: &&str| {
        let address = || net.parse::<IpAddr>().map(IpNet::from);
        net.parse::<IpNet>().or_else(|_| address()).expect("a network")
    };
    let nets = |all: &[&str]| all.iter().map(one).collect();
    let asks = |allow: Option<&[&str]>, deny: &[&str], client| {
        let access = config::Access { allow: allow.map(nets), deny: nets(deny), files: Vec::new() };
        let route = config::Route { access, concurrency_limit: Some(1), ..route(Vec::new()) };
        let limits = Limits::new(&route, None, &clock(), None).expect("limits");
        let result = ask(&limits, client);
        assert_eq!(limits.in_flight(), Some(0));
        result
    };
    let ten = Some(&["10.0.0.0/8"][..]);
    assert_eq!(asks(ten, &["10.0.0.1"], A), Err(Refused::Denied));
    assert_eq!(asks(ten, &["10.0.0.1"], B), Ok(()));
    assert_eq!(asks(ten, &[], [192, 0, 2, 1]), Err(Refused::Denied));
    assert_eq!(asks(None, &["10.0.0.1"], [192, 0, 2, 1]), Ok(()));
    assert_eq!(asks(Some(&[]), &[], A), Err(Refused::Denied), "an empty file lets nobody in");
}

#[test]
fn a_full_route_takes_nothing_from_rates_and_a_limited_request_no_place() {
    let clock = clock();
    let route = config::Route { concurrency_limit: Some(2), ..route(vec![rate("a", 1, 60, 3)]) };
    let limits = Limits::new(&route, None, &clock, None).expect("limits");
    let admit_a = || admit(&limits, A).result;
    let held = (admit_a().expect("free"), admit_a().expect("free"));
    assert_eq!(admit_a().err(), Some(Refused::Full { max: 2 }));
    drop(held.0);
    assert!(admit_a().is_ok(), "the third of the burst");
    assert!(matches!(admit_a(), Err(Refused::Limited { .. })));
    assert_eq!(limits.in_flight(), Some(1));
    // A smaller limit counts those who are there.
    let smaller = config::Route { concurrency_limit: Some(1), ..route.clone() };
    let smaller = Limits::new(&smaller, Some(&limits), &clock, None).expect("limits");
    assert_eq!(admit(&smaller, B).result.err(), Some(Refused::Full { max: 1 }));
    drop(held.1);
    assert_eq!(smaller.in_flight(), Some(0));
}

#[test]
fn who_is_refused_again_and_again_is_banned_unless_it_is_welcome() {
    let clock = clock();
    let lasts = Duration::from_secs(300);
    let banning = RateLimit { ban_after: Some(3), ban_for: lasts, ..rate("a", 1, 60, 1) };
    let half = vec!["0.0.0.0/1".parse().expect("a network")];
    let access = config::Access { allow: Some(half), ..config::Access::default() };
    let open = limits(vec![banning.clone()], &clock);
    let listed = config::Route { access, ..route(vec![banning.clone()]) };
    let listed = Limits::new(&listed, None, &clock, None).expect("limits");
    let dry = limits(vec![RateLimit { dry_run: true, ..banning }], &clock);
    for (limits, client, banned) in
        [(&open, A, true), (&open, [192, 0, 2, 7], false), (&listed, A, false), (&dry, A, false)]
    {
        let bans = Bans::default();
        let _ = admit_with(limits, client, &bans);
        for refusals in 0..3 {
            assert_eq!(bans.active(), 0, "after {refusals}");
            let _ = admit_with(limits, client, &bans);
        }
        let left = bans.left(client.into(), || clock.now());
        assert_eq!(left, banned.then_some(lasts));
        let by = |(_, ban): &(IpNet, bans::Ban)| (ban.route.to_string(), ban.limit.to_string());
        let seen: Vec<_> = bans.all().iter().map(by).collect();
        assert_eq!(seen.contains(&("test".to_owned(), "a".to_owned())), banned);
    }
    let bans = Bans::default();
    for _ in 0..10 {
        let _ = admit_with(&open, B, &bans);
        clock.advance(Duration::from_secs(29));
    }
    assert_eq!(bans.active(), 0, "two a minute are not three");
}

#[test]
fn two_hundred_thousand_clients_are_bounded_and_the_overflow_shares_one_bucket() {
    let clock = clock();
    let config = RateLimit { max_keys: 150_000, ..rate("a", 1, 60, 2) };
    let limits = limits(vec![config], &clock);
    let client = |n: u32| std::net::Ipv4Addr::from(0x0a00_0000 + n).octets();
    let refused = (0..200_000).filter(|n| ask(&limits, client(*n)).is_err()).count();
    let limit = &limits.rates()[0].limit;
    assert_eq!((limit.keys(), limit.overflowed()), (150_000, 50_000));
    assert_eq!(refused, 50_000 - 2, "those without a place share one");
    assert_eq!(ask(&limits, client(7)), Ok(()), "those with one have their own burst");
    clock.advance(Duration::from_secs(200));
    limit.sweep();
    assert_eq!(limit.keys(), 0);
    assert_eq!(ask(&limits, client(199_999)), Ok(()));
    assert_eq!(limit.keys(), 1);
}

#[test]
fn several_threads_get_no_more_than_one_would() {
    let clock = Clock::real();
    let limits = limits(vec![rate("a", 1000, 1, 20), rate("b", 2000, 1, 30)], &clock);
    let passed = AtomicU64::new(0);
    let began = clock.now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    passed.fetch_add(u64::from(ask(&limits, A).is_ok()), Relaxed);
                }
            });
        }
    });
    let took = clock.now() - began;
    let most = 20 + took / 1000;
    let passed = passed.load(Relaxed);
    assert!((20..=most).contains(&passed), "{passed} of {most} in {took} µs");
}

proptest! {
    /// Over any interval: burst + rate × t.
    #[test]
    fn never_more_than_the_burst_and_the_rate(
        (count, per) in (1u32..50, prop_oneof![Just(1u64), Just(60)]),
        (burst, other) in (1u32..20, 1u32..20),
        steps in prop::collection::vec(0u64..400_000, 1..200),
    ) {
        let clock = clock();
        let limits = limits(vec![rate("a", count, per, burst), rate("b", 7, 1, other)], &clock);
        let mut passed = Vec::new();
        for step in steps {
            clock.advance(Duration::from_micros(step));
            if ask(&limits, A).is_ok() {
                passed.push(clock.now());
            }
            limits.rates().iter().for_each(|rate| rate.limit.sweep());
        }
        for (first, from) in passed.iter().enumerate() {
            for (last, to) in passed.iter().enumerate().skip(first) {
                let seconds = (to - from) as f64 / 1e6;
                for (rate, burst) in [(f64::from(count) / per as f64, burst), (7.0, other)] {
                    let most = f64::from(burst) + rate * seconds + 1e-6;
                    prop_assert!((last - first + 1) as f64 <= most);
                }
            }
        }
    }

    /// A lone client that keeps to the rate is never refused, whatever refuses others.
    #[test]
    fn an_even_flow_within_the_rate_passes(count in 1u32..1000, burst in 1u32..5) {
        let clock = clock();
        let limits = limits(vec![rate("a", count, 1, burst)], &clock);
        for _ in 0..50 {
            prop_assert_eq!(ask(&limits, A), Ok(()));
            let _ = ask(&limits, B);
            // Clocks count microseconds: an interval between two of them takes the longer one.
            clock.advance(Duration::from_micros(u64::from(1_000_000_u32.div_ceil(count))));
        }
    }
}
