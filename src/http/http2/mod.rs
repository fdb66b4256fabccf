//! HTTP/2 from clients (RFC 9113): serving one connection to its end.
//!
//! The `h2` crate speaks the protocol (`codec`), [`crate::listener::frames`] counts its frames below, and the
//! waits of [`super::watch`] are kept beside it. Each request is a task of its own (`stream`), from its head to
//! the last byte of its answer. hyper's server, which does the same between those two, is not used because it keeps
//! informational answers (1xx) from whoever answers.

mod codec;
mod stream;

use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use crate::listener::frames::{self, Ended, Limits};
use crate::listener::multiplexed::{Home, Multiplexed};
use crate::listener::stream::ClientStream;
use crate::telemetry::Flood;

use super::client::Client;
use super::closing::{last_words, pause};
use super::watch::{End, Watch};
use codec::Codec;

/// Serves HTTP/2 until the connection ends.
pub async fn serve(client: Rc<Client>, mut stream: ClientStream) {
    let limit = &client.listener.config.limit;
    stream.closes_itself = true;
    client.multiplexes();
    let home = Rc::new(Home::default());
    let limits = Limits::new(limit.h2_resets_per_second, limit.header_bytes, limit.header_count);
    let stream = Multiplexed::new(stream, limits, client.worker.clone(), home.clone());
    let ended = requests(&client, stream, &home).await;
    let Some(back) = home.take() else { return };
    let stats = &client.listener.stats;
    let Some(ended) = ended else {
        if let Some(kind) = back.flood {
            client.floods(kind);
            pause(&client).await;
        }
        return;
    };
    match ended.flood {
        Some(kind) => client.floods(kind),
        None if ended == Ended::COUNTED => {}
        None => stats.bad_request(None),
    }
    let mut stream = back.stream;
    stream.closes_itself = false;
    // Were the last frame not out, another could not be told from its rest.
    if !client.notes.blocked.get() {
        if ended.is_flood() {
            pause(&client).await;
        }
        last_words(&client, stream, &frames::goaway(back.last, ended.code)).await;
    }
}

/// Serves until the codec is done, or something is to be said in its place.
async fn requests(client: &Rc<Client>, stream: Multiplexed, home: &Home) -> Option<Ended> {
    let mut codec = Codec::new(&client.listener.config.limit, stream);
    let mut watch = Watch::new(client, false);
    let mut ending = false;
    poll_fn(|cx| {
        loop {
            let polled = codec.poll(cx, client);
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
                return Poll::Ready(Some(Ended::COUNTED));
            }
            if !ending && (client.leaves() || client.is_banned()) {
                ending = true;
                codec.leave();
                continue;
            }
            match watch.poll(cx) {
                Poll::Ready(End::Idle) if !ending => {
                    ending = true;
                    codec.leave();
                }
                Poll::Ready(End::HeadTimedOut) => {
                    return Poll::Ready(Some(Ended::flood(Flood::SlowHead)));
                }
                Poll::Ready(End::Stalled) => {
                    client.floods(Flood::SlowReader);
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
fn is_wrong(error: &h2::Error) -> bool {
    let calm = error.reason() == Some(h2::Reason::ENHANCE_YOUR_CALM);
    error.is_library() && error.is_go_away() && !calm
}
