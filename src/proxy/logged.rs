//! What the access log says of a request: kept from its head while the log is on, written when
//! the exchange ends. With the log off a request pays one branch.

use std::net::IpAddr;

use http::header;
use http::request::Parts;
use http::{HeaderValue, Uri, Version};

use crate::clock::Micros;
use crate::http::fault::{At, Phase};
use crate::http::headers::Received;
use crate::http::request_id::RequestId;
use crate::telemetry::access_log::{Failed, Record};

use super::exchange::Exchange;

/// Parts of a request's head that outlive it in the log.
pub struct Logged {
    id: RequestId,
    client: IpAddr,
    host: Option<HeaderValue>,
    target: Uri,
    version: Version,
    user_agent: Option<HeaderValue>,
    referer: Option<HeaderValue>,
    pub retries: u32,
    pub ttfb: Option<u64>,
    pub error: Option<&'static str>,
    /// Where the last try went wrong, if no backend answered.
    pub at: Option<(At, Phase)>,
}

impl Logged {
    pub fn new(head: &Parts, received: &Received) -> Box<Self> {
        let (headers, has) = (&head.headers, &received.has);
        let value = |there: bool, name| there.then(|| headers.get(name).cloned()).flatten();
        Box::new(Self {
            id: received.id.clone(),
            client: received.client,
            host: value(head.uri.authority().is_none(), header::HOST),
            target: head.uri.clone(),
            version: head.version,
            user_agent: value(has.user_agent, header::USER_AGENT),
            referer: value(has.referer, header::REFERER),
            retries: 0,
            ttfb: None,
            error: None,
            at: None,
        })
    }
}

/// Writes the line of an exchange that ends.
pub fn write(logged: &Logged, exchange: &Exchange, took: u64, failed: bool) {
    let client = &exchange.client;
    client.worker.log(|writer, rng| {
        if !writer.wants(exchange.status(), failed, rng) {
            return;
        }
        let host = match logged.target.authority() {
            Some(authority) => authority.as_str(),
            None => text(logged.host.as_ref()),
        };
        let (received, sent) = exchange.bytes();
        writer.write(&Record {
            time: client.worker.clock.wall(exchange.started),
            request_id: logged.id.as_str(),
            client: logged.client,
            listener: &client.listener.config.name,
            route: exchange.route().map_or("", |route| &*route.config.name),
            service: exchange.service().map_or("", |service| &**service),
            backend: match (&logged.at, exchange.backend()) {
                (Some((at, _)), _) => &at.backend,
                (None, answering) => answering.map_or("", |backend| &*backend.id),
            },
            method: exchange.method().as_str(),
            host,
            target: logged.target.path_and_query().map_or("", |target| target.as_str()),
            version: logged.version,
            status: exchange.status(),
            bytes_in: received,
            bytes_out: sent,
            duration: took,
            ttfb: logged.ttfb,
            retries: logged.retries,
            error: logged.error,
            failed: logged.at.as_ref().map(|(at, phase)| Failed {
                phase: phase.as_str(),
                after: at.after.as_micros() as Micros,
            }),
            user_agent: logged.user_agent.as_ref().map(HeaderValue::as_bytes),
            referer: logged.referer.as_ref().map(HeaderValue::as_bytes),
        });
    });
}

fn text(value: Option<&HeaderValue>) -> &str {
    value.and_then(|value| value.to_str().ok()).unwrap_or_default()
}
