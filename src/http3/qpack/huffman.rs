//! The Huffman code that names and values may be sent in (RFC 7541 Appendix B).
//!
//! It is canonical: among codes of one length those of smaller symbols are smaller, and all of them are
//! smaller (as the beginning of a number) than every longer one. So the lengths say all of it.

/// Bits of each symbol's code; the last symbol ends nothing and must never be sent.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

const LONGEST: usize = 30;
const END: u16 = 256;

/// What the lengths come to.
struct Code {
    /// Symbols in the order of their codes.
    symbols: [u16; 257],
    /// By length: the first code, where its symbol stands, and the end of its codes as 32 bits.
    first: [u32; LONGEST + 1],
    place: [usize; LONGEST + 1],
    end: [u64; LONGEST + 1],
}

static CODE: Code = Code::new();

impl Code {
    const fn new() -> Self {
        let mut code = Self {
            symbols: [0; 257],
            first: [0; LONGEST + 1],
            place: [0; LONGEST + 1],
            end: [0; LONGEST + 1],
        };
        let (mut length, mut next, mut filled) = (1, 0u32, 0);
        while length <= LONGEST {
            next <<= 1;
            code.first[length] = next;
            code.place[length] = filled;
            let mut symbol = 0;
            while symbol < LENGTHS.len() {
                if LENGTHS[symbol] as usize == length {
                    code.symbols[filled] = symbol as u16;
                    filled += 1;
                    next += 1;
                }
                symbol += 1;
            }
            code.end[length] = (next as u64) << (32 - length);
            length += 1;
        }
        code
    }
}

/// Not a text in this code.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadCode;

/// Adds the text to `out`. One byte becomes 8/5 at most.
pub(super) fn decode(bytes: &[u8], out: &mut Vec<u8>) -> Result<(), BadCode> {
    let mut bytes = bytes.iter();
    // The bits to come, from the top, and how many there are.
    let (mut bits, mut have) = (0u64, 0);
    loop {
        while have <= 56 {
            let Some(&byte) = bytes.next() else { break };
            bits |= u64::from(byte) << (56 - have);
            have += 8;
        }
        if have == 0 {
            return Ok(());
        }
        let top = (bits >> 32) as u32;
        let mut length = 5;
        while length < LONGEST && u64::from(top) >= CODE.end[length] {
            length += 1;
        }
        if length > have {
            // What fills the last byte is the beginning of the code that ends nothing: ones.
            let ones = bits.leading_ones() as usize;
            return if have < 8 && ones >= have { Ok(()) } else { Err(BadCode) };
        }
        let nth = (top >> (32 - length)) - CODE.first[length];
        let symbol = CODE.symbols[CODE.place[length] + nth as usize];
        if symbol == END {
            return Err(BadCode);
        }
        out.push(symbol as u8);
        bits <<= length;
        have -= length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every symbol's code by the definition of the canonical code.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for &byte in text {
            let length = LENGTHS[byte as usize] as usize;
            let place = CODE.symbols.iter().position(|s| *s == u16::from(byte)).expect("a symbol");
            let code = CODE.first[length] as usize + place - CODE.place[length];
            bits.extend((0..length).rev().map(|bit| code >> bit & 1 == 1));
        }
        while bits.len() % 8 != 0 {
            bits.push(true);
        }
        bits.chunks(8)
            .map(|byte| byte.iter().fold(0, |all, bit| all << 1 | u8::from(*bit)))
            .collect()
    }

    fn decoded(bytes: &[u8]) -> Result<Vec<u8>, BadCode> {
        let mut out = Vec::new();
        decode(bytes, &mut out).map(|()| out)
    }

    #[test]
    fn examples_of_the_rfc() {
        // RFC 7541 C.4 and C.6
        for (text, code) in [
            ("www.example.com", "f1e3c2e5f23a6ba0ab90f4ff"),
            ("no-cache", "a8eb10649cbf"),
            ("custom-key", "25a849e95ba97d7f"),
            ("custom-value", "25a849e95bb8e8b4bf"),
            ("302", "6402"),
            ("private", "aec3771a4b"),
            ("Mon, 21 Oct 2013 20:13:21 GMT", "d07abe941054d444a8200595040b8166e082a62d1bff"),
            ("https://www.example.com", "9d29ad171863c78f0b97c8e9ae82ae43d3"),
        ] {
            let code: Vec<u8> = (0..code.len())
                .step_by(2)
                .map(|at| u8::from_str_radix(&code[at..at + 2], 16).expect("hexadecimal"))
                .collect();
            assert_eq!(decoded(&code), Ok(text.into()), "{text}");
            assert_eq!(encode(text.as_bytes()), code, "{text}");
        }
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).chain((0..=255).rev()).collect();
        assert_eq!(decoded(&encode(&all)), Ok(all));
        assert_eq!(decoded(&[]), Ok(Vec::new()));
    }

    #[test]
    fn what_is_no_text() {
        assert_eq!(decoded(&[0xff]), Err(BadCode), "eight bits of filling");
        assert_eq!(decoded(&[0xff; 4]), Err(BadCode), "the end that must not be sent");
        // "0" is 00000; what is left of the byte should be ones.
        assert_eq!(decoded(&[0b0000_0000]), Err(BadCode), "filled with zeros");
        assert_eq!(decoded(&[0b0000_0111]), Ok(b"0".to_vec()));
        assert_eq!(decoded(&[0b0000_0110]), Err(BadCode));
    }
}
