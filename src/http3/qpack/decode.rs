//! A section of fields as a client sends it.

use super::huffman;
use super::table::ENTRIES;

/// What each field counts besides its letters (RFC 9114 §4.2.2).
const OVERHEAD: usize = 32;

/// Why a section is not read to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadSection {
    /// It is larger than it may be.
    TooLarge,
    /// It cannot be decoded, or refers to a table that is not there.
    Invalid,
    /// What the caller said of a field.
    Field(&'static str),
}

/// Gives every field, name and value, to `take`. `most`: bytes of all names and values and 32 for each
/// field (RFC 9114 §4.2.2).
///
/// # Errors
/// The first thing that is wrong. What was taken until then is of no use.
pub fn section(
    mut bytes: &[u8],
    most: usize,
    mut take: impl FnMut(&[u8], &[u8]) -> Result<(), BadSection>,
) -> Result<(), BadSection> {
    let bytes = &mut bytes;
    // Required Insert Count and Base (§4.5.1): without a table there is nothing to wait for.
    let inserts = integer(bytes, 8)?.1;
    integer(bytes, 7)?;
    if inserts != 0 {
        return Err(BadSection::Invalid);
    }
    let mut size = 0;
    let (mut name, mut value) = (Vec::new(), Vec::new());
    while let Some(&first) = bytes.first() {
        let field: (&[u8], &[u8]) = match first {
            // Indexed: T says of which table (§4.5.2).
            0b1000_0000.. => {
                let (flags, index) = integer(bytes, 6)?;
                let entry = entry(flags & 1 == 1, index)?;
                (entry.0.as_bytes(), entry.1.as_bytes())
            }
            // A value with the name of an entry (§4.5.4).
            0b0100_0000.. => {
                let (flags, index) = integer(bytes, 4)?;
                let entry = entry(flags & 1 == 1, index)?;
                (entry.0.as_bytes(), text(bytes, 7, &mut value)?)
            }
            // Name and value (§4.5.6).
            0b0010_0000.. => (text(bytes, 3, &mut name)?, text(bytes, 7, &mut value)?),
            // Of the dynamic table (§4.5.3, §4.5.5).
            _ => return Err(BadSection::Invalid),
        };
        size += field.0.len() + field.1.len() + OVERHEAD;
        if size > most {
            return Err(BadSection::TooLarge);
        }
        take(field.0, field.1)?;
    }
    Ok(())
}

fn entry(
    is_static: bool,
    index: usize,
) -> Result<&'static (&'static str, &'static str), BadSection> {
    ENTRIES.get(index).filter(|_| is_static).ok_or(BadSection::Invalid)
}

/// A text whose length has so many bits in its first byte; the bit above says whether it is in Huffman's
/// code (§4.1.2).
fn text<'t, 'b: 't>(
    bytes: &mut &'b [u8],
    prefix: u32,
    decoded: &'t mut Vec<u8>,
) -> Result<&'t [u8], BadSection> {
    let (flags, length) = integer(bytes, prefix)?;
    let (text, rest) = bytes.split_at_checked(length).ok_or(BadSection::Invalid)?;
    *bytes = rest;
    if flags & 1 == 0 {
        return Ok(text);
    }
    decoded.clear();
    huffman::decode(text, decoded).map_err(|_| BadSection::Invalid)?;
    Ok(decoded)
}

/// A number that begins in the last `prefix` bits of the first byte, and the bits above it (RFC 7541 §5.1).
/// Nothing here is larger than 2^28; what says so is wrong.
///
/// # Errors
/// It is larger, or cut short.
pub fn integer(bytes: &mut &[u8], prefix: u32) -> Result<(u8, usize), BadSection> {
    let (&first, mut rest) = bytes.split_first().ok_or(BadSection::Invalid)?;
    let most = u8::MAX >> (8 - prefix);
    // Eight bits leave no flags.
    let flags = (u16::from(first) >> prefix) as u8;
    let mut value = usize::from(first & most);
    if first & most == most {
        let mut shift = 0;
        loop {
            let (&byte, after) = rest.split_first().ok_or(BadSection::Invalid)?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
            if shift > 21 {
                return Err(BadSection::Invalid);
            }
        }
    }
    *bytes = rest;
    Ok((flags, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(bytes: &[u8], most: usize) -> Result<Vec<(String, String)>, BadSection> {
        let mut fields = Vec::new();
        section(bytes, most, |name, value| {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            fields.push((text(name), text(value)));
            Ok(())
        })?;
        Ok(fields)
    }

    #[test]
    fn each_way_to_write_a_field() {
        // Example of RFC 9204 B.1.
        let example = b"\x00\x00\x51\x0b/index.html";
        assert_eq!(fields(example, 999), Ok(vec![(":path".into(), "/index.html".into())]));
        let indexed = [0, 0, 0xc0 | 17, 0xc0 | 23];
        let expected =
            [(":method", "GET"), (":scheme", "https")].map(|(a, b)| (a.into(), b.into()));
        assert_eq!(fields(&indexed, 999), Ok(expected.to_vec()));
        let literal = b"\x00\x00\x23x-a\x01b";
        assert_eq!(fields(literal, 999), Ok(vec![("x-a".into(), "b".into())]));
        // An index over six bits: 98 = 63 + 35.
        let last = [0, 0, 0xff, 35];
        assert_eq!(fields(&last, 999), Ok(vec![("x-frame-options".into(), "sameorigin".into())]));
        assert_eq!(fields(&[0, 0], 999), Ok(Vec::new()));
    }

    #[test]
    fn what_cannot_be_read() {
        for (bytes, why) in [
            (&b""[..], "no prefix"),
            (b"\x00", "half a prefix"),
            (b"\x02\x00", "it waits for insertions"),
            (b"\x00\x00\x80", "an entry of the dynamic table"),
            (b"\x00\x00\x41\x01a", "a name of the dynamic table"),
            (b"\x00\x00\x10", "after the base"),
            (b"\x00\x00\x00\x01a", "a name after the base"),
            (b"\x00\x00\xff\x24", "entry 99"),
            (b"\x00\x00\x51\x0b/short", "a value that is cut short"),
            (b"\x00\x00\x51", "no value"),
            (b"\x00\x00\x51\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "a huge length"),
            (b"\x00\x00\x51\x81\xff", "not in Huffman's code"),
        ] {
            assert_eq!(fields(bytes, 999), Err(BadSection::Invalid), "{why}");
        }
    }

    #[test]
    fn the_size_counts_each_field() {
        let section = b"\x00\x00\x23x-a\x01b\x23x-a\x01b";
        assert_eq!(fields(section, 72).map(|fields| fields.len()), Ok(2));
        assert_eq!(fields(section, 71), Err(BadSection::TooLarge));
    }

    #[test]
    fn any_bytes_end_in_an_answer() {
        let mut rng = fastrand::Rng::with_seed(9204);
        for _ in 0..20_000 {
            let length = rng.usize(..40);
            let mut bytes = vec![0, 0];
            bytes.extend((0..length).map(|_| rng.u8(..)));
            let _ = fields(&bytes, 4096);
        }
    }
}
