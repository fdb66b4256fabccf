//! What was received, as JSON: the answer of an origin unless another is asked for.

use std::net::SocketAddr;

use aws_lc_rs::digest;
use http::{HeaderMap, request};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};

/// Length, hash and trailers of a request body that was read to its end.
#[derive(Debug, Default)]
pub(super) struct Received {
    bytes: u64,
    sha256: String,
    trailers: Option<HeaderMap>,
}

impl Received {
    /// Reads a body to its end without keeping it.
    ///
    /// # Errors
    /// The client went away or broke the protocol before the end.
    pub(super) async fn read(mut body: Incoming) -> hyper::Result<Self> {
        let mut hash = digest::Context::new(&digest::SHA256);
        let mut received = Self::default();
        while let Some(frame) = body.frame().await {
            match frame?.into_data() {
                Ok(data) => {
                    received.bytes += data.len() as u64;
                    hash.update(&data);
                }
                Err(other) => received.trailers = other.into_trailers().ok(),
            }
        }
        received.sha256 = hex(hash.finish().as_ref());
        Ok(received)
    }
}

/// The echo of a request, one line of JSON with a newline.
pub(super) fn echo(id: &str, peer: SocketAddr, head: &request::Parts, body: &Received) -> String {
    let mut echo = json!({
        "id": id,
        "peer": peer,
        "version": format!("{:?}", head.version),
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "authority": head.uri.authority().map(http::uri::Authority::as_str),
        "headers": pairs(&head.headers),
        "body": { "bytes": body.bytes, "sha256": body.sha256 },
    });
    if let Some(trailers) = &body.trailers {
        echo["trailers"] = pairs(trailers);
    }
    format!("{echo}\n")
}

/// Headers in their order, repeated ones too: `[["name", "value"], …]`.
fn pairs(headers: &HeaderMap) -> Value {
    headers
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
