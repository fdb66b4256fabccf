//! Backends from a watched file, and backends that are added over the admin API.

use std::path::Path;

use serde_json::{Value, json};

use crate::discovery::{backends, only_ready};
use crate::support::{Answer, Events, Islands, Proxy, Running, get, wait_until};

fn from_file(name: &str) -> Proxy {
    Proxy::new()
        .service("slow_start = \"0s\"")
        .toml(&format!("[service.app.discovery]\nkind = \"file\"\npath = \"{name}\"\n"))
}

fn toml(islands: &Islands, last: &[u8]) -> String {
    let one = |last: &u8| format!("[[backend]]\naddress = \"{}\"\n", islands.at(*last));
    last.iter().map(one).collect()
}

/// As a deployment does it: whole, under another name, then renamed.
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, text).expect("the folder can be written");
    std::fs::rename(&new, file).expect("the folder can be written");
}

#[test]
fn a_file_is_followed_and_a_bad_one_changes_nothing() {
    let islands = Islands::start(&[2, 3, 4]);
    let proxy = from_file("set.toml").run();
    let file = proxy.directory().join("set.toml");
    let error = || proxy.service("app")["discovery"][0]["error"].as_str().map(str::to_owned);
    wait_until("that there is no file is told", || error().is_some_and(|e| e.contains("set.toml")));
    assert_eq!(get(&proxy.url("/")).status, 503);
    replace(&file, &toml(&islands, &[2, 3]));
    only_ready(&proxy, &islands, &[2, 3]);
    assert_eq!(backends(&proxy)[&islands.at(2).to_string()]["source"], "file");
    assert_eq!(error(), None);

    let events = Events::of(&proxy);
    let good = toml(&islands, &[3, 4]);
    // Half of it, in place.
    std::fs::write(&file, &good[..good.len() - 5]).expect("the folder can be written");
    let told = events.wait("discovery_failed", |e| {
        e["error"].as_str().is_some_and(|e| e.contains("set.toml:4:"))
    });
    assert!(told["error"].as_str().is_some_and(|e| e.contains("is kept")), "{told}");
    std::fs::write(&file, "").expect("the folder can be written");
    wait_until("an empty file is doubted", || error().is_some_and(|e| e.contains("empty")));
    only_ready(&proxy, &islands, &[2, 3]);

    replace(&file, &good);
    only_ready(&proxy, &islands, &[3, 4]);
    // Weight and zone of one, as JSON.
    let list = json!([{"address": islands.at(4).to_string(), "weight": 7, "zone": "z"}]);
    replace(&file, &list.to_string());
    only_ready(&proxy, &islands, &[4]);
    wait_until("the new weight is used", || {
        let four = backends(&proxy)[&islands.at(4).to_string()].clone();
        (&four["weight"], &four["zone"]) == (&json!(7), &json!("z"))
    });
    replace(&file, "[]");
    only_ready(&proxy, &islands, &[]);
}

fn addable(islands: &Islands) -> Proxy {
    let fixed = format!("[[service.app.backend]]\naddress = \"{}\"\n", islands.at(2));
    let admin = "[admin]\nlisten = \"127.0.0.1:0\"\ndynamic_backends = [\"127.0.0.0/29\", \"169.254.0.0/16\"]\n";
    let text = Proxy::new().service("slow_start = \"0s\"").toml(&fixed).text(Path::new("{dir}"));
    Proxy::new().config(&text.replace("[admin]\nlisten = \"127.0.0.1:0\"\n", admin))
}

#[track_caller]
fn add(proxy: &Running, query: &str, body: Value) -> Answer {
    proxy.admin_json("POST", &format!("/v1/services/app/backends{query}"), Some(body))
}

#[test]
fn backends_are_added_removed_and_kept_over_a_restart() {
    let islands = Islands::start(&[2, 3, 4, 5]);
    let mut proxy = addable(&islands).run();
    let at = |last| islands.at(last).to_string();
    let added = add(&proxy, "", json!({"address": at(3)}));
    assert_eq!(added.status, 201, "{}", added.text());
    let added = added.json();
    assert_eq!((&added["source"], &added["address"]), (&json!("admin"), &json!(at(3))));
    let kept = add(&proxy, "?persist=true", json!({"address": at(4), "id": "four", "weight": 2}));
    assert_eq!(kept.status, 201, "{}", kept.text());
    let also = add(&proxy, "?persist=true", json!({"address": at(5), "id": "five"}));
    assert_eq!(also.status, 201, "{}", also.text());
    only_ready(&proxy, &islands, &[2, 3, 4, 5]);
    assert_eq!(proxy.admin("POST", "/v1/reload").status, 200);
    only_ready(&proxy, &islands, &[2, 3, 4, 5]);

    // A removed one is drained: its request ends as it should.
    let mut held = crate::support::Connection::open(proxy.address("http"));
    for last in [2, 3, 4] {
        let id = format!("127.0.0.{last}-{}", islands.port());
        let id = if last == 4 { "four" } else { &id };
        let drained = proxy.admin("POST", &format!("/v1/services/app/backends/{id}/drain"));
        assert_eq!(drained.status, 204, "{}", drained.text());
    }
    held.send("GET /hold HTTP/1.1\r\nhost: app\r\n\r\n");
    wait_until("it is held", || islands.held() == 1);
    let removed = proxy.admin("DELETE", "/v1/services/app/backends/five?persist=true");
    assert_eq!(removed.status, 204, "{}", removed.text());
    assert_eq!(backends(&proxy)[&at(5)]["state"], "draining");
    islands.release();
    assert_eq!(held.answer().text(), "5");
    wait_until("it is gone", || !backends(&proxy).contains_key(&at(5)));

    assert!(proxy.stop().success());
    let (directory, config, _process) = proxy.into_parts();
    let proxy = config.start_in(directory);
    only_ready(&proxy, &islands, &[2, 4]);
    let four = &backends(&proxy)[&at(4)];
    assert_eq!((&four["id"], &four["weight"]), (&json!("four"), &json!(2)));
}

#[test]
fn what_may_not_be_added_is_refused() {
    let islands = Islands::start(&[2, 3]);
    let proxy = addable(&islands).run();
    let own = proxy.address("http").to_string();
    for (body, status, why) in [
        (json!({"address": "10.0.0.1:80"}), 403, "dynamic_backends"),
        (json!({"address": "169.254.169.254:80"}), 403, "link-local"),
        (json!({"address": own}), 403, "listener"),
        (json!({"address": "app:80"}), 422, "IP:PORT"),
        (json!({"address": "127.0.0.3:80", "weight": 0}), 422, "weight"),
        (json!({"address": "127.0.0.3:80", "id": "a/b"}), 422, "id"),
        (json!({"address": "127.0.0.3:80", "wieght": 1}), 400, "wieght"),
        (json!({"address": islands.at(2).to_string()}), 409, "already"),
    ] {
        let refused = add(&proxy, "", body.clone());
        assert_eq!(refused.status, status, "{body}: {}", refused.text());
        assert!(refused.text().contains(why), "{body}: {}", refused.text());
    }
    let fixed = format!("/v1/services/app/backends/127.0.0.2-{}", islands.port());
    assert_eq!(proxy.admin("DELETE", &fixed).status, 409);
    assert_eq!(proxy.admin("DELETE", "/v1/services/app/backends/none").status, 404);
    assert_eq!(proxy.admin("POST", "/v1/services/none/backends").status, 400);
    only_ready(&proxy, &islands, &[2]);
}

#[test]
fn a_corrupt_state_is_told_and_left_alone() {
    let islands = Islands::start(&[2, 3]);
    let mut proxy = addable(&islands).run();
    let body = json!({"address": islands.at(3).to_string()});
    assert_eq!(add(&proxy, "?persist=true", body).status, 201);
    only_ready(&proxy, &islands, &[2, 3]);
    assert!(proxy.stop().success());
    let (directory, config, _process) = proxy.into_parts();
    let file = directory.path().join("state/backends.toml");
    let text = std::fs::read_to_string(&file).expect("it was written");
    std::fs::write(&file, &text[..text.len() - 8]).expect("it can be cut");
    let proxy = config.start_in(directory);
    only_ready(&proxy, &islands, &[2]);
    let output = proxy.process.output();
    assert!(output.contains("backends.toml: line ") && output.contains(".bad"), "{output}");
}
