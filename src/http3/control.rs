//! Streams of one direction that a client opens (RFC 9114 §6.2): its settings and what else concerns the
//! connection, and QPACK's two, which have nothing to say here.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use quinn::{RecvStream, VarInt};

use crate::telemetry::Flood;

use super::code;
use super::connection::Connection;
use super::frame::{self, BadStream, Frames, number, put_number};
use super::qpack;

const CONTROL: u64 = 0x0;
const PUSH: u64 = 0x1;
const ENCODER: u64 = 0x2;
const DECODER: u64 = 0x3;

/// SETTINGS_MAX_FIELD_SECTION_SIZE
const FIELD_SECTION: u64 = 0x6;
/// The longest payload of a frame that means something on a control stream; settings are a few numbers.
const PAYLOAD: u64 = 4096;
/// Frames on a control stream in one second. Browsers send one with each request (RFC 9218).
const FRAMES: u32 = 1000;

/// Which of the streams that there may be once are there: a bit for each type.
#[derive(Debug, Default)]
pub struct Seen(Cell<u8>);

impl Seen {
    fn is_first(&self, kind: u64) -> bool {
        let bit = 1 << kind;
        let before = self.0.get();
        self.0.set(before | bit);
        before & bit == 0
    }
}

/// The beginning of our control stream: its type, and SETTINGS. QPACK's table stays at 0 (RFC 9204 §5).
pub fn settings(head_bytes: usize) -> BytesMut {
    let mut payload = BytesMut::new();
    put_number(FIELD_SECTION, &mut payload);
    put_number(head_bytes as u64, &mut payload);
    let mut out = BytesMut::new();
    put_number(CONTROL, &mut out);
    put_number(frame::SETTINGS, &mut out);
    put_number(payload.len() as u64, &mut out);
    out.extend_from_slice(&payload);
    out
}

/// Reads a stream to its end. What must not be closes the connection.
pub async fn read(connection: &Rc<Connection>, mut stream: RecvStream) {
    let mut chunk = Bytes::new();
    let Some(kind) = first_number(&mut stream, &mut chunk).await else { return };
    let end = match kind {
        CONTROL | ENCODER | DECODER if !connection.seen.is_first(kind) => code::STREAM_CREATION,
        CONTROL => match control(connection, Frames::after(stream, chunk)).await {
            Ok(()) | Err(Bad::Gone) => code::CLOSED_CRITICAL_STREAM,
            Err(Bad::Flood) => return,
            Err(Bad::Is(why)) => why,
        },
        ENCODER => instructions(stream, chunk, is_no_table, code::QPACK_ENCODER_STREAM).await,
        DECODER => instructions(stream, chunk, is_cancellation, code::QPACK_DECODER_STREAM).await,
        PUSH => code::STREAM_CREATION,
        // Of a kind that means nothing to us, or only to see whether we bear it.
        _ => {
            connection.note(Flood::MadeYouReset);
            let _ = stream.stop(code::STREAM_CREATION);
            return;
        }
    };
    connection.close(end);
}

/// What a stream begins with; what came with it stays in `chunk`. `None`: it ended before.
async fn first_number(stream: &mut RecvStream, chunk: &mut Bytes) -> Option<u64> {
    let mut begun = BytesMut::new();
    loop {
        begun.extend_from_slice(&stream.read_chunk(usize::MAX, true).await.ok()??.bytes);
        let mut bytes = &begun[..];
        if let Some(kind) = number(&mut bytes) {
            let used = begun.len() - bytes.len();
            *chunk = begun.split_off(used).freeze();
            return Some(kind);
        }
    }
}

enum Bad {
    Gone,
    /// It is ended elsewhere.
    Flood,
    Is(VarInt),
}

impl From<BadStream> for Bad {
    fn from(bad: BadStream) -> Self {
        match bad {
            BadStream::Gone => Self::Gone,
            BadStream::CutShort => Self::Is(code::FRAME_ERROR),
        }
    }
}

async fn control(connection: &Connection, mut frames: Frames) -> Result<(), Bad> {
    let mut has_settings = false;
    // The current second, and frames in it.
    let mut pace = (0, 0);
    // The lowest id of a GOAWAY and the highest of MAX_PUSH_ID.
    let (mut goaway, mut push) = (u64::MAX, 0);
    while let Some(header) = poll_fn(|cx| frames.poll_header(cx)).await? {
        let worker = &connection.client.worker;
        let second = worker.now() / 1_000_000;
        pace = if pace.0 == second { (second, pace.1 + 1) } else { (second, 1) };
        if pace.1 > FRAMES {
            connection.flooded(Flood::UnknownFrame);
            return Err(Bad::Flood);
        }
        if has_settings == (header.kind == frame::SETTINGS) {
            return Err(Bad::Is(match has_settings {
                true => code::FRAME_UNEXPECTED,
                false => code::MISSING_SETTINGS,
            }));
        }
        match header.kind {
            frame::SETTINGS => {
                has_settings = true;
                let most = check_settings(&payload(&mut frames, header.length).await?)?;
                connection.longest.set(most.unwrap_or(u64::MAX));
            }
            frame::GOAWAY | frame::MAX_PUSH_ID | frame::CANCEL_PUSH => {
                let payload = payload(&mut frames, header.length).await?;
                let mut bytes = &payload[..];
                let id = number(&mut bytes).filter(|_| bytes.is_empty());
                let id = id.ok_or(Bad::Is(code::FRAME_ERROR))?;
                let fits = match header.kind {
                    frame::GOAWAY => id <= std::mem::replace(&mut goaway, id),
                    frame::MAX_PUSH_ID => id >= std::mem::replace(&mut push, id),
                    // Nothing is ever pushed.
                    _ => false,
                };
                if !fits {
                    return Err(Bad::Is(code::ID_ERROR));
                }
            }
            frame::DATA | frame::HEADERS | frame::PUSH_PROMISE => {
                return Err(Bad::Is(code::FRAME_UNEXPECTED));
            }
            kind if frame::is_reserved(kind) => return Err(Bad::Is(code::FRAME_UNEXPECTED)),
            _ => poll_fn(|cx| frames.poll_skip(cx)).await?,
        }
    }
    Ok(())
}

async fn payload(frames: &mut Frames, length: u64) -> Result<BytesMut, Bad> {
    if length > PAYLOAD {
        return Err(Bad::Is(code::EXCESSIVE_LOAD));
    }
    let mut payload = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| frames.poll_payload(cx, usize::MAX)).await? {
        payload.extend_from_slice(&piece);
    }
    Ok(payload)
}

/// Pairs of numbers, each setting once, and none of HTTP/2's (RFC 9114 §7.2.4). The longest section of fields that the
/// client takes, if it says so.
fn check_settings(mut payload: &[u8]) -> Result<Option<u64>, Bad> {
    let mut seen = Vec::new();
    let mut longest = None;
    while !payload.is_empty() {
        let pair = number(&mut payload).zip(number(&mut payload));
        let (id, value) = pair.ok_or(Bad::Is(code::FRAME_ERROR))?;
        if matches!(id, 0x2..=0x5) || seen.contains(&id) {
            return Err(Bad::Is(code::SETTINGS_ERROR));
        }
        seen.push(id);
        if id == FIELD_SECTION {
            longest = Some(value);
        }
    }
    Ok(longest)
}

/// Reads instructions of QPACK as long as they fit; returns what the connection is closed with.
async fn instructions(
    mut stream: RecvStream,
    mut chunk: Bytes,
    fits: fn(u8) -> bool,
    wrong: VarInt,
) -> VarInt {
    let mut begun = BytesMut::new();
    loop {
        while chunk.has_remaining() {
            begun.extend_from_slice(&[chunk.get_u8()]);
            if !fits(begun[0]) || begun.len() > 10 {
                return wrong;
            }
            // Either is a number in the lower bits.
            let prefix = if begun[0] & 0x40 != 0 { 6 } else { 5 };
            if qpack::integer(&mut &begun[..], prefix).is_ok() {
                begun.clear();
            }
        }
        let next = poll_fn(|cx| {
            let read = ready!(pin!(stream.read_chunk(usize::MAX, true)).poll(cx));
            Poll::Ready(read.ok().flatten())
        });
        match next.await {
            Some(read) => chunk = read.bytes,
            None => return code::CLOSED_CRITICAL_STREAM,
        }
    }
}

/// Set Dynamic Table Capacity to 0, the only one there is (RFC 9204 §4.3.1).
fn is_no_table(byte: u8) -> bool {
    byte == 0x20
}

/// Stream Cancellation: nothing else refers to a table that is not there (RFC 9204 §4.4.2).
fn is_cancellation(byte: u8) -> bool {
    byte & 0xc0 == 0x40
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_come_once_each_and_are_not_those_of_http2() {
        let numbers = |numbers: &[u64]| {
            let mut out = BytesMut::new();
            numbers.iter().for_each(|number| put_number(*number, &mut out));
            out
        };
        let checked = |bytes: &[u8]| match check_settings(bytes) {
            Ok(longest) => longest.map(Ok),
            Err(Bad::Is(why)) => Some(Err(why)),
            Err(Bad::Gone | Bad::Flood) => unreachable!("nothing is read"),
        };
        assert_eq!(checked(&numbers(&[])), None);
        assert_eq!(checked(&numbers(&[0x1, 4096, 0x6, 9, 0x7, 100, 0x33, 1])), Some(Ok(9)));
        assert_eq!(checked(&numbers(&[0x6, 1, 0x6, 2])), Some(Err(code::SETTINGS_ERROR)));
        assert_eq!(checked(&numbers(&[0x4, 65_535])), Some(Err(code::SETTINGS_ERROR)));
        assert_eq!(checked(&numbers(&[0x6])), Some(Err(code::FRAME_ERROR)));
    }

    #[test]
    fn ours_are_read_as_they_are_meant() {
        let ours = settings(32_768);
        let mut bytes = &ours[..];
        let mut next = || number(&mut bytes);
        assert_eq!((next(), next(), next()), (Some(CONTROL), Some(frame::SETTINGS), Some(5)));
        assert_eq!((next(), next(), next()), (Some(FIELD_SECTION), Some(32_768), None));
    }
}
