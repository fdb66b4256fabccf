//! Parking: an idle HTTP/1 connection without its codec.
//!
//! A codec with its buffers takes some 20 KiB. A connection that was idle for a second gives it
//! back and keeps its socket (over TLS: its session too) and its few facts; when a byte
//! arrives the codec is built again around them. Connections that are in use never pay for it.

use std::future::poll_fn;
use std::task::Poll;

use crate::listener::stream::ClientStream;

use super::client::Client;
use super::watch::LAST_CALL;

/// Waits until there is something to read (a fresh socket is said to have something before anybody
/// looked); false: the connection has been idle for too long.
pub async fn wait(client: &Client, stream: &ClientStream) -> bool {
    let _parked = (client.listener.stats.park(), client.worker.slack.park());
    client.timer.arm(client.idle_until(client.begun(), client.worker.now()));
    let (mut scarce, mut last_call) = (client.is_scarce(), false);
    poll_fn(|cx| {
        if stream.poll_readable(cx).is_ready() {
            return Poll::Ready(true);
        }
        if client.is_scarce() && !std::mem::replace(&mut scarce, true) {
            client.timer.arm(client.idle_until(client.begun(), client.worker.now()));
        }
        if client.leaves() && !std::mem::replace(&mut last_call, true) {
            client.timer.arm_in(client.worker.now(), LAST_CALL);
        }
        client.timer.poll_expired(cx).map(|()| false)
    })
    .await
}
