use super::*;

use config::{HostPattern, PathPattern, RouteAction};
use proptest::prelude::*;

/// A route from a line: `host[,host] path [METHOD,…] [name=value …]`; `-` is any.
fn route(line: &str) -> Arc<config::Route> {
    let mut words = line.split_whitespace();
    let host = words.next().expect("host");
    let path = words.next().expect("path");
    let methods = words.next().unwrap_or("-");
    let host = match host {
        "-" => Vec::new(),
        hosts => hosts
            .split(',')
            .map(|host| match host.strip_prefix('*') {
                Some(suffix) => HostPattern::Wildcard(suffix.to_owned()),
                None => HostPattern::Exact(host.to_owned()),
            })
            .collect(),
    };
    let path = match path.as_bytes()[0] {
        b'=' => PathPattern::Exact(path[1..].to_owned()),
        b'~' => PathPattern::Regex(regex::Regex::new(&path[1..]).expect("regex")),
        _ => PathPattern::Prefix(path.to_owned()),
    };
    let methods = match methods {
        "-" => Vec::new(),
        methods => methods.split(',').map(|m| m.parse().expect("method")).collect(),
    };
    let headers = words
        .map(|word| {
            let (name, value) = word.split_once('=').expect("name=value");
            (name.parse().expect("name"), value.parse().expect("value"))
        })
        .collect();
    Arc::new(config::Route {
        priority: config::Priority::Normal,
        name: line.into(),
        listeners: Vec::new(),
        host,
        path,
        methods,
        headers,
        action: RouteAction::Service("s".into()),
        mirror: None,
        timeout: None,
        max_body: None,
        rate_bytes: None,
        rewrite: None,
        headers_in: config::HeaderRules::default(),
        access: config::Access::default(),
        rate_limits: Vec::new(),
        concurrency_limit: None,
        headers_out: config::HeaderRules::default(),
    })
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
}

const ROUTES: &[&str] = &[
    /* 0 */ "- /",
    /* 1 */ "- /v1/",
    /* 2 */ "- /v1/users",
    /* 3 */ "- =/v1",
    /* 4 */ "- ~^/u/[0-9]+$",
    /* 5 */ "- ~^/u/",
    /* 6 */ "- =/u/7",
    /* 7 */ "a.example.com /",
    /* 8 */ "*.example.com /",
    /* 9 */ "*.b.example.com /",
    /* 10 */ "only.example.com /deep/",
    /* 11 */ "m.test /x",
    /* 12 */ "m.test /x GET",
    /* 13 */ "m.test /x GET,POST x-beta=1",
    /* 14 */ "m.test /x - x-beta=1",
    /* 15 */ "m.test /x - x-beta=1 x-gamma=2",
    /* 16 */ "n.test /a/b POST",
    /* 17 */ "n.test /a",
    /* 18 */ "r.test ~^/same$",
    /* 19 */ "r.test ~^/same$ GET",
    /* 20 */ "r.test ~same GET",
    /* 21 */ "one.test,two.test,*.three.test /multi",
    /* 22 */ "p.test /caf\u{e9}/",
    /* 23 */ "p.test =/%7euser",
    /* 24 */ "p.test //",
    /* 25 */ "q.test /only-post POST",
    /* 26 */ "p.test =/",
    /* 27 */ "p.test =/slash/",
];

#[test]
fn precedence() {
    let routes: Vec<_> = ROUTES.iter().map(|line| route(line)).collect();
    let router = Router::new(&routes, &["http".into()]);
    let beta: &[(&str, &str)] = &[("x-beta", "1")];
    let both: &[(&str, &str)] = &[("x-beta", "1"), ("x-gamma", "2")];
    let none: &[(&str, &str)] = &[];
    type Case<'a> = (&'a str, &'a str, &'a str, &'a [(&'static str, &'static str)], Option<usize>);
    let cases: &[Case<'_>] = &[
        // Prefixes end at a segment, the longest wins.
        ("other", "/", "GET", none, Some(0)),
        ("other", "/v", "GET", none, Some(0)),
        ("other", "/v1x", "GET", none, Some(0)),
        ("other", "/v1/", "GET", none, Some(1)),
        ("other", "/v1/x", "GET", none, Some(1)),
        ("other", "/v1/x/y/z", "GET", none, Some(1)),
        ("other", "/v1/users", "GET", none, Some(2)),
        ("other", "/v1/users/", "GET", none, Some(2)),
        ("other", "/v1/users/7", "GET", none, Some(2)),
        ("other", "/v1/usersx", "GET", none, Some(1)),
        ("other", "/V1/users", "GET", none, Some(0)),
        ("other", "//v1/", "GET", none, Some(0)),
        ("other", "*", "OPTIONS", none, Some(0)),
        // Exact before regex before prefix.
        ("other", "/v1", "GET", none, Some(3)),
        ("other", "/u/7", "GET", none, Some(6)),
        ("other", "/u/8", "GET", none, Some(4)),
        ("other", "/u/8/", "GET", none, Some(5)),
        ("other", "/u/x", "GET", none, Some(5)),
        ("other", "/u", "GET", none, Some(0)),
        ("other", "/u/7/", "GET", none, Some(5)),
        // Exact host, longest wildcard, any.
        ("a.example.com", "/", "GET", none, Some(7)),
        ("a.example.com", "/v1", "GET", none, Some(7)),
        ("c.example.com", "/", "GET", none, Some(8)),
        ("c.d.example.com", "/", "GET", none, Some(8)),
        ("x.b.example.com", "/", "GET", none, Some(9)),
        ("x.y.b.example.com", "/", "GET", none, Some(9)),
        ("b.example.com", "/", "GET", none, Some(8)),
        ("example.com", "/", "GET", none, Some(0)),
        (".example.com", "/", "GET", none, Some(0)),
        ("xexample.com", "/", "GET", none, Some(0)),
        ("example.com.evil", "/", "GET", none, Some(0)),
        // Nothing fits on that host: the next wider one.
        ("only.example.com", "/deep/x", "GET", none, Some(10)),
        ("only.example.com", "/shallow", "GET", none, Some(8)),
        ("m.test", "/y", "GET", none, Some(0)),
        ("m.test", "/v1/users", "GET", none, Some(2)),
        ("q.test", "/only-post", "POST", none, Some(25)),
        ("q.test", "/only-post", "GET", none, Some(0)),
        // Methods, then headers, then the order of the file.
        ("m.test", "/x", "PUT", none, Some(11)),
        ("m.test", "/x", "GET", none, Some(12)),
        ("m.test", "/x", "HEAD", none, Some(11)),
        ("m.test", "/x", "POST", none, Some(11)),
        ("m.test", "/x", "GET", beta, Some(13)),
        ("m.test", "/x", "POST", beta, Some(13)),
        ("m.test", "/x", "PUT", beta, Some(14)),
        ("m.test", "/x", "PUT", both, Some(15)),
        ("m.test", "/x", "GET", both, Some(13)),
        ("m.test", "/x/y", "PUT", both, Some(15)),
        ("m.test", "/x", "PUT", &[("x-beta", "2")], Some(11)),
        ("m.test", "/x", "PUT", &[("x-beta", "0"), ("x-beta", "1")], Some(14)),
        // A longer prefix whose method does not fit gives way to a shorter one.
        ("n.test", "/a/b", "POST", none, Some(16)),
        ("n.test", "/a/b", "GET", none, Some(17)),
        ("n.test", "/a/b/c/d", "GET", none, Some(17)),
        // The same regex twice is one path; another one comes after it.
        ("r.test", "/same", "GET", none, Some(19)),
        ("r.test", "/same", "PUT", none, Some(18)),
        ("r.test", "/x-same", "GET", none, Some(20)),
        ("r.test", "/x-same", "PUT", none, Some(0)),
        // Several hosts in one route.
        ("one.test", "/multi", "GET", none, Some(21)),
        ("two.test", "/multi/", "GET", none, Some(21)),
        ("x.three.test", "/multi", "GET", none, Some(21)),
        ("three.test", "/multi", "GET", none, Some(0)),
        // Routes are written in any spelling; requests come normalised.
        ("p.test", "/caf%C3%A9/x", "GET", none, Some(22)),
        ("p.test", "/~user", "GET", none, Some(23)),
        ("p.test", "/~user/", "GET", none, Some(0)),
        ("p.test", "//x", "GET", none, Some(24)),
        ("p.test", "/", "GET", none, Some(26)),
        ("p.test", "/slash/", "GET", none, Some(27)),
        ("p.test", "/slash", "GET", none, Some(0)),
    ];
    assert!(cases.len() >= 60);
    for &(host, path, method, pairs, expected) in cases {
        let found =
            router.find(0, Some(host), path, &method.parse().expect("method"), &headers(pairs));
        assert_eq!(found, expected, "{method} {host} {path} {pairs:?}");
    }
    assert_eq!(router.find(0, None, "/v1", &Method::GET, &HeaderMap::new()), Some(3));
    // A connection of a listener that was removed: the routes of every listener.
    assert_eq!(router.find(1, None, "/v1", &Method::GET, &HeaderMap::new()), Some(3));
}

#[test]
fn routes_of_other_listeners_do_not_answer() {
    let mut admin = config::Route::clone(&route("- /admin"));
    admin.listeners = vec!["inside".into()];
    let router =
        Router::new(&[route("- /"), Arc::new(admin)], &["outside".into(), "inside".into()]);
    let find = |listener| router.find(listener, None, "/admin", &Method::GET, &HeaderMap::new());
    assert_eq!(find(0), Some(0));
    assert_eq!(find(1), Some(1));
    assert_eq!(find(usize::MAX), Some(0));
}

#[test]
fn no_routes_no_answer() {
    let router = Router::new(&[], &["http".into()]);
    assert_eq!(router.find(0, Some("a"), "/", &Method::GET, &HeaderMap::new()), None);
}

#[test]
fn many_regexes_are_combined_and_still_in_file_order() {
    let routes: Vec<_> = (0..20).map(|n| route(&format!("- ~^/r/[0-9]*[{}-9]$", n % 10))).collect();
    let router = Router::new(&routes, &["http".into()]);
    let find = |path| router.find(0, None, path, &Method::GET, &HeaderMap::new());
    assert_eq!(find("/r/19"), Some(0));
    assert_eq!(find("/r/x"), None);
}

/// How closely a route's hosts fit: the same number means the same pattern.
fn host_rank(route: &config::Route, host: &str) -> Option<usize> {
    if route.host.is_empty() {
        return Some(0);
    }
    let ranks = route.host.iter().filter_map(|pattern| match pattern {
        HostPattern::Exact(name) => (name == host).then_some(usize::MAX),
        HostPattern::Wildcard(suffix) => {
            (host.ends_with(suffix) && host.len() > suffix.len()).then_some(suffix.len())
        }
    });
    ranks.max()
}

/// The rules, read literally: every route that fits, ranked. A route with several hosts that fit
/// counts once for each; here the patterns are such that the narrowest decides.
fn reference(
    routes: &[Arc<config::Route>],
    host: &str,
    path: &str,
    method: &Method,
) -> Option<usize> {
    let rank = |index: usize| {
        let route = &routes[index];
        let host_fits = host_rank(route, host)?;
        let first_of_regex = |text: &str| {
            routes.iter().position(|r| {
                matches!(&r.path, PathPattern::Regex(x) if x.as_str() == text)
                    && host_rank(r, host) == Some(host_fits)
            })
        };
        let path = match &route.path {
            PathPattern::Exact(exact) => (exact == path).then_some((2, 0)),
            PathPattern::Regex(regex) => regex
                .is_match(path)
                .then(|| (1, usize::MAX - first_of_regex(regex.as_str()).unwrap_or(0))),
            PathPattern::Prefix(prefix) => {
                let stem = prefix.strip_suffix('/').unwrap_or(prefix);
                let rest = path.strip_prefix(stem)?;
                (rest.is_empty() || rest.starts_with('/')).then_some((0, stem.len()))
            }
        }?;
        let methods = route.methods.is_empty() || route.methods.contains(method);
        methods.then_some((host_fits, path, !route.methods.is_empty(), usize::MAX - index))
    };
    (0..routes.len()).filter(|&i| rank(i).is_some()).max_by_key(|&i| rank(i))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn agrees_with_the_rules_read_literally(
        lines in proptest::collection::vec(
            "(-|a|b\\.a|\\*\\.a|\\*\\.b\\.a|a,\\*\\.a) (=|)/([ab](/[ab]){0,2}/?)? (-|GET|PUT,GET)"
                .prop_union_regex(),
            0..24,
        ),
        host in "([ab]\\.){0,3}a",
        path in "/([ab]/){0,3}[ab]?",
        put in any::<bool>(),
    ) {
        let routes: Vec<_> = lines.iter().map(|line| route(line)).collect();
        let router = Router::new(&routes, &["http".into()]);
        let method = if put { Method::PUT } else { Method::GET };
        prop_assert_eq!(
            router.find(0, Some(&host), &path, &method, &HeaderMap::new()),
            reference(&routes, &host, &path, &method)
        );
    }
}

/// Adds regex paths to a strategy of route lines.
trait PropUnionRegex {
    fn prop_union_regex(self) -> BoxedStrategy<String>;
}

impl PropUnionRegex for &'static str {
    fn prop_union_regex(self) -> BoxedStrategy<String> {
        prop_oneof![4 => self, 1 => "(-|a|\\*\\.a) ~(\\^/a|b|a/\\$|\\^/b/a\\$) (-|GET|PUT)"].boxed()
    }
}
