//! HTTP/2 frames as they pass by, below the codec: of each only its head of nine bytes is read (RFC 9113
//! §4.1), and counted.
//!
//! The codec answers whatever a client sends, however often: every PING and every SETTINGS is acknowledged,
//! unknown frames are skipped for good. Each is cheap for the one who sends it and dearer for us, so each has
//! a rate above which its connection is ended. What frames mean is the codec's; here is only what can
//! be said of a head: who sends how many of what, and whether the length is one that the type may have, which
//! the codec reports with another code than the RFC's; and of a long request how many fields it has (`fields`), before
//! the codec unpacks them. Nothing is copied, and nothing grows.

mod ended;
mod fields;
mod heads;
#[cfg(test)]
mod tests;

use crate::telemetry::Flood;

use ended::{
    CANCEL, ENHANCE_YOUR_CALM, FRAME_SIZE_ERROR, INTERNAL_ERROR, PROTOCOL_ERROR, of_codec,
};
pub use ended::{Ended, NO_ERROR, goaway};
use fields::Fields;
use heads::{Head, Heads};

/// What an HTTP/2 client says first (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A second's PING, PRIORITY or unknown frames: far above what probes of bandwidth (one a round trip) and
/// browsers send, and of less work than a few hundred requests.
pub const CONTROL_PER_SECOND: u32 = 1000;
/// A second's SETTINGS: clients send one or two in all.
pub const SETTINGS_PER_SECOND: u32 = 100;
/// A second's DATA frames that hold nothing and end nothing. (The codec allows a hundred in all.)
pub const EMPTY_DATA_PER_SECOND: u32 = 1000;
/// A second's WINDOW_UPDATE frames, besides one for each of so many bytes that were sent to the client.
pub const UPDATES_PER_SECOND: u32 = 1000;
/// So many requests that come at once are served before more are read, and may have been taken back already.
const TURN: u32 = 64;
/// Heads with too many fields that the codec gets of one connection: they are answered 431.
const CROWDED: u32 = 1;
/// `:method`, `:scheme`, `:authority`, `:path`, `:protocol`.
const PSEUDO: u32 = 5;
/// A head counts for one more request for each so many bytes.
const LARGE: usize = 512;
const BYTES_PER_UPDATE: usize = 256;
/// So many updates may be owed at most.
const MOST_CREDIT: u32 = 100_000;

/// The largest payload we allow (SETTINGS_MAX_FRAME_SIZE is never raised).
const MAX_FRAME: usize = 16_384;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 0x1;
const ACK: u8 = 0x1;
const END_HEADERS: u8 = 0x4;

/// What one connection may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// RST_STREAM a second, and as many streams a second that we have to reset for the client's mistakes.
    pub resets: u32,
    /// CONTINUATION frames of one head.
    pub continuations: u32,
    /// Fields of one head.
    pub fields: u32,
}

impl Limits {
    /// For heads of so many bytes, which a client may cut smaller than frames could be, and fields.
    pub fn new(resets: u32, header_bytes: usize, header_count: usize) -> Self {
        let continuations = 4 + (header_bytes / MAX_FRAME * 5 / 4) as u32;
        Self { resets, continuations, fields: header_count as u32 + PSEUDO }
    }
}

/// Frames counted in the present second.
#[derive(Debug, Default)]
struct Counts {
    second: u64,
    pings: u32,
    settings: u32,
    priorities: u32,
    unknown: u32,
    empty: u32,
    updates: u32,
    resets: u32,
    forced: u32,
}

impl Counts {
    fn enter(&mut self, second: u64) {
        if self.second != second {
            *self = Self { second, ..Self::default() };
        }
    }
}

/// Follows the frames of one connection, in both directions.
#[derive(Debug)]
pub struct Frames {
    limits: Limits,
    counts: Counts,
    incoming: Heads,
    outgoing: Heads,
    /// Bytes of the preface that are still to come.
    preface: usize,
    /// No SETTINGS came yet; they are first.
    first: bool,
    /// A head has begun and not ended; so many CONTINUATIONs of it were seen.
    block: Option<u32>,
    /// Of the head that came last, if it is long enough to have too many.
    fields: Fields,
    /// Heads that had.
    crowded: u32,
    /// Updates that are owed for what was sent, and bytes that are no whole update yet.
    credit: u32,
    sent: usize,
    /// Highest stream that the client opened.
    last_stream: u32,
    /// Streams opened since there was last nothing to read; large heads count for several.
    opened: u32,
    /// What the codec itself ended the connection for.
    codec: Option<Flood>,
}

impl Frames {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            counts: Counts::default(),
            incoming: Heads::default(),
            outgoing: Heads::default(),
            preface: PREFACE.len(),
            first: true,
            block: None,
            fields: Fields::default(),
            crowded: 0,
            credit: 0,
            sent: 0,
            last_stream: 0,
            opened: 0,
            codec: None,
        }
    }

    /// Highest stream that the client opened.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// What the codec itself ended the connection for.
    pub fn of_codec(&self) -> Option<Flood> {
        self.codec
    }

    /// There is nothing more to read for now.
    pub fn pause(&mut self) {
        self.opened = 0;
    }

    /// Whether so many streams were opened that they are to be served before more is read; then they are counted
    /// anew.
    pub fn takes_a_turn(&mut self) -> bool {
        let many = self.opened >= TURN;
        if many {
            self.opened = 0;
        }
        many
    }

    /// Streams after this one were never served.
    pub fn forget_after(&mut self, stream: u32) {
        self.last_stream = stream;
    }

    /// Whether a request may have been taken back before it was looked at: streams were reset within this
    /// second, by either side, or so many came at once that they may be.
    pub fn is_hasty(&self) -> bool {
        self.counts.resets + self.counts.forced > 0 || self.opened >= TURN
    }

    /// The preface, or the head of a request, has begun and not ended.
    pub fn is_in_head(&self) -> bool {
        self.block.is_some() || (self.first && self.preface < PREFACE.len())
    }

    /// Looks at what the client sent. `second` is any clock's; it is only asked for what has a rate.
    ///
    /// # Errors
    /// Why the connection is to be ended, and how many of the bytes were fine until then.
    pub fn received(
        &mut self,
        bytes: &[u8],
        second: impl Fn() -> u64,
    ) -> Result<(), (usize, Ended)> {
        let mut at = 0;
        if self.preface > 0 {
            let due = &PREFACE[PREFACE.len() - self.preface..];
            at = due.len().min(bytes.len());
            if bytes[..at] != due[..at] {
                return Err((0, Ended::wrong(PROTOCOL_ERROR)));
            }
            self.preface -= at;
        }
        while at < bytes.len() {
            if self.fields.is_due() {
                self.count_fields(&bytes[at..]).map_err(|ended| (at, ended))?;
            }
            let (used, head) = self.incoming.next(&bytes[at..]);
            if let Some(head) = head {
                if head.has_rate() {
                    self.counts.enter(second());
                }
                // A payload that ends here, before it, is fine.
                self.judge(head)
                    .map_err(|ended| (at + used.saturating_sub(head.bytes()), ended))?;
            }
            at += used;
        }
        Ok(())
    }

    /// Looks at what was sent to the client: what it is owed, and what it made us reset.
    ///
    /// # Errors
    /// Why the connection is to be ended.
    pub fn sent(&mut self, mut bytes: &[u8], second: impl Fn() -> u64) -> Result<(), Ended> {
        self.sent += bytes.len();
        let owed = self.sent / BYTES_PER_UPDATE;
        self.sent %= BYTES_PER_UPDATE;
        self.credit = self.credit.saturating_add(owed as u32).min(MOST_CREDIT);
        while !bytes.is_empty() {
            let (used, head) = self.outgoing.next(bytes);
            bytes = &bytes[used..];
            let Some(head) = head else { continue };
            let payload = self.outgoing.read(head);
            let code = match head.kind {
                RST_STREAM => number(payload),
                GOAWAY if number(&payload[4.min(payload.len())..]) == ENHANCE_YOUR_CALM => {
                    self.codec = Some(of_codec(&payload[8..]));
                    continue;
                }
                _ => continue,
            };
            // Our own reasons: an answer that broke off, a request whose rest is not wanted.
            if matches!(code, NO_ERROR | INTERNAL_ERROR | CANCEL) {
                continue;
            }
            self.counts.enter(second());
            count(&mut self.counts.forced, self.limits.resets, Flood::MadeYouReset)?;
        }
        Ok(())
    }

    /// Looks at what there is of a head's payload.
    fn count_fields(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        let before = self.fields.count;
        self.fields.scan(bytes);
        let most = self.limits.fields;
        if before <= most && self.fields.count > most {
            count(&mut self.crowded, CROWDED, Flood::LargeHead)?;
        }
        Ok(())
    }

    fn judge(&mut self, head: Head) -> Result<(), Ended> {
        if head.length > MAX_FRAME {
            return Err(Ended::wrong(FRAME_SIZE_ERROR));
        }
        if self.first && (head.kind != SETTINGS || head.flags & ACK != 0) {
            return Err(Ended::wrong(PROTOCOL_ERROR));
        }
        self.first = false;
        // Nothing may come between the parts of a head (§4.3), whatever it is.
        if self.block.is_some() && head.kind != CONTINUATION {
            return Err(Ended::wrong(PROTOCOL_ERROR));
        }
        let counts = &mut self.counts;
        let fits = match head.kind {
            DATA => {
                if head.length == 0 && head.flags & END_STREAM == 0 {
                    count(&mut counts.empty, EMPTY_DATA_PER_SECOND, Flood::EmptyData)?;
                }
                true
            }
            HEADERS => {
                if head.stream > self.last_stream {
                    self.last_stream = head.stream;
                    // Unpacking a large one costs as much as serving several.
                    self.opened += 1 + (head.length / LARGE) as u32;
                }
                let ends = head.flags & END_HEADERS != 0;
                self.block = (!ends).then_some(0);
                // A field has a byte at least: most heads need not be looked at.
                if !ends || head.length > self.limits.fields as usize {
                    self.fields.begin(head.length, head.flags);
                }
                true
            }
            PRIORITY => {
                count(&mut counts.priorities, CONTROL_PER_SECOND, Flood::Priority)?;
                head.length == 5
            }
            RST_STREAM => {
                count(&mut counts.resets, self.limits.resets, Flood::RapidReset)?;
                head.length == 4
            }
            SETTINGS => {
                count(&mut counts.settings, SETTINGS_PER_SECOND, Flood::Settings)?;
                head.length.is_multiple_of(6) && (head.flags & ACK == 0 || head.length == 0)
            }
            // Clients never promise (§8.4).
            PUSH_PROMISE => return Err(Ended::wrong(PROTOCOL_ERROR)),
            PING => {
                count(&mut counts.pings, CONTROL_PER_SECOND, Flood::Ping)?;
                head.length == 8
            }
            GOAWAY => {
                count(&mut counts.unknown, CONTROL_PER_SECOND, Flood::UnknownFrame)?;
                head.length >= 8
            }
            WINDOW_UPDATE => {
                if counts.updates < UPDATES_PER_SECOND {
                    counts.updates += 1;
                } else if self.credit > 0 {
                    self.credit -= 1;
                } else {
                    return Err(Ended::flood(Flood::WindowUpdate));
                }
                head.length == 4
            }
            CONTINUATION => {
                let Some(seen) = &mut self.block else { return Err(Ended::wrong(PROTOCOL_ERROR)) };
                count(seen, self.limits.continuations, Flood::Continuation)?;
                self.fields.goes_on(head.length);
                if head.flags & END_HEADERS != 0 {
                    self.block = None;
                }
                true
            }
            _ => {
                count(&mut counts.unknown, CONTROL_PER_SECOND, Flood::UnknownFrame)?;
                true
            }
        };
        if fits { Ok(()) } else { Err(Ended::wrong(FRAME_SIZE_ERROR)) }
    }
}

/// Four bytes; 0 where there are fewer.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |&four| u32::from_be_bytes(four))
}

/// Counts one more, up to what is allowed.
#[inline]
fn count(seen: &mut u32, most: u32, kind: Flood) -> Result<(), Ended> {
    *seen += 1;
    if *seen > most { Err(Ended::flood(kind)) } else { Ok(()) }
}
