//! Letting a request in while its service is overloaded: which class it is of, and what its client has under way.
//!
//! The arithmetic is `upstream::admission`'s; while nothing is overloaded none of this is asked.

use http::HeaderMap;

use crate::clock::Micros;
use crate::config::types::{Priority, Route};
use crate::http::fault::{Busy, Fault};
use crate::http::forwarded::Peer;
use crate::upstream::admission::Share;
use crate::worker::local::LocalService;

use super::exchange::Exchange;
use super::tries::Sending;

/// A trusted peer says by this header what class a request is of: `critical`, `normal` or `sheddable`.
const CLASS: &str = "x-request-priority";

/// What class a request is of: its route's, unless a trusted peer says otherwise.
#[inline]
pub fn class(route: &Route, peer: &Peer, headers: &HeaderMap) -> Priority {
    if !peer.trusted {
        return route.priority;
    }
    match headers.get(CLASS).map(http::HeaderValue::as_bytes) {
        Some(b"critical") => Priority::Critical,
        Some(b"normal") => Priority::Normal,
        Some(b"sheddable") => Priority::Sheddable,
        _ => route.priority,
    }
}

/// Lets it in; what is returned is held until the request is over.
///
/// # Errors
/// It is not let in.
#[cold]
pub fn enter(
    exchange: &Exchange,
    service: &LocalService,
    sending: &Sending,
    now: Micros,
) -> Result<Share, Box<Fault>> {
    let mut rng = exchange.client.worker.rng.borrow_mut();
    let admission = &service.view.admission;
    let free = service.view.queue.depth() == 0;
    admission.enter(sending.client, sending.class, free, now, &mut rng).map_err(|why| {
        let service = service.view.config.name.clone();
        Box::new(Fault::Overloaded { service, why: Busy::Refused(why) })
    })
}
