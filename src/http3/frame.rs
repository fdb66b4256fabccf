//! Frames on a stream (RFC 9114 §7), read as they come: a header of two numbers, and a payload that is
//! passed on in pieces, so that nobody's frame has to fit anywhere.

use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use quinn::{ReadError, RecvStream};

use super::code;

pub const DATA: u64 = 0x0;
pub const HEADERS: u64 = 0x1;
pub const CANCEL_PUSH: u64 = 0x3;
pub const SETTINGS: u64 = 0x4;
pub const PUSH_PROMISE: u64 = 0x5;
pub const GOAWAY: u64 = 0x7;
pub const MAX_PUSH_ID: u64 = 0xd;

/// What a frame begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub kind: u64,
    /// Bytes of its payload.
    pub length: u64,
}

/// Why there is nothing more to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadStream {
    /// The client reset it, or the connection is lost.
    Gone,
    /// It ended within a frame.
    CutShort,
}

/// A client's stream, by frames. Dropped before its end, the client is told to send no more of it.
#[derive(Debug)]
pub struct Frames {
    stream: RecvStream,
    /// Read and not looked at yet.
    chunk: Bytes,
    /// What there is of a header.
    partial: Partial,
    /// Of the payload of the frame whose header was read last.
    left: u64,
    ended: bool,
}

#[derive(Debug, Default)]
struct Partial {
    bytes: [u8; 16],
    length: usize,
}

impl Frames {
    pub fn new(stream: RecvStream) -> Self {
        Self::after(stream, Bytes::new())
    }

    /// Of a stream that something was read from already.
    pub fn after(stream: RecvStream, chunk: Bytes) -> Self {
        Self { stream, chunk, partial: Partial::default(), left: 0, ended: false }
    }

    /// The next frame; `None` at the end of the stream. The payload of the one before must have been read.
    pub fn poll_header(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Header>, BadStream>> {
        loop {
            while self.chunk.has_remaining() {
                self.partial.bytes[self.partial.length] = self.chunk.get_u8();
                self.partial.length += 1;
                if let Some(header) = self.partial.header() {
                    self.partial.length = 0;
                    self.left = header.length;
                    return Poll::Ready(Ok(Some(header)));
                }
            }
            if !ready!(self.poll_more(cx))? {
                return Poll::Ready(match self.partial.length {
                    0 => Ok(None),
                    _ => Err(BadStream::CutShort),
                });
            }
        }
    }

    /// The next piece of the payload, of so many bytes at most; `None` once all of it was read.
    pub fn poll_payload(
        &mut self,
        cx: &mut Context<'_>,
        most: usize,
    ) -> Poll<Result<Option<Bytes>, BadStream>> {
        if self.left == 0 {
            return Poll::Ready(Ok(None));
        }
        if !self.chunk.has_remaining() && !ready!(self.poll_more(cx))? {
            return Poll::Ready(Err(BadStream::CutShort));
        }
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let piece = self.chunk.split_to(self.chunk.len().min(left).min(most));
        self.left -= piece.len() as u64;
        Poll::Ready(Ok(Some(piece)))
    }

    /// Whether there is more of the payload to read.
    pub fn is_within(&self) -> bool {
        self.left > 0
    }

    /// Reads the rest of the payload for nothing.
    pub fn poll_skip(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BadStream>> {
        while ready!(self.poll_payload(cx, usize::MAX))?.is_some() {}
        Poll::Ready(Ok(()))
    }

    /// Tells the client to send no more, and why.
    pub fn stop(&mut self, why: quinn::VarInt) {
        if !self.ended {
            self.ended = true;
            // It may have ended meanwhile.
            let _ = self.stream.stop(why);
        }
    }

    /// False at the end of the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, BadStream>> {
        if self.ended {
            return Poll::Ready(Ok(false));
        }
        let read = ready!(pin!(self.stream.read_chunk(usize::MAX, true)).poll(cx));
        Poll::Ready(match read {
            Ok(Some(chunk)) => {
                self.chunk = chunk.bytes;
                Ok(true)
            }
            Ok(None) => {
                self.ended = true;
                Ok(false)
            }
            Err(error) => {
                self.ended |= matches!(error, ReadError::Reset(_));
                Err(BadStream::Gone)
            }
        })
    }
}

impl Drop for Frames {
    fn drop(&mut self) {
        self.stop(code::NO_ERROR);
    }
}

impl Partial {
    fn header(&self) -> Option<Header> {
        let mut bytes = &self.bytes[..self.length];
        let kind = number(&mut bytes)?;
        let length = number(&mut bytes)?;
        Some(Header { kind, length })
    }
}

/// A number as QUIC writes it (RFC 9000 §16); `None` while there is not all of it.
pub fn number(bytes: &mut &[u8]) -> Option<u64> {
    let first = *bytes.first()?;
    let length = 1 << (first >> 6);
    let (number, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    let first = u64::from(first & 0x3f);
    Some(number[1..].iter().fold(first, |value, byte| value << 8 | u64::from(*byte)))
}

/// Writes a number below 2^62.
pub fn put_number(value: u64, out: &mut BytesMut) {
    match value {
        0..0x40 => out.put_u8(value as u8),
        0x40..0x4000 => out.put_u16(0x4000 | value as u16),
        0x4000..0x4000_0000 => out.put_u32(0x8000_0000 | value as u32),
        _ => out.put_u64(0xc000_0000_0000_0000 | value),
    }
}

/// Whether nobody may send it: frames of HTTP/2 that have no counterpart (RFC 9114 §7.2.8).
pub fn is_reserved(kind: u64) -> bool {
    matches!(kind, 0x2 | 0x6 | 0x8 | 0x9)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_the_rfc() {
        // RFC 9000 A.1
        for (bytes, value) in [
            (&[0xc2, 0x19, 0x7c, 0x5e, 0xff, 0x14, 0xe8, 0x8c][..], 151_288_809_941_952_652),
            (&[0x9d, 0x7f, 0x3e, 0x7d], 494_878_333),
            (&[0x7b, 0xbd], 15_293),
            (&[0x25], 37),
        ] {
            let mut left = bytes;
            assert_eq!(number(&mut left), Some(value));
            assert!(left.is_empty());
            let mut cut = &bytes[..bytes.len() - 1];
            assert_eq!(number(&mut cut), None);
            let mut out = BytesMut::new();
            put_number(value, &mut out);
            assert_eq!(out, bytes);
        }
        let longer = &mut &[0x40, 0x25][..];
        assert_eq!(number(longer), Some(37), "in more bytes than it takes");
    }

    #[test]
    fn a_header_is_there_with_its_last_byte() {
        let mut out = BytesMut::new();
        put_number(HEADERS, &mut out);
        put_number(70_000, &mut out);
        let mut partial = Partial::default();
        for (at, byte) in out.iter().enumerate() {
            assert_eq!(partial.header(), None);
            partial.bytes[at] = *byte;
            partial.length += 1;
        }
        assert_eq!(partial.header(), Some(Header { kind: HEADERS, length: 70_000 }));
    }
}
