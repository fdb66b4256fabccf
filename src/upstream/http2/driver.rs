//! The task that runs a connection: everything that is read and written passes through it.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Builder, Connection, SendRequest};

use crate::clock::Clock;
use crate::upstream::io::{UpstreamIo, Wire};
use crate::upstream::socket::Socket;
use crate::upstream::stall;
use crate::worker::timers::Timers;

use super::extended::Extended;
use super::pings::Pings;
use super::{STREAMS, Shared};

/// What a backend may send ahead, by stream and by connection: bounds memory, and speed over distance.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// The smallest that RFC 9113 §4.2 allows.
const FRAME: u32 = 16 * 1024;
/// Heads of answers.
const HEAD_BYTES: u32 = 64 * 1024;
/// Of one stream's request that may wait to be written, for a backend that grants more than this.
const SEND_BUFFER: usize = 1 << 20;

/// The connection, and what is to be known of it.
struct Driver {
    connection: Connection<UpstreamIo, Bytes>,
    pings: Pings,
    shared: Rc<Shared>,
}

/// Sends the preface, and begins to run the connection.
///
/// # Errors
/// It broke meanwhile.
pub(super) async fn begin(
    socket: Socket,
    write_timeout: Duration,
    timers: &Rc<Timers>,
    clock: Clock,
) -> io::Result<Rc<Shared>> {
    let wire = Rc::new(Wire::default());
    let io = UpstreamIo { socket, wire: wire.clone() };
    let handshake = Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME)
        .max_header_list_size(HEAD_BYTES)
        .max_send_buffer_size(SEND_BUFFER)
        .initial_max_send_streams(STREAMS)
        .enable_push(false)
        .handshake(io);
    let (sender, mut connection) = handshake.await.map_err(io::Error::other)?;
    let pong = connection.ping_pong().ok_or(io::ErrorKind::Unsupported)?;
    let pings = Pings::new(pong, timers.timer(), clock.clone());
    let shared = Rc::new(Shared {
        sender: RefCell::new(Some(sender)),
        wire: wire.clone(),
        write_timed_out: Cell::new(false),
        streams: Cell::new(0),
        extended: Extended::default(),
    });
    let mut driver = Driver { connection, pings, shared: shared.clone() };
    let timers = timers.clone();
    tokio::task::spawn_local(async move {
        let now = move || clock.now();
        let ended = stall::within(&mut driver, &wire, timers, write_timeout, now).await;
        // Before those who wait for an answer hear that there will be none.
        driver.shared.write_timed_out.set(ended.is_none());
    });
    Ok(shared)
}

impl Future for Driver {
    type Output = ();

    /// Ready when the connection is over. What is wrong with it, its streams are told.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        let shared = &this.shared;
        let in_use = shared.streams.get() > 0;
        let overdue = this.pings.poll(cx, in_use).is_ready();
        if let Poll::Ready(ended) = Pin::new(&mut this.connection).poll(cx) {
            if let Err(error) = ended {
                tracing::debug!("a backend's connection over HTTP/2 ended: {error}");
            }
            return Poll::Ready(());
        }
        // Unless the answer came meanwhile: it may be this process that stood still.
        if overdue && this.pings.poll(cx, in_use).is_ready() {
            tracing::debug!("a backend's connection over HTTP/2 is dead: a ping was not answered");
            return Poll::Ready(());
        }
        this.pings.heard(shared.wire.reads());
        let allows = |sender: &SendRequest<_>| sender.is_extended_connect_protocol_enabled();
        if !shared.extended.is_settled() && shared.sender.borrow().as_ref().is_some_and(allows) {
            shared.extended.allow();
        }
        Poll::Pending
    }
}
