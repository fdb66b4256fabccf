//! How many fields a head has, before it is unpacked (HPACK, RFC 7541 §6).
//!
//! Unpacking costs a hundred times as much as sending: a field may be three bytes. Here lengths are read and strings
//! passed over; nothing is looked up, and nothing kept but where it was. What is not HPACK at all is the codec's to
//! find out.

/// HEADERS frames that begin with the length of their padding, and with a priority (RFC 9113 §6.2).
const PADDED: u8 = 0x8;
const PRIORITIZED: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;

/// Counts the fields of one head after the other, in pieces.
#[derive(Debug, Default)]
pub(super) struct Fields {
    pub(super) count: u32,
    /// Bytes of the present frame that are to be looked at.
    frame: usize,
    padded: bool,
    next: Next,
    /// Strings of the present field that are still to come.
    strings: u8,
}

/// What the next byte is.
#[derive(Debug, Default, Clone, Copy)]
enum Next {
    /// The first of a field, or of a change of the table's size.
    #[default]
    Field,
    /// One more of an index.
    Index,
    /// The first of a string's length.
    Length,
    /// One more of that: so much is known, and so many bits.
    More(usize, u32),
    /// In a string, or before the first field: so many bytes are passed over.
    Passed(usize),
}

impl Fields {
    /// A head begins with a HEADERS frame of that length.
    pub(super) fn begin(&mut self, length: usize, flags: u8) {
        let priority = if flags & PRIORITIZED != 0 { PRIORITY_BYTES } else { 0 };
        let next = if priority > 0 { Next::Passed(priority) } else { Next::Field };
        let padded = flags & PADDED != 0;
        *self = Self { count: 0, frame: length, padded, next, strings: 0 };
    }

    /// It goes on in a CONTINUATION frame of that length.
    pub(super) fn goes_on(&mut self, length: usize) {
        self.frame = length;
    }

    /// Whether anything of the present frame is still to be looked at.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        self.frame > 0
    }

    /// Looks at the next bytes of the connection; what comes after the frame is left.
    pub(super) fn scan(&mut self, bytes: &[u8]) {
        let mut bytes = &bytes[..self.frame.min(bytes.len())];
        self.frame -= bytes.len();
        if self.padded {
            let Some((&padding, rest)) = bytes.split_first() else { return };
            self.padded = false;
            // The padding is at the end.
            let padding = usize::from(padding);
            bytes = &rest[..rest.len().saturating_sub(padding.saturating_sub(self.frame))];
            self.frame = self.frame.saturating_sub(padding);
        }
        while let Some((&byte, rest)) = bytes.split_first() {
            bytes = rest;
            let low = usize::from(byte & 0x7f);
            let is_last = byte & 0x80 == 0;
            match self.next {
                Next::Field => self.field(byte),
                Next::Index if is_last => self.after(),
                Next::Index => {}
                Next::Length if low < 0x7f => self.string(low),
                Next::Length => self.next = Next::More(0x7f, 0),
                Next::More(known, bits) => {
                    // No frame is long enough for more.
                    let length = known.saturating_add(low << bits.min(28));
                    match is_last {
                        true => self.string(length),
                        false => self.next = Next::More(length, bits + 7),
                    }
                }
                Next::Passed(left) => {
                    // This one, and what is there of the others.
                    let more = (left - 1).min(bytes.len());
                    bytes = &bytes[more..];
                    match left - 1 - more {
                        0 => self.after(),
                        left => self.next = Next::Passed(left),
                    }
                }
            }
        }
    }

    /// The first byte of a field: what it is, and an index, or the beginning of one.
    fn field(&mut self, byte: u8) {
        let (mask, named) = match byte {
            0x80.. => (0x7f, 0),
            0x40.. => (0x3f, 1),
            // The table's size (§6.3) is no field.
            0x20.. => (0x1f, 0),
            _ => (0x0f, 1),
        };
        self.count += u32::from(!(0x20..0x40).contains(&byte));
        // Without an index the name is a string, too.
        self.strings = named + u8::from(named == 1 && byte & mask == 0);
        if byte & mask == mask {
            self.next = Next::Index;
        } else {
            self.after();
        }
    }

    fn string(&mut self, length: usize) {
        self.strings -= 1;
        match length {
            0 => self.after(),
            _ => self.next = Next::Passed(length),
        }
    }

    fn after(&mut self) {
        self.next = if self.strings > 0 { Next::Length } else { Next::Field };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A literal field without Huffman's code, with the bits of its kind.
    fn literal(kind: u8, name: &[u8], value: &[u8]) -> Vec<u8> {
        [&[kind, name.len() as u8][..], name, &[value.len() as u8], value].concat()
    }

    /// The count, in pieces of each size.
    fn count(payload: &[u8], flags: u8) -> u32 {
        let counts = [1, 2, 3, 7, usize::MAX].map(|step| {
            let mut fields = Fields::default();
            fields.begin(payload.len(), flags);
            for piece in payload.chunks(step) {
                fields.scan(piece);
            }
            assert!(!fields.is_due());
            fields.count
        });
        assert!(counts.iter().all(|count| *count == counts[0]), "{counts:?} of {payload:?}");
        counts[0]
    }

    #[test]
    fn every_kind_of_field_is_one() {
        for (payload, fields) in [
            (vec![0x82], 1),
            (vec![0xbe; 40], 40),
            // An index of several bytes: 127 + 1 + 128.
            (vec![0xff, 0x81, 0x01], 1),
            (literal(0x40, b"x", b"y"), 1),
            (literal(0x00, b"x", b""), 1),
            (literal(0x10, b"", b""), 1),
            (literal(0x00, b"x", b"y").repeat(500), 500),
            // An indexed name: a value alone; in four bits 15 and more take another byte.
            (vec![0x41, 0x01, b'a', 0x0f, 0x20, 0x02, b'b', b'c'], 2),
            // The table's size, in one byte and in several, is none.
            (vec![0x20, 0x3f, 0xe1, 0x1f, 0x82], 1),
            (vec![], 0),
        ] {
            assert_eq!(count(&payload, 0), fields, "{payload:?}");
        }
        // A value of 300 bytes: 127 + 45 + 128.
        let long = [&[0x00, 0x01, b'x', 0x7f, 0xad, 0x01][..], &[b'a'; 300], &[0x82]].concat();
        assert_eq!(count(&long, 0), 2);
        // With Huffman's code the length is that of the code.
        assert_eq!(count(&[0x00, 0x81, 0xf3, 0x83, 0xff, 0xff, 0xff, 0x82], 0), 2);
    }

    #[test]
    fn padding_and_priority_are_no_fields() {
        let block = literal(0x00, b"x", b"y").repeat(3);
        let priority = [0x80, 0, 0, 1, 9];
        assert_eq!(count(&[&priority[..], &block].concat(), PRIORITIZED), 3);
        let padded = [&[200][..], &block, &[0; 200]].concat();
        assert_eq!(count(&padded, PADDED), 3);
        let both = [&[2][..], &priority, &block, &[0; 2]].concat();
        assert_eq!(count(&both, PADDED | PRIORITIZED), 3);
        // More than there is: the codec ends the connection.
        assert_eq!(count(&[9, 0x82, 0x82], PADDED), 0);
    }

    #[test]
    fn a_head_goes_on_in_the_next_frame() {
        let block = literal(0x40, b"name", b"value").repeat(4);
        let mut fields = Fields::default();
        fields.begin(7, 0);
        fields.scan(&block[..7]);
        fields.goes_on(block.len() - 7);
        fields.scan(&[&block[7..], &[0x82, 0x82]].concat());
        assert_eq!(fields.count, 4);
        fields.begin(1, 0);
        assert_eq!(fields.count, 0);
    }

    #[test]
    fn what_is_no_hpack_ends_somehow() {
        let mut seed = 7_u32;
        for _ in 0..2000 {
            let bytes: Vec<u8> = std::iter::repeat_with(|| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 24) as u8
            })
            .take(200)
            .collect();
            let mut fields = Fields::default();
            fields.begin(bytes.len(), bytes[0]);
            fields.scan(&bytes);
            assert!(fields.count <= 200);
        }
        // Lengths beyond everything.
        assert_eq!(
            count(&[0x00, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], 0),
            1
        );
    }
}
