//! One HTTP/3 connection: its streams are handed out, its idle time is kept, and in the end the client is
//! told which of its requests were taken (GOAWAY, RFC 9114 §5.2).

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use quinn::{RecvStream, SendStream, VarInt};
use tokio::sync::Notify;

use crate::clock::Micros;
use crate::http::client::Client;
use crate::listener::closing::Closing;
use crate::telemetry::Flood;
use crate::worker::timers::Timer;

use super::control::{self, Seen};
use super::frame::{self, put_number};
use super::{code, request};

/// Larger than the id of any request: "there will be an end, go on until then".
const LAST_ID: u64 = (1 << 62) - 4;
/// A request that was sent before the client knew of the end has this long, and three round trips.
const GRACE: Duration = Duration::from_millis(100);
/// How often a connection's task steps aside at its end, so that what it said last gets written.
const TURNS: usize = 4;

/// What the streams of a connection share.
pub struct Connection {
    pub client: Rc<Client>,
    quic: quinn::Connection,
    /// Streams of requests that are not over.
    running: Cell<u32>,
    /// One of them is over, or it is too much.
    ended: Notify,
    /// Streams that the client reset in the current second, and streams that it made us reset.
    resets: Cell<(u64, u32)>,
    forced: Cell<(u64, u32)>,
    flood: Cell<Option<Flood>>,
    pub(super) seen: Seen,
    /// The longest section of fields that the client takes, as RFC 9114 §4.2.2 counts it.
    pub(super) longest: Cell<u64>,
}

/// A request's stream, until it is over.
struct Running(Rc<Connection>);

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Open,
    /// The client was told; what it sent before it knew is still taken.
    Leaving,
    /// What is running is the last of it.
    Last,
}

enum Event {
    Request(SendStream, RecvStream),
    Stream(RecvStream),
    Ended,
    Timer,
    Closing,
    Lost,
}

impl Connection {
    /// Closes it for something that the client must not do.
    pub(super) fn close(&self, why: VarInt) {
        self.quic.close(why, b"");
    }

    /// The client reset a stream ([`Flood::RapidReset`]), or made us: `h2_resets_per_second` of each are borne.
    pub(super) fn note(&self, kind: Flood) {
        let counts = if kind == Flood::RapidReset { &self.resets } else { &self.forced };
        let second = self.client.worker.now() / 1_000_000;
        let (then, before) = counts.get();
        let count = if then == second { before + 1 } else { 1 };
        counts.set((second, count));
        if count > self.client.listener.config.limit.h2_resets_per_second {
            self.flooded(kind);
        }
    }

    /// The connection is ended for that.
    pub(super) fn flooded(&self, kind: Flood) {
        self.flood.set(Some(kind));
        self.ended.notify_one();
    }
}

impl Running {
    fn new(connection: &Rc<Connection>) -> Self {
        connection.running.set(connection.running.get() + 1);
        Self(connection.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.ended.notify_one();
    }
}

/// Serves a connection until it ends, or is idle for too long, or `closing` asks for its end and its
/// requests are answered.
pub async fn serve(client: Rc<Client>, quic: quinn::Connection, closing: Rc<Closing>) {
    client.multiplexes();
    let connection = Rc::new(Connection {
        client,
        quic,
        running: Cell::new(0),
        ended: Notify::new(),
        resets: Cell::default(),
        forced: Cell::default(),
        flood: Cell::new(None),
        seen: Seen::default(),
        longest: Cell::new(u64::MAX),
    });
    Serving::new(connection.clone()).run(&closing).await;
    // What is said last is written by a task of its own.
    for _ in 0..TURNS {
        tokio::task::yield_now().await;
    }
}

struct Serving {
    connection: Rc<Connection>,
    timer: Timer,
    stage: Stage,
    /// Kept open: its end would be the connection's (RFC 9114 §6.2.1).
    control: Option<SendStream>,
    /// The id after that of the last request that was taken.
    next_id: u64,
    /// Idle since that many requests, for the timer.
    armed: Option<(Stage, u64)>,
}

impl Serving {
    fn new(connection: Rc<Connection>) -> Self {
        let timer = connection.client.worker.timers.timer();
        Self { connection, timer, stage: Stage::Open, control: None, next_id: 0, armed: None }
    }

    async fn run(mut self, closing: &Closing) {
        let connection = self.connection.clone();
        let Connection { client, quic, .. } = &*connection;
        let limit = client.listener.config.timeout.handshake;
        let opened = self.timer.within(client.worker.now(), limit, quic.open_uni()).await;
        let Some(Ok(mut control)) = opened else { return connection.close(code::INTERNAL) };
        say(&mut control, &control::settings(client.listener.config.limit.header_bytes));
        self.control = Some(control);
        loop {
            if let Some(kind) = connection.flood.take() {
                client.floods(kind);
                return connection.close(code::EXCESSIVE_LOAD);
            }
            if client.is_banned() && self.stage != Stage::Last {
                // What it had asked for before is answered.
                self.enter(Stage::Last);
            }
            if self.stage == Stage::Last && connection.running.get() == 0 {
                let why = if client.is_banned() { code::EXCESSIVE_LOAD } else { code::NO_ERROR };
                return connection.close(why);
            }
            self.arm();
            let asked = self.stage == Stage::Open;
            let event = tokio::select! {
                biased;
                stream = quic.accept_bi() => match stream {
                    Ok((send, recv)) => Event::Request(send, recv),
                    Err(_) => Event::Lost,
                },
                stream = quic.accept_uni() => stream.map_or(Event::Lost, Event::Stream),
                () = connection.ended.notified() => Event::Ended,
                () = self.timer.expired() => Event::Timer,
                () = closing.asked(), if asked => Event::Closing,
            };
            match event {
                Event::Request(send, recv) => self.take(send, recv),
                Event::Stream(stream) => {
                    let connection = connection.clone();
                    let task = async move { control::read(&connection, stream).await };
                    client.worker.spawn(Box::pin(task));
                }
                Event::Ended => {}
                // Idle for too long, or the time that it was given is over.
                Event::Timer | Event::Closing => self.advance(),
                Event::Lost => return,
            }
        }
    }

    /// Takes a request, or rejects it so that the client sends it elsewhere.
    fn take(&mut self, mut send: SendStream, mut recv: RecvStream) {
        if self.stage == Stage::Last || self.connection.client.is_banned() {
            let _ = recv.stop(code::REQUEST_REJECTED);
            let _ = send.reset(code::REQUEST_REJECTED);
            return;
        }
        self.next_id = self.next_id.max(VarInt::from(send.id()).into_inner() + 4);
        let running = Running::new(&self.connection);
        let connection = self.connection.clone();
        // Boxed at once: on its way into a task a future is copied several times.
        let task = Box::pin(async move {
            request::serve(connection, (send, recv)).await;
            drop(running);
        });
        self.connection.client.worker.spawn(task);
    }

    fn advance(&mut self) {
        self.enter(match self.stage {
            Stage::Open => Stage::Leaving,
            Stage::Leaving | Stage::Last => Stage::Last,
        });
    }

    /// Tells the client which of its requests are taken from now on.
    fn enter(&mut self, stage: Stage) {
        let id = if stage == Stage::Last { self.next_id } else { LAST_ID };
        self.stage = stage;
        let mut goaway = BytesMut::new();
        let mut payload = BytesMut::new();
        put_number(id, &mut payload);
        put_number(frame::GOAWAY, &mut goaway);
        put_number(payload.len() as u64, &mut goaway);
        goaway.extend_from_slice(&payload);
        if let Some(control) = &mut self.control {
            say(control, &goaway);
        }
    }

    /// Sets the timer for what is waited for now.
    fn arm(&mut self) {
        let client = &self.connection.client;
        let idle = self.connection.running.get() == 0;
        let wanted = match self.stage {
            Stage::Open if idle => Some((self.stage, client.begun())),
            Stage::Leaving => Some((self.stage, 0)),
            Stage::Open | Stage::Last => None,
        };
        if wanted == self.armed {
            return;
        }
        self.armed = wanted;
        let now = client.worker.now();
        match wanted {
            None => self.timer.disarm(),
            Some((Stage::Leaving, _)) => {
                self.timer.arm_in(now, GRACE + self.connection.quic.rtt() * 3);
            }
            Some(_) => {
                let wait = client.keep_alive().as_micros() as Micros;
                self.timer.arm(now.saturating_add(wait));
            }
        }
    }
}

/// Writes a few bytes to the control stream. A client that leaves no room for them is none that listens.
fn say(control: &mut SendStream, bytes: &[u8]) {
    let _ = control.write_all(bytes).now_or_never();
}
