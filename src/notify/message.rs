//! What is sent: the body, and for webhooks its signature.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::Serialize;

use crate::admin::view::{Event, Time};
use crate::base64;
use crate::config::types::{Notify, NotifyKind};
use crate::fetch::Ask;

use super::line::Batch;

/// Lines of one message to Slack.
const LINES: usize = 20;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// How many events go into one request.
pub fn most(kind: NotifyKind) -> usize {
    match kind {
        NotifyKind::Slack => LINES,
        NotifyKind::Webhook => 1,
    }
}

/// The request for a batch. The same batch has the same id, whenever it is sent.
pub fn ask(target: &Notify, batch: &Batch, now: SystemTime) -> Ask {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let body = match target.kind {
        NotifyKind::Slack => slack(batch),
        NotifyKind::Webhook => webhook(batch),
    };
    if target.kind == NotifyKind::Webhook {
        let (id, timestamp) = (id(batch), since_epoch(now).as_secs());
        if let Some(secret) = &target.secret {
            let value = signature(&secret.bytes, &id, timestamp, &body);
            headers.insert(SIGNATURE, ascii(&value));
        }
        headers.insert(ID, ascii(&id));
        headers.insert(TIMESTAMP, HeaderValue::from(timestamp));
    }
    Ask { method: Method::POST, url: target.url.clone(), headers, body }
}

/// Standard Webhooks 1.0: HMAC-SHA256 over `id.timestamp.body`, in base64.
fn signature(secret: &[u8], id: &str, timestamp: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, secret));
    context.update(format!("{id}.{timestamp}.").as_bytes());
    context.update(body);
    format!("v1,{}", base64::encode(context.sign().as_ref()))
}

/// Of the event, and of this process: numbers of events begin anew with each.
fn id(batch: &Batch) -> String {
    let event = batch.events.first();
    let at = event.map_or(0, |event| since_epoch(event.at.0).as_millis());
    format!("tidegate-{at}-{}", event.map_or(0, |event| event.id))
}

#[derive(Serialize)]
struct Hook<'a> {
    id: u64,
    at: &'a Time,
    event: &'a str,
    service: Option<&'a str>,
    text: &'a str,
    data: &'a serde_json::Value,
    /// Events before this one that were lost, as there were too many.
    dropped: u64,
}

fn webhook(batch: &Batch) -> Bytes {
    let Some(event) = batch.events.first() else { return Bytes::new() };
    let hook = Hook {
        id: event.id,
        at: &event.at,
        event: name(event),
        service: event.service.as_deref(),
        text: &event.text,
        data: &event.data,
        dropped: batch.dropped,
    };
    serde_json::to_vec(&hook).expect("the keys are strings").into()
}

/// What the event is called.
pub fn name(event: &Event) -> &str {
    event.data["kind"].as_str().unwrap_or_default()
}

fn slack(batch: &Batch) -> Bytes {
    let mut text = String::new();
    if batch.dropped > 0 {
        text.push_str(&format!("_{} events were too many and are left out_\n", batch.dropped));
    }
    for event in &batch.events {
        if let Some(service) = &event.service {
            text.push_str(&format!("*{}*  ", escaped(service)));
        }
        text.push_str(&escaped(&event.text));
        text.push('\n');
    }
    let message = serde_json::json!({ "text": text.trim_end() });
    message.to_string().into()
}

/// The three characters that mean something in Slack's text.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("digits, letters and signs of base64")
}

fn since_epoch(now: SystemTime) -> Duration {
    now.duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::tests::{event, target};

    fn batch(ids: std::ops::Range<u64>, dropped: u64) -> Batch {
        Batch { events: ids.map(|id| event(id, "scaled")).collect(), dropped }
    }

    #[test]
    fn a_signature_is_as_standard_webhooks_says() {
        // The example that its libraries are tested with.
        let secret = [
            0x31, 0xf2, 0x90, 0xf6, 0xbf, 0x06, 0x29, 0x8a, 0xab, 0x4f, 0x08, 0xd4, 0x3c, 0x3f,
            0x08, 0x2c, 0xf6, 0x48, 0xa3, 0x62, 0xda, 0x2d, 0xa4, 0xb0,
        ];
        let body = br#"{"test": 2432232314}"#;
        let signed = signature(&secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_webhook_has_one_event_and_who_sent_it_can_be_checked() {
        let target = target("http://h/x", NotifyKind::Webhook);
        let now = UNIX_EPOCH + Duration::from_secs(1000);
        let ask = ask(&target, &batch(7..8, 2), now);
        let body: serde_json::Value = serde_json::from_slice(&ask.body).expect("JSON");
        assert_eq!(
            (&body["id"], &body["event"], &body["dropped"]),
            (&7.into(), &"scaled".into(), &2.into())
        );
        assert_eq!((&body["service"], &body["text"]), (&"a<b".into(), &"+1 → 2 & more".into()));
        let id = ask.headers[ID].to_str().unwrap();
        assert!(id.starts_with("tidegate-") && id.ends_with("-7"), "{id}");
        assert_eq!(ask.headers[TIMESTAMP], "1000");
        let secret = &target.secret.as_ref().unwrap().bytes;
        assert_eq!(ask.headers[SIGNATURE], signature(secret, id, 1000, &ask.body));
    }

    #[test]
    fn a_message_to_slack_has_many_and_no_markup_of_others() {
        let target = target("http://h/x", NotifyKind::Slack);
        let ask = ask(&target, &batch(1..3, 4), UNIX_EPOCH);
        let body: serde_json::Value = serde_json::from_slice(&ask.body).expect("JSON");
        let line = "*a&lt;b*  +1 → 2 &amp; more";
        assert_eq!(
            body["text"],
            format!("_4 events were too many and are left out_\n{line}\n{line}")
        );
        assert!(!ask.headers.contains_key(SIGNATURE));
    }
}
