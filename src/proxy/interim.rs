//! What a backend says before its answer (1xx, RFC 9110 §15.2), on its way to the client.
//!
//! It is passed on as it comes: from a try that fails later, too, since hints are not the answer (RFC 8297 §2), but never from
//! tries that race with each other.

use std::future::poll_fn;
use std::task::Poll;

use http::{Response, header};

use crate::http::{headers, interim};
use crate::upstream::conn::Conn;

use super::attempt::Try;

/// Turns that are waited for what came together with the answer to be written before it.
const TURNS: u8 = 3;

/// Passes on what came since this was last asked; false: nothing did.
#[inline]
pub fn pass_on(with: &Try<'_>, conn: &Conn) -> bool {
    let heads = conn.take_interim();
    !heads.is_empty() && inform(with, heads)
}

#[cold]
fn inform(with: &Try<'_>, heads: Vec<Response<()>>) -> bool {
    let Some(exchange) = with.informs else { return false };
    let client = &exchange.client;
    for mut head in heads.into_iter().filter(|head| interim::is_passed_on(head.status())) {
        let (status, fields) = (head.status(), head.headers_mut());
        headers::receive_response(fields, status);
        // It has no body, whatever it says.
        fields.remove(header::CONTENT_LENGTH);
        if client.listener.config.http3 {
            // As with the answer: what a backend offers is not at our address.
            fields.remove(header::ALT_SVC);
        }
        client.inform(head);
    }
    true
}

/// Waits a moment until it is written. A client that does not read has no use for it.
pub async fn written(with: &Try<'_>) {
    let Some(exchange) = with.informs else { return };
    let mut turns = TURNS;
    poll_fn(|cx| {
        if !exchange.client.has_interim() || turns == 0 {
            return Poll::Ready(());
        }
        turns -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
