//! The sending side of a request's stream: an answer, written as the client takes it.

use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use quinn::{SendStream, VarInt};

use crate::telemetry::Flood;
use crate::worker::timers::Timer;

use super::code;
use super::connection::Connection;
use super::frame::{self, put_number};
use super::qpack;

/// The stream of an answer. Dropped before [`Answer::finish`], it is reset: a client must not take a part
/// for the whole.
pub struct Answer {
    stream: SendStream,
    connection: Rc<Connection>,
    timer: Timer,
    finished: bool,
}

/// The client does not take any more of it.
#[derive(Debug)]
pub enum Gone {
    /// It said so, or is gone itself.
    Stopped,
    /// It read nothing for too long.
    Stalled,
}

impl Answer {
    pub fn new(stream: SendStream, connection: Rc<Connection>) -> Self {
        let timer = connection.client.worker.timers.timer();
        Self { stream, connection, timer, finished: false }
    }

    /// Whether the client takes so long a section of fields (SETTINGS_MAX_FIELD_SECTION_SIZE, RFC 9114 §4.2.2).
    /// That of a head has the status as well.
    pub fn takes(&self, fields: &HeaderMap) -> bool {
        let longest = self.connection.longest.get();
        longest == u64::MAX || section_size(fields) <= longest
    }

    /// Resolves when the client wants no more of it, or has received all of it.
    pub fn stopped(&self) -> impl Future<Output = ()> + use<> {
        let stopped = self.stream.stopped();
        async move {
            let _ = stopped.await;
        }
    }

    /// The head of the answer, or of an interim one.
    pub async fn head(&mut self, status: StatusCode, headers: &HeaderMap) -> Result<(), Gone> {
        let mut section = BytesMut::new();
        qpack::answer(status, headers, &mut section);
        self.frame(frame::HEADERS, section.freeze()).await
    }

    pub async fn data(&mut self, data: Bytes) -> Result<(), Gone> {
        // A frame of nothing would say nothing.
        if data.is_empty() { Ok(()) } else { self.frame(frame::DATA, data).await }
    }

    pub async fn trailers(&mut self, fields: &HeaderMap) -> Result<(), Gone> {
        let mut section = BytesMut::new();
        qpack::trailers(fields, &mut section);
        self.frame(frame::HEADERS, section.freeze()).await
    }

    /// That was all of it. Waits until the client has it, as closing the connection would take the rest back.
    pub async fn finish(mut self) {
        self.finished = true;
        if self.stream.finish().is_ok() {
            let stopped = self.stopped();
            let limit = self.connection.client.listener.config.timeout.write;
            let late = self
                .timer
                .within(self.connection.client.worker.now(), limit, stopped)
                .await
                .is_none();
            if late {
                self.connection.client.floods(Flood::StalledStream);
                let _ = self.stream.reset(code::REQUEST_CANCELLED);
            }
        }
    }

    /// There will be no more of it.
    pub fn reset(mut self, why: VarInt) {
        self.finished = true;
        let _ = self.stream.reset(why);
    }

    async fn frame(&mut self, kind: u64, payload: Bytes) -> Result<(), Gone> {
        let mut header = BytesMut::with_capacity(9);
        put_number(kind, &mut header);
        put_number(payload.len() as u64, &mut header);
        let mut parts = [header.freeze(), payload];
        let mut left = &mut parts[..];
        while !left.is_empty() {
            let now = self.connection.client.worker.now();
            let limit = self.connection.client.listener.config.timeout.write;
            let write = self.stream.write_chunks(left);
            let written = self.timer.within(now, limit, write).await.ok_or(Gone::Stalled)?;
            let written = written.map_err(|_| Gone::Stopped)?;
            left = &mut left[written.chunks..];
        }
        Ok(())
    }
}

/// With a status.
fn section_size(fields: &HeaderMap) -> u64 {
    const EACH: usize = 32;
    let sizes = fields.iter().map(|(name, value)| name.as_str().len() + value.len() + EACH);
    (":status".len() + "200".len() + EACH + sizes.sum::<usize>()) as u64
}

impl Drop for Answer {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.stream.reset(code::INTERNAL);
        }
    }
}
