//! Headers of a request: what is removed, who the client is, and what the backend is told.

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue, Version};
use ipnet::IpNet;

use tidegate::config::types::Forwarded;
use tidegate::http::forwarded::{self, Peer};
use tidegate::http::headers;

/// A stranger, and a proxy that is trusted and has written its own part.
const PEERS: [&str; 2] = ["stranger", "trusted"];

const BROWSER: [(&str, &str); 8] = [
    ("host", "shop.example.com"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"),
    ("accept-language", "en-US,en;q=0.5"),
    ("accept-encoding", "gzip, deflate, br"),
    ("connection", "keep-alive"),
    ("cookie", "session=0123456789abcdef; theme=dark"),
    ("cache-control", "no-cache"),
];

/// The first look at a request's headers.
#[divan::bench(args = PEERS)]
fn receive(bencher: Bencher, peer: &str) {
    let request = Request::of(peer);
    let mut rng = fastrand::Rng::with_seed(7);
    bencher.with_inputs(|| request.headers.clone()).bench_local_values(|mut headers| {
        let trusted = black_box(&request.trusted);
        headers::receive(&mut headers, Version::HTTP_11, &request.peer, trusted, &mut rng);
        headers
    });
}

/// `forwarded = "x-forwarded"`, the default.
#[divan::bench(args = PEERS)]
fn x_forwarded(bencher: Bencher, peer: &str) {
    announce(bencher, peer, Forwarded::XForwarded);
}

#[divan::bench(args = PEERS)]
fn rfc7239(bencher: Bencher, peer: &str) {
    announce(bencher, peer, Forwarded::Rfc7239);
}

fn announce(bencher: Bencher, peer: &str, how: Forwarded) {
    let mut request = Request::of(peer);
    let mut rng = fastrand::Rng::with_seed(7);
    let received = headers::receive(
        &mut request.headers,
        Version::HTTP_11,
        &request.peer,
        &request.trusted,
        &mut rng,
    );
    let host = HeaderValue::from_static("shop.example.com");
    bencher.with_inputs(|| request.headers.clone()).bench_local_values(|mut headers| {
        let (peer, host) = (black_box(&request.peer), Some(black_box(&host)));
        forwarded::announce(&mut headers, how, peer, received.client, host);
        headers
    });
}

struct Request {
    headers: HeaderMap,
    peer: Peer,
    trusted: Vec<IpNet>,
}

impl Request {
    fn of(peer: &str) -> Self {
        let is_trusted = peer == "trusted";
        let trusted: Vec<IpNet> =
            if is_trusted { vec!["10.0.0.0/8".parse().expect("a network")] } else { Vec::new() };
        let mut headers: HeaderMap = BROWSER
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        if is_trusted {
            for (name, value) in [
                ("x-forwarded-for", "203.0.113.7, 10.2.3.4"),
                ("x-forwarded-proto", "https"),
                ("forwarded", "for=203.0.113.7;proto=https, for=10.2.3.4"),
            ] {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
        }
        let peer = Peer::new([10, 1, 2, 3].into(), false, &trusted);
        Self { headers, peer, trusted }
    }
}
