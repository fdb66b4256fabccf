//! Finding the route of a request: hosts and paths as a table of that size has them.

use std::sync::Arc;

use divan::{Bencher, black_box};
use http::{HeaderMap, Method};

use tidegate::route::{Router, path};

use super::world;

const ROUTES: [usize; 2] = [10, 1000];

/// A host's own prefix; of 1,000 routes, ten belong to each of 100 hosts.
#[divan::bench(args = ROUTES)]
fn host_and_prefix(bencher: Bencher, routes: usize) {
    let last = format!("h{}.example.com", routes / 10 - 1);
    find(bencher, routes, Some(&last), "/api/v9/orders/17");
}

/// No host of the table: what is left are the routes of any host.
#[divan::bench(args = ROUTES)]
fn any_host(bencher: Bencher, routes: usize) {
    find(bencher, routes, Some("elsewhere.example.org"), "/index.html");
}

/// Below `*.wild.example.com`.
#[divan::bench(args = ROUTES)]
fn wildcard_host(bencher: Bencher, routes: usize) {
    find(bencher, routes, Some("a.b.wild.example.com"), "/index.html");
}

/// Made comparable first, as every path is.
#[divan::bench(args = ["/api/v9/orders/17", "/api/v9/./orders/../%6frders/17"])]
fn normalise(path: &str) -> usize {
    path::normalise(black_box(path)).expect("a good path").len()
}

fn find(bencher: Bencher, routes: usize, host: Option<&str>, path: &str) {
    let router = router(routes);
    let headers = HeaderMap::new();
    let find = || router.find(0, black_box(host), black_box(path), &Method::GET, &headers);
    assert!(find().is_some(), "{host:?} {path} has a route");
    bencher.bench_local(find);
}

/// Ten prefixes for each host, and two routes for all that is not one of these hosts.
fn router(routes: usize) -> Router {
    let mut text = "[[listener]]\nname = \"http\"\naddress = \"127.0.0.1:80\"\n\
                    [service.app]\nbackend = [{ address = \"127.0.0.1:8080\" }]\n\
                    [[route]]\npath = \"/\"\nservice = \"app\"\n\
                    [[route]]\nhost = [\"*.wild.example.com\"]\nservice = \"app\"\n"
        .to_owned();
    for i in 0..routes {
        let (host, version) = (i / 10, i % 10);
        text.push_str(&format!(
            "[[route]]\nhost = [\"h{host}.example.com\"]\npath = \"/api/v{version}/\"\nservice = \"app\"\n"
        ));
    }
    let config = world::config(&text);
    let listeners: Vec<Arc<str>> = config.listeners.iter().map(|l| l.name.clone()).collect();
    Router::new(&config.routes, &listeners)
}
