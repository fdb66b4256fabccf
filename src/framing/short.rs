//! Finding a byte that is near: the end of a line, the colon behind a name.
//!
//! memchr is made for what is far away, and costs fifty instructions before it looks at the first byte.

/// Beyond so many bytes memchr looks.
const NEAR: usize = 128;
const EACH: u128 = u128::MAX / 0xff;
const HIGH: u128 = EACH * 0x80;

/// Where a byte is first.
#[inline(always)]
pub fn find(wanted: u8, bytes: &[u8]) -> Option<usize> {
    let pattern = EACH * u128::from(wanted);
    let (mut rest, mut at) = (bytes, 0);
    // Sixteen at a time: those that are equal become 0, and the lowest 0 borrows from nobody below it.
    while let Some((chunk, after)) = rest.split_first_chunk::<16>() {
        let unlike = u128::from_le_bytes(*chunk) ^ pattern;
        let zeros = unlike.wrapping_sub(EACH) & !unlike & HIGH;
        if zeros != 0 {
            return Some(at + zeros.trailing_zeros() as usize / 8);
        }
        (rest, at) = (after, at + 16);
        if at == NEAR {
            return far(wanted, rest, at);
        }
    }
    rest.iter().position(|byte| *byte == wanted).map(|found| at + found)
}

#[cold]
fn far(wanted: u8, rest: &[u8], at: usize) -> Option<usize> {
    memchr::memchr(wanted, rest).map(|found| at + found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_place_of_every_length() {
        for length in 0..300 {
            let mut bytes = vec![b'x'; length];
            assert_eq!(find(b'\n', &bytes), None);
            for place in (0..length).rev() {
                bytes[place] = b'\n';
                assert_eq!(find(b'\n', &bytes), Some(place), "of {length}");
            }
        }
    }

    proptest! {
        /// Bytes that differ from it by a bit, and by a carry, are not taken for it.
        #[test]
        fn as_memchr_does(
            wanted: u8,
            near in proptest::collection::vec((0_u8..4, any::<bool>()), 0..200),
        ) {
            let byte = |(by, up): &(u8, bool)| match up {
                true => wanted.wrapping_add(*by),
                false => wanted ^ (*by << 6),
            };
            let bytes: Vec<u8> = near.iter().map(byte).collect();
            prop_assert_eq!(find(wanted, &bytes), memchr::memchr(wanted, &bytes));
            let bytes: Vec<u8> = near.iter().map(|(by, _)| wanted.wrapping_add(1 + by)).collect();
            prop_assert_eq!(find(wanted, &bytes), memchr::memchr(wanted, &bytes));
        }
    }
}
