//! A chunked body, followed byte by byte in its framing and at once in its data (RFC 9112 §7.1).
//!
//! Stricter than the grammar in one thing: no blanks around a chunk's size and its extensions. Those are
//! where servers differ, and nobody sends them.

/// Digits of a size: below 2⁶⁰, which no one sends.
const DIGITS: u8 = 15;
/// Bytes of all extensions of one body, and of all trailers.
const EXTRA: u16 = 8 * 1024;

/// How far a body has come.
#[derive(Debug)]
pub struct Chunks {
    at: At,
    /// Of the present chunk, still to come.
    size: u64,
    /// Bytes of extensions and trailers so far.
    extra: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// So many digits of a size were read.
    Size(u8),
    /// After a `;`, before the first byte of the extension's name.
    Name,
    InName,
    /// After its `=`.
    Value,
    InValue,
    Quoted,
    /// After a backslash.
    Escaped,
    /// After the closing quote.
    Closed,
    /// After the CR of the size's line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// At the beginning of a trailer, or of the last line.
    Trailer,
    InTrailerName,
    InTrailerValue,
    TrailerLf,
    LastLf,
}

impl At {
    fn is_after_chunks(self) -> bool {
        use At::{InTrailerName, InTrailerValue, LastLf, Trailer, TrailerLf};
        matches!(self, Trailer | InTrailerName | InTrailerValue | TrailerLf | LastLf)
    }
}

impl Default for Chunks {
    fn default() -> Self {
        Self { at: At::Size(0), size: 0, extra: 0 }
    }
}

/// What is next in a chunked body; in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Data(usize),
    /// Sizes and ends of chunks.
    Framing(usize),
    /// Fields after the last chunk, and the empty line after them; whether that is the end.
    Trailers(usize, bool),
}

impl Chunks {
    /// What the first of these bytes are; there must be some.
    ///
    /// # Errors
    /// How many were good before what is wrong.
    pub fn next(&mut self, bytes: &[u8]) -> Result<Part, usize> {
        if self.at == At::Data {
            return Ok(Part::Data(self.take_data(bytes.len())));
        }
        let trailers = self.at.is_after_chunks();
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.at == At::Data || self.at.is_after_chunks() != trailers {
                break;
            }
            if self.at == At::LastLf && byte == b'\n' {
                return Ok(Part::Trailers(at + 1, true));
            }
            self.at = self.step(byte).ok_or(at)?;
            at += 1;
        }
        Ok(if trailers { Part::Trailers(at, false) } else { Part::Framing(at) })
    }

    /// A chunk's data was whole with the last byte.
    pub fn is_after_data(&self) -> bool {
        self.at == At::DataCr
    }

    /// So many of the bytes that are there are data of this chunk.
    fn take_data(&mut self, there: usize) -> usize {
        let passed = usize::try_from(self.size).unwrap_or(usize::MAX).min(there);
        self.size -= passed as u64;
        if self.size == 0 {
            self.at = At::DataCr;
        }
        passed
    }

    /// How many bytes belong to the body, and whether it ended with them.
    ///
    /// # Errors
    /// How many were good before what is wrong.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<(usize, bool), usize> {
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            if self.at == At::Data {
                at += self.take_data(bytes.len() - at);
                continue;
            }
            if self.at == At::LastLf && byte == b'\n' {
                return Ok((at + 1, true));
            }
            self.at = self.step(byte).ok_or(at)?;
            at += 1;
        }
        Ok((at, false))
    }

    /// Where one byte of framing leads.
    fn step(&mut self, byte: u8) -> Option<At> {
        if !matches!(self.at, At::Size(_) | At::SizeLf | At::DataCr | At::DataLf) {
            self.extra = self.extra.checked_add(1).filter(|extra| *extra <= EXTRA)?;
        }
        Some(match (self.at, byte) {
            (At::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < DIGITS => {
                let digit = (byte as char).to_digit(16)?;
                self.size = self.size << 4 | u64::from(digit);
                At::Size(digits + 1)
            }
            (At::Size(1..) | At::InName | At::InValue | At::Closed, b'\r') => At::SizeLf,
            (At::Size(1..) | At::InName | At::InValue | At::Closed, b';') => At::Name,
            (At::Name | At::InName, _) if is_token(byte) => At::InName,
            (At::InName, b'=') => At::Value,
            (At::Value, b'"') => At::Quoted,
            (At::Value | At::InValue, _) if is_token(byte) => At::InValue,
            (At::Quoted, b'"') => At::Closed,
            (At::Quoted, b'\\') => At::Escaped,
            (At::Quoted | At::Escaped, _) if is_text(byte) => At::Quoted,
            (At::SizeLf, b'\n') if self.size > 0 => At::Data,
            (At::SizeLf, b'\n') => At::Trailer,
            (At::DataCr, b'\r') => At::DataLf,
            (At::DataLf, b'\n') => At::Size(0),
            (At::Trailer, b'\r') => At::LastLf,
            (At::Trailer | At::InTrailerName, _) if is_token(byte) => At::InTrailerName,
            (At::InTrailerName, b':') => At::InTrailerValue,
            (At::InTrailerValue, b'\r') => At::TrailerLf,
            (At::InTrailerValue, _) if is_text(byte) => At::InTrailerValue,
            (At::TrailerLf, b'\n') => At::Trailer,
            _ => return None,
        })
    }
}

/// RFC 9110 §5.6.2
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// What may stand in a field value or a quoted string: no controls but the tab (RFC 9110 §5.5, §5.6.4).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
