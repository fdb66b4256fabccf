//! Mirroring: a copy of a request for another service, whose answer is read and thrown away.
//!
//! The client's request never waits for it and never fails because of it. The copy is the request as the
//! service itself gets it (target rewritten, headers set, X-Request-Id), with the Host that the mirror's own
//! `host` asks for; with `preserve` that is the client's, unchanged. It is sent once its body is there as a whole,
//! one time, to one backend: no retry, no waiting. Upgrades are not copied, nor are trailers.
//!
//! Bounded by worker: so many copies under way, each with a body of at most 64 KiB. What is over is dropped and
//! counted; while memory is short, all are. A copy is in flight at the mirror's service, and counts in its statistics like any other request.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;

use http::request::Parts;
use http::{HeaderValue, Request};
use http_body::Body;

use crate::balance::Pick;
use crate::clock::Micros;
use crate::http::fault::Fault;
use crate::http::headers;
use crate::snapshot::{RouteView, Target};
use crate::telemetry::{Failure, InFlight, MirrorDrop};
use crate::upstream::body::{RequestBody, Upload};
use crate::upstream::conn::AnswerBody;
use crate::upstream::proxy_header::Ends;
use crate::upstream::tee::{NoCopy, Tee};
use crate::worker::context::Worker;
use crate::worker::local::{LocalService, LocalSnapshot};

use super::affinity::Affinity;
use super::attempt::{self, Asks, Try};
use super::exchange::{Exchange, Held};
use super::failure;

/// Copies of one worker that are under way, their bodies included.
const MOST: usize = 128;
/// Bytes of a body that are kept.
const MOST_BYTES: usize = 64 * 1024;

/// A request to be sent to the mirror.
struct Mirrored {
    worker: Rc<Worker>,
    route: Arc<RouteView>,
    service: Rc<LocalService>,
    head: Parts,
    /// What `host = "preserve"` sends.
    host: Option<HeaderValue>,
    client: IpAddr,
    /// Of the client's connection.
    ends: Ends,
    affinity: Affinity,
    _place: Place,
}

/// One of the [`MOST`].
struct Place(Rc<Worker>);

/// What is copied.
pub struct Original<'a> {
    pub head: &'a Parts,
    /// The client's own.
    pub host: Option<&'a HeaderValue>,
    pub client: IpAddr,
    /// Bytes that the body has at least.
    pub size: u64,
    pub upload: Option<&'a Rc<Upload>>,
}

/// Begins to copy a request for its route's mirror; it is sent now, or once its body was received.
pub fn copy(
    exchange: &Exchange,
    local: &LocalSnapshot,
    (route, to): (&Arc<RouteView>, &Target),
    original: Original<'_>,
) {
    let Original { head, host, client: ip, size, upload } = original;
    let client = &exchange.client;
    let worker = &client.worker;
    let dropped = |why| to.stats.of(worker.id).mirror_dropped.inc(why);
    let Some(service) = to.service.and_then(|index| local.services.get(index)) else { return };
    if size > MOST_BYTES as u64 {
        return dropped(MirrorDrop::Body);
    }
    if service.view.admission.lacks_memory() {
        return dropped(MirrorDrop::Memory);
    }
    let Some(place) = Place::take(worker) else { return dropped(MirrorDrop::Busy) };
    let (mut copied, ()) = Request::new(()).into_parts();
    copied.method.clone_from(&head.method);
    copied.uri.clone_from(&head.uri);
    copied.headers.clone_from(&head.headers);
    let now = exchange.started;
    let mirrored = Mirrored {
        affinity: Affinity::of_request(&service.view, client, &mut copied, ip, now),
        worker: worker.clone(),
        route: route.clone(),
        service: service.clone(),
        head: copied,
        host: host.cloned(),
        client: ip,
        ends: client.ends,
        _place: place,
    };
    match upload {
        None => mirrored.start(None),
        Some(upload) => upload.copy_to(Tee::new(MOST_BYTES, move |body| match body {
            Ok(bytes) => {
                let worker = &mirrored.worker;
                let body = Upload::of_bytes(bytes, worker.clock.clone(), worker.timers.clone());
                mirrored.start(Some(body));
            }
            Err(NoCopy::TooLarge) => mirrored.dropped(MirrorDrop::Body),
            Err(NoCopy::Incomplete) => mirrored.dropped(MirrorDrop::Incomplete),
        })),
    }
}

impl Mirrored {
    fn start(self, body: Option<Rc<Upload>>) {
        let worker = self.worker.clone();
        worker.spawn(Box::pin(self.run(body)));
    }

    fn dropped(&self, why: MirrorDrop) {
        if let Some(to) = &self.route.mirror {
            to.stats.of(self.worker.id).mirror_dropped.inc(why);
        }
    }

    async fn run(mut self, body: Option<Rc<Upload>>) {
        let worker = self.worker.clone();
        let started = worker.now();
        let Some(mut held) = self.pick(started) else {
            return self.dropped(MirrorDrop::NoBackend);
        };
        let view = held.service().view.clone();
        let mut in_flight = InFlight::enter(&view.stats, worker.id, &worker.clock, started);
        let (rule, own) = (&view.config.host, &held.backend.backend.authority);
        headers::set_host(&mut self.head.headers, rule, self.host.as_ref(), own);
        let method = self.head.method.clone();
        let timer = worker.timers.timer();
        // Nobody waits for it: it must not go on for as long as its backend likes.
        let transport = &view.config.transport;
        let longest = transport.response_timeout + transport.read_timeout;
        let longest = self.route.config.timeout.unwrap_or(longest);
        let with = Try {
            worker: &worker,
            timer: &timer,
            started,
            deadline: Some(started.saturating_add(longest.as_micros() as Micros)),
            upload: body.as_ref(),
            ends: &self.ends,
            kept: None,
            informs: None,
        };
        let sent = body.as_ref().map_or_else(RequestBody::empty, Upload::body);
        let request = Request::from_parts(self.head, sent);
        let status = match exchange(&with, &mut held, request).await {
            Ok(status) => status,
            Err(fault) => {
                failure::count(&fault, in_flight.stats());
                fault.status().as_u16()
            }
        };
        let now = worker.now();
        let took = now.saturating_sub(started);
        in_flight.leaves_at(now);
        in_flight.stats().finished(status, took);
        held.stats().duration.record(now.saturating_sub(held.since));
        if let Some(to) = &self.route.mirror {
            to.stats.of(worker.id).record(&method, status, took);
        }
    }

    fn pick(&mut self, now: Micros) -> Option<Held> {
        // The body may have taken its time.
        if let Some(latest) = self.worker.local().service_named(&self.service.view.config.name) {
            self.service = latest.clone();
        }
        let service = &self.service;
        let Affinity { key, session, .. } = self.affinity;
        let pick = Pick { now, client: self.client, key, session, tried: &[] };
        let mut rng = self.worker.rng.borrow_mut();
        let index = service.balancer.borrow_mut().pick(&service.view, &pick, &mut rng)?;
        Some(Held::new(service, index, self.worker.id, now))
    }
}

/// Sends it and reads the answer to its end; the status.
async fn exchange(
    with: &Try<'_>,
    held: &mut Held,
    request: Request<RequestBody>,
) -> Result<u16, Fault> {
    let asks = Asks { keep_head: false, upgrade: false, idempotent: false };
    let slot = RefCell::new(Some(Box::new(request.into())));
    let sent = attempt::send(with, held, &slot, asks).await;
    let (response, at) = sent.map_err(|failed| failed.fault)?;
    held.service().view.stats.of(with.worker.id).ttfb.record(at.saturating_sub(held.since));
    let (head, body) = (*response).into_parts();
    match waste(with, held, body).await {
        Ok(()) => {
            let most = held.service().view.config.transport.kept();
            if let Some(conn) = held.conn.take() {
                held.backend.pool.give_back(conn, with.worker.now(), most);
            }
        }
        // Its status was seen; that it broke off later is the backend's failure.
        Err(failure) => held.stats().failed(failure, with.worker.now()),
    }
    Ok(head.status.as_u16())
}

/// Reads a body and keeps nothing of it.
async fn waste(with: &Try<'_>, held: &Held, mut body: AnswerBody) -> Result<(), Failure> {
    let timeout = held.service().view.config.transport.read_timeout;
    loop {
        with.arm(with.worker.now(), timeout);
        let frame = poll_fn(|cx| match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => Poll::Ready(Ok(frame)),
            Poll::Pending => with.timer.poll_expired(cx).map(|()| Err(Failure::Timeout)),
        });
        match frame.await? {
            Some(Ok(_)) => {}
            Some(Err(_)) => return Err(Failure::Reset),
            None => return Ok(()),
        }
        // One that always has more never waits.
        if with.overdue() {
            return Err(Failure::Timeout);
        }
    }
}

impl Place {
    fn take(worker: &Rc<Worker>) -> Option<Self> {
        let taken = worker.mirrored.get();
        (taken < MOST).then(|| {
            worker.mirrored.set(taken + 1);
            Self(worker.clone())
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.mirrored.set(self.0.mirrored.get() - 1);
    }
}
