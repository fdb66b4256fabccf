//! Serving one client's HTTP/2 connection: hyper's codec above, the counting of frames below it
//! ([`crate::listener::frames`]), the waits of [`super::watch`] beside it.

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;

use crate::listener::frames::{self, Ended, Limits};
use crate::listener::multiplexed::{Home, Multiplexed};
use crate::listener::stream::ClientStream;
use crate::proxy;
use crate::telemetry::Flood;

use super::serve::{Client, last_words};
use super::streams::{Streams, unhurried};
use super::watch::{End, Watch};

/// Serves HTTP/2 until the connection ends.
pub async fn http2(client: Rc<Client>, mut stream: ClientStream) {
    let limit = &client.listener.config.limit;
    stream.closes_itself = true;
    client.multiplexed.set(true);
    let home = Rc::new(Home::default());
    let limits = Limits::new(limit.h2_resets_per_second, limit.header_bytes);
    let stream = Multiplexed::new(stream, limits, client.worker.clone(), home.clone());
    let ended = requests(&client, stream, &home).await;
    let Some(back) = home.take() else { return };
    let stats = &client.listener.stats;
    let Some(ended) = ended else {
        if let Some(kind) = back.flood {
            stats.flood(kind);
        }
        return;
    };
    match ended.flood {
        Some(kind) => stats.flood(kind),
        None if ended == Ended::BANNED => {}
        None => stats.bad_request(None),
    }
    let mut stream = back.stream;
    stream.closes_itself = false;
    // Were the last frame not out, another could not be told from its rest.
    if !client.notes.blocked.get() {
        last_words(&client, stream, &frames::goaway(back.last, ended.code)).await;
    }
}

/// Serves until the codec is done, or something is to be said in its place.
async fn requests(client: &Rc<Client>, stream: Multiplexed, home: &Home) -> Option<Ended> {
    let limit = &client.listener.config.limit;
    let mut builder = http2::Builder::new(Streams::of(client));
    builder
        .max_concurrent_streams(limit.h2_streams)
        // For WebSocket (RFC 8441).
        .enable_connect_protocol()
        .max_header_list_size(limit.header_bytes as u32)
        // What is reset within one read is counted like everything else.
        .max_pending_accept_reset_streams(limit.h2_resets_per_second as usize);
    let service = service_fn(|request| {
        let held = (client.clone(), request);
        unhurried(client, held, |(client, request): (_, Request<Incoming>)| {
            proxy::handle(client, request)
        })
    });
    let mut codec = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut watch = Watch::new(client, false);
    let mut ending = false;
    poll_fn(|cx| {
        loop {
            let polled = codec.as_mut().poll(cx);
            if home.ended().is_some() {
                return Poll::Ready(home.ended());
            }
            if let Poll::Ready(end) = polled {
                if end.is_err_and(|error| is_wrong(&error)) {
                    client.listener.stats.bad_request(None);
                }
                return Poll::Ready(None);
            }
            if client.is_banned() && !client.is_active() {
                // It was told so, and what it had asked for before that is answered.
                return Poll::Ready(Some(Ended::BANNED));
            }
            if !ending && (client.leaves() || client.is_banned()) {
                ending = true;
                codec.as_mut().graceful_shutdown();
                continue;
            }
            match watch.poll(cx) {
                Poll::Ready(End::Idle) if !ending => {
                    ending = true;
                    codec.as_mut().graceful_shutdown();
                }
                Poll::Ready(End::HeadTimedOut) => {
                    return Poll::Ready(Some(Ended::flood(Flood::SlowHead)));
                }
                Poll::Ready(End::Stalled) => {
                    client.listener.stats.flood(Flood::SlowReader);
                    return Poll::Ready(None);
                }
                Poll::Ready(_) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

/// The codec found that the client broke a rule, rather than that it did too much.
fn is_wrong(error: &hyper::Error) -> bool {
    let inner = std::error::Error::source(error).and_then(|e| e.downcast_ref::<h2::Error>());
    inner.is_some_and(|inner| {
        let calm = inner.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
        inner.is_library() && inner.is_go_away() && !calm
    })
}
