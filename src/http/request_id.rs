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
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 32];
        let bits = rng.u128(..).to_be_bytes();
        for (pair, byte) in text.chunks_exact_mut(2).zip(bits) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
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

    /// For sending.
    pub fn value(&self) -> HeaderValue {
        match &self.0 {
            Repr::Made(text) => HeaderValue::from_bytes(text).expect("hexadecimal digits"),
            Repr::Given(value) => value.clone(),
        }
    }
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
