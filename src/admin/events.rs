//! `GET /v1/events`: what happens, as it happens, as server-sent events (WHATWG HTML section 9.2).
//!
//! The channel behind it is bounded. A client that reads too slowly loses the oldest events
//! and is told how many by an event `lagged`; one that reads nothing is cut off by the socket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream, StreamExt};
use http::StatusCode;
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::problem::Problem;
use super::router::App;
use super::view;

/// A comment is sent when nothing happened for this long, so that both ends notice a dead connection.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub async fn events(
    State(app): State<App>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Problem> {
    let permit = app.streams.clone().try_acquire_owned().map_err(|_| {
        let detail = "there are as many event streams as there may be; close one";
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    })?;
    let mut stopping = app.stopping.clone();
    let stopped = async move {
        // An error means that the server is gone, which is the same.
        let _ = stopping.wait_for(|stopping| *stopping).await;
    };
    let happened = BroadcastStream::new(app.source.subscribe()).map(move |event| {
        let _held = &permit;
        Ok(encode(event))
    });
    // The comment makes the head go out at once: who has it misses nothing from then on.
    let greeting = stream::iter([Ok(Event::default().comment("tidegate"))]);
    let events = greeting.chain(happened).take_until(Box::pin(stopped));
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

fn encode(event: Result<Arc<view::Event>, BroadcastStreamRecvError>) -> Event {
    match event {
        Ok(event) => {
            let json = serde_json::to_string(&*event).expect("the keys of an event are strings");
            Event::default().id(event.id.to_string()).event(event.kind.as_str()).data(json)
        }
        Err(BroadcastStreamRecvError::Lagged(missed)) => {
            Event::default().event("lagged").data(format!("{{\"missed\":{missed}}}"))
        }
    }
}
