//! One request, from its head to the last byte of its answer: the task of a stream.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body::Body;
use pin_project_lite::pin_project;
use smallvec::SmallVec;

use crate::http2::{self, Sending};
use crate::proxy;
use crate::proxy::body::ResponseBody;
use crate::upstream::received::{Expects, Received, Streamed};

use super::super::client::Client;
use super::super::streams::{self, unhurried};
use super::super::tunnel::{Tunnel, relay};
use super::super::{date, interim};

/// Begins to serve what a client has asked for.
pub fn begin(
    client: &Rc<Client>,
    (request, mut reply): (Request<RecvStream>, SendResponse<Bytes>),
) {
    let declared = declared(request.headers());
    let (head, body) = request.into_parts();
    let expects = Expects::of(&head.headers).map(Rc::new);
    let (body, connect) = if head.method != Method::CONNECT {
        (Received::Streamed(Streamed::new(body, declared, expects.clone())), None)
    } else if declared.is_none_or(|length| length == 0) {
        // What comes is no body: it belongs to whom the stream gets connected to.
        (Received::Nothing, Some(body))
    } else {
        // RFC 9110 §9.3.6
        return reply.send_reset(Reason::PROTOCOL_ERROR);
    };
    let held = (client.clone(), Request::from_parts(head, body));
    let serving = unhurried(client, held, |(client, request): (_, Request<Received>)| {
        proxy::handle(client, request)
    });
    let step = Step::Serving { serving, connect, left: interim::MOST, expects };
    streams::run(client, Stream { client: client.clone(), reply, step });
}

/// The length of a body that a head declares. The codec holds the body to it, and lets no head through with two of
/// them that differ, or with none that is a number.
fn declared(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pin_project! {
    struct Stream<F> {
        client: Rc<Client>,
        reply: SendResponse<Bytes>,
        #[pin]
        step: Step<F>,
    }
}

pin_project! {
    /// How far it has come.
    #[project = At]
    enum Step<F> {
        /// There is no answer yet.
        Serving {
            #[pin]
            serving: F,
            // Of a CONNECT: what its client sends.
            connect: Option<RecvStream>,
            // Bytes of informational answers that it may still get.
            left: usize,
            // It waits for a 100; until it gets that.
            expects: Option<Rc<Expects>>,
        },
        Sending { sending: Sending<ResponseBody> },
    }
}

impl<F> Future for Stream<F>
where
    F: Future<Output = Result<Response<ResponseBody>, Infallible>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        if let At::Serving { serving, connect, left, expects } = this.step.as_mut().project() {
            let served = serving.poll(cx);
            // Streams of a worker are polled one at a time, so what was said now is this one's.
            let said = this.client.take_said();
            if !said.is_empty() {
                inform(cx, this.reply, said, left);
            }
            let Poll::Ready(Ok(response)) = served else {
                if expects.as_ref().is_some_and(|expects| expects.poll_read(cx).is_ready()) {
                    *expects = None;
                    let mut head = Response::new(());
                    *head.status_mut() = StatusCode::CONTINUE;
                    inform(cx, this.reply, vec![head], left);
                }
                // A client that takes its request back ends whatever is done for it.
                return this.reply.poll_reset(cx).map(drop);
            };
            let Some(sending) = answer(this.client, this.reply, connect.take(), response) else {
                return Poll::Ready(());
            };
            this.step.set(Step::Sending { sending });
        }
        match this.step.project() {
            At::Sending { sending } => sending.poll(cx),
            At::Serving { .. } => Poll::Ready(()),
        }
    }
}

/// Sends informational answers. They need no window, and there is no sign of when they were written, so what one
/// request says in all is bounded.
#[cold]
fn inform(
    cx: &mut Context<'_>,
    reply: &mut SendResponse<Bytes>,
    said: Vec<Response<()>>,
    left: &mut usize,
) {
    // The codec would send them on a stream that was reset, too.
    if reply.poll_reset(cx).is_ready() {
        return;
    }
    for head in said {
        let Some(rest) = left.checked_sub(interim::size(head.headers())) else { return };
        *left = rest;
        if reply.send_informational(head).is_err() {
            return;
        }
    }
}

/// Sends the head of the answer; what is left to be sent, if anything is.
fn answer(
    client: &Rc<Client>,
    reply: &mut SendResponse<Bytes>,
    connect: Option<RecvStream>,
    response: Response<ResponseBody>,
) -> Option<Sending<ResponseBody>> {
    let (mut head, body) = response.into_parts();
    strip(&mut head.headers);
    date::complete(&mut head.headers, &client.worker.clock);
    let ends = body.is_end_stream();
    if let Some(received) = connect
        && head.status.is_success()
    {
        if let Some(tunnel) = client.take_tunnel() {
            connected(client, reply, received, Response::from_parts(head, ()), tunnel);
            return None;
        }
        // An answer of our own: it would say that there is a tunnel.
        reply.send_reset(Reason::INTERNAL_ERROR);
        return None;
    }
    if !ends
        && let Some(length) = body.size_hint().exact()
        && let header::Entry::Vacant(vacant) = head.headers.entry(header::CONTENT_LENGTH)
    {
        vacant.insert(HeaderValue::from(length));
    }
    match reply.send_response(Response::from_parts(head, ()), ends) {
        Ok(stream) => (!ends).then(|| Sending::new(body, stream)),
        Err(error) => {
            tracing::debug!("an answer that cannot be sent: {error}");
            reply.send_reset(Reason::INTERNAL_ERROR);
            None
        }
    }
}

/// Tells the client of a CONNECT that it is connected, and relays from then on.
#[cold]
fn connected(
    client: &Rc<Client>,
    reply: &mut SendResponse<Bytes>,
    received: RecvStream,
    mut head: Response<()>,
    tunnel: Tunnel,
) {
    head.headers_mut().remove(header::CONTENT_LENGTH);
    if let Ok(sender) = reply.send_response(head, false) {
        let stream = http2::Tunnel::new(sender, received);
        let of = client.clone();
        client.worker.spawn(Box::pin(async move {
            relay(&of, stream, Bytes::new(), tunnel).await;
        }));
    }
}

/// Takes out what belongs to a connection of HTTP/1 (RFC 9113 §8.2.2). A route may set such for its clients.
fn strip(headers: &mut HeaderMap) {
    let doomed: SmallVec<[HeaderName; 2]> =
        headers.keys().filter(|name| is_of_connection(name.as_str())).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

fn is_of_connection(name: &str) -> bool {
    matches!(
        name,
        "connection" | "keep-alive" | "proxy-connection" | "te" | "transfer-encoding" | "upgrade"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let fields = fields.iter();
        fields
            .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn nothing_of_a_connection_is_left() {
        let mut headers = map(&[
            ("connection", "close"),
            ("x", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("te", "trailers"),
            ("trailer", "x-sum"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
        ]);
        strip(&mut headers);
        assert_eq!(headers, map(&[("x", "1"), ("trailer", "x-sum")]));
    }

    #[test]
    fn a_length_is_a_number() {
        for (value, length) in [("0", Some(0)), ("17", Some(17)), ("1,1", None), ("", None)] {
            assert_eq!(declared(&map(&[("content-length", value)])), length, "{value}");
        }
        assert_eq!(declared(&HeaderMap::new()), None);
    }
}
