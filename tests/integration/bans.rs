//! `ban_after`: who is refused again and again is not let in any more, for a while.

use serde_json::Value;

use crate::h3::Site;
use crate::openapi::described;
use crate::support::frames::{Frames, get_frame};
use crate::support::{
    Connection, Events, Origin, Proxy, RawOrigin, Running, Step, send, wait_until,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A route without a limit.
const OWN: &str = "[[route]]\npath = \"=/own\"\nrespond = { status = 204 }";

fn limit(more: &str) -> String {
    format!(
        "[[route.rate_limit]]\nname = \"one\"\nkey = \"client_ip\"\nrate = \"1/h\"\nburst = 1\n\
         ban_after = 2\n{more}"
    )
}

fn refusing(origin: &RawOrigin, listener: &str, more: &str) -> Running {
    Proxy::new().backend(origin).listener(listener).route(&limit(more)).toml(OWN).run()
}

fn bans(proxy: &Running) -> Value {
    let answer = proxy.admin("GET", "/v1/bans");
    described("GET", "/v1/bans", &answer);
    answer.json()
}

fn refused(proxy: &Running) -> f64 {
    proxy.metric("tidegate_connections_refused_total", &[("reason", "banned")])
}

/// Asks on a kept connection until it is banned, and the connection ended.
fn until_banned(proxy: &Running) {
    let mut client = Connection::open(proxy.address("http"));
    assert_eq!([200, 429].map(|_| client.get("/").status), [200, 429]);
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (429, Some("close")));
    assert_eq!(client.rest(), "");
}

#[test]
fn a_banned_address_is_closed_at_connect_until_it_is_lifted() {
    let origin = RawOrigin::always(OK);
    let proxy = refusing(&origin, "", "");
    let events = Events::of(&proxy);
    let mut kept = Connection::open(proxy.address("http"));
    assert_eq!(kept.get("/own").status, 204);
    until_banned(&proxy);
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
fn floods_are_refusals_whatever_their_protocol() {
    let origin = RawOrigin::always(OK);
    let listener = "proxy_protocol = \"accept\"\ntrusted_proxies = [\"127.0.0.0/8\"]\nlimit = { header_bytes = \"4KiB\" }";
    let limit = "[[route.rate_limit]]\nname = \"one\"\nkey = \"client_ip\"\nrate = \"1000/s\"\nban_after = 3";
    let proxy = Proxy::new().backend(&origin).listener(listener).route(limit).run();
    let open = |client: &str, rest: &[u8]| {
        let mut connection = Connection::open(proxy.address("http"));
        connection.send(format!("PROXY TCP4 {client} 10.0.0.1 4000 80\r\n"));
        connection.send(rest);
        connection
    };
    let long = "a".repeat(6000);
    let large = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {long}\r\n\r\n");
    let status = |client, head: &str| open(client, head.as_bytes()).answer().status;
    assert_eq!([status("192.0.2.1", &large), status("192.0.2.1", &large)], [431, 431]);
    assert_eq!(proxy.metric("tidegate_bans", &[]), 0.0);
    let settings =
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &[0, 0, 0, 4, 0, 0, 0, 0, 0].repeat(200)[..]];
    open("192.0.2.1", &settings.concat()).rest();
    assert_eq!(proxy.metric("tidegate_floods_total", &[("kind", "settings")]), 1.0);
    assert_eq!(proxy.metric("tidegate_bans", &[]), 1.0);
    let listed = bans(&proxy);
    assert_eq!(
        (&listed["bans"][0]["address"], &listed["bans"][0]["limit"]),
        (&"192.0.2.1/32".into(), &"one".into())
    );
    let small = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    assert_eq!(open("192.0.2.1", small.as_bytes()).rest(), "");
    assert_eq!((refused(&proxy), status("192.0.2.2", small)), (1.0, 200));
    // Of a trusted proxy's own connection nobody is banned.
    let direct = |_| {
        let mut connection = Connection::open(proxy.address("http"));
        connection.send(format!("PROXY UNKNOWN\r\n{large}"));
        connection.answer().status
    };
    assert_eq!([0; 4].map(direct), [431; 4]);
    assert_eq!(proxy.metric("tidegate_bans", &[]), 1.0);
}

#[test]
fn connections_over_http3_end_with_the_ban_too() {
    let origin = Origin::new().start();
    let site = Site::new(Proxy::new().backend(&origin).route(&limit("")), "", "");
    let kept = site.http3();
    assert_eq!(kept.get("https://a.test/").unwrap().status, 200);
    let client = site.http3();
    assert_eq!([(); 2].map(|()| client.get("https://a.test/").unwrap().status), [429, 429]);
    assert!(client.get("https://a.test/").is_err(), "ended with the refusal that made the ban");
    let answer = kept.get("https://a.test/").unwrap();
    assert_eq!(answer.status, 429);
    assert!(answer.header("proxy-status").unwrap().contains("refused too often"));
    assert!(kept.get("https://a.test/").is_err());
    assert!(site.try_http3().and_then(|next| next.get("https://a.test/")).is_err());
    let counted = || site.proxy.metric("tidegate_banned_requests_total", &[]);
    wait_until("it is counted", || counted() == 1.0);
}

#[test]
fn connections_over_http2_end_with_the_ban_too() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).route(&limit("")).toml(OWN).run();
    let open = || {
        let mut client = Frames::open(proxy.address("http"));
        client.hello_without_table();
        client
    };
    let ask = |client: &mut Frames, stream, path| {
        client.send(&get_frame(stream, path));
        client.end_of(stream)
    };
    let (mut client, mut kept) = (open(), open());
    assert_eq!(ask(&mut client, 1, "/"), Some(Ok(200)));
    assert_eq!(ask(&mut kept, 1, "/own"), Some(Ok(204)));
    assert_eq!([3, 5].map(|n| ask(&mut client, n, "/")), [Some(Ok(429)), Some(Ok(429))]);
    assert_eq!(client.goaway(), Some("ENHANCE_YOUR_CALM"));
    assert_eq!(ask(&mut kept, 3, "/own"), Some(Ok(429)));
    assert_eq!(kept.goaway(), Some("ENHANCE_YOUR_CALM"));
    assert_eq!(proxy.metric("tidegate_banned_requests_total", &[]), 1.0);
    assert_eq!(proxy.metric("tidegate_bad_requests_total", &[]), 0.0);
}

#[test]
fn what_a_banned_client_had_asked_for_before_is_answered() {
    let held =
        RawOrigin::script(|_| vec![Step::ReadHead, Step::Hold, Step::Send(OK.into()), Step::Again]);
    let other = "[[route]]\nname = \"limited\"\npath = \"=/x\"\nrespond = { status = 204 }\n";
    let proxy = Proxy::new().backend(&held).toml(&format!("{other}{}", limit(""))).run();
    let mut client = Frames::open(proxy.address("http"));
    client.hello_without_table();
    client.send(&get_frame(1, "/"));
    wait_until("it is asked for", || held.requests().len() == 1);
    for (stream, status) in [(3, 204), (5, 429), (7, 429)] {
        client.send(&get_frame(stream, "/x"));
        assert_eq!(client.end_of(stream), Some(Ok(status)));
    }
    held.release();
    assert_eq!(client.end_of(1), Some(Ok(200)));
    assert_eq!(client.goaway(), Some("ENHANCE_YOUR_CALM"));
}
