//! Holding: what becomes of requests while their service has no backend (`min = 0`).
//!
//! They wake the scaler and wait in the service's queue, oldest first, with bounds of their own: `[service.NAME.scaling.hold]`.
//! Their bodies stay where they are. Once there are backends again they are let go as these have slots: a new one with all
//! of them at once would be overloaded before it began.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, header};

use crate::clock::Micros;
use crate::config::types::Hold as Rules;
use crate::http::fault::{Fault, NotHeld};
use crate::snapshot::ServiceView;
use crate::upstream::hold::Hold;
use crate::worker::local::LocalService;

use super::exchange::{Exchange, Held};
use super::failure;
use super::tries::{self, Sending};
use super::waiting;

/// What a held request takes besides its head, roughly.
const EACH: usize = 1024;

/// A request for the service came. `path`: as its backends get it.
#[inline]
pub fn note(view: &ServiceView, path: &str, now: Micros) {
    if let Some(hold) = &view.hold
        && rules(view).is_some_and(|rules| !is_ignored(rules, path))
    {
        hold.note(now);
    }
}

/// Whether a request that found no place is held, or waits as it would for full backends.
pub fn applies(service: &LocalService, available: u32) -> Option<Arc<Hold>> {
    let view = &service.view;
    let hold = view.hold.as_ref()?;
    let limited = waiting::is_limited(service);
    (available == 0 || !limited || hold.waiting() > 0).then(|| hold.clone())
}

/// Waits until there is a place at a backend, and takes it. `service` is its latest state afterwards.
///
/// # Errors
/// It is not held, no backend could be started, or `timeout` or the route's timeout is over.
pub async fn wait(
    exchange: &Exchange,
    service: &mut Rc<LocalService>,
    sending: &Sending,
    hold: Arc<Hold>,
) -> Result<Held, Fault> {
    let config = service.view.config.clone();
    let Some(rules) = rules(&service.view) else { return Err(failure::no_backend(service)) };
    let not_held = |why| not_held(&config.name, &hold, why, None);
    let rules = rules.clone();
    let size = {
        let request = sending.request.borrow();
        let Some(request) = &*request else { return Err(Fault::Internal) };
        if waiting::available(service) == 0 {
            if is_ignored(&rules, request.uri().path()) {
                return Err(not_held(NotHeld::Ignored));
            }
            hold.wake();
            let browses = matches!(*exchange.method(), Method::GET | Method::HEAD)
                && !sending.upgrade
                && navigates(request.headers());
            // At once and not at the end of the wait: a browser that waits shows nothing, and the
            // page has it ask again.
            if let (Some(page), true) = (&rules.page, browses) {
                return Err(self::not_held(&config.name, &hold, NotHeld::Page, Some(page.clone())));
            }
        }
        let fields = request.headers().iter();
        let fields: usize = fields.map(|(name, value)| name.as_str().len() + value.len()).sum();
        let fields = fields + request.lines().len();
        EACH + fields + request.uri().path_and_query().map_or(0, |target| target.as_str().len())
    };
    let worker = &exchange.client.worker;
    let clients = &worker.shared.per_address;
    let _client = clients
        .enter(&hold.key, sending.client, rules.per_client as usize)
        .ok_or_else(|| not_held(NotHeld::PerClient { most: rules.per_client }))?;
    let held = hold.waiting();
    let full = || not_held(NotHeld::Full { held });
    let place = hold.enter(size as u64, rules.bytes).ok_or_else(full)?;
    let turn = service.line.join(rules.queue, 0, false, worker.now()).ok_or_else(full)?;
    let began = worker.now();
    exchange.arm(began, rules.timeout);
    let watched = exchange.client.watch_departure();
    let result = poll_fn(|cx| {
        if let Some(cause) = place.failure() {
            return Poll::Ready(Err(not_held(NotHeld::Failed { cause })));
        }
        if turn.poll_turn(cx) {
            worker.catch_up();
            match worker.local().service_named(&config.name) {
                Some(latest) => *service = latest.clone(),
                None => return Poll::Ready(Err(failure::no_backend(service))),
            }
            if has_slot(service, rules.slots)
                && let Some(held) = tries::pick(exchange, service, sending, &[], worker.now())
            {
                return Poll::Ready(Ok(held));
            }
        }
        exchange.timer.poll_expired(cx).map(|()| {
            Err(match exchange.overdue() {
                true => {
                    let after = Duration::from_micros(worker.now().saturating_sub(began));
                    Fault::QueueRouteTimeout { service: config.name.clone(), after }
                }
                false => not_held(NotHeld::Waited { limit: rules.timeout, held: hold.waiting() }),
            })
        })
    })
    .await;
    drop(watched);
    exchange.timer.disarm();
    let stats = service.view.stats.of(worker.id);
    stats.queue_wait.record(worker.now().saturating_sub(began));
    result
}

fn rules(view: &ServiceView) -> Option<&Rules> {
    view.config.scaling.as_ref()?.hold.as_ref()
}

/// A path that ends with `/` stands for all below it.
fn is_ignored(rules: &Rules, path: &str) -> bool {
    let covers =
        |ignored: &str| path == ignored || (ignored.ends_with('/') && path.starts_with(ignored));
    rules.ignore_paths.iter().any(|ignored| covers(ignored))
}

/// Whether a person's browser goes to a page, as against what pages fetch and what programs ask:
/// HTML is what it likes best, and where a browser tells its mode (Fetch Metadata) that is `navigate`.
fn navigates(headers: &HeaderMap) -> bool {
    let mode = headers.get("sec-fetch-mode").is_none_or(|mode| mode.as_bytes() == b"navigate");
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    mode && accept.is_some_and(prefers_html)
}

/// RFC 9110, 12.4.2 and 12.5.1: no other type weighs more, and it is named itself.
fn prefers_html(accept: &str) -> bool {
    let mut html = None;
    let mut other: f32 = 0.0;
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default();
        let q = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
        let weight = q.map_or(1.0, |q| q.parse().unwrap_or(0.0));
        match kind.eq_ignore_ascii_case("text/html") {
            true => html = Some(weight),
            false => other = other.max(weight),
        }
    }
    html.is_some_and(|html| html > 0.0 && html >= other)
}

/// Whether those that serve have a slot left. Only the oldest of all workers asks, so no slot is given twice.
fn has_slot(service: &LocalService, slots: u32) -> bool {
    let gates = || service.view.backends.iter().map(|member| &member.backend.gate);
    let (mut places, mut busy) = (0_u64, 0_u64);
    for gate in gates().filter(|gate| gate.is_available()) {
        places += u64::from(slots);
        busy += u64::from(gate.in_flight());
    }
    // Nobody but such as serve only for want of others: picking knows.
    places == 0 || busy < places
}

fn not_held(service: &Arc<str>, hold: &Hold, why: NotHeld, page: Option<Bytes>) -> Fault {
    Fault::NotHeld { service: service.clone(), why, lead: hold.lead(), page }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn html_is_preferred_where_nothing_weighs_more() {
        for accept in [
            "text/html",
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8",
            "TEXT/HTML; q=0.9, */*;q=0.1",
        ] {
            assert!(prefers_html(accept), "{accept}");
        }
        for accept in [
            "*/*",
            "",
            "application/json",
            "application/json, text/html;q=0.5",
            "text/html;q=0",
            "text/html;q=much",
            "application/xhtml+xml",
        ] {
            assert!(!prefers_html(accept), "{accept}");
        }
    }

    #[test]
    fn what_a_page_fetches_is_no_navigation() {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, "text/html".parse().expect("a value"));
        assert!(navigates(&headers), "an old browser does not tell");
        for (mode, navigates) in [("navigate", true), ("cors", false), ("no-cors", false)] {
            headers.insert("sec-fetch-mode", mode.parse().expect("a value"));
            assert_eq!(super::navigates(&headers), navigates, "{mode}");
        }
    }
}
