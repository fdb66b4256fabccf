//! One request from its head to the end of its answer: everything that is held meanwhile and
//! given back at the end, however it ends, and what is recorded then.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Micros;
use crate::http::client::{Active, Client};
use crate::http::fault::At;
use crate::limits::concurrency::Place;
use crate::snapshot::{RouteView, Target};
use crate::telemetry::counter::Label;
use crate::telemetry::{BackendStats, InFlight};
use crate::upstream::admission::Share;
use crate::upstream::backend::Backend;
use crate::upstream::body::Upload;
use crate::upstream::conn::Conn;
use crate::worker::local::{LocalBackend, LocalService};
use crate::worker::timers::Timer;

use super::attempt::Try;
use super::logged::{self, Logged};

/// What is recorded when the client was gone before there was an answer: nginx's number for it.
const CLIENT_GONE: u16 = 499;

/// See the module. Dropped: recorded.
pub struct Exchange {
    pub client: Rc<Client>,
    _active: Active,
    /// For the waits on the backend's side.
    pub timer: Timer,
    pub started: Micros,
    method: http::Method,
    /// 0 until there is an answer.
    status: u16,
    route: Option<Arc<RouteView>>,
    /// Which target of the route.
    target: usize,
    in_flight: Option<InFlight>,
    held: Option<Held>,
    pub upload: Option<Rc<Upload>>,
    /// Among the route's requests in flight, where those are limited.
    pub place: Option<Place>,
    /// While the access log is on.
    pub logged: Option<Box<Logged>>,
    /// Bytes of bodies, from and to the client.
    received: u64,
    sent: u64,
    complete: bool,
    /// When the answer was complete.
    ended: Option<Micros>,
    /// The backend broke the answer off, not the client.
    broken: bool,
}

/// A place at a backend, and the connection to it; the place is given back when dropped.
pub struct Held {
    service: Rc<LocalService>,
    pub backend: Rc<LocalBackend>,
    pub conn: Option<Conn>,
    worker: usize,
    /// When this try began.
    pub picked: Micros,
    /// When the request was sent (this try).
    pub since: Micros,
    /// The backend is ejected: how this request fares decides whether it comes back.
    pub probe: bool,
    /// It has no company there that it could have to wait for.
    low: bool,
    /// And waits for the head of its answer.
    open: bool,
    /// It was let in while its service is overloaded.
    pub share: Option<Share>,
}

impl Exchange {
    pub fn begin(client: &Rc<Client>, method: http::Method) -> Box<Self> {
        Box::new(Self {
            client: client.clone(),
            _active: client.begin(),
            timer: client.worker.timers.timer(),
            started: client.worker.now(),
            method,
            status: 0,
            route: None,
            target: 0,
            in_flight: None,
            held: None,
            upload: None,
            place: None,
            logged: None,
            received: 0,
            sent: 0,
            complete: false,
            ended: None,
            broken: false,
        })
    }

    pub fn routed(&mut self, route: &Arc<RouteView>) {
        self.route = Some(route.clone());
    }

    /// Chooses where the request goes.
    pub fn choose(&mut self) -> Option<&Target> {
        let route = self.route.as_ref()?;
        self.target = route.split.choose(&mut self.client.worker.rng.borrow_mut());
        route.targets.get(self.target)
    }

    fn target(&self) -> Option<&Target> {
        self.route.as_ref()?.targets.get(self.target)
    }

    pub fn route(&self) -> Option<&Arc<RouteView>> {
        self.route.as_ref()
    }

    /// The request counts as in flight at its service from now on.
    pub fn entered(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }

    pub fn in_flight(&self) -> Option<&InFlight> {
        self.in_flight.as_ref()
    }

    /// The backend that answers.
    pub fn hold(&mut self, held: Held) {
        self.held = Some(held);
    }

    /// The head of the answer goes to the client.
    pub fn answered(&mut self, status: http::StatusCode) {
        self.status = status.as_u16();
    }

    pub fn method(&self) -> &http::Method {
        &self.method
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    /// Part of the answer's body goes to the client.
    #[inline]
    pub fn sent(&mut self, bytes: usize) {
        self.sent += bytes as u64;
    }

    /// The answer is complete: the connection can serve another request.
    pub fn complete(&mut self) {
        self.complete = true;
        let now = self.client.worker.now();
        self.ended = Some(now);
        let Some(held) = &mut self.held else { return };
        let Some(conn) = held.conn.take() else { return };
        // A request that is still being sent keeps its connection from being used again.
        if self.upload.as_ref().is_none_or(|upload| upload.ended()) {
            let most = held.service.view.config.transport.kept();
            held.backend.pool.give_back(conn, now, most);
        }
    }

    /// Whether part of the request's body is unread and will not be read.
    pub fn is_unread(&self) -> bool {
        self.client.had_body.get() && self.upload.as_ref().is_none_or(|upload| !upload.ended())
    }

    /// The answer could not be completed: by the backend's fault, unless the request's body,
    /// which was still being sent, failed before.
    pub fn broken(&mut self, kind: crate::telemetry::Failure) {
        if self.upload.as_ref().is_some_and(|upload| upload.fault().is_some()) {
            return;
        }
        if let Some(held) = &self.held {
            held.stats().failed(kind, self.client.worker.now());
        }
        self.broken = true;
        self.client.note_cut();
        if let Some(logged) = &mut self.logged {
            logged.error = Some(kind.as_str());
        }
    }

    /// The bytes of an upgraded connection, from and to the client.
    pub fn tunnelled(&mut self, received: u64, sent: u64) {
        (self.received, self.sent) = (received, sent);
        self.complete = true;
    }

    /// The last backend it was sent to.
    pub fn backend(&self) -> Option<&Arc<Backend>> {
        self.held.as_ref().map(|held| &held.backend.backend)
    }

    pub fn service(&self) -> Option<&Arc<str>> {
        self.target()?.name.as_ref()
    }

    /// Bytes of bodies, from and to the client.
    pub fn bytes(&self) -> (u64, u64) {
        let uploaded = self.upload.as_ref().map_or(0, |upload| upload.received());
        (self.received + uploaded, self.sent)
    }

    /// When the whole exchange must be over.
    pub fn deadline(&self) -> Option<Micros> {
        let timeout = self.route.as_ref()?.config.timeout?;
        Some(self.started.saturating_add(timeout.as_micros() as Micros))
    }

    /// What its tries work with.
    pub fn to_try(&self) -> Try<'_> {
        Try {
            worker: &self.client.worker,
            timer: &self.timer,
            started: self.started,
            deadline: self.deadline(),
            upload: self.upload.as_ref(),
            ends: &self.client.ends,
            kept: None,
            informs: Some(self),
        }
    }

    /// Sets the timer to the nearer of a wait from `from` and the exchange's own deadline.
    pub fn arm(&self, from: Micros, wait: Duration) {
        self.to_try().arm(from, wait);
    }

    /// Whether the exchange as a whole has run out of time.
    pub fn overdue(&self) -> bool {
        self.to_try().overdue()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let worker = &self.client.worker;
        let now = self.ended.unwrap_or_else(|| worker.now());
        let took = now.saturating_sub(self.started);
        let abandoned = self.status == 0;
        if abandoned {
            self.status = CLIENT_GONE;
        }
        if let Some(target) = self.target() {
            target.stats.of(worker.id).record(&self.method, self.status, took);
        }
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.leaves_at(now);
            let stats = in_flight.stats();
            stats.finished(self.status, took);
            if !self.complete && !self.broken {
                stats.cancelled.inc();
                if abandoned {
                    stats.abandoned.inc();
                }
            }
        }
        if self.upload.as_ref().is_some_and(|upload| upload.ended()) {
            self.client.had_body.set(false);
        }
        if let Some(logged) = self.logged.take() {
            logged::write(&logged, self, took, !self.complete);
        }
        if let Some(held) = &self.held {
            let took = now.saturating_sub(held.since);
            held.stats().duration.record(took);
            let well = self.complete && matches!(self.status, 200..=428 | 430..=499);
            if well {
                held.worked(took);
            }
        }
    }
}

impl Held {
    /// The gate of that backend must have been entered.
    pub fn new(service: &Rc<LocalService>, index: usize, worker: usize, now: Micros) -> Self {
        let backend = service.backends[index].clone();
        let service = service.clone();
        let in_flight = backend.backend.gate.in_flight();
        let terms = backend.backend.limit.get();
        if terms.is_near(in_flight) {
            backend.backend.stats.of(worker).work.near.inc();
        }
        let low = in_flight <= terms.low;
        if low {
            backend.backend.stats.of(worker).work.low_sent.inc();
        }
        let (conn, share, probe) = (None, None, false);
        Self {
            service,
            backend,
            conn,
            worker,
            picked: now,
            since: now,
            probe,
            low,
            open: low,
            share,
        }
    }

    /// The head of an answer came, or none will.
    #[inline]
    pub fn heard(&mut self) {
        if std::mem::take(&mut self.open) {
            self.stats().work.low_back.inc();
        }
    }

    /// It was answered well, `took` after it was sent.
    #[inline]
    fn worked(&self, took: Micros) {
        let config = &self.service.view.config;
        if !config.overload.concurrency {
            return;
        }
        let work = &self.stats().work;
        work.done.inc();
        work.time.add(took);
        if self.low {
            work.low.inc();
            work.low_time.add(took);
        }
    }

    pub fn service(&self) -> &LocalService {
        &self.service
    }

    pub fn worker(&self) -> usize {
        self.worker
    }

    /// Where a try is that goes wrong now.
    pub fn at(&self, now: Micros) -> At {
        let backend = &self.backend.backend;
        At {
            service: self.service.view.config.name.clone(),
            backend: backend.id.clone(),
            uid: backend.uid,
            after: Duration::from_micros(now.saturating_sub(self.picked)),
        }
    }

    pub fn stats(&self) -> &BackendStats {
        self.backend.backend.stats.of(self.worker)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.heard();
        self.backend.backend.gate.leave();
        self.service.view.queue.wake();
    }
}
