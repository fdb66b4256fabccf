//! The `h2` crate's side of a connection: what it is set to, and the requests that come out of it.

use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::{Builder, Connection, Handshake};

use crate::config::types::ListenerLimit;
use crate::listener::multiplexed::Multiplexed;

use super::super::client::Client;
use super::stream;

/// What a client may send ahead, by stream and by connection: bounds memory, and speed over distance.
const WINDOW: u32 = 1 << 20;
/// The smallest that RFC 9113 §4.2 allows; nothing below it counts on more.
const FRAME: u32 = 16 * 1024;
/// Of one stream's answer that may wait to be written, for a client that grants more than this.
const SEND_BUFFER: usize = 400 * 1024;
/// Streams of one connection, in all, that may be reset for what its client did wrong. Its rate is
/// [`crate::listener::frames`]'.
const LOCAL_RESETS: usize = 1024;

/// The codec of one connection.
pub struct Codec {
    state: State,
    /// Asked to end while the preface was still to come.
    leaving: bool,
}

// One of a connection, in a task that is boxed.
#[allow(clippy::large_enum_variant)]
enum State {
    /// The preface is to come.
    Opening(Handshake<Multiplexed, Bytes>),
    Open(Connection<Multiplexed, Bytes>),
}

impl Codec {
    pub fn new(limit: &ListenerLimit, stream: Multiplexed) -> Self {
        let mut builder = Builder::new();
        builder
            .initial_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .max_frame_size(FRAME)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(limit.header_bytes as u32)
            .max_concurrent_streams(limit.h2_streams)
            .max_local_error_reset_streams(Some(LOCAL_RESETS))
            // What is reset within one read is counted like everything else.
            .max_pending_accept_reset_streams(limit.h2_resets_per_second as usize)
            // For WebSocket (RFC 8441).
            .enable_connect_protocol();
        Self { state: State::Opening(builder.handshake(stream)), leaving: false }
    }

    /// Reads, writes and begins requests until the connection ends, or is to be ended.
    pub fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &Rc<Client>,
    ) -> Poll<Result<(), h2::Error>> {
        loop {
            match &mut self.state {
                State::Opening(opening) => {
                    let mut connection = ready!(Pin::new(opening).poll(cx))?;
                    if self.leaving {
                        connection.graceful_shutdown();
                    }
                    self.state = State::Open(connection);
                }
                // A future that holds nothing: made anew, it goes on where it was.
                State::Open(connection) => match ready!(pin!(connection.accept()).poll(cx)) {
                    Some(request) => stream::begin(client, request?),
                    None => return Poll::Ready(Ok(())),
                },
            }
        }
    }

    /// Tells the client to open no more streams; those that there are go on (GOAWAY, RFC 9113 §6.8).
    pub fn leave(&mut self) {
        match &mut self.state {
            State::Opening(_) => self.leaving = true,
            State::Open(connection) => connection.graceful_shutdown(),
        }
    }
}
