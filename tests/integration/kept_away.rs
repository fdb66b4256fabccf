//! Who was kept away before a hand-over still is after it: ejected backends, banned addresses.

use jiff::Timestamp;
use serde_json::Value;

use crate::handover::{hand_over, stop};
use crate::support::{Connection, Proxy, RawOrigin, Step, lives, wait_until};

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str =
    "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
const LIMIT: &str = "[[route.rate_limit]]\nname = \"one\"\nkey = \"client_ip\"\nrate = \"1/h\"\n\
                     burst = 20\nban_after = 2\nban_for = \"1h\"";

fn always(answer: &'static str) -> RawOrigin {
    RawOrigin::script(move |_| vec![Step::ReadHead, Step::Send(answer.into())])
}

/// Each process has a clock of its own: a millisecond may be lost on the way.
#[track_caller]
fn same_moment(a: &Value, b: &Value) {
    let [ours, theirs] = [a, b].map(|moment| {
        let moment: Option<Timestamp> = moment.as_str().and_then(|text| text.parse().ok());
        moment.map(Timestamp::as_millisecond).unwrap_or_else(|| panic!("{a} {b}"))
    });
    assert!(ours.abs_diff(theirs) <= 1, "{a} {b}");
}

#[test]
fn ejections_and_bans_go_on_until_their_time_in_the_new_process() {
    let (bad, good) = (always(BUSY), always(OK));
    let mut proxy = Proxy::new()
        .runtime("workers = 1")
        .service("balance = \"round_robin\"\nslow_start = \"0s\"")
        .toml("[service.app.retry]\nattempts = 0")
        .toml("[service.app.outlier]\nconsecutive_failures = 1\nejection_time = \"5m\"")
        .route(LIMIT)
        .backend(&bad)
        .backend(&good)
        .run();
    let mut client = Connection::open(proxy.address("http"));
    wait_until("it fails once", || client.get("/").status == 503);
    let ejected = || proxy.service("app")["backends"][0].clone();
    wait_until("it is ejected, and that is told", || ejected()["ejected_reason"].is_string());
    let before = ejected();
    while client.get("/").status == 200 {}
    // The second refusal is the end of the connection.
    client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
    assert_eq!(client.answer().status, 429);
    let bans = |proxy: &crate::support::Running| proxy.admin("GET", "/v1/bans").json();
    let banned = bans(&proxy);
    assert_eq!(banned["active"], 1, "{banned}");

    let (old, _) = hand_over(&mut proxy);
    // Until then it may be the one that is asked for metrics.
    wait_until("the old one ended", || !lives(old));
    let after = proxy.service("app")["backends"][0].clone();
    assert_eq!(
        (&after["state"], &after["ejected_reason"]),
        (&"ready".into(), &before["ejected_reason"])
    );
    same_moment(&after["ejected_until"], &before["ejected_until"]);
    let still = bans(&proxy);
    // Since when is as long ago as the process knows.
    let (now, then) = (&still["bans"][0], &banned["bans"][0]);
    for key in ["address", "route", "limit"] {
        assert_eq!(now[key], then[key], "{still}");
    }
    same_moment(&now["until"], &then["until"]);
    assert_eq!(Connection::open(proxy.address("http")).rest(), "", "closed at connect");
    // Neither began here.
    assert_eq!(proxy.metric("tidegate_bans_begun_total", &[]), 0.0);
    assert_eq!(proxy.metric("tidegate_ejections_total", &[("reason", "consecutive")]), 0.0);
    assert_eq!(proxy.admin_json("DELETE", "/v1/bans/127.0.0.1", None).status, 204);
    let mut client = Connection::open(proxy.address("http"));
    // The limit is learned anew, and nobody but the good one is asked.
    assert_eq!([(); 10].map(|()| client.get("/").status), [200; 10]);
    assert_eq!(bad.connections(), 1);
    stop(&proxy);
}
