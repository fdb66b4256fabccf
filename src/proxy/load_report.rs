//! Load that a backend reports with its answer: for us, not for the client.

use http::{HeaderMap, HeaderName};

use crate::clock::Micros;
use crate::http::orca;

use super::exchange::Held;

static HEADER: HeaderName = HeaderName::from_static(orca::HEADER);

/// Takes the report of an answer that just came, where the service believes them.
#[inline]
pub fn take(held: &Held, headers: &mut HeaderMap, now: Micros) {
    if !held.service().view.config.load_report {
        return;
    }
    let Some(value) = headers.remove(&HEADER) else { return };
    let backend = &held.backend.backend;
    match orca::utilization(value.as_bytes()) {
        Ok(utilization) => backend.reported.record(utilization, now),
        // A backend that says nonsense is balanced as one that says nothing.
        Err(why) => {
            tracing::debug!(service = %backend.service, backend = %backend.id, %why, ?value, "load report left out");
        }
    }
}
