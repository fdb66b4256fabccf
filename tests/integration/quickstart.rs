//! The first thing that anybody does with tidegate.

use std::collections::BTreeSet;

use crate::support::{each, get, quickstart};

#[test]
fn twenty_requests_are_answered_by_both_backends() {
    let mut proxy = quickstart().run();
    let backends = each(&proxy.wait_for_size(2), "address");
    let mut answered = BTreeSet::new();
    for _ in 0..20 {
        let answer = get(&proxy.url("/"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answered.insert(answer.header("x-origin-id").expect("it names itself").to_owned());
    }
    let ports = backends.iter().filter_map(|address| address.rsplit(':').next());
    assert_eq!(answered, ports.map(str::to_owned).collect());
    assert!(proxy.stop().success());
}

/// What README tells to look at.
#[test]
fn status_and_explain_say_something() {
    let proxy = quickstart().run();
    let backends = proxy.wait_for_size(2);
    let status = proxy.command(&["status"]);
    assert_eq!(status.code, Some(0), "{}", status.stderr);
    for backend in each(&backends, "address") {
        assert!(status.text().contains(&backend), "{backend} in\n{}", status.text());
    }
    let explained = proxy.command(&["explain", "app"]);
    assert_eq!((explained.code, explained.stdout.is_empty()), (Some(0), false));
}
