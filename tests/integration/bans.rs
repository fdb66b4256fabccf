//! `ban_after`: who is refused again and again is not let in any more, for a while.

use serde_json::Value;

use crate::h2::{block_on, connect};
use crate::h3::Site;
use crate::openapi::described;
use crate::support::{Connection, Events, Origin, Proxy, RawOrigin, Running, send, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn limit(more: &str) -> String {
    format!(
        "[[route.rate_limit]]\nname = \"one\"\nkey = \"client_ip\"\nrate = \"1/h\"\nburst = 1\n\
         ban_after = 2\n{more}"
    )
}

fn refusing(origin: &RawOrigin, listener: &str, more: &str) -> Running {
    Proxy::new().backend(origin).listener(listener).route(&limit(more)).run()
}

fn bans(proxy: &Running) -> Value {
    let answer = proxy.admin("GET", "/v1/bans");
    described("GET", "/v1/bans", &answer);
    answer.json()
}

fn refused(proxy: &Running) -> f64 {
    proxy.metric("tidegate_connections_refused_total", &[("reason", "banned")])
}

/// Asks on a kept connection until it is banned.
fn until_banned(proxy: &Running) -> Connection {
    let mut client = Connection::open(proxy.address("http"));
    let statuses = [200, 429, 429].map(|_| client.get("/").status);
    assert_eq!(statuses, [200, 429, 429]);
    client
}

#[test]
fn a_banned_address_is_closed_at_connect_until_it_is_lifted() {
    let origin = RawOrigin::always(OK);
    let proxy = refusing(&origin, "", "");
    let events = Events::of(&proxy);
    let mut kept = until_banned(&proxy);
    assert_eq!(proxy.metric("tidegate_bans", &[]), 1.0);
    kept.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = kept.answer();
    assert_eq!((answer.status, answer.header("connection")), (429, Some("close")));
    let wait: u32 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((550..=600).contains(&wait), "{wait}");
    assert_eq!(kept.rest(), "");
    let mut next = Connection::open(proxy.address("http"));
    assert_eq!(next.rest(), "", "closed without a word");
    assert_eq!(refused(&proxy), 1.0);
    let listed = bans(&proxy);
    assert_eq!(
        (&listed["active"], &listed["bans"][0]["address"]),
        (&1.into(), &"127.0.0.1/32".into())
    );
    assert_eq!(
        (&listed["bans"][0]["route"], &listed["bans"][0]["limit"]),
        (&"app".into(), &"one".into())
    );
    events.wait("ban", |data| data["kind"] == "ban" && data["step"] == "begun");
    for (address, status) in [("10.0.0.1", 404), ("nonsense", 422), ("127.0.0.1%2F32", 204)] {
        let answer = proxy.admin_json("DELETE", &format!("/v1/bans/{address}"), None);
        assert_eq!(answer.status, status, "{}", answer.text());
        described("DELETE", "/v1/bans/{address}", &answer);
    }
    events.wait("ban", |data| data["step"] == "lifted");
    assert_eq!(bans(&proxy)["active"], 0);
    assert_eq!(Connection::open(proxy.address("http")).get("/").status, 429, "by the limit");
    assert_eq!(proxy.metric("tidegate_bans_begun_total", &[]), 1.0);
}

#[test]
fn a_ban_ends_by_itself() {
    let origin = RawOrigin::always(OK);
    let proxy = refusing(&origin, "", "ban_for = \"1s\"");
    let events = Events::of(&proxy);
    until_banned(&proxy);
    events.wait("ban", |data| data["step"] == "ended");
    assert_eq!(Connection::open(proxy.address("http")).get("/").status, 429, "by the limit");
    assert_eq!(proxy.metric("tidegate_bans", &[]), 0.0);
}

#[test]
fn behind_a_trusted_proxy_a_ban_is_for_requests() {
    let origin = RawOrigin::always(OK);
    let proxy = refusing(&origin, "trusted_proxies = [\"127.0.0.0/8\"]", "");
    let mut through = Connection::open(proxy.address("http"));
    let mut ask = |client: &str| {
        through.send(format!("GET / HTTP/1.1\r\nhost: a\r\nx-forwarded-for: {client}\r\n\r\n"));
        let answer = through.answer();
        (answer.status, answer.header("proxy-status").unwrap_or_default().contains("too often"))
    };
    let bad = [(); 4].map(|()| ask("10.0.0.1"));
    assert_eq!(bad, [(200, false), (429, false), (429, false), (429, true)]);
    assert_eq!(ask("10.0.0.2"), (200, false), "others on the same connection");
    // The proxy itself is never banned.
    for _ in 0..5 {
        let answer = send("GET", &proxy.url("/"), &[], b"").unwrap();
        assert!(!answer.header("proxy-status").unwrap_or_default().contains("too often"));
    }
    assert_eq!(bans(&proxy)["active"], 1);
    assert_eq!(proxy.metric("tidegate_banned_requests_total", &[]), 1.0);
    assert_eq!(refused(&proxy), 0.0);
}

#[test]
fn a_proxy_header_names_who_is_banned() {
    let origin = RawOrigin::always(OK);
    let accept = "proxy_protocol = \"accept\"\ntrusted_proxies = [\"127.0.0.0/8\"]";
    let proxy = refusing(&origin, accept, "ipv4_prefix = 24");
    let ask = |client: &str| {
        let mut connection = Connection::open(proxy.address("http"));
        connection.send(format!(
            "PROXY TCP4 {client} 10.0.0.1 4000 80\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        connection.rest()
    };
    // Closed by us only if it is banned; else by the client.
    let status = |client: &str| {
        let mut connection = Connection::open(proxy.address("http"));
        connection.send(format!(
            "PROXY TCP4 {client} 10.0.0.1 4000 80\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n"
        ));
        connection.answer().status
    };
    assert_eq!([status("192.0.2.1"), status("192.0.2.2"), status("192.0.2.3")], [200, 429, 429]);
    assert_eq!(ask("192.0.2.200"), "", "the whole /24");
    assert_eq!(status("198.51.100.1"), 200);
    assert_eq!(refused(&proxy), 1.0);
}

#[test]
fn streams_of_kept_connections_are_refused_too() {
    let origin = Origin::new().start();
    let site = Site::new(Proxy::new().backend(&origin).route(&limit("")), "", "");
    let kept = site.http3();
    let statuses = [(); 3].map(|()| kept.get("https://a.test/").unwrap().status);
    assert_eq!(statuses, [200, 429, 429]);
    let answer = kept.get("https://a.test/").unwrap();
    assert_eq!(answer.status, 429);
    assert!(answer.header("proxy-status").unwrap().contains("refused too often"));
    assert!(site.try_http3().and_then(|next| next.get("https://a.test/")).is_err());

    let plain = Proxy::new().backend(&origin).route(&limit("")).run();
    block_on(async {
        let mut client = connect(&plain, &h2::client::Builder::new()).await;
        let mut last = Vec::new();
        for _ in 0..4 {
            let (answer, _) = client.send_request(crate::h2::get("/"), true).unwrap();
            last.push(answer.await.unwrap().status().as_u16());
        }
        assert_eq!(last, [200, 429, 429, 429]);
    });
    wait_until("all are counted", || plain.metric("tidegate_banned_requests_total", &[]) == 1.0);
}
