//! Where frames begin in a stream of bytes that comes in pieces (RFC 9113 §4.1).

use super::{CONTINUATION, DATA, GOAWAY, HEADERS, RST_STREAM};

/// Length of a frame's head.
pub(super) const HEAD: usize = 9;
/// Bytes that are read of a payload at most.
const MOST: usize = 8 + 25;

/// Finds the heads of frames in a stream of bytes.
#[derive(Debug)]
pub(super) struct Heads {
    /// A head, and what is read of the payload.
    bytes: [u8; HEAD + MOST],
    have: usize,
    /// So much of a payload is to be passed over.
    payload: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) length: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl Default for Heads {
    fn default() -> Self {
        Self { bytes: [0; HEAD + MOST], have: 0, payload: 0 }
    }
}

impl Heads {
    /// The next head that is complete, and how many bytes were used up. What has no head of interest is
    /// passed over.
    #[inline]
    pub(super) fn next(&mut self, bytes: &[u8]) -> (usize, Option<Head>) {
        let mut at = 0;
        loop {
            let passed = self.payload.min(bytes.len() - at);
            self.payload -= passed;
            at += passed;
            let wanted = if self.have < HEAD { HEAD } else { self.head().bytes() };
            let taken = (wanted - self.have).min(bytes.len() - at);
            self.bytes[self.have..self.have + taken].copy_from_slice(&bytes[at..at + taken]);
            self.have += taken;
            at += taken;
            if self.have < wanted {
                return (at, None);
            }
            let head = self.head();
            if self.have < head.bytes() {
                continue;
            }
            self.payload = head.length - (wanted - HEAD);
            self.have = 0;
            return (at, Some(head));
        }
    }

    /// What was read of the payload of the head that came last.
    pub(super) fn read(&self, head: Head) -> &[u8] {
        &self.bytes[HEAD..head.bytes()]
    }

    fn head(&self) -> Head {
        let [a, b, c, kind, flags, s, t, u, v, ..] = self.bytes;
        Head {
            length: u32::from_be_bytes([0, a, b, c]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s & 0x7f, t, u, v]),
        }
    }
}

impl Head {
    /// Whether so many a second are too many: not of what carries requests and bodies.
    pub(super) fn has_rate(self) -> bool {
        match self.kind {
            DATA => self.length == 0,
            HEADERS | CONTINUATION => false,
            _ => true,
        }
    }

    /// Bytes that are read of the frame: error codes, and what GOAWAY says.
    pub(super) fn bytes(&self) -> usize {
        match self.kind {
            RST_STREAM if self.length == 4 => HEAD + 4,
            GOAWAY if self.length >= 8 => HEAD + self.length.min(MOST),
            _ => HEAD,
        }
    }
}
