//! The body of a request on its way to a backend: counted against `max_body`, bounded in the
//! waits between two reads, and kept (up to `retry.body_buffer`) while it may be sent again.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use crate::clock::{Clock, Micros};
use crate::limits::pace::Pace;
use crate::worker::timers::{Timer, Timers};

use super::received::Received;
use super::tee::Tee;

/// Why a body could not be read to its end. All of them are the client's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    #[error("the request body is larger than this route allows")]
    TooLarge,
    #[error("the client sent nothing more of its body in time")]
    TimedOut,
    #[error("the client went away or broke the framing of its body")]
    Broken,
}

/// A request body without anything to send, or the sending side of a [`Upload`].
#[derive(Debug, Default)]
pub struct RequestBody {
    upload: Option<Rc<Upload>>,
    /// Bytes of the kept body that were sent on this connection, live or again.
    replayed: usize,
    /// Its trailers, too.
    ended: bool,
    /// Which sending of the upload this is.
    sending: u32,
}

/// What is shared between the body that a connection sends and the exchange that owns it.
pub struct Upload {
    source: RefCell<Source>,
    clock: Clock,
    timers: Rc<Timers>,
    limits: Limits,
    received: Cell<u64>,
    fault: Cell<Option<BodyFault>>,
    ended: Cell<bool>,
    /// How often it was begun to be sent.
    sending: Cell<u32>,
    /// When the last byte (or the end) was taken; the response timeout counts from it.
    progress: Cell<Micros>,
}

struct Source {
    /// Gone where all of it was kept elsewhere before.
    body: Option<Received>,
    timer: Option<Timer>,
    kept: Option<Kept>,
    /// Somebody else wants the same bytes.
    tee: Option<Box<Tee>>,
    /// Of a route whose bodies have a rate.
    pace: Option<Box<Pace>>,
}

/// What was sent so far, while it still fits.
#[derive(Default)]
struct Kept {
    /// Copied: chunks of a byte would each hold on to a whole read buffer.
    bytes: BytesMut,
    trailers: Option<HeaderMap>,
}

/// Bounds of one body.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes; `None` = no limit.
    pub max_body: Option<u64>,
    /// Between two reads.
    pub timeout: Duration,
    /// Bytes kept for a resend; 0 = none.
    pub keep: usize,
    /// Bytes a second; `None` = no limit.
    pub rate: Option<u64>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upload").field("received", &self.received).finish_non_exhaustive()
    }
}

impl Upload {
    pub fn new(body: Received, limits: Limits, clock: Clock, timers: Rc<Timers>) -> Rc<Self> {
        let kept = (limits.keep > 0).then(Kept::default);
        let progress = Cell::new(clock.now());
        Rc::new(Self {
            source: RefCell::new(Source {
                body: Some(body),
                timer: None,
                kept,
                tee: None,
                pace: limits.rate.map(|rate| Box::new(Pace::new(rate))),
            }),
            clock,
            timers,
            limits,
            received: Cell::new(0),
            fault: Cell::new(None),
            ended: Cell::new(false),
            sending: Cell::new(0),
            progress,
        })
    }

    /// A body that is there as a whole.
    pub fn of_bytes(bytes: BytesMut, clock: Clock, timers: Rc<Timers>) -> Rc<Self> {
        let keep = bytes.len();
        let limits = Limits { max_body: None, timeout: Duration::ZERO, keep, rate: None };
        let received = Cell::new(bytes.len() as u64);
        let progress = Cell::new(clock.now());
        let kept = Some(Kept { bytes, trailers: None });
        Rc::new(Self {
            source: RefCell::new(Source { body: None, timer: None, kept, tee: None, pace: None }),
            clock,
            timers,
            limits,
            received,
            fault: Cell::new(None),
            ended: Cell::new(true),
            sending: Cell::new(0),
            progress,
        })
    }

    /// Copies what is received from now on.
    pub fn copy_to(&self, tee: Box<Tee>) {
        self.source.borrow_mut().tee = Some(tee);
    }

    /// The body to send: from its beginning if this is a resend. An earlier one is over then:
    /// the connection it was for may not know yet that it was given up.
    pub fn body(self: &Rc<Self>) -> RequestBody {
        let sending = self.sending.get() + 1;
        self.sending.set(sending);
        RequestBody { upload: Some(self.clone()), replayed: 0, ended: false, sending }
    }

    /// Bytes received from the client so far.
    pub fn received(&self) -> u64 {
        self.received.get()
    }

    pub fn fault(&self) -> Option<BodyFault> {
        self.fault.get()
    }

    /// The whole body was received.
    pub fn ended(&self) -> bool {
        self.ended.get()
    }

    /// When something of it was last taken.
    pub fn progress(&self) -> Micros {
        self.progress.get()
    }

    /// Whether it can be sent again from its beginning.
    pub fn can_resend(&self) -> bool {
        let untouched = self.received.get() == 0 && !self.ended.get();
        self.fault.get().is_none() && (untouched || self.source.borrow().kept.is_some())
    }

    /// Nothing of it will be sent again: stop keeping.
    pub fn forget(&self) {
        self.source.borrow_mut().kept = None;
    }

    fn poll_source(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let mut source = self.source.borrow_mut();
        let source = &mut *source;
        if source.pace.is_some() {
            match self.poll_pace(source, cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(piece)) => {
                    return Poll::Ready(Some(self.take_frame(Frame::data(piece), source)));
                }
                Poll::Ready(None) => {}
            }
        }
        let Some(body) = &mut source.body else { return Poll::Ready(None) };
        match Pin::new(body).poll_frame(cx) {
            Poll::Pending => {
                let timer = source.timer.get_or_insert_with(|| {
                    let timer = self.timers.timer();
                    timer.arm_in(self.clock.now(), self.limits.timeout);
                    timer
                });
                timer.poll_expired(cx).map(|()| Some(Err(self.fail(BodyFault::TimedOut))))
            }
            Poll::Ready(frame) => {
                source.timer = None;
                self.progress.set(self.clock.now());
                match frame {
                    None => {
                        self.end(source);
                        Poll::Ready(None)
                    }
                    Some(Err(_)) => Poll::Ready(Some(Err(self.fail(BodyFault::Broken)))),
                    Some(Ok(frame)) => {
                        let frame = source.paced(frame, &self.clock);
                        Poll::Ready(Some(self.take_frame(frame, source)))
                    }
                }
            }
        }
    }

    /// What its pace lets through of what is here: ready with `None` if the next frame may be asked for.
    fn poll_pace(&self, source: &mut Source, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Source { pace: Some(pace), timer, .. } = source else { return Poll::Ready(None) };
        let now = self.clock.now();
        if let Some(wait) = pace.wait(now) {
            let timer = timer.get_or_insert_with(|| self.timers.timer());
            timer.arm_in(now, wait);
            if timer.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
        }
        // The timer is the read's again.
        *timer = None;
        let piece = pace.piece(now);
        if piece.is_some() {
            self.progress.set(now);
        }
        Poll::Ready(piece)
    }

    fn take_frame(
        &self,
        frame: Frame<Bytes>,
        source: &mut Source,
    ) -> Result<Frame<Bytes>, BodyFault> {
        if let Some(data) = frame.data_ref() {
            let received = self.received.get() + data.len() as u64;
            self.received.set(received);
            if self.limits.max_body.is_some_and(|most| received > most) {
                return Err(self.fail(BodyFault::TooLarge));
            }
            if received > self.limits.keep as u64 {
                source.kept = None;
            } else if let Some(kept) = &mut source.kept {
                kept.bytes.extend_from_slice(data);
            }
            if let Some(tee) = &mut source.tee
                && !tee.take(data)
            {
                source.tee = None;
            }
        } else if let (Some(kept), Some(trailers)) = (&mut source.kept, frame.trailers_ref()) {
            kept.trailers = Some(trailers.clone());
        }
        if source.is_over() {
            self.end(source);
        }
        Ok(frame)
    }

    fn end(&self, source: &mut Source) {
        self.ended.set(true);
        if let Some(tee) = source.tee.take() {
            tee.end();
        }
    }

    fn fail(&self, fault: BodyFault) -> BodyFault {
        self.fault.set(Some(fault));
        fault
    }
}

impl Source {
    /// The first part of a frame that may pass now.
    fn paced(&mut self, frame: Frame<Bytes>, clock: &Clock) -> Frame<Bytes> {
        let Some(pace) = &mut self.pace else { return frame };
        match frame.into_data() {
            Ok(data) => Frame::data(pace.pass(data, clock.now())),
            Err(trailers) => trailers,
        }
    }

    /// Bytes that came and wait for their time.
    fn waiting(&self) -> usize {
        self.pace.as_ref().map_or(0, |pace| pace.left())
    }

    /// Nothing more comes, and nothing is here.
    fn is_over(&self) -> bool {
        self.waiting() == 0 && self.body.as_ref().is_none_or(Body::is_end_stream)
    }
}

impl RequestBody {
    pub fn empty() -> Self {
        Self::default()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyFault;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyFault>>> {
        let this = &mut *self;
        let Some(upload) = &this.upload else { return Poll::Ready(None) };
        if upload.sending.get() != this.sending {
            return Poll::Ready(Some(Err(BodyFault::Broken)));
        }
        if let Some(fault) = upload.fault.get() {
            return Poll::Ready(Some(Err(fault)));
        }
        {
            let source = upload.source.borrow();
            if let Some(kept) = &source.kept {
                if this.replayed < kept.bytes.len() {
                    let again = Bytes::copy_from_slice(&kept.bytes[this.replayed..]);
                    this.replayed += again.len();
                    return Poll::Ready(Some(Ok(Frame::data(again))));
                }
                if upload.ended.get() && !std::mem::replace(&mut this.ended, true) {
                    return Poll::Ready(kept.trailers.clone().map(|t| Ok(Frame::trailers(t))));
                }
            }
        }
        if upload.ended.get() {
            return Poll::Ready(None);
        }
        let frame = upload.poll_source(cx);
        // What comes from the client now was kept just before, and is not to be sent twice.
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            match frame.data_ref() {
                Some(data) => this.replayed += data.len(),
                None => this.ended = true,
            }
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.upload {
            None => true,
            Some(upload) => {
                let source = upload.source.borrow();
                let left = source.kept.as_ref().is_some_and(|kept| {
                    self.replayed < kept.bytes.len() || (kept.trailers.is_some() && !self.ended)
                });
                !left && (upload.ended.get() || source.is_over())
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.upload {
            None => SizeHint::with_exact(0),
            Some(upload) => {
                let source = upload.source.borrow();
                let left = source.kept.as_ref().map_or(0, |kept| kept.bytes.len() - self.replayed);
                let left = (left + source.waiting()) as u64;
                let mut hint = SizeHint::new();
                let rest = source.body.as_ref();
                let rest = rest.map_or_else(|| SizeHint::with_exact(0), Body::size_hint);
                if let Some(upper) = rest.upper() {
                    hint.set_upper(upper + left);
                }
                hint.set_lower(rest.lower() + left);
                hint
            }
        }
    }
}
