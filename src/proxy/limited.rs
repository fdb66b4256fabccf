//! Holding a request to the limits of its route, before anything else is done with it.

use std::net::IpAddr;

use http::HeaderMap;

use crate::http::fault::Fault;
use crate::limits::{Fields, Limits, Refused};
use crate::worker::local::LocalSnapshot;

use super::exchange::Exchange;
use super::failure;

/// Lets the request in, or says why not. `standing`: what its client is told of its limits in either case.
pub fn admit(
    exchange: &mut Exchange,
    local: &LocalSnapshot,
    limits: &Limits,
    (headers, client): (&HeaderMap, IpAddr),
    standing: &mut Option<Box<Fields>>,
) -> Result<(), Fault> {
    let verdict = limits.admit(headers, client);
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
