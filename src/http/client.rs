//! One client connection, as the exchanges on it see it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{HeaderValue, Response};

use crate::clock::Micros;
use crate::framing::Wrong;
use crate::listener::departure::Departure;
use crate::listener::stream::{Notes, Proven};
use crate::snapshot::ListenerView;
use crate::telemetry::Flood;
use crate::upstream::proxy_header::Ends;
use crate::worker::context::Worker;
use crate::worker::timers::Timer;

use super::forwarded::Peer;
use super::streams::Turn;
use super::tunnel::Tunnel;

/// While memory is scarce, connections may be idle for so long at most.
const SCARCE: Duration = Duration::from_secs(10);

/// A connection that is served.
pub struct Client {
    pub worker: Rc<Worker>,
    /// As it was when the connection came; timeouts and limits are kept for its life.
    pub listener: Arc<ListenerView>,
    pub peer: Peer,
    pub ends: Ends,
    /// On listeners that ask for certificates.
    pub proven: Option<Box<Proven>>,
    pub timer: Timer,
    pub(super) notes: Rc<Notes>,
    /// HTTP/2 and 3
    multiplexed: Cell<bool>,
    /// What answers say of this listener's HTTP/3, if it has that and the client does not speak it yet.
    pub alt_svc: Option<HeaderValue>,
    /// The last request had a body: perhaps not all of it was read.
    pub had_body: Cell<bool>,
    /// The last request was HTTP/1.0: the end of its answer may be the end of the connection.
    pub old: Cell<bool>,
    /// An answer was broken off, which such a client could take for its end.
    pub(super) cut: Cell<bool>,
    /// Its client is not let in any more: the connection is to end once nothing runs on it.
    banned: Cell<bool>,
    /// Its last so many requests that limits of routes looked at were refused.
    pub refused: Cell<u32>,
    /// Exchanges that have begun and not ended.
    active: Cell<u32>,
    /// Exchanges that have begun.
    begun: Cell<u64>,
    /// Idle since then, after so many exchanges.
    idle: Cell<(u64, Micros)>,
    /// HTTP/2: whom the stream that is polled just now waits for; see [`super::streams`].
    pub turn: Cell<Option<Turn>>,
    /// HTTP/2 and 3: what the stream that is polled just now says before its answer.
    said: Cell<Vec<Response<()>>>,
    /// Set before a 101 is answered: what the socket, or the stream that is polled just now, is connected to
    /// afterwards.
    tunnel: RefCell<Option<Tunnel>>,
    /// While a request of HTTP/1 waits for a backend: to notice that nobody waits for its answer.
    departure: RefCell<Option<Departure>>,
    /// The listener's index in the snapshot of that generation.
    index: Cell<(u64, usize)>,
}

/// Keeps a connection busy while an exchange runs on it.
pub struct Active(Rc<Client>);

/// While it lives, the connection ends as soon as its client closes it; see [`crate::listener::departure`].
pub struct Watched<'a>(&'a Client);

impl Client {
    /// `peer` with its address, and where it was accepted.
    pub fn new(
        worker: Rc<Worker>,
        listener: Arc<ListenerView>,
        (peer, (client, local)): (Peer, (SocketAddr, SocketAddr)),
        proven: Option<Box<Proven>>,
        timer: Timer,
        notes: Rc<Notes>,
        alt_svc: Option<HeaderValue>,
    ) -> Rc<Self> {
        Rc::new(Self {
            worker,
            listener,
            peer,
            ends: Ends { client, local },
            proven,
            timer,
            notes,
            multiplexed: Cell::new(false),
            alt_svc,
            had_body: Cell::new(false),
            old: Cell::new(false),
            cut: Cell::new(false),
            banned: Cell::new(false),
            refused: Cell::new(0),
            active: Cell::new(0),
            begun: Cell::new(0),
            idle: Cell::new((u64::MAX, 0)),
            turn: Cell::new(None),
            said: Cell::default(),
            tunnel: RefCell::new(None),
            departure: RefCell::new(None),
            index: Cell::new((u64::MAX, 0)),
        })
    }

    /// The listener's index in the present snapshot; routes are asked by it. A listener that was
    /// removed has none.
    pub fn listener_index(&self, snapshot: &crate::snapshot::Snapshot) -> usize {
        let (generation, index) = self.index.get();
        if generation == snapshot.generation {
            return index;
        }
        let name = &self.listener.config.name;
        let found = snapshot.listeners.iter().position(|l| l.config.name == *name);
        let index = found.unwrap_or(usize::MAX);
        self.index.set((snapshot.generation, index));
        index
    }

    /// An exchange begins.
    pub fn begin(self: &Rc<Self>) -> Active {
        // What was read so far was this request's head.
        self.notes.read.set(false);
        self.active.set(self.active.get() + 1);
        self.begun.set(self.begun.get() + 1);
        Active(self.clone())
    }

    /// Whether the connection is to end as soon as nothing runs on it.
    #[inline]
    pub fn leaves(&self) -> bool {
        self.listener.stats.leaves(self.timer.place())
    }

    /// Exchanges that have begun so far.
    pub fn begun(&self) -> u64 {
        self.begun.get()
    }

    /// A request begins to wait for a backend. Over HTTP/2 and 3 the codec sees whoever leaves.
    pub fn watch_departure(&self) -> Watched<'_> {
        if self.speaks_http1() {
            let socket = self.notes.socket.get();
            *self.departure.borrow_mut() = socket.and_then(|fd| Departure::watch(fd).ok());
        }
        Watched(self)
    }

    /// Ready when the client has gone while its request waits.
    #[inline]
    pub(super) fn poll_departure(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &*self.departure.borrow() {
            Some(departure) => departure.poll(cx),
            None => Poll::Pending,
        }
    }

    /// Whether an exchange runs.
    pub fn is_active(&self) -> bool {
        self.active.get() > 0
    }

    /// Whether there is too little memory to keep idle connections for long.
    #[inline]
    pub fn is_scarce(&self) -> bool {
        self.worker.shared.scarce.load(Relaxed)
    }

    /// How long the connection may be idle.
    pub fn keep_alive(&self) -> Duration {
        let keep = self.listener.config.timeout.keep_alive;
        if self.is_scarce() { keep.min(SCARCE) } else { keep }
    }

    /// When the connection has been idle for too long. It is idle from the first time this is asked
    /// after so many exchanges, whatever happens to the codec meanwhile.
    pub fn idle_until(&self, after: u64, now: Micros) -> Micros {
        let (then, since) = self.idle.get();
        let since = if then == after { since } else { now };
        self.idle.set((after, since));
        let over = |keep: Duration| since.saturating_add(keep.as_micros() as Micros);
        let until = over(self.keep_alive());
        if until >= now {
            return until;
        }
        // Memory has become scarce. Those for whom it is too late go one after the other.
        let turn = SCARCE * self.timer.place().into() / u32::from(u16::MAX);
        let turn = now.saturating_add(turn.as_micros() as Micros);
        turn.min(over(self.listener.config.timeout.keep_alive))
    }

    /// Whether the codec holds nothing of an exchange: all was answered, written and read.
    pub fn is_settled(&self) -> bool {
        !self.is_active() && !self.had_body.get() && self.notes.is_quiet()
    }

    /// What the client sent next is no request, and all before it was answered.
    pub fn wrong(&self) -> Option<Wrong> {
        let wrong = self.notes.wrong.get();
        wrong.filter(|_| !self.is_active() && !self.notes.blocked.get())
    }

    /// What the connection, or the stream that is polled just now, becomes once the 101 is written.
    pub fn switch(&self, tunnel: Tunnel) {
        *self.tunnel.borrow_mut() = Some(tunnel);
    }

    /// Once that is about to happen.
    pub(super) fn take_tunnel(&self) -> Option<Tunnel> {
        self.tunnel.take()
    }

    /// A request for another protocol is answered, but not with 101: what follows is HTTP.
    pub fn stays(&self) {
        self.notes.stays.set(true);
    }

    /// What its request gets before the answer; HTTP/1.0 knows nothing of the kind.
    pub fn inform(&self, head: Response<()>) {
        if !self.speaks_http1() {
            let mut said = self.said.take();
            said.push(head);
            self.said.set(said);
        } else if !self.old.get() {
            self.notes.interim.add(&head);
        }
    }

    /// What the stream that was polled just now said. To be asked after each of its polls.
    #[inline]
    pub fn take_said(&self) -> Vec<Response<()>> {
        self.said.take()
    }

    /// Whether something of that is still to be written.
    pub fn has_interim(&self) -> bool {
        !self.notes.interim.is_empty()
    }

    /// The answer begins.
    #[inline]
    pub fn answers(&self) {
        self.notes.interim.forget();
    }

    /// An answer is broken off.
    pub fn note_cut(&self) {
        self.cut.set(self.old.get());
    }

    /// A request was refused because its client is banned, or that made it so. An answer over HTTP/1 says that the
    /// connection ends with it.
    pub fn bans(&self) {
        self.banned.set(true);
    }

    /// It does too much, or too slowly.
    pub fn floods(&self, kind: Flood) {
        self.listener.stats.flood(kind);
        if self.worker.offends(self.peer.ip, &self.listener.config.trusted_proxies) {
            self.bans();
        }
    }

    /// What it sent is no request.
    pub fn bad_request(&self, wrong: Wrong) {
        self.listener.stats.bad_request(Some(wrong));
        if wrong == Wrong::HeadTooLarge {
            self.floods(Flood::LargeHead);
        }
    }

    pub fn is_banned(&self) -> bool {
        self.banned.get()
    }

    /// From now on requests overlap.
    pub fn multiplexes(&self) {
        self.multiplexed.set(true);
    }

    /// Whether `Connection` means anything to it.
    pub fn speaks_http1(&self) -> bool {
        !self.multiplexed.get()
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.departure.take();
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
    }
}
