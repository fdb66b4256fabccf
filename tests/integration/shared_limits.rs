//! `shared = true`: several tidegates count one limit together in Redis, and each alone while that is away.
//!
//! A request waits 20 ms for Redis, which a busy machine may exceed: then it is counted alone, as it should be, and
//! a round in which that happened says nothing of the sharing.

use crate::support::{
    Backend, Events, Origin, Proxy, RawOrigin, Redis, Running, certificate, missing,
    refusing_address, send, wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const SHARED: &str = "[[route.rate_limit]]\nname = \"user\"\nkey = \"header:x-user\"\nrate = \"1/h\"\n\
                      burst = 5\nshared = true\n";

fn proxy(origin: &impl Backend, route: &str, redis: &str) -> Running {
    let redis = format!("[shared]\nredis = \"{redis}\"");
    Proxy::new().backend(origin).route(route).toml(&redis).run()
}

fn alone(proxy: &Running) -> f64 {
    proxy.metric("tidegate_shared_limits_alone_total", &[])
}

/// The status for a user, and the RateLimit field.
fn ask(proxy: &Running, user: &str) -> (u16, String) {
    let answer = send("GET", &proxy.url("/"), &[("x-user", user)], b"").expect("an answer");
    (answer.status, answer.header("ratelimit").unwrap_or_default().to_owned())
}

/// A round with a user of its own, until one in which Redis was asked for every request.
fn together(proxies: &[&Running], mut round: impl FnMut(&str)) {
    let count = || proxies.iter().map(|proxy| alone(proxy)).sum::<f64>();
    let mut user = 0;
    wait_until("Redis decides about a whole round", || {
        let before = count();
        user += 1;
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            round(&format!("user-{user}"));
        }));
        let whole = count() == before;
        if let (true, Err(panic)) = (whole, result) {
            std::panic::resume_unwind(panic);
        }
        whole
    });
}

#[test]
fn two_tidegates_share_one_limit() {
    if missing("redis-server") {
        return;
    }
    let (redis, origin) = (Redis::start(), RawOrigin::always(OK));
    let (a, b) = (proxy(&origin, SHARED, &redis.url()), proxy(&origin, SHARED, &redis.url()));
    together(&[&a, &b], |user| {
        let turns = [&a, &b, &a, &b, &b, &a, &b];
        let said = turns.map(|proxy| ask(proxy, user));
        assert_eq!(said.clone().map(|(status, _)| status), [200, 200, 200, 200, 200, 429, 429]);
        assert_eq!(said[0].1, "\"user\";r=4;t=3600");
        assert_eq!(said[3].1, "\"user\";r=1;t=14400");
        assert!(said[5].1.starts_with("\"user\";r=0;t="), "{said:?}");
    });
    assert_eq!(a.metric("tidegate_shared_limits_up", &[]), 1.0);
    // Names of users are nobody's business.
    let keys = redis.call(&["DBSIZE"]);
    assert_ne!(keys, ":0");
    assert_eq!(redis.call(&["EXISTS", "tidegate:limit:app:user:user-1"]), ":0");
}

#[test]
fn redis_over_tls_is_asked_only_if_it_is_believed() {
    if missing("redis-server") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(folder.path(), &["localhost"]);
    let (redis, origin) = (Redis::start_tls(&chain, &key), RawOrigin::always(OK));
    let shared = || {
        let redis = format!("[shared]\nredis = \"{}/0\"", redis.tls_url());
        Proxy::new().backend(&origin).route(SHARED).toml(&redis)
    };
    let believing = || shared().env("SSL_CERT_FILE", chain.to_str().unwrap()).run();
    let (a, b) = (believing(), believing());
    together(&[&a, &b], |user| {
        let statuses = [&a, &b, &a, &b, &a, &b, &a].map(|proxy| ask(proxy, user).0);
        assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    });
    // Whose certificate nobody vouches for counts nothing: everybody for himself.
    let doubting = shared().run();
    let statuses = [(); 6].map(|()| ask(&doubting, "user-1").0);
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    assert_eq!(doubting.metric("tidegate_shared_limits_up", &[]), 0.0);
    assert!(alone(&doubting) >= 6.0);
}

#[test]
fn a_refused_request_takes_nothing_from_others_wherever_they_are_counted() {
    if missing("redis-server") {
        return;
    }
    let (redis, origin) = (Redis::start(), RawOrigin::always(OK));
    let local = "[[route.rate_limit]]\nname = \"team\"\nkey = \"header:x-team\"\nrate = \"1/h\"\nburst = 2\n";
    let all = format!("{local}{SHARED}");
    let proxy = proxy(&origin, &all, &redis.url());
    let ask = |user: &str, team: &str| {
        let headers = [("x-user", user), ("x-team", team)];
        send("GET", &proxy.url("/"), &headers, b"").expect("an answer").status
    };
    together(&[&proxy], |user| {
        let team = |n: u32| format!("{user}-{n}");
        // Two of each team pass, by the limit that is counted here; five of the user, by Redis.
        let statuses = [1, 1, 1, 2, 2, 2, 3, 3].map(|n| ask(user, &team(n)));
        assert_eq!(statuses, [200, 200, 429, 200, 200, 429, 200, 429]);
        // The user's refusal cost team 3 nothing.
        assert_eq!(ask(&format!("{user}-other"), &team(3)), 200);
    });
}

#[test]
fn without_redis_each_counts_alone_and_says_so() {
    let origin = Origin::new().start();
    let nowhere = format!("redis://{}", refusing_address().address());
    let proxy = proxy(&origin, SHARED, &nowhere);
    let events = Events::of(&proxy);
    let statuses = [(); 7].map(|()| ask(&proxy, "a").0);
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429, 429]);
    assert_eq!(ask(&proxy, "b").0, 200);
    assert_eq!(alone(&proxy), 8.0);
    assert_eq!(proxy.metric("tidegate_shared_limits_up", &[]), 0.0);
    assert!(proxy.metric("tidegate_shared_limits_failures_total", &[]) >= 1.0);
    let event = events.wait("shared_limits", |event| event["away"] == true);
    assert!(event["why"].as_str().is_some_and(|why| !why.is_empty()), "{event}");
}

#[test]
fn redis_is_asked_again_once_it_answers() {
    if missing("redis-server") {
        return;
    }
    let (mut redis, origin) = (Redis::start(), RawOrigin::always(OK));
    let proxy = proxy(&origin, SHARED, &redis.url());
    let events = Events::of(&proxy);
    together(&[&proxy], |user| assert_eq!(ask(&proxy, user).0, 200));
    // It takes commands, and answers later.
    assert_eq!(redis.call(&["CLIENT", "PAUSE", "1500", "ALL"]), "+OK");
    wait_until("it is found away", || {
        ask(&proxy, "x");
        proxy.metric("tidegate_shared_limits_up", &[]) == 0.0
    });
    events.wait("shared_limits", |event| event["away"] == true);
    wait_until("it is asked again", || {
        ask(&proxy, "y");
        proxy.metric("tidegate_shared_limits_up", &[]) == 1.0
    });
    events.wait("shared_limits", |event| event["away"] == false);
    redis.crash();
    wait_until("its end is noticed", || {
        assert!(matches!(ask(&proxy, "z").0, 200 | 429));
        proxy.metric("tidegate_shared_limits_up", &[]) == 0.0
    });
}
