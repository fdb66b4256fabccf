//! `[[notify]]`: hooks hear of what happens, signed, once more when they did not take it, and again after a reload.

use serde_json::Value;

use crate::support::{Backend, Origin, Proxy, RawOrigin, Step, missing, run, wait_for, wait_until};

const SECRET: &str = "a secret of many letters";

/// A hook that answers its n-th request with `statuses[n]`, and then with the last of them.
fn hook(statuses: &'static [u16]) -> RawOrigin {
    RawOrigin::script(move |number| {
        let status = statuses[number.min(statuses.len() - 1)];
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
        vec![Step::ReadHead, Step::Send(answer.into()), Step::ReadAll]
    })
}

/// The n-th request, once it is whole: its head in lower case, and its body.
fn request(hook: &RawOrigin, number: usize) -> Option<(String, String)> {
    let text = hook.received_text(number);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let head = head.to_lowercase();
    let length: usize = field(&head, "content-length")?.parse().ok()?;
    (body.len() == length).then(|| (head, body.to_owned()))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

fn target(name: &str, kind: &str, hook: &RawOrigin, more: &str) -> String {
    let url = format!("http://{}/services/T0", hook.address());
    format!("[[notify]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl = \"{url}\"\n{more}\n")
}

#[test]
fn a_hook_hears_of_what_it_asked_for_and_can_check_who_says_it() {
    if missing("openssl") {
        return;
    }
    let (origin, hook) = (Origin::new().start(), hook(&[503, 200]));
    let keys = format!("secret = \"{SECRET}\"\nevents = [\"reload_failed\"]");
    let mut proxy =
        Proxy::new().backend(&origin).toml(&target("ops", "webhook", &hook, &keys)).run();
    // Not asked for.
    assert_eq!(proxy.reload(|proxy| proxy).status, 200);
    proxy.write(|proxy| proxy.route("nonsense = 1"));
    assert_eq!(proxy.admin("POST", "/v1/reload").status, 422);
    let (first, body) = wait_for("the event", || request(&hook, 0));
    let (again, second) = wait_for("it again, as 503 is no yes", || request(&hook, 1));
    assert_eq!(body, second, "the same event");
    assert_eq!(field(&first, "webhook-id"), field(&again, "webhook-id"), "known again by its id");
    let json: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(json["event"], "reload_failed");
    assert_eq!(json["service"], Value::Null);
    assert!(json["text"].as_str().is_some_and(|text| text.contains("nonsense")), "{json}");
    assert!(json["data"]["errors"][0].as_str().is_some_and(|e| e.contains("nonsense")), "{json}");

    let id = hook.received_text(0);
    let id = id.lines().find_map(|line| line.strip_prefix("webhook-id: ")).expect("an id").trim();
    let signed = format!("{id}.{}.{body}", field(&first, "webhook-timestamp").expect("a time"));
    let file = proxy.directory().join("signed");
    std::fs::write(&file, signed).expect("a file");
    let command = format!(
        "openssl dgst -sha256 -mac HMAC -macopt 'key:{SECRET}' -binary '{}' | openssl base64 -A",
        file.display()
    );
    let expected = run("sh", &["-c", &command]).text();
    let head = hook.received_text(0);
    let signature = head.lines().find_map(|line| line.strip_prefix("webhook-signature: v1,"));
    assert_eq!(signature.map(str::trim), Some(expected.trim()));
    let counted = |result: &str| {
        proxy.metric("tidegate_notifications_total", &[("name", "ops"), ("result", result)])
    };
    wait_until("it is counted", || counted("sent") == 1.0);
    assert_eq!((counted("failed"), counted("dropped")), (0.0, 0.0));
    assert_eq!(hook.connections(), 2, "what was not asked for is not told");
}

#[test]
fn slack_gets_text_and_nobody_sees_the_hook() {
    let (origin, hook) = (Origin::new().start(), hook(&[200]));
    let toml = target("team", "slack", &hook, "events = [\"reload\", \"operator\"]");
    let mut proxy = Proxy::new().backend(&origin).toml(&toml).run();
    assert_eq!(proxy.reload(|proxy| proxy).status, 200);
    let (_, body) = wait_for("the event", || {
        (0..hook.connections())
            .filter_map(|number| request(&hook, number))
            .find(|(_, body)| body.contains("generation 2"))
    });
    let json: Value = serde_json::from_str(&body).expect("JSON");
    let text = json["text"].as_str().expect("text");
    assert!(text.contains("configuration reloaded (generation 2)"), "{text}");
    let shown = proxy.admin("GET", "/v1/config");
    let config = shown.json();
    assert_eq!(config["notify"][0]["name"], "team", "{config}");
    assert!(!shown.text().contains("/services/T0"), "{config}");
}
