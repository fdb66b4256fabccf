//! A client's connection below the HTTP/2 codec: every byte goes through [`super::frames`], which says when
//! the connection has to end.
//!
//! The codec keeps what it serves to its end and does not give it back, so the stream comes home by itself
//! when the codec is dropped: what ends a connection has a last frame to send.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::telemetry::Flood;
use crate::worker::context::Worker;

use super::frames::{Ended, Frames, Limits};
use super::stream::ClientStream;

/// What the one who serves a connection sees of it.
#[derive(Default)]
pub struct Home {
    /// The connection is to be ended: the codec gets nothing more.
    ended: Cell<Option<Ended>>,
    back: Cell<Option<Back>>,
}

/// What is left when the codec is dropped.
pub struct Back {
    pub stream: ClientStream,
    /// Highest stream that the client opened.
    pub last: u32,
    /// What the codec itself ended the connection for.
    pub flood: Option<Flood>,
}

impl Home {
    pub fn ended(&self) -> Option<Ended> {
        self.ended.get()
    }

    /// Once the codec is dropped.
    pub fn take(&self) -> Option<Back> {
        self.back.take()
    }
}

/// A stream whose frames are counted.
pub struct Multiplexed {
    /// Some until it is dropped.
    stream: Option<ClientStream>,
    frames: Frames,
    worker: Rc<Worker>,
    home: Rc<Home>,
}

impl Multiplexed {
    pub fn new(stream: ClientStream, limits: Limits, worker: Rc<Worker>, home: Rc<Home>) -> Self {
        Self { stream: Some(stream), frames: Frames::new(limits), worker, home }
    }

    fn stream(&mut self) -> io::Result<&mut ClientStream> {
        self.stream.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn sent(&mut self, bytes: &[u8]) {
        let worker = &self.worker;
        if let Err(ended) = self.frames.sent(bytes, || second(worker)) {
            self.home.ended.set(Some(ended));
        }
    }
}

fn second(worker: &Worker) -> u64 {
    worker.now() / 1_000_000
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        let (last, flood) = (self.frames.last_stream(), self.frames.of_codec());
        self.home.back.set(self.stream.take().map(|stream| Back { stream, last, flood }));
    }
}

impl AsyncRead for Multiplexed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.home.ended.get().is_some() {
            // Whoever drives the codec looks after each of its polls.
            return Poll::Pending;
        }
        if self.frames.takes_a_turn() {
            // What was opened is served and answered, and others have their turn, before more is read.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let last = self.frames.last_stream();
        let Poll::Ready(read) = Pin::new(self.stream()?).poll_read(cx, buf) else {
            self.frames.pause();
            return Poll::Pending;
        };
        read?;
        let Self { frames, worker, stream, .. } = &mut *self;
        let result = frames.received(&buf.filled()[before..], || second(worker));
        let (in_head, hasty) = (frames.is_in_head(), frames.is_hasty());
        if let Some(stream) = stream {
            stream.notes.in_head.set(in_head);
            stream.notes.hasty.set(hasty);
        }
        if let Err((mut good, ended)) = result {
            self.home.ended.set(Some(ended));
            if ended.flood.is_some() {
                // Not even what came before it within the same read is worth the work.
                good = 0;
                self.frames.forget_after(last);
            }
            buf.set_filled(before + good);
            if good == 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Multiplexed {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(self.stream()?).poll_write(cx, buf))?;
        self.sent(&buf[..written]);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(self.stream()?).poll_write_vectored(cx, bufs))?;
        let mut left = written;
        for buf in bufs {
            let part = left.min(buf.len());
            self.sent(&buf[..part]);
            left -= part;
            if left == 0 {
                break;
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(ClientStream::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream()?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream()?).poll_shutdown(cx)
    }
}
