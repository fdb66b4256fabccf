//! X-Request-Id: one name for a request in every log it passes.

use http::{HeaderName, HeaderValue};

/// `x-request-id`
pub static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id that is taken over, in bytes.
pub const MAX_LENGTH: usize = 128;

/// The id of one request; also what logs and our own answers say.
#[derive(Debug, Clone)]
pub struct RequestId(Repr);

#[derive(Debug, Clone)]
enum Repr {
    Made([u8; 32]),
    Given(HeaderValue),
}

impl RequestId {
    /// 128 random bits as 32 hexadecimal digits. Not a secret: the generator is a fast one.
    pub fn generate(rng: &mut fastrand::Rng) -> Self {
        let mut text = [0; 32];
        let bits = rng.u128(..);
        for (at, eight) in text.chunks_exact_mut(8).enumerate() {
            eight.copy_from_slice(&digits((bits >> (96 - 32 * at)) as u32));
        }
        Self(Repr::Made(text))
    }

    /// The id that a trusted peer sent: 1 to 128 token characters (RFC 9110 §5.6.2).
    pub fn given(value: &HeaderValue) -> Option<Self> {
        is_short_token(value).then(|| Self(Repr::Given(value.clone())))
    }

    pub fn as_str(&self) -> &str {
        match &self.0 {
            Repr::Made(text) => str::from_utf8(text).unwrap_or_default(),
            Repr::Given(value) => value.to_str().unwrap_or_default(),
        }
    }

    /// The same as bytes, which nobody has to look at.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Repr::Made(text) => text,
            Repr::Given(value) => value.as_bytes(),
        }
    }

    /// For sending.
    pub fn value(&self) -> HeaderValue {
        match &self.0 {
            Repr::Made(text) => HeaderValue::from_bytes(text).expect("hexadecimal digits"),
            Repr::Given(value) => value.clone(),
        }
    }
}

/// Eight hexadecimal digits at a time: each half byte into a byte of its own, then all of them into text.
fn digits(bits: u32) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let spread = u64::from(bits);
    let spread = (spread | spread << 16) & 0x0000_ffff_0000_ffff;
    let spread = (spread | spread << 8) & 0x00ff_00ff_00ff_00ff;
    let spread = (spread | spread << 4) & (EACH * 0x0f);
    // What is above 9 has a carry into the fifth bit.
    let letters = ((spread + EACH * 6) >> 4) & EACH;
    (spread + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// 1 to 128 token characters: harmless in any log.
pub(super) fn is_short_token(value: &HeaderValue) -> bool {
    (1..=MAX_LENGTH).contains(&value.len()) && value.as_bytes().iter().all(|&b| is_token_byte(b))
}

/// RFC 9110 §5.6.2 `tchar`
pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_ids_are_32_hexadecimal_digits_and_differ() {
        let mut rng = fastrand::Rng::with_seed(7);
        let (a, b) = (RequestId::generate(&mut rng), RequestId::generate(&mut rng));
        assert_eq!(a.as_str().len(), 32);
        assert!(a.as_str().bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_ne!(a.as_str(), b.as_str());
        assert_eq!(a.value(), a.as_str());
    }

    #[test]
    fn digits_are_those_of_fmt() {
        let mut rng = fastrand::Rng::with_seed(8);
        let random = std::iter::repeat_with(|| rng.u32(..)).take(10_000);
        for bits in [0, 1, 9, 10, 0x0123_4567, 0x89ab_cdef, u32::MAX].into_iter().chain(random) {
            assert_eq!(digits(bits), format!("{bits:08x}").as_bytes());
        }
        let id = RequestId::generate(&mut fastrand::Rng::with_seed(9));
        let bits = fastrand::Rng::with_seed(9).u128(..);
        assert_eq!(id.as_str(), format!("{bits:032x}"));
    }

    #[test]
    fn given_ids_are_short_tokens() {
        let long = "a".repeat(129);
        for (text, taken) in [
            ("abc-123_X.y", true),
            (&long[..128], true),
            (&long, false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a=b", false),
        ] {
            let id = RequestId::given(&HeaderValue::from_str(text).expect("value"));
            assert_eq!(id.as_ref().map(RequestId::as_str), taken.then_some(text), "{text}");
        }
    }
}
