//! A target that hears events and a hook over a real socket.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast;

use crate::admin::view::{Event, EventKind};
use crate::config::types::{Notify, NotifyKind, Secret};

use super::Notifiers;

pub fn event(id: u64, name: &str) -> Arc<Event> {
    Arc::new(Event {
        id,
        at: (UNIX_EPOCH + Duration::from_secs(100)).into(),
        kind: EventKind::Decision,
        service: Some("a<b".to_owned()),
        text: "+1 → 2 & more".to_owned(),
        quiet: false,
        data: serde_json::json!({ "kind": name }),
    })
}

pub fn target(url: &str, kind: NotifyKind) -> Notify {
    let secret = Secret { bytes: b"0123456789abcdef".to_vec(), file: None };
    Notify {
        name: "ops".into(),
        kind,
        url: url.parse().expect("a URL"),
        url_file: None,
        secret: (kind == NotifyKind::Webhook).then_some(secret),
        events: vec!["scaled", "crash"],
    }
}

/// Answers each request with the next status, and gives back their bodies.
async fn hook(listener: TcpListener, statuses: &[u16]) -> Vec<serde_json::Value> {
    let mut bodies = Vec::new();
    for status in statuses {
        let (mut stream, _) = listener.accept().await.expect("a request");
        let mut bytes = Vec::new();
        let body = loop {
            assert_ne!(stream.read_buf(&mut bytes).await.expect("more of it"), 0);
            let Some(at) = memchr::memmem::find(&bytes, b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
            let length = head.split("content-length: ").nth(1).expect("a length");
            let length: usize = length.split("\r\n").next().unwrap().parse().expect("a number");
            if bytes.len() == at + 4 + length {
                break serde_json::from_slice(&bytes[at + 4..]).expect("JSON");
            }
        };
        bodies.push(body);
        let answer = format!("HTTP/1.1 {status} x\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.expect("taken");
    }
    bodies
}

#[tokio::test]
async fn what_concerns_it_is_told_in_order_and_again_when_it_was_not_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let (events, _keep) = broadcast::channel(100);
    let mut notifiers = Notifiers::default();
    notifiers.configure(&[Arc::new(target(&url, NotifyKind::Webhook))], || events.subscribe());
    let quiet = Event { quiet: true, ..(*event(2, "scaled")).clone() };
    for event in [event(1, "scaled"), Arc::new(quiet), event(3, "drain"), event(4, "crash")] {
        events.send(event).expect("heard");
    }
    let bodies = hook(listener, &[503, 200, 400]).await;
    let ids: Vec<_> = bodies.iter().map(|body| body["id"].as_u64().expect("a number")).collect();
    assert_eq!(ids, [1, 1, 4], "the first again, and what is refused not");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    loop {
        let counts = notifiers.counts().next().expect("one target").1.read();
        if counts == [("sent", 1), ("failed", 1), ("dropped", 0)] {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{counts:?}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn at_the_end_what_waits_is_sent_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let (events, _keep) = broadcast::channel(100);
    let mut notifiers = Notifiers::default();
    let config = Arc::new(target(&url, NotifyKind::Slack));
    notifiers.configure(std::slice::from_ref(&config), || events.subscribe());
    // As it is already: nothing is started anew, nothing heard twice.
    notifiers.configure(&[config], || panic!("it hears already"));
    events.send(event(1, "scaled")).expect("heard");
    events.send(event(2, "crash")).expect("heard");
    let (bodies, ()) =
        tokio::join!(hook(listener, &[500]), notifiers.finish(Duration::from_secs(60)));
    let text = bodies[0]["text"].as_str().expect("text");
    assert_eq!(text.lines().count(), 2, "{text}");
}
