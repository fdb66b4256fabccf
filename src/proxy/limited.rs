//! Holding a request to the limits of its route, before anything else is done with it.

use std::net::IpAddr;

use http::HeaderMap;

use crate::clock::Micros;
use crate::http::fault::Fault;
use crate::http::serve::Client;
use crate::limits::{Asked, Fields, Limits, Refused};
use crate::worker::local::LocalSnapshot;

use super::exchange::Exchange;
use super::failure;

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
    Some(Fault::Banned { left, direct: !client.peer.trusted })
}

/// Lets the request in, or says why not. `standing`: what its client is told of its limits in either case.
pub fn admit(
    exchange: &mut Exchange,
    local: &LocalSnapshot,
    limits: &Limits,
    (headers, from): (&HeaderMap, IpAddr),
    standing: &mut Option<Box<Fields>>,
) -> Result<(), Fault> {
    let client = &exchange.client;
    let trusted = &client.listener.config.trusted_proxies;
    let bans = &client.worker.shared.bans;
    let verdict = limits.admit(&Asked { headers, client: from, trusted, bans });
    *standing = verdict.fields;
    let refused = match verdict.result {
        Ok(place) => {
            exchange.place = place;
            return Ok(());
        }
        Err(refused) => refused,
    };
    Err(match refused {
        Refused::Denied => Fault::Denied,
        Refused::Limited { limit, wait } => Fault::RateLimited { limit, wait },
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
