//! WebSocket echo (RFC 6455): every frame comes back as it came, a ping as a pong.
//!
//! Frames are relayed while they arrive, so memory does not grow with their length. There are
//! no extensions, and UTF-8 is not checked: it is an echo.

use std::io;

use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::websocket;

use super::body::AnswerBody;

const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// 101 and an echo behind it, or 426 if no WebSocket was asked for.
pub(super) fn accept(mut request: Request<Incoming>) -> Response<AnswerBody> {
    let asked = request
        .headers()
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    let key = request.headers().get(SEC_WEBSOCKET_KEY).filter(|_| asked);
    let accept = key.and_then(|key| HeaderValue::from_str(&websocket::accept(key.as_bytes())).ok());
    let mut response = Response::new(AnswerBody::text(""));
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    let Some(accept) = accept else {
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        return response;
    };
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    tokio::spawn(async move {
        if let Ok(upgraded) = hyper::upgrade::on(&mut request).await {
            // However it ends, the client sees it.
            let _ = echo(TokioIo::new(upgraded)).await;
        }
    });
    response
}

/// Echoes frames until one of the two sides closes.
async fn echo(mut io: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let mut head = [0; 2];
        io.read_exact(&mut head).await?;
        let (first, opcode) = (head[0], head[0] & 0x0f);
        let mut out = vec![if opcode == PING { first & 0xf0 | PONG } else { first }];
        out.push(head[1] & 0x7f);
        let mut left = match head[1] & 0x7f {
            126 => read_length(&mut io, &mut out, 2).await?,
            127 => read_length(&mut io, &mut out, 8).await?,
            short => u64::from(short),
        };
        let mut mask = [0; 4];
        if head[1] & 0x80 != 0 {
            io.read_exact(&mut mask).await?;
        }
        let silent = opcode == PONG;
        if !silent {
            io.write_all(&out).await?;
        }
        let mut at = 0;
        while left > 0 {
            let n = left.min(buffer.len() as u64) as usize;
            let read = io.read(&mut buffer[..n]).await?;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            for byte in &mut buffer[..read] {
                *byte ^= mask[at % 4];
                at += 1;
            }
            left -= read as u64;
            if !silent {
                io.write_all(&buffer[..read]).await?;
            }
        }
        io.flush().await?;
        if opcode == CLOSE {
            return io.shutdown().await;
        }
    }
}

/// An extended length of that many bytes, copied to the answer's head.
async fn read_length(
    io: &mut (impl AsyncRead + Unpin),
    out: &mut Vec<u8>,
    bytes: usize,
) -> io::Result<u64> {
    let mut length = [0; 8];
    io.read_exact(&mut length[8 - bytes..]).await?;
    out.extend_from_slice(&length[8 - bytes..]);
    Ok(u64::from_be_bytes(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "Hello" masked (section 5.7), a ping, and a close.
    #[tokio::test]
    async fn frames_come_back_unmasked() {
        let (mut client, server) = tokio::io::duplex(64);
        let task = tokio::spawn(echo(server));
        client
            .write_all(&[0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58])
            .await
            .expect("the echo reads");
        client.write_all(&[0x89, 0x80, 1, 2, 3, 4, 0x88, 0x80, 1, 2, 3, 4]).await.expect("reads");
        let mut all = Vec::new();
        client.read_to_end(&mut all).await.expect("the echo closes");
        assert_eq!(all, b"\x81\x05Hello\x8a\x00\x88\x00");
        task.await.expect("no panic").expect("closed in order");
    }

    #[tokio::test]
    async fn long_frames_keep_their_length() {
        let (client, server) = tokio::io::duplex(1024);
        tokio::spawn(echo(server));
        let (mut read, mut write) = tokio::io::split(client);
        let payload: Vec<u8> = (0..70_000u32).map(|i| i as u8).collect();
        let sent = payload.clone();
        tokio::spawn(async move {
            let mut frame = vec![0x82, 0xff];
            frame.extend(70_000u64.to_be_bytes());
            frame.extend([0; 4]);
            frame.extend(sent);
            write.write_all(&frame).await
        });
        let mut head = [0; 10];
        read.read_exact(&mut head).await.expect("a head");
        assert_eq!((head[0], head[1]), (0x82, 127));
        let mut back = vec![0; payload.len()];
        read.read_exact(&mut back).await.expect("a payload");
        assert_eq!(back, payload);
    }
}
