//! Where a request goes by its host, path, method and headers, and what routes answer themselves.

use crate::support::{Connection, Origin, Proxy, get, refusing_address, send};

/// With a backend that no route of a test asks.
fn alone() -> Proxy {
    Proxy::new().backend(&refusing_address())
}

fn respond(name: &str, keys: &str) -> String {
    format!(
        "[[route]]\nname = \"{name}\"\nrespond = {{ status = 200, body = \"{name}\" }}\n{keys}\n"
    )
}

#[test]
fn the_precedence_of_hosts_and_paths() {
    let proxy = alone()
        .route("path = \"=/never\"\nrespond = { status = 200, body = \"never\" }")
        .toml(&respond("any", ""))
        .toml(&respond("wild", "host = [\"*.example.com\"]"))
        .toml(&respond("long-wild", "host = [\"*.shop.example.com\"]\npath = \"/v1/\""))
        .toml(&respond("exact-host", "host = [\"a.example.com\"]"))
        .toml(&respond("short", "host = [\"p\"]\npath = \"/v1/\""))
        .toml(&respond("long", "host = [\"p\"]\npath = \"/v1/users/\""))
        .toml(&respond("regex", "host = [\"p\"]\npath = \"~^/v1/users/[0-9]+$\""))
        .toml(&respond("exact", "host = [\"p\"]\npath = \"=/v1/users/7\""))
        .toml(&respond("post", "host = [\"m\"]\nmethods = [\"POST\"]"))
        .toml(&respond("beta", "host = [\"m\"]\nheaders = { x-beta = \"1\" }"))
        .run();
    let ask = |method: &str, host: &str, path: &str, headers: &[(&str, &str)]| {
        let headers = [&[("host", host)], headers].concat();
        send(method, &proxy.url(path), &headers, b"").unwrap().text()
    };
    for (host, path, wanted) in [
        ("b", "/", "any"),
        ("b.example.com", "/", "wild"),
        ("example.com", "/", "any"),
        ("A.EXAMPLE.com:8080", "/", "exact-host"),
        ("x.shop.example.com", "/v1", "long-wild"),
        ("x.shop.example.com", "/v2", "wild"),
        ("p", "/v1", "short"),
        ("p", "/v1x", "any"),
        ("p", "/v1/users/x", "long"),
        ("p", "/v1/users/8", "regex"),
        ("p", "/v1/users/7", "exact"),
        ("p", "/v1/x/../users/%37", "exact"),
        ("p", "/v2", "any"),
    ] {
        assert_eq!(ask("GET", host, path, &[]), wanted, "{host}{path}");
    }
    assert_eq!(ask("POST", "m", "/", &[]), "post");
    assert_eq!(ask("GET", "m", "/", &[("x-beta", "1")]), "beta");
    assert_eq!(ask("GET", "m", "/", &[]), "any");
}

#[test]
fn no_route_is_404() {
    let proxy = alone().route("path = \"/only/\"").run();
    let answer = get(&proxy.url("/other"));
    assert_eq!(answer.status, 404);
    let why = answer.header("proxy-status").unwrap();
    assert!(why.starts_with("tidegate; error=destination_not_found"), "{why}");
    let answer = send("GET", &proxy.url("/"), &[("accept", "application/json")], b"").unwrap();
    assert_eq!(answer.json()["status"], 404);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
}

#[test]
fn an_unread_body_closes_the_connection_and_it_says_so() {
    let proxy = alone().route("path = \"/only/\"").run();
    let mut client = Connection::open(proxy.address("http"));
    client.send("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\npart");
    let answer = client.answer();
    assert_eq!((answer.status, answer.header("connection")), (404, Some("close")));
    client.finish();
    assert_eq!(client.rest(), "");
}

#[test]
fn redirects() {
    let proxy = alone().route("redirect = { to = \"https://{host}{path}\", status = 301 }").run();
    let headers = [("host", "shop.example.com:8080")];
    let answer = send("GET", &proxy.url("/a/b?c=d"), &headers, b"").unwrap();
    assert_eq!(answer.status, 301);
    assert_eq!(answer.header("location"), Some("https://shop.example.com/a/b?c=d"));
    let answer = send("HEAD", &proxy.url("/"), &headers, b"").unwrap();
    assert_eq!((answer.status, answer.body.len()), (301, 0));
    let proxy = alone().listener("redirect_to_https = true").run();
    let answer = send("POST", &proxy.url("/x?y"), &headers, b"").unwrap();
    assert_eq!(answer.status, 308);
    assert_eq!(answer.header("location"), Some("https://shop.example.com/x?y"));
}

#[test]
fn fixed_answers() {
    let proxy = alone()
        .route("respond = { status = 418, body = \"teapot\", headers = { x-a = \"b\" } }")
        .run();
    let answer = get(&proxy.url("/"));
    let seen = (answer.status, answer.text(), answer.header("x-a"));
    assert_eq!(seen, (418, "teapot".into(), Some("b")));
    let mut client = Connection::open(proxy.address("http"));
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer_to_head().status, 418);
    assert_eq!(client.get("/").text(), "teapot", "no byte of a body came with the HEAD");
}

#[test]
fn rewrites() {
    let origin = Origin::new().start();
    for (rule, asked, wanted) in [
        ("strip_prefix = \"/api\"", "/api/users?x=1", ("/users", "x=1")),
        ("strip_prefix = \"/api\", add_prefix = \"/v2\"", "/api/users?y", ("/v2/users", "y")),
        ("regex = \"^/u/([0-9]+)$\", to = \"/users/$1\"", "/u/7?z=", ("/users/7", "z=")),
    ] {
        let proxy = Proxy::new().route(&format!("rewrite = {{ {rule} }}")).backend(&origin).run();
        let echo = get(&proxy.url(asked)).json();
        assert_eq!((&echo["path"], &echo["query"]), (&wanted.0.into(), &wanted.1.into()), "{rule}");
    }
}

#[test]
fn the_backend_gets_the_path_as_it_was_written() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let echo = get(&proxy.url("/a%20b/%C3%A9;x?q=%26+1")).json();
    assert_eq!((&echo["path"], &echo["query"]), (&"/a%20b/%C3%A9;x".into(), &"q=%26+1".into()));
}
