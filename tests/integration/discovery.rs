//! Backends that are found by name: followed as answers change, kept when nobody answers, drained
//! when they are no longer named.

use std::collections::BTreeMap;

use serde_json::Value;
use tidegate::load::Protocol;

use crate::support::{
    Events, Islands, Load, Nameserver, Proxy, Running, Says, get, gets, wait_for, wait_until,
};

/// `[dns]` with times that let a test end soon.
pub fn dns(nameserver: &Nameserver) -> String {
    format!(
        "[dns]\nservers = [\"{}\"]\nmin_ttl = \"50ms\"\nmax_ttl = \"1s\"\n",
        nameserver.address()
    )
}

/// The service `app` from the addresses of `app.test`.
fn by_name(nameserver: &Nameserver, islands: &Islands) -> Proxy {
    // Shares are exact on one worker.
    Proxy::new()
        .runtime("workers = 1")
        .service("balance = \"round_robin\"\nslow_start = \"0s\"")
        .toml(&format!(
            "{}[service.app.discovery]\nkind = \"dns\"\nname = \"app.test:{}\"\n",
            dns(nameserver),
            islands.port()
        ))
}

fn by_srv(nameserver: &Nameserver) -> Proxy {
    Proxy::new()
        .runtime("workers = 1")
        .service("balance = \"round_robin\"\nslow_start = \"0s\"")
        .toml(&format!(
            "{}[service.app.discovery]\nkind = \"srv\"\nname = \"_http._tcp.app.test\"\n",
            dns(nameserver)
        ))
}

/// What each backend of `app` says of itself: by its address, as `state` and other keys.
pub fn backends(proxy: &Running) -> BTreeMap<String, Value> {
    let service = proxy.service("app");
    let all = service["backends"].as_array().expect("a list").iter();
    all.filter_map(|b| Some((b["address"].as_str()?.to_owned(), b.clone()))).collect()
}

/// Waits until exactly these are ready and none is there besides.
#[track_caller]
pub fn only_ready(proxy: &Running, islands: &Islands, last: &[u8]) {
    let wanted: Vec<_> = last.iter().map(|last| islands.at(*last).to_string()).collect();
    wait_until(&format!("{last:?} are ready and alone"), || {
        let there = backends(proxy);
        there.keys().eq(&wanted) && there.values().all(|b| b["state"] == "ready")
    });
}

/// How often each backend answers that many requests.
fn shares(proxy: &Running, requests: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..requests {
        let answer = get(&proxy.url("/"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        *shares.entry(answer.text()).or_default() += 1;
    }
    shares
}

fn error_of(proxy: &Running) -> Option<String> {
    Some(proxy.service("app")["discovery"][0]["error"].as_str()?.to_owned())
}

#[test]
fn a_changed_answer_is_followed_and_what_vanished_drains() {
    let islands = Islands::start(&[2, 3, 4]);
    let nameserver = Nameserver::start();
    nameserver.at("app.test", &[2, 3]);
    let proxy = by_name(&nameserver, &islands).run();
    let events = Events::of(&proxy);
    only_ready(&proxy, &islands, &[2, 3]);
    assert_eq!(Vec::from_iter(shares(&proxy, 10).into_values()), [5, 5]);
    let two = &backends(&proxy)[&islands.at(2).to_string()];
    assert_eq!(two["source"], "dns", "{two}");
    assert_eq!(two["id"], format!("127.0.0.2-{}", islands.port()));

    // One request on each; then one of the two vanishes and another comes.
    let url = proxy.url("/hold");
    let held: Vec<_> = (0..2)
        .map(|_| {
            let url = url.clone();
            std::thread::spawn(move || get(&url))
        })
        .collect();
    wait_until("both requests are held", || islands.held() == 2);
    nameserver.at("app.test", &[3, 4]);
    let vanished = islands.at(2).to_string();
    wait_until("the vanished one drains beside the new one", || {
        let there = backends(&proxy);
        let state = |last| there.get(&islands.at(last).to_string()).map(|b| b["state"].clone());
        state(2) == Some("draining".into()) && state(4) == Some("ready".into())
    });
    let now = shares(&proxy, 20);
    assert_eq!(now.keys().collect::<Vec<_>>(), ["3", "4"], "no new request goes to it");
    assert_eq!(backends(&proxy)[&vanished]["in_flight"], 1, "its request runs on");
    islands.release();
    let mut answers: Vec<_> = held
        .into_iter()
        .map(|held| {
            let answer = held.join().expect("it is answered");
            (answer.status, answer.text())
        })
        .collect();
    answers.sort();
    assert_eq!(answers, [(200, "2".to_owned()), (200, "3".to_owned())], "nothing was cut");
    only_ready(&proxy, &islands, &[3, 4]);
    wait_until("no connection to it is kept", || islands.open(2) == 0);
    events.wait("drain", |e| e["step"] == "idle" && e["by"] == "removed");
    events.wait("discovered", |e| e["joined"] == 1 && e["left"] == 1 && e["backends"] == 2);

    // Named again: it is there again.
    nameserver.at("app.test", &[2, 3, 4]);
    only_ready(&proxy, &islands, &[2, 3, 4]);
}

/// Asked again when an answer's time is over, and not before.
#[test]
fn a_ttl_is_waited_for() {
    let islands = Islands::start(&[2, 3]);
    let nameserver = Nameserver::start();
    let address = |last| std::net::IpAddr::from([127, 0, 0, last]);
    nameserver.says("app.test", Says::At(1, vec![address(2)]));
    let text = by_name(&nameserver, &islands).text(std::path::Path::new("{dir}"));
    let longer = text.replace("max_ttl = \"1s\"", "max_ttl = \"1h\"");
    let proxy = Proxy::new().config(&longer).run();
    only_ready(&proxy, &islands, &[2]);
    nameserver.says("app.test", Says::At(1, vec![address(3)]));
    only_ready(&proxy, &islands, &[3]);
    let times = nameserver.times("app.test");
    let gaps = times.windows(2).map(|two| two[1] - two[0]);
    let shortest = gaps.min().expect("it was asked again");
    // The time of an answer begins with it, a little after the question.
    assert!(shortest >= std::time::Duration::from_secs(1), "asked again after {shortest:?}");
}

#[test]
fn a_fixed_backend_that_is_a_name_is_as_many_as_it_has_addresses() {
    let islands = Islands::start(&[2, 3]);
    let nameserver = Nameserver::start();
    nameserver.at("app.test", &[2]);
    let proxy = Proxy::new()
        .toml(&format!(
            "{}[[service.app.backend]]\naddress = \"app.test:{}\"\nid = \"app\"\nweight = 3\n",
            dns(&nameserver),
            islands.port()
        ))
        .run();
    only_ready(&proxy, &islands, &[2]);
    let drained = proxy.command(&["drain", "app", "app"]);
    assert_eq!(drained.code, Some(0), "one may be called by the name's id: {}", drained.stderr);
    nameserver.at("app.test", &[2, 3]);
    let three = wait_for("the second address", || {
        backends(&proxy).get(&islands.at(3).to_string()).filter(|b| b["state"] == "ready").cloned()
    });
    let shown = (&three["id"], &three["weight"], &three["source"]);
    assert_eq!(shown, (&"app@127.0.0.3".into(), &3.into(), &"fixed".into()));
    assert_eq!(Vec::from_iter(shares(&proxy, 5)), [("3".to_owned(), 5)], "a drain stays");
    assert_eq!(proxy.command(&["undrain", "app", "app@127.0.0.2"]).code, Some(0));
    only_ready(&proxy, &islands, &[2, 3]);
}

#[test]
fn a_failing_nameserver_takes_nobody_away() {
    let islands = Islands::start(&[2, 3]);
    let nameserver = Nameserver::start();
    nameserver.at("app.test", &[2, 3]);
    let proxy = by_name(&nameserver, &islands).run();
    let events = Events::of(&proxy);
    only_ready(&proxy, &islands, &[2, 3]);
    let load = Load::start(gets(&proxy.url("/"), 100.0, Protocol::Http1));

    nameserver.always(Some(Says::ServFail));
    let before = nameserver.asked("app.test");
    wait_until("it was asked often in vain", || nameserver.asked("app.test") > before + 6);
    let error = error_of(&proxy).expect("status says what is wrong");
    assert!(error.contains("the last answer is kept"), "{error}");
    events.wait("discovery_failed", |e| e["error"] == error.as_str());

    // Dead, for longer than any answer is good for; "there are none" in between is doubted.
    nameserver.always(Some(Says::NxDomain));
    wait_until("the doubt is told", || error_of(&proxy).is_some_and(|e| e.contains("no name")));
    nameserver.always(Some(Says::Nothing));
    wait_until("silence is told", || {
        error_of(&proxy).is_some_and(|e| e.contains("no nameserver") || e.contains("timed out"))
    });
    only_ready(&proxy, &islands, &[2, 3]);

    nameserver.always(None);
    nameserver.at("app.test", &[3]);
    only_ready(&proxy, &islands, &[3]);
    wait_until("all is well again", || error_of(&proxy).is_none());
    load.finish_unharmed();
}

#[test]
fn there_are_none_is_believed_when_it_is_said_long_enough() {
    let islands = Islands::start(&[2]);
    let nameserver = Nameserver::start();
    nameserver.at("app.test", &[2]);
    let proxy = by_name(&nameserver, &islands).run();
    only_ready(&proxy, &islands, &[2]);
    nameserver.says("app.test", Says::At(0, Vec::new()));
    only_ready(&proxy, &islands, &[]);
    let answer = get(&proxy.url("/"));
    assert_eq!(answer.status, 503);
    nameserver.at("app.test", &[2]);
    only_ready(&proxy, &islands, &[2]);
}

#[test]
fn a_start_without_dns_is_a_start() {
    let islands = Islands::start(&[2]);
    let nameserver = Nameserver::start();
    nameserver.always(Some(Says::ServFail));
    let fixed = format!(
        "[[service.app.backend]]\naddress = \"more.test:{}\"\nid = \"more\"\n",
        islands.port()
    );
    let proxy = by_name(&nameserver, &islands).toml(&fixed).run();
    let answer = get(&proxy.url("/"));
    assert_eq!(answer.status, 503, "{}", answer.text());
    let reason = answer.header("proxy-status").expect("it says why");
    assert!(reason.contains("destination_unavailable"), "{reason}");
    let service = proxy.service("app");
    let pending = &service["backends"][0];
    assert_eq!((&pending["id"], &pending["state"]), (&"more".into(), &"pending".into()));
    assert!(pending["last_error"].is_string(), "{pending}");

    nameserver.always(None);
    nameserver.at("app.test", &[2]);
    only_ready(&proxy, &islands, &[2]);
    assert_eq!(get(&proxy.url("/")).status, 200);
}

#[test]
fn srv_records_weigh_and_the_lowest_priority_serves() {
    let islands = Islands::start(&[2, 3, 4]);
    let nameserver = Nameserver::start();
    let port = islands.port();
    for last in [2, 3, 4] {
        nameserver.at(&format!("n{last}.test"), &[last]);
    }
    let srv = |records: &[(u16, u16, u8)]| {
        let of = records.iter().map(|(p, w, last)| (*p, *w, port, format!("n{last}.test")));
        nameserver.says("_http._tcp.app.test", Says::Srv(0, of.collect()));
    };
    srv(&[(10, 30, 2), (10, 10, 3), (20, 5, 4)]);
    let proxy = by_srv(&nameserver).run();
    only_ready(&proxy, &islands, &[2, 3, 4]);
    let there = backends(&proxy);
    let four = &there[&islands.at(4).to_string()];
    assert_eq!((&four["backup"], &four["source"]), (&true.into(), &"srv".into()));
    let shared = shares(&proxy, 40);
    let about = |last: &str| shared.get(last).copied().unwrap_or(0);
    assert_eq!((about("2"), about("3"), about("4")), (30, 10, 0), "a backup waits");

    // The set shrinks under load, weights change, one target's server fails: nobody notices.
    let load = Load::start(gets(&proxy.url("/"), 100.0, Protocol::Http1));
    srv(&[(10, 10, 2), (10, 10, 3)]);
    only_ready(&proxy, &islands, &[2, 3]);
    wait_until("the weight is the new one", || {
        backends(&proxy)[&islands.at(2).to_string()]["weight"] == 10
    });
    nameserver.says("n3.test", Says::ServFail);
    wait_until("it is told", || error_of(&proxy).is_some_and(|e| e.contains("n3.test")));
    only_ready(&proxy, &islands, &[2, 3]);
    srv(&[(20, 1, 4)]);
    only_ready(&proxy, &islands, &[4]);
    load.finish_unharmed();
}

#[test]
fn addresses_change_under_load_without_a_failure() {
    let islands = Islands::start(&[2, 3, 4, 5]);
    let nameserver = Nameserver::start();
    nameserver.at("app.test", &[2, 3]);
    let proxy = by_name(&nameserver, &islands).run();
    only_ready(&proxy, &islands, &[2, 3]);
    let loads = [Protocol::Http1, Protocol::Http2]
        .map(|protocol| Load::start(gets(&proxy.url("/"), 100.0, protocol)));
    for set in [&[3, 4][..], &[5], &[2, 3, 4, 5], &[4]] {
        nameserver.at("app.test", set);
        only_ready(&proxy, &islands, set);
    }
    for load in loads {
        load.finish_unharmed();
    }
}

#[test]
fn link_local_addresses_and_our_own_listeners_are_refused() {
    let islands = Islands::start(&[2]);
    let nameserver = Nameserver::start();
    let proxy = by_name(&nameserver, &islands).start();
    nameserver.says("app.test", Says::At(0, vec![[169, 254, 169, 254].into()]));
    wait_until("the refusal is told", || {
        error_of(&proxy).is_some_and(|e| e.contains("link-local") && e.contains("discovery.allow"))
    });
    nameserver.says("app.test", Says::At(0, vec![[169, 254, 1, 1].into(), [127, 0, 0, 2].into()]));
    only_ready(&proxy, &islands, &[2]);
    assert!(error_of(&proxy).is_some_and(|e| e.contains("169.254.1.1")));
}

/// What takes the place of a backend has to be found and to pass a check first.
#[test]
fn a_reload_that_replaces_numbers_by_a_name_leaves_no_gap() {
    let islands = Islands::start(&[2, 3, 4]);
    let nameserver = Nameserver::start();
    // Nobody answers at first: the reload does not wait for it, and the number serves on.
    nameserver.always(Some(Says::ServFail));
    nameserver.at("app.test", &[3, 4]);
    let mut proxy = Proxy::new().runtime("workers = 1").backend(&islands.at(2)).run();
    let load = Load::start(gets(&proxy.url("/"), 100.0, Protocol::Http1));
    assert_eq!(proxy.reload(|_| by_name(&nameserver, &islands)).status, 200);
    assert!(backends(&proxy).contains_key(&islands.at(2).to_string()));
    nameserver.always(None);
    only_ready(&proxy, &islands, &[3, 4]);
    load.finish_unharmed();
}
