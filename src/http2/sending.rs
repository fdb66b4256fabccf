//! The sending half of a stream with the body that goes over it, as fast as the other side's windows allow.
//!
//! At most one piece of it waits here for room: it is asked for before room is, since room that is reserved for
//! what may never come is taken from the other streams of the connection.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http_body::Body;

/// A body that is being sent.
pub struct Sending<B> {
    body: B,
    stream: SendStream<Bytes>,
    /// Waits for room.
    held: Option<Bytes>,
    /// And is the last of it.
    last: bool,
}

impl<B: Body<Data = Bytes> + Unpin> Sending<B> {
    pub fn new(body: B, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, held: None, last: false }
    }

    /// Ready when the codec has all of it, or nobody takes more.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.held.is_some() {
                let Room::Some = ready!(self.poll_room(cx)) else { return Poll::Ready(()) };
            }
            // It sends what exceeds the window later, but is to be asked for more only then.
            if let Some(data) = self.held.take()
                && (self.stream.send_data(data, self.last).is_err() || self.last)
            {
                return Poll::Ready(());
            }
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                // Whether the other side still wants it is seen here only.
                Poll::Pending => return self.stream.poll_reset(cx).map(drop),
                Poll::Ready(None) => {
                    let _ = self.stream.send_data(Bytes::new(), true);
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Err(_))) => {
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
                Poll::Ready(Some(Ok(frame))) => frame,
            };
            match frame.into_data() {
                Ok(data) => {
                    self.last = self.body.is_end_stream();
                    if !data.is_empty() {
                        // With less it is sent in parts.
                        self.stream.reserve_capacity(1);
                        self.held = Some(data);
                    } else if self.last {
                        // Nothing needs no room.
                        let _ = self.stream.send_data(data, true);
                        return Poll::Ready(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        self.stream.reserve_capacity(0);
                        let _ = self.stream.send_trailers(trailers);
                        return Poll::Ready(());
                    }
                }
            }
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Room> {
        if self.stream.capacity() > 0 {
            return Poll::Ready(Room::Some);
        }
        loop {
            match ready!(self.stream.poll_capacity(cx)) {
                Some(Ok(0)) => {}
                Some(Ok(_)) => return Poll::Ready(Room::Some),
                // It was reset, or its connection is gone.
                Some(Err(_)) | None => return Poll::Ready(Room::Never),
            }
        }
    }
}

enum Room {
    Some,
    Never,
}
