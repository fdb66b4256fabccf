//! Requests that belong together come to the same backend: `hash`, and `ip_hash` as nginx has it.

use std::collections::{BTreeMap, BTreeSet};

use crate::support::{Backend, Nginx, Origin, Proxy, Running, missing, refusing_address, send};

/// The backend that answers.
#[track_caller]
fn whom(url: &str, headers: &[(&str, &str)]) -> String {
    let answer = send("GET", url, headers, b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.header("x-origin-id").unwrap().to_owned()
}

fn by_path(proxy: &Running) -> BTreeMap<usize, String> {
    (0..60).map(|i| (i, whom(&proxy.url(&format!("/page/{i}?v=1")), &[]))).collect()
}

#[test]
fn proxies_agree_on_who_has_a_target_and_only_those_of_the_dead_move() {
    let origins = ["a", "b", "c"].map(|id| Origin::new().id(id).start());
    let proxy = || Proxy::new().service("balance = \"hash\"\nhash_on = \"uri\"");
    let [a, b, c] = &origins;
    let first = proxy().backend(a).backend(b).backend(c).run();
    let second = proxy().backend(c).backend(a).backend(b).run();
    let before = by_path(&first);
    assert_eq!(before.values().collect::<BTreeSet<_>>().len(), 3, "{before:?}");
    assert_eq!(before, by_path(&second), "the order in the file does not matter");
    let [a, mut b, c] = origins;
    b.process.crash();
    let after = by_path(&first);
    assert!(before.iter().all(|(i, id)| id == "b" || after[i] == *id), "{before:?} {after:?}");
    let heirs: BTreeSet<_> =
        after.iter().filter(|(i, _)| before[i] == "b").map(|(_, id)| id).collect();
    assert_eq!(heirs.len(), 2, "both of the others have some of them: {after:?}");
    drop((a, c));
}

#[test]
fn a_key_may_be_a_header_or_a_cookie_and_without_it_requests_spread() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    for (on, name, value) in
        [("header:X-User", "x-user", "USER"), ("cookie:sid", "cookie", "theme=dark; sid=USER; x=y")]
    {
        let keys = format!("balance = \"hash\"\nhash_on = \"{on}\"");
        let proxy = Proxy::new().service(&keys).backend(&a).backend(&b).run();
        let url = proxy.url("/");
        let of = |user: usize| whom(&url, &[(name, &value.replace("USER", &user.to_string()))]);
        let owners: Vec<_> = (0..20).map(of).collect();
        assert_eq!(owners, (0..20).map(of).collect::<Vec<_>>());
        assert_eq!(owners.iter().collect::<BTreeSet<_>>().len(), 2);
        let without: BTreeSet<_> = (0..40).map(|_| whom(&url, &[])).collect();
        assert_eq!(without.len(), 2, "no key is not one key");
    }
}

/// Clients all over IPv4 and IPv6, the same ones each time.
fn clients() -> Vec<String> {
    let mut rng = fastrand::Rng::with_seed(4);
    let v4 = |rng: &mut fastrand::Rng| std::net::Ipv4Addr::from(rng.u32(0x0b00_0000..)).to_string();
    let v6 = |rng: &mut fastrand::Rng| {
        std::net::Ipv6Addr::from(rng.u128(1 << 125..1 << 126)).to_string()
    };
    (0..300).map(|i| if i % 3 == 0 { v6(&mut rng) } else { v4(&mut rng) }).collect()
}

/// Asks both for many clients. `down`: nobody is at the second of four backends.
#[track_caller]
fn same_as_nginx(down: bool) {
    if missing("nginx") {
        return;
    }
    let origins = ["a", "b", "c", "d"].map(|id| Origin::new().id(id).start());
    let weights = [1, 3, 2, 1];
    let dead = refusing_address();
    let mut proxy = Proxy::new()
        .listener("trusted_proxies = [\"127.0.0.0/8\"]")
        .service("balance = \"ip_hash\"\nhash_compat = \"nginx\"")
        .toml("[service.app.retry]\nbudget = 1.0");
    let mut upstream = String::from("ip_hash;");
    for (i, (origin, weight)) in origins.iter().zip(weights).enumerate() {
        let keys = format!("weight = {weight}");
        let is_dead = down && i == 1;
        proxy = match is_dead {
            true => proxy.backend_with(&dead, &keys),
            false => proxy.backend_with(origin, &keys),
        };
        let flag = if is_dead { "down" } else { "" };
        upstream += &format!("server {} weight={weight} {flag};", origin.address());
    }
    let nginx = Nginx::balancer(&upstream);
    let proxy = proxy.run();
    let url = format!("http://{}/up/", nginx.address());
    let mut seen = BTreeSet::new();
    for client in clients() {
        let from = [("x-forwarded-for", &*client)];
        let theirs = whom(&url, &from);
        assert_eq!(whom(&proxy.url("/up/"), &from), theirs, "for {client}");
        seen.insert(theirs);
    }
    assert_eq!(seen.len(), if down { 3 } else { 4 });
}

#[test]
fn ip_hash_finds_the_backends_that_a_real_nginx_finds() {
    same_as_nginx(false);
}

#[test]
fn and_the_same_others_when_one_is_down() {
    same_as_nginx(true);
}
