//! The body of an answer on its way to the client. Whatever is held for the exchange is held by
//! it, so that it is given back at the last byte, or when the client goes away.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::http::streams::Turn;
use crate::limits::pace::Pace;
use crate::telemetry::Failure;
use crate::upstream::conn::{AnswerBody, Lost};

use super::exchange::Exchange;

/// An answer's body.
pub enum ResponseBody {
    /// One of our own, at once. Empty once it was taken.
    Own(Bytes),
    /// A backend's, as it comes.
    Relay(Relay),
}

pub struct Relay {
    body: AnswerBody,
    /// Gone once the body has ended.
    exchange: Option<Box<Exchange>>,
    read_timeout: Duration,
    /// The timer runs: a read is waited for.
    waiting: bool,
    /// It broke off; what came before is on its way.
    lost: Option<Lost>,
    /// Of a route whose bodies have a rate.
    pace: Option<Box<Pace>>,
}

/// The answer cannot be completed; the client's connection is cut so that it can tell.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    #[error("the backend broke off its answer")]
    Broken,
    #[error("the backend's answer is not HTTP from here on")]
    NotHttp,
    #[error("the backend sent nothing more in time")]
    TimedOut,
    #[error("the route's time for the whole exchange is over")]
    Overdue,
}

impl Relay {
    pub fn new(body: AnswerBody, exchange: Box<Exchange>, read_timeout: Duration) -> Self {
        let rate = exchange.route().and_then(|route| route.config.rate_bytes);
        let pace = rate.map(|rate| Box::new(Pace::new(rate)));
        let exchange = Some(exchange);
        let mut relay = Self { body, exchange, read_timeout, waiting: false, lost: None, pace };
        if relay.body.is_end_stream() {
            relay.end();
        } else if let Some(exchange) = &relay.exchange {
            exchange.timer.disarm();
        }
        relay
    }

    fn turn(&self, turn: Turn) {
        if let Some(exchange) = &self.exchange {
            exchange.client.turn.set(Some(turn));
        }
    }

    fn end(&mut self) {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.complete();
        }
    }

    fn fail(&mut self, error: RelayError) -> RelayError {
        if let Some(mut exchange) = self.exchange.take() {
            exchange.broken(match error {
                RelayError::NotHttp => Failure::Protocol,
                RelayError::Broken => Failure::Reset,
                RelayError::TimedOut | RelayError::Overdue => Failure::Timeout,
            });
        }
        error
    }

    /// What its pace lets through of what is here: ready with `None` if the next frame may be asked for.
    fn poll_pace(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let (Some(pace), Some(exchange)) = (&mut self.pace, &mut self.exchange) else {
            return Poll::Ready(None);
        };
        let now = exchange.client.worker.now();
        if let Some(wait) = pace.wait(now) {
            // The timer is the read's again with the next one.
            self.waiting = false;
            // It is not the client that is waited for.
            exchange.client.turn.set(Some(Turn::Backend));
            exchange.arm(now, wait);
            if exchange.timer.poll_expired(cx).is_pending() {
                return Poll::Pending;
            }
        }
        let Some(piece) = pace.piece(now) else { return Poll::Ready(None) };
        exchange.sent(piece.len());
        exchange.client.turn.set(Some(Turn::Client));
        let is_last = pace.left() == 0 && self.body.is_end_stream();
        if is_last {
            self.end();
        }
        Poll::Ready(Some(piece))
    }

    /// Bytes that came and wait for their time.
    fn paced(&self) -> usize {
        self.pace.as_ref().map_or(0, |pace| pace.left())
    }

    fn poll_wait(&mut self, cx: &mut Context<'_>) -> Poll<RelayError> {
        let Some(exchange) = &self.exchange else { return Poll::Pending };
        if !self.waiting {
            self.waiting = true;
            exchange.arm(exchange.client.worker.now(), self.read_timeout);
        }
        exchange.timer.poll_expired(cx).map(|()| match exchange.overdue() {
            true => RelayError::Overdue,
            false => RelayError::TimedOut,
        })
    }
}

impl From<Lost> for RelayError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::NotHttp(_) => Self::NotHttp,
            Lost::Broken => Self::Broken,
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = RelayError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RelayError>>> {
        let relay = match &mut *self {
            Self::Own(bytes) if bytes.is_empty() => return Poll::Ready(None),
            Self::Own(bytes) => return Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Relay(relay) => relay,
        };
        // A backend that always has more, and a client that takes it slowly, never wait below.
        if relay.exchange.as_ref().is_some_and(|exchange| exchange.overdue()) {
            return Poll::Ready(Some(Err(relay.fail(RelayError::Overdue))));
        }
        if relay.pace.is_some() {
            match relay.poll_pace(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(piece)) => return Poll::Ready(Some(Ok(Frame::data(piece)))),
                Poll::Ready(None) => {}
            }
        }
        if let Some(lost) = relay.lost {
            return Poll::Ready(Some(Err(relay.fail(lost.into()))));
        }
        match Pin::new(&mut relay.body).poll_frame(cx) {
            Poll::Pending => {
                relay.turn(Turn::Backend);
                relay.poll_wait(cx).map(|error| Some(Err(relay.fail(error))))
            }
            Poll::Ready(Some(Ok(mut frame))) => {
                relay.waiting = false;
                relay.turn(Turn::Client);
                if let (Some(pace), Some(exchange)) = (&mut relay.pace, &relay.exchange) {
                    let now = exchange.client.worker.now();
                    frame = match frame.into_data() {
                        Ok(data) => Frame::data(pace.pass(data, now)),
                        Err(trailers) => trailers,
                    };
                }
                if let (Some(data), Some(exchange)) = (frame.data_ref(), &mut relay.exchange) {
                    exchange.sent(data.len());
                }
                // A codec does not ask for anything after trailers.
                if frame.is_trailers() || relay.paced() == 0 && relay.body.is_end_stream() {
                    relay.end();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            // An error throws away what the codec has not written yet: it gets the turn for that first.
            Poll::Ready(Some(Err(lost))) => {
                relay.lost = Some(lost);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(None) => {
                relay.end();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(bytes) => bytes.is_empty(),
            Self::Relay(relay) => relay.paced() == 0 && relay.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Relay(relay) => match relay.paced() as u64 {
                0 => relay.body.size_hint(),
                paced => more(relay.body.size_hint(), paced),
            },
        }
    }
}

fn more(hint: SizeHint, by: u64) -> SizeHint {
    let mut more = SizeHint::new();
    if let Some(upper) = hint.upper() {
        more.set_upper(upper + by);
    }
    more.set_lower(hint.lower() + by);
    more
}
