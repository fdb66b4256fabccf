//! Why a connection is ended, and how its client is told.

use crate::telemetry::Flood;

use super::GOAWAY;
use super::heads::HEAD;

/// Error codes (RFC 9113 §7).
pub const NO_ERROR: u32 = 0;
pub(super) const PROTOCOL_ERROR: u32 = 1;
pub(super) const INTERNAL_ERROR: u32 = 2;
pub(super) const FRAME_SIZE_ERROR: u32 = 6;
pub(super) const CANCEL: u32 = 8;
pub(super) const ENHANCE_YOUR_CALM: u32 = 11;

/// Why a connection is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// What GOAWAY says.
    pub code: u32,
    /// `None`: it was not too much, but wrong.
    pub flood: Option<Flood>,
}

impl Ended {
    /// For what was counted already.
    pub const COUNTED: Self = Self { code: ENHANCE_YOUR_CALM, flood: None };

    pub fn flood(kind: Flood) -> Self {
        Self { code: ENHANCE_YOUR_CALM, flood: Some(kind) }
    }

    /// It was too much.
    pub fn is_flood(&self) -> bool {
        self.code == ENHANCE_YOUR_CALM
    }

    pub(super) fn wrong(code: u32) -> Self {
        Self { code, flood: None }
    }
}

/// What the codec's own guards found too much: their GOAWAY says it in words.
pub(super) fn of_codec(words: &[u8]) -> Flood {
    match words {
        b"too_many_resets" => Flood::RapidReset,
        b"too_many_internal_resets" => Flood::MadeYouReset,
        b"too_many_data_frames" => Flood::EmptyData,
        b"too_many_continuations" => Flood::Continuation,
        b"header_list_way_too_large" => Flood::Hpack,
        _ => Flood::Other,
    }
}

/// The frame that ends a connection (§6.8).
pub fn goaway(last_stream: u32, code: u32) -> [u8; HEAD + 8] {
    let [a, b, c, d] = last_stream.to_be_bytes();
    let [e, f, g, h] = code.to_be_bytes();
    [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h]
}
