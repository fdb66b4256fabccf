//! Holding a request to the limits of its route, before anything else is done with it.

use std::future::pending;
use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;

use crate::clock::Micros;
use crate::http::client::Client;
use crate::http::fault::Fault;
use crate::http::headers::Received;
use crate::limits::shared::BUDGET;
use crate::limits::{Asked, Asking, Fields, Limits, Refused, Verdict};
use crate::worker::local::LocalSnapshot;

use super::exchange::Exchange;
use super::failure;
use super::{Begun, Outcome, Routed, proceed};

/// Requests of a connection that are refused at once, one after the other; from then on each waits so much longer than
/// the one before. A client that heeds `Retry-After` never gets there; one that pipelines as fast as it can soon asks ten
/// times a second.
const PATIENCE: u32 = 10;
const LONGER: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_millis(100);

/// Whether an answer that refuses is to wait, as its connection only asks for what it may not have. Connections
/// of proxies that we trust have other clients' requests, too.
#[inline]
pub fn is_slow(client: &Client, fault: &Fault) -> bool {
    let refused = matches!(fault, Fault::RateLimited { .. } | Fault::Denied);
    refused && client.refused.get() > PATIENCE && !client.peer.trusted
}

/// Waits before such an answer; nothing more is read of an HTTP/1 connection meanwhile.
pub async fn slow(exchange: &Exchange) {
    let client = &exchange.client;
    let wait = LONGER.saturating_mul(client.refused.get().saturating_sub(PATIENCE)).min(LONGEST);
    let _ = exchange.timer.within(client.worker.now(), wait, pending::<()>()).await;
}

/// Whether whom the request is from is not let in: it was banned after it connected, or comes through a proxy
/// that we trust, whose other clients are to be served.
#[inline]
pub fn banned(client: &Client, from: IpAddr, now: Micros) -> Option<Fault> {
    let left = client.worker.shared.bans.left(from, || now)?;
    let trusted = &client.listener.config.trusted_proxies;
    if trusted.iter().any(|network| network.contains(&from)) {
        return None;
    }
    client.worker.shared.bans.count_refused();
    let ends = !client.peer.trusted;
    if ends {
        client.bans();
    }
    Some(Fault::Banned { left, ends })
}

/// What becomes of a request.
pub enum Admission {
    In,
    Refused(Fault),
    /// Others have to be asked.
    Asking(Box<Asking>),
}

/// A request while others are asked. What it holds is given back if its client goes away.
pub struct Waiting {
    pub asking: Box<Asking>,
    pub routed: Routed,
    pub received: Received,
}

/// Lets the request in, or says why not. `standing`: what its client is told of its limits in either case.
pub fn admit(
    exchange: &mut Exchange,
    local: &LocalSnapshot,
    limits: &Limits,
    (headers, from): (&HeaderMap, IpAddr),
    standing: &mut Option<Box<Fields>>,
) -> Admission {
    let mut verdict = limits.admit(&asked(&exchange.client, headers, from));
    if let Some(asking) = verdict.asking.take() {
        return Admission::Asking(asking);
    }
    match follow(exchange, local, verdict, standing) {
        Ok(()) => Admission::In,
        Err(fault) => Admission::Refused(fault),
    }
}

impl Waiting {
    /// Asks, and goes on with the request.
    pub async fn settle(self, standing: &mut Option<Box<Fields>>) -> Begun {
        let Self { mut asking, mut routed, mut received } = self;
        let exchange = &mut routed.exchange;
        let client = exchange.client.clone();
        let asker = &client.worker.asker;
        let questions = std::mem::take(&mut asking.questions);
        let many = questions.len();
        let answer = match asker.ask(&asking.redis, questions) {
            None => None,
            Some(answer) => {
                let answer = exchange.timer.within(client.worker.now(), BUDGET, answer).await;
                asker.settle(answer, many)
            }
        };
        let Some(limits) = &routed.route.limits else { return proceed(routed, &mut received) };
        let asked = asked(&client, &routed.head.headers, received.client);
        let verdict = limits.settle(*asking, answer.as_deref(), &asked);
        match follow(exchange, &routed.local, verdict, standing) {
            Ok(()) => proceed(routed, &mut received),
            Err(fault) => Begun::Over(Some(Outcome::Fault(fault, routed.exchange))),
        }
    }
}

fn asked<'a>(client: &'a Client, headers: &'a HeaderMap, from: IpAddr) -> Asked<'a> {
    let trusted = &client.listener.config.trusted_proxies;
    Asked { headers, client: from, trusted, bans: &client.worker.shared.bans }
}

/// Does as the limits say.
fn follow(
    exchange: &mut Exchange,
    local: &LocalSnapshot,
    verdict: Verdict,
    standing: &mut Option<Box<Fields>>,
) -> Result<(), Fault> {
    *standing = verdict.fields;
    let in_a_row = &exchange.client.refused;
    let refused = match verdict.result {
        Ok(place) => {
            in_a_row.set(0);
            exchange.place = place;
            return Ok(());
        }
        Err(refused) => refused,
    };
    in_a_row.set(in_a_row.get().saturating_add(1));
    Err(match refused {
        Refused::Denied => Fault::Denied,
        Refused::Limited { limit, wait, banned } => {
            let ends = banned && !exchange.client.peer.trusted;
            if ends {
                exchange.client.bans();
            }
            Fault::RateLimited { limit, wait, ends }
        }
        Refused::Full { max } => {
            let route = exchange.route().map(|route| route.config.name.clone());
            let fault = Fault::RouteFull { route: route.unwrap_or_default(), max };
            // It is in flight at no service yet; the one that it would most likely have gone to counts it.
            let service = exchange.route().and_then(|route| route.targets.first()?.service);
            if let Some(service) = service.and_then(|index| local.services.get(index)) {
                failure::count(&fault, service.view.stats.of(exchange.client.worker.id));
            }
            fault
        }
    })
}
