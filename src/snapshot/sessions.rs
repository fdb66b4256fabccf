//! `sticky`: cookies that name the backend of a session.
//!
//! A cookie is `base64url(handle · expiry · signature)`. The handle stands for a backend: a keyed hash of
//! service and id, so it shows neither, and nobody without the key can tell whose it is or make one up. The
//! signature covers service, handle and expiry, so a cookie is good for the service that gave it, for its
//! time, and for nothing else. All of it follows from the key and from ids: a restarted proxy and the one
//! beside it know the same sessions. Both hashes are HMAC-SHA256 (RFC 2104), cut to 8 and 16 bytes.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use http::HeaderValue;

use super::Member;

const HANDLE: usize = 8;
const EXPIRY: usize = 6;
const SIGNATURE: usize = 16;
const TOKEN: usize = HANDLE + EXPIRY + SIGNATURE;
/// Of the text, which has no padding.
const TEXT: usize = TOKEN / 3 * 4;

/// What a service needs to know its sessions.
pub struct Sessions {
    service: Arc<str>,
    cookie: Box<str>,
    ttl: Duration,
    key: hmac::Key,
    /// Handles of the members with their indexes, in the order of the handles.
    handles: Box<[(u64, u32)]>,
}

/// What a valid cookie says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Session {
    /// Stands for a backend, which may be gone.
    pub handle: u64,
    /// A good part of its time is over: it is to be given anew.
    pub is_due: bool,
}

impl Sessions {
    /// `key`: 16 bytes or more that nobody else knows.
    pub fn new(service: Arc<str>, cookie: &str, ttl: Duration, key: &[u8], of: &[Member]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let mut sessions =
            Self { service, cookie: cookie.into(), ttl, key, handles: Box::default() };
        let handles = of.iter().zip(0..).map(|(m, i)| (sessions.handle(&m.backend.id), i));
        let mut handles: Box<[(u64, u32)]> = handles.collect();
        handles.sort_unstable();
        sessions.handles = handles;
        sessions
    }

    /// Its name.
    #[inline]
    pub fn cookie(&self) -> &str {
        &self.cookie
    }

    /// Index of the member that a handle stands for.
    pub fn member(&self, handle: u64) -> Option<usize> {
        let at = self.handles.binary_search_by_key(&handle, |(known, _)| *known).ok()?;
        Some(self.handles[at].1 as usize)
    }

    /// What a cookie says, if it is one of this service's and its time is not over.
    pub fn read(&self, value: &[u8], now: SystemTime) -> Option<Session> {
        let token = decode(value)?;
        let (said, signature) = token.split_at(HANDLE + EXPIRY);
        // Compared in constant time.
        let expected = self.sign(said);
        aws_lc_rs::constant_time::verify_slices_are_equal(&expected, signature).ok()?;
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        let (handle, expiry) = (number(&said[..HANDLE]), number(&said[HANDLE..]));
        let left = expiry.checked_sub(seconds(now)).filter(|left| *left > 0)?;
        let ttl = self.ttl.as_secs();
        // More is left than is given now where the time was shortened.
        Some(Session { handle, is_due: left * 2 < ttl || left > ttl })
    }

    /// The Set-Cookie that gives a client this backend.
    pub fn write(&self, backend: &str, now: SystemTime, secure: bool) -> HeaderValue {
        let mut token = [0; TOKEN];
        token[..HANDLE].copy_from_slice(&self.handle(backend).to_be_bytes());
        let expiry = seconds(now).saturating_add(self.ttl.as_secs()).to_be_bytes();
        token[HANDLE..HANDLE + EXPIRY].copy_from_slice(&expiry[8 - EXPIRY..]);
        let signature = self.sign(&token[..HANDLE + EXPIRY]);
        token[HANDLE + EXPIRY..].copy_from_slice(&signature);
        let text = format!(
            "{}={}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax{}",
            self.cookie,
            encode(&token),
            self.ttl.as_secs(),
            if secure { "; Secure" } else { "" }
        );
        HeaderValue::try_from(text).expect("the name is a token, the rest is ASCII")
    }

    fn handle(&self, backend: &str) -> u64 {
        let tag = self.hash(b"backend\0", backend.as_bytes());
        u64::from_be_bytes(*tag.as_ref().first_chunk().expect("a tag of 32 bytes"))
    }

    fn sign(&self, said: &[u8]) -> [u8; SIGNATURE] {
        *self.hash(b"session\0", said).as_ref().first_chunk().expect("a tag of 32 bytes")
    }

    fn hash(&self, purpose: &[u8], what: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(purpose);
        // The length keeps a service's name apart from what follows it.
        context.update(&(self.service.len() as u64).to_be_bytes());
        context.update(self.service.as_bytes());
        context.update(what);
        context.sign()
    }
}

impl fmt::Debug for Sessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sessions").field("cookie", &self.cookie).finish_non_exhaustive()
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// RFC 4648 §5.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn encode(token: &[u8; TOKEN]) -> String {
    let mut text = String::with_capacity(TEXT);
    for three in token.chunks_exact(3) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte));
        text.extend([18, 12, 6, 0].map(|shift| char::from(LETTERS[bits >> shift & 63])));
    }
    text
}

fn decode(text: &[u8]) -> Option<[u8; TOKEN]> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    };
    let text: &[u8; TEXT] = text.try_into().ok()?;
    let mut token = [0; TOKEN];
    for (three, four) in token.chunks_exact_mut(3).zip(text.chunks_exact(4)) {
        let mut bits = 0_u32;
        for letter in four {
            bits = bits << 6 | u32::from(value(*letter)?);
        }
        three.copy_from_slice(&bits.to_be_bytes()[1..]);
    }
    Some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::backend::{Backend, Source};
    use crate::upstream::gate::State;

    const HOUR: Duration = Duration::from_secs(3600);
    const KEY: &[u8] = b"sixteen bytes or more";

    fn members(ids: &[&str]) -> Vec<Member> {
        let backend = |id: &&str| {
            let (host, at) = (HeaderValue::from_static("app"), ([127, 0, 0, 1], 1).into());
            Backend::new(1, "app".into(), (*id).into(), at, host, Source::Fixed, State::Ready, 1)
        };
        let member =
            |id| Member { backend: Arc::new(backend(id)), weight: 1, backup: false, near: true };
        ids.iter().map(member).collect()
    }

    fn sessions(service: &str, ids: &[&str]) -> Sessions {
        Sessions::new(service.into(), "tg", HOUR, KEY, &members(ids))
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000 + seconds)
    }

    /// What the client sends back.
    fn given(sessions: &Sessions, backend: &str, now: SystemTime) -> String {
        let cookie = sessions.write(backend, now, false);
        let text = cookie.to_str().expect("ASCII").strip_prefix("tg=").expect("its name");
        text.split(';').next().expect("a value").to_owned()
    }

    #[test]
    fn a_session_finds_its_backend_whoever_else_came_or_went() {
        let before = sessions("app", &["a", "b", "c"]);
        let value = given(&before, "b", at(0));
        for (ids, index) in [
            (&["a", "b", "c"][..], Some(1)),
            (&["b"], Some(0)),
            (&["x", "c", "b"], Some(2)),
            (&["a"], None),
        ] {
            let session = sessions("app", ids).read(value.as_bytes(), at(10)).expect("it is good");
            assert_eq!(sessions("app", ids).member(session.handle), index, "{ids:?}");
        }
    }

    #[test]
    fn it_says_what_browsers_need_and_neither_id_nor_address() {
        let text = sessions("app", &["app-1"]).write("app-1", at(0), true);
        let text = text.to_str().expect("ASCII");
        assert!(text.ends_with("; Path=/; Max-Age=3600; HttpOnly; SameSite=Lax; Secure"), "{text}");
        let value = given(&sessions("app", &["app-1"]), "app-1", at(0));
        let token = decode(value.as_bytes()).expect("40 letters");
        assert!(!token.windows(5).any(|bytes| bytes == b"app-1"));
        assert_eq!(encode(&token), value);
    }

    #[test]
    fn it_ends_when_it_says_and_is_renewed_before() {
        let sessions = sessions("app", &["a"]);
        let value = given(&sessions, "a", at(0));
        let due = |seconds| sessions.read(value.as_bytes(), at(seconds)).map(|s| s.is_due);
        assert_eq!(due(0), Some(false));
        assert_eq!(due(1800), Some(false));
        assert_eq!(due(1801), Some(true));
        assert_eq!(due(3599), Some(true));
        assert_eq!(due(3600), None);
        // Of a proxy whose clock is ahead, or from before `ttl` was shortened.
        let early =
            sessions.read(value.as_bytes(), UNIX_EPOCH + Duration::from_secs(1_799_999_000));
        assert_eq!(early.map(|s| s.is_due), Some(true));
    }

    #[test]
    fn what_is_changed_made_up_or_another_services_is_nothing() {
        let app = sessions("app", &["a", "b"]);
        let value = given(&app, "a", at(0));
        for i in 0..value.len() {
            let mut forged = value.clone().into_bytes();
            forged[i] = if forged[i] == b'A' { b'B' } else { b'A' };
            assert_eq!(app.read(&forged, at(0)), None, "letter {i}");
        }
        for forged in [&b""[..], b"a", &[b'A'; 40], &[b'='; 40], &value.as_bytes()[..39]] {
            assert_eq!(app.read(forged, at(0)), None);
        }
        assert_eq!(sessions("api", &["a", "b"]).read(value.as_bytes(), at(0)), None);
        let other =
            Sessions::new("app".into(), "tg", HOUR, b"another key of ours", &members(&["a"]));
        assert_eq!(other.read(value.as_bytes(), at(0)), None);
    }
}
