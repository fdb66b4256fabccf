//! What a backend gets to see of a request, and a client of an answer.

use crate::support::{Connection, Proxy, RawOrigin, Running, get};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const TRUSTED: &str = "trusted_proxies = [\"127.0.0.0/8\"]";

/// Sends these header lines, and gives back the head that the backend got, in lower case.
fn seen(proxy: &Running, origin: &RawOrigin, lines: &str) -> String {
    let before = origin.received_text(0).len();
    let mut client = Connection::open(proxy.address("http"));
    client.send(format!("GET /path?q=1 HTTP/1.1\r\nhost: example.com\r\n{lines}\r\n"));
    assert_eq!(client.answer().status, 200);
    origin.received_text(0)[before..].to_lowercase()
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut values = head.lines().filter_map(|line| line.split_once(": "));
    values.find(|(known, _)| *known == name).map(|(_, value)| value)
}

fn one_worker() -> Proxy {
    Proxy::new().runtime("workers = 1")
}

#[test]
fn what_a_stranger_says_of_itself_is_not_believed() {
    let origin = RawOrigin::always(OK);
    let proxy = one_worker().backend(&origin).run();
    let head = seen(
        &proxy,
        &origin,
        "x-forwarded-for: 1.2.3.4\r\nX-Forwarded-Proto: https\r\nx-forwarded-host: evil\r\n\
         x_forwarded_for: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\n\
         x-request-id: mine\r\ntraceparent: 00-a-b-01\r\nx-forwarded-port: 1\r\n",
    );
    assert_eq!(value(&head, "x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(value(&head, "x-forwarded-proto"), Some("http"));
    assert_eq!(value(&head, "x-forwarded-host"), Some("example.com"));
    for gone in ["1.2.3.4", "evil", "mine", "traceparent", "x-forwarded-port", "x-real-ip"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    let id = value(&head, "x-request-id").unwrap().to_owned();
    let other = seen(&proxy, &origin, "");
    assert_ne!(value(&other, "x-request-id"), Some(&*id), "each request has its own");
}

#[test]
fn a_trusted_proxy_is_believed_up_to_the_first_stranger() {
    let origin = RawOrigin::always(OK);
    let proxy = one_worker().listener(TRUSTED).backend(&origin).run();
    let head = seen(
        &proxy,
        &origin,
        "x-forwarded-for: 6.6.6.6, 1.2.3.4, 127.0.0.9\r\nx-forwarded-proto: https\r\n\
         x-forwarded-host: shop.example.com\r\nx-request-id: given-1\r\n",
    );
    let list = value(&head, "x-forwarded-for").unwrap();
    assert!(list.ends_with("1.2.3.4, 127.0.0.9, 127.0.0.1"), "{list}");
    assert_eq!(value(&head, "x-forwarded-proto"), Some("https"));
    assert_eq!(value(&head, "x-request-id"), Some("given-1"));
    let head = seen(&proxy, &origin, &format!("x-request-id: {}\r\n", "a".repeat(129)));
    assert!(value(&head, "x-request-id").unwrap().len() < 129, "not one that is too long");
}

#[test]
fn headers_of_one_connection_end_there() {
    let answer = "HTTP/1.1 200 OK\r\nconnection: keep-alive, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=9\r\n\
         proxy-authenticate: basic\r\nupgrade: h2c\r\nx-end: 1\r\ncontent-length: 2\r\n\r\nok";
    let origin = RawOrigin::always(answer);
    let proxy = one_worker().backend(&origin).run();
    let head = seen(
        &proxy,
        &origin,
        "connection: x-mine, host, content-type\r\nx-mine: 1\r\nkeep-alive: 1\r\n\
         proxy-authorization: basic x\r\nproxy-connection: keep-alive\r\nproxy: http://evil\r\n\
         te: gzip\r\ncontent-type: a/b\r\nx-end: 1\r\n",
    );
    for gone in ["x-mine", "keep-alive", "proxy", "te: ", "connection"] {
        assert!(!head.contains(gone), "{gone} in {head}");
    }
    assert_eq!((value(&head, "host"), value(&head, "x-end")), (Some("example.com"), Some("1")));
    assert_eq!(value(&head, "content-type"), Some("a/b"), "a client cannot take that away");
    let answer = get(&proxy.url("/"));
    for gone in ["x-hop", "keep-alive", "proxy-authenticate", "upgrade"] {
        assert_eq!(answer.header(gone), None, "{gone}");
    }
    assert_eq!(answer.header("x-end"), Some("1"));
}

#[test]
fn the_host_is_what_the_service_says() {
    for (rule, wanted) in [
        ("host = \"preserve\"", Some("example.com")),
        ("host = \"backend\"", None),
        ("host = \"fixed.example\"", Some("fixed.example")),
    ] {
        let origin = RawOrigin::always(OK);
        let proxy = one_worker().service(rule).backend(&origin).run();
        let head = seen(&proxy, &origin, "");
        let address = crate::support::Backend::address(&origin).to_string();
        assert_eq!(value(&head, "host"), Some(wanted.unwrap_or(&address)), "{rule}");
        assert_eq!(value(&head, "x-forwarded-host"), Some("example.com"), "{rule}");
    }
}

#[test]
fn an_absolute_target_becomes_a_path_and_its_host_counts() {
    let origin = RawOrigin::always(OK);
    let proxy = one_worker().backend(&origin).run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("GET http://other.example/a?b HTTP/1.1\r\nhost: other.example\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let head = origin.received_text(0).to_lowercase();
    assert!(head.starts_with("get /a?b http/1.1\r\n"), "{head}");
    assert_eq!(value(&head, "host"), Some("other.example"));
}

#[test]
fn a_route_sets_and_removes_headers_both_ways() {
    let origin = RawOrigin::always("HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 2\r\n\r\nok");
    let proxy = one_worker()
        .route(
            "[route.headers_in]\nset = { x-in = \"1\" }\nremove = [\"cookie\"]\n\
             [route.headers_out]\nset = { x-out = \"2\" }\nremove = [\"server\"]",
        )
        .backend(&origin)
        .run();
    let head = seen(&proxy, &origin, "cookie: a=b\r\nx-in: 7\r\n");
    assert_eq!((value(&head, "x-in"), value(&head, "cookie")), (Some("1"), None));
    let answer = get(&proxy.url("/"));
    assert_eq!((answer.header("x-out"), answer.header("server")), (Some("2"), None));
}

/// What is added to a request goes past its head, unless somebody has a say in it.
#[test]
fn what_is_added_is_there_once_and_a_route_may_take_it_away() {
    const ADDED: [&str; 5] =
        ["via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id"];
    let count = |head: &str, name: &str| {
        head.lines().filter(|line| line.starts_with(&format!("{name}: "))).count()
    };
    for (route, gone) in [
        ("", &[][..]),
        ("[route.headers_in]\nset = { x-in = \"1\" }", &[]),
        ("[route.headers_in]\nremove = [\"via\", \"x-request-id\"]", &["via", "x-request-id"]),
    ] {
        let origin = RawOrigin::always(OK);
        let proxy = one_worker().route(route).backend(&origin).run();
        for lines in ["", "x-forwarded-for: 6.6.6.6\r\nx-request-id: a\r\nx-request-id: b\r\n"] {
            let head = seen(&proxy, &origin, lines);
            for name in ADDED {
                assert_eq!(
                    count(&head, name),
                    usize::from(!gone.contains(&name)),
                    "{name}: {head}"
                );
            }
        }
        let head = seen(&proxy, &origin, "via: 1.0 other\r\n");
        let via = (!gone.contains(&"via")).then_some("1.0 other, 1.1 tidegate");
        assert_eq!(value(&head, "via"), via);
    }
}

#[test]
fn rfc_7239_where_it_is_asked_for() {
    let origin = RawOrigin::always(OK);
    let proxy = one_worker().service("forwarded = \"rfc7239\"").backend(&origin).run();
    let head = seen(&proxy, &origin, "forwarded: for=6.6.6.6\r\nx-forwarded-for: 6.6.6.6\r\n");
    let forwarded = value(&head, "forwarded").unwrap();
    assert!(forwarded.contains("for=127.0.0.1") && forwarded.contains("proto=http"), "{forwarded}");
    assert!(!head.contains("6.6.6.6") && !head.contains("x-forwarded"), "{head}");
    let proxy = one_worker().service("forwarded = \"off\"").backend(&origin).run();
    assert_eq!(get(&proxy.url("/")).status, 200);
    let head = origin.received_text(1).to_lowercase();
    assert!(!head.contains("forwarded"), "{head}");
}

#[test]
fn each_request_says_who_passed_it_on_and_how_far_it_may_go() {
    let origin = RawOrigin::always(OK);
    let proxy = one_worker().backend(&origin).run();
    assert_eq!(value(&seen(&proxy, &origin, ""), "via"), Some("1.1 tidegate"));
    let head = seen(&proxy, &origin, "via: 1.0 a\r\nVia: 1.1 b\r\nmax-forwards: 3\r\n");
    assert_eq!(value(&head, "via"), Some("1.0 a, 1.1 b, 1.1 tidegate"));
    assert_eq!(value(&head, "max-forwards"), Some("3"), "it is for OPTIONS and TRACE only");

    let before = origin.received(0).len();
    let mut client = Connection::open(proxy.address("http"));
    client.send("OPTIONS / HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("allow").is_some()), (204, true));
    client.send("OPTIONS / HTTP/1.1\r\nhost: a\r\nmax-forwards: 2\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert!(origin.received_text(0)[before..].to_lowercase().contains("max-forwards: 1\r\n"));
    client.send("TRACE / HTTP/1.1\r\nhost: a\r\nmax-forwards: 0\r\n\r\n");
    assert_eq!(client.answer().status, 405);
    let mut client = Connection::open(proxy.address("http"));
    client.send("OPTIONS / HTTP/1.1\r\nhost: a\r\nmax-forwards: many\r\n\r\n");
    assert_eq!(client.answer().status, 400);
}
