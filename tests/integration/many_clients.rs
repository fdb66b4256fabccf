//! As many clients as a limit has places for, and more: each is held to its own limit, those without a place share one,
//! and what they cost is what docs/limits.md says.

use crate::support::siege::{OTHERS, peak};
use crate::support::{Crowd, Events, Proxy, Running, wait_until};

/// What a limit counts apart by default.
const KEYS: u32 = 200_000;

/// Of docs/limits.md, in bytes: a key, with `ban_after` as much again, a ban.
const KEY: usize = 60;
const BAN: usize = 250;

const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Clients come by themselves to one listener and by a proxy to another. No token comes back within a test.
const CONFIG: &str = r#"
[runtime]
workers = 2
watch = false
state_dir = "{dir}/state"
[admin]
listen = "127.0.0.1:0"
[[listener]]
name = "http"
address = "127.0.0.1:0"
max_connections_per_ip = 8
[[listener]]
name = "named"
address = "127.0.0.1:0"
max_connections_per_ip = 8
proxy_protocol = "accept"
trusted_proxies = ["127.0.0.0/8"]
[[route]]
path = "=/own"
respond = { status = 204 }
[[route]]
name = "app"
respond = { status = 204 }
[[route.rate_limit]]
name = "one"
key = "client_ip"
rate = "1/h"
burst = 1
"#;

fn limited(ban_after: u32) -> Running {
    Proxy::new().config(&format!("{CONFIG}ban_after = {ban_after}\n")).run()
}

fn metric(proxy: &Running, name: &str) -> f64 {
    proxy.metric(name, &[])
}

#[test]
fn two_hundred_thousand_clients_have_their_own_limit_and_the_rest_share_one() {
    let proxy = limited(1000);
    let named = Crowd::through_proxy(proxy.address("named")).asking(GET, 2);
    let direct = Crowd::direct(proxy.address("http")).asking(GET, 2);
    let events = Events::of(&proxy);
    let other = "GET /own HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(direct.clone().asking(other, 100).ask(0..8), [[204; 100]; 8], "all is warm");
    let before = peak(&proxy);
    let here = 5_000;
    for (crowd, clients) in [(&direct, here), (&named, KEYS - here)] {
        for (client, statuses) in crowd.ask(0..clients).into_iter().enumerate() {
            assert_eq!(statuses, [204, 429], "{}", crowd.client(client as u32));
        }
    }
    assert_eq!(metric(&proxy, "tidegate_rate_limit_keys"), f64::from(KEYS));
    assert_eq!(metric(&proxy, "tidegate_rate_limit_overflow_total"), 0.0);
    // One bucket of one request for all that come now, whichever way.
    let more = 500;
    let overflow: Vec<_> =
        [direct.ask(here..here + more), named.ask(KEYS - here..KEYS - here + more)].concat();
    let passed = overflow.iter().flatten().filter(|status| **status == 204).count();
    assert_eq!((passed, overflow.concat().len()), (1, 4 * more as usize));
    let overflowed = f64::from(4 * more);
    assert_eq!(metric(&proxy, "tidegate_rate_limit_overflow_total"), overflowed);
    // Those who have a place keep it.
    for crowd in [&direct, &named] {
        assert!(crowd.ask(0..500).iter().all(|statuses| *statuses == [429, 429]));
    }
    assert_eq!(metric(&proxy, "tidegate_rate_limit_keys"), f64::from(KEYS));
    assert_eq!(metric(&proxy, "tidegate_rate_limit_overflow_total"), overflowed);
    let refused = f64::from(KEYS + 4 * more - 1 + 2 * 2 * 500);
    assert_eq!(metric(&proxy, "tidegate_rate_limited_total"), refused);
    assert_eq!(metric(&proxy, "tidegate_bans_begun_total"), 0.0);
    let most = 2 * KEY * KEYS as usize / 1024 + OTHERS;
    let grown = peak(&proxy) - before;
    assert!(grown <= most, "{grown} KiB more, {most} may be");
    events.wait("request_flood", |event| event["step"] == "begun" && event["limit"] == "one");
}

#[test]
fn ten_thousand_clients_are_banned_and_are_refused_at_connect() {
    let proxy = limited(1);
    let named = Crowd::through_proxy(proxy.address("named")).asking(GET, 3);
    let other = "GET /own HTTP/1.1\r\nhost: a\r\n\r\n";
    let direct = Crowd::direct(proxy.address("http")).asking(other, 100);
    assert_eq!(direct.ask(0..8), [[204; 100]; 8], "all is warm");
    let before = peak(&proxy);
    let many = 10_000;
    for (client, statuses) in named.ask(0..many).into_iter().enumerate() {
        assert_eq!(statuses, [204, 429], "{}", named.client(client as u32));
    }
    assert_eq!(metric(&proxy, "tidegate_bans"), f64::from(many));
    wait_until("the last one is refused, too", || named.ask(many - 1..many).concat().is_empty());
    let refused = || proxy.metric("tidegate_connections_refused_total", &[("reason", "banned")]);
    let then = refused();
    assert!(named.ask(0..1000).iter().all(|statuses| statuses.is_empty()));
    assert_eq!(refused() - then, 1000.0);
    assert_eq!(named.ask(many..many + 1), [[204, 429]], "somebody else");
    let most = (BAN + KEY) * many as usize / 1024 + OTHERS;
    let grown = peak(&proxy) - before;
    assert!(grown <= most, "{grown} KiB more, {most} may be");
}
