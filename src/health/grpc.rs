//! The health check of gRPC: one call of grpc.health.v1.Health/Check.
//!
//! Source: the protocol's description (grpc/grpc, doc/health-checking.md) and gRPC over HTTP/2
//! (doc/PROTOCOL-HTTP2.md). Two messages of one field each are no reason for a code generator.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE, USER_AGENT};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};

use crate::config::types::Health;
use crate::upstream::socket::{Socket, Target};

use super::probe::{AGENT, Failure, drive, uri};

const PATH: &str = "/grpc.health.v1.Health/Check";
/// More than any answer has.
const LONGEST: usize = 1024;
/// Compressed or not, and the length.
const PREFIX: usize = 5;

/// The server says that it serves the service that `path` names.
pub async fn check(target: Target<'_>, config: &Health) -> Result<(), Failure> {
    let (authority, secure) = (target.authority, target.tls.is_some());
    let stream = Socket::connect(target).await.map_err(Failure::Connect)?;
    if secure && !stream.speaks_h2() {
        return Err(Failure::NotHttp2);
    }
    let host = config.host.as_ref().unwrap_or(authority);
    let request = Request::post(uri(secure, host, PATH)?)
        .header(USER_AGENT, AGENT)
        .header(CONTENT_TYPE, "application/grpc")
        .header(TE, "trailers")
        .body(Full::new(Bytes::from(question(&config.path))))?;
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    drive(connection, async { judge(sender.send_request(request).await?).await }).await
}

/// HealthCheckRequest { string service = 1; }; at most 255 bytes of it.
fn question(service: &str) -> Vec<u8> {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        if service.len() >= 0x80 {
            message.push(service.len() as u8 | 0x80);
            message.push((service.len() >> 7) as u8);
        } else {
            message.push(service.len() as u8);
        }
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
    framed.extend_from_slice(&message);
    framed
}

async fn judge(response: Response<Incoming>) -> Result<(), Failure> {
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        return Err(Failure::Status(head.status.as_u16()));
    }
    let kind = head.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    if !kind.is_some_and(|kind| kind.starts_with(b"application/grpc")) {
        return Err(Failure::NotGrpc);
    }
    // An error without a message has it in the head.
    well(&head.headers)?;
    let mut answer = Vec::new();
    let mut trailers = None;
    while let Some(frame) = body.frame().await {
        match frame?.into_data() {
            Ok(data) if answer.len() + data.len() <= LONGEST => answer.extend_from_slice(&data),
            Ok(_) => return Err(Failure::NotGrpc),
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    well(&trailers.ok_or(Failure::NotGrpc)?)?;
    match status(&answer).ok_or(Failure::NotGrpc)? {
        1 => Ok(()),
        2 => Err(Failure::NotServing("NOT_SERVING")),
        3 => Err(Failure::NotServing("SERVICE_UNKNOWN")),
        _ => Err(Failure::NotServing("UNKNOWN")),
    }
}

/// `grpc-status`, where there is one, is 0; else with what the server says about it.
fn well(fields: &HeaderMap) -> Result<(), Failure> {
    let Some(status) = fields.get("grpc-status") else { return Ok(()) };
    if status == "0" {
        return Ok(());
    }
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Err(Failure::GrpcStatus(match fields.get("grpc-message") {
        Some(message) => format!("{}: {}", text(status), text(message)),
        None => text(status),
    }))
}

/// HealthCheckResponse { ServingStatus status = 1; } behind its prefix; what is not there is 0.
fn status(answer: &[u8]) -> Option<u64> {
    let (prefix, mut message) = answer.split_at_checked(PREFIX)?;
    let length = u32::from_be_bytes(prefix[1..].try_into().ok()?);
    if prefix[0] != 0 || message.len() != length as usize {
        return None;
    }
    let mut status = 0;
    while !message.is_empty() {
        let tag = varint(&mut message)?;
        match tag & 7 {
            0 => {
                let value = varint(&mut message)?;
                if tag >> 3 == 1 {
                    status = value;
                }
            }
            // A field of bytes that a later version may have.
            2 => {
                let length = usize::try_from(varint(&mut message)?).ok()?;
                message = message.get(length..)?;
            }
            _ => return None,
        }
    }
    Some(status)
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_question_is_framed() {
        assert_eq!(question(""), [0, 0, 0, 0, 0]);
        assert_eq!(question("a.B"), [0, 0, 0, 0, 5, 0x0a, 3, b'a', b'.', b'B']);
        let long = question(&"x".repeat(200));
        assert_eq!(long[..8], [0, 0, 0, 0, 203, 0x0a, 0xc8, 1]);
    }

    #[test]
    fn the_status_is_found_and_nonsense_is_not_believed() {
        assert_eq!(status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(status(&[0, 0, 0, 0, 6, 0x12, 2, 9, 9, 8, 2]), Some(2));
        for wrong in [
            &[][..],
            &[0, 0, 0, 0],
            &[1, 0, 0, 0, 2, 8, 1],
            &[0, 0, 0, 0, 3, 8, 1],
            &[0, 0, 0, 0, 1, 8],
            &[0, 0, 0, 0, 2, 0x12, 9],
            &[0, 0, 0, 0, 2, 0x0d, 1],
            &[0, 0, 0, 0, 11, 8, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255],
        ] {
            assert_eq!(status(wrong), None, "{wrong:?}");
        }
    }
}
