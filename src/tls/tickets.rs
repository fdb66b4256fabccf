//! Session tickets (RFC 5077 §4, RFC 8446 §4.6.1) whose keys can be handed to the next process.
//!
//! rustls has a ticketer of its own, but its keys cannot leave it: after a hand-over every client
//! would shake hands in full. This one does the same: AES-256-GCM under a random key that is
//! replaced every six hours; what the key before it sealed is still opened.

use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use rustls::server::ProducesTickets;
use serde::{Deserialize, Serialize};

/// How long a key seals; it opens for as long again.
const TURN: Duration = Duration::from_secs(6 * 3600);
/// Names a key in the tickets it sealed.
const NAME: usize = 16;
const SECRET: usize = 32;

/// The keys of one listener.
pub struct Tickets {
    /// Newest first: the one that seals, and the one before.
    keys: RwLock<Vec<Key>>,
}

struct Key {
    bytes: KeyBytes,
    sealing: RandomizedNonceKey,
}

/// A key as it is handed over. It opens every session of the last hours: to be kept as secret as a
/// certificate's key.
#[derive(Clone, Serialize, Deserialize)]
pub struct KeyBytes {
    name: [u8; NAME],
    secret: [u8; SECRET],
    /// Seconds since 1970.
    made: u64,
}

/// There are no random numbers, or a key is none.
#[derive(Debug, thiserror::Error)]
#[error("session tickets: no key can be made")]
pub struct NoKey;

impl Tickets {
    /// With a new key.
    ///
    /// # Errors
    /// There are no random numbers.
    pub fn new() -> Result<Self, NoKey> {
        Ok(Self { keys: RwLock::new(vec![Key::new(now())?]) })
    }

    /// With those of another process; what is too old is left out.
    ///
    /// # Errors
    /// None of them is of use, and there are no random numbers for a new one.
    pub fn with(keys: &[KeyBytes]) -> Result<Self, NoKey> {
        let now = now();
        let fresh = keys.iter().filter(|key| key.opens(now));
        let keys: Vec<_> = fresh.filter_map(|key| Key::of(key.clone()).ok()).take(2).collect();
        if keys.is_empty() { Self::new() } else { Ok(Self { keys: RwLock::new(keys) }) }
    }

    /// For another process.
    pub fn keys(&self) -> Vec<KeyBytes> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().map(|key| key.bytes.clone()).collect()
    }

    fn encrypt_at(&self, plain: &[u8], now: u64) -> Option<Vec<u8>> {
        let due = |keys: &[Key]| keys.first().is_none_or(|key| !key.bytes.seals(now));
        if due(&self.keys.read().unwrap_or_else(PoisonError::into_inner)) {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            // Another worker may have been here first.
            if due(&keys) {
                keys.insert(0, Key::new(now).ok()?);
                keys.truncate(2);
            }
        }
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.first()?.seal(plain)
    }

    fn decrypt_at(&self, ticket: &[u8], now: u64) -> Option<Vec<u8>> {
        let (name, sealed) = ticket.split_at_checked(NAME)?;
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        let key = keys.iter().find(|key| key.bytes.name == name)?;
        key.bytes.opens(now).then(|| key.open(sealed))?
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        TURN.as_secs() as u32
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.encrypt_at(plain, now())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        self.decrypt_at(ticket, now())
    }
}

impl Key {
    fn new(now: u64) -> Result<Self, NoKey> {
        let (mut name, mut secret) = ([0; NAME], [0; SECRET]);
        aws_lc_rs::rand::fill(&mut name).map_err(|_| NoKey)?;
        aws_lc_rs::rand::fill(&mut secret).map_err(|_| NoKey)?;
        Self::of(KeyBytes { name, secret, made: now })
    }

    fn of(bytes: KeyBytes) -> Result<Self, NoKey> {
        let sealing = RandomizedNonceKey::new(&AES_256_GCM, &bytes.secret).map_err(|_| NoKey)?;
        Ok(Self { bytes, sealing })
    }

    /// name ‖ nonce ‖ sealed ‖ tag
    fn seal(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let mut sealed = plain.to_vec();
        let nonce =
            self.sealing.seal_in_place_append_tag(Aad::from(self.bytes.name), &mut sealed).ok()?;
        let mut ticket = Vec::with_capacity(NAME + NONCE_LEN + sealed.len());
        ticket.extend(self.bytes.name);
        ticket.extend(nonce.as_ref());
        ticket.append(&mut sealed);
        Some(ticket)
    }

    fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut plain = sealed.to_vec();
        let length =
            self.sealing.open_in_place(nonce, Aad::from(self.bytes.name), &mut plain).ok()?.len();
        plain.truncate(length);
        Some(plain)
    }
}

impl KeyBytes {
    fn seals(&self, now: u64) -> bool {
        now.saturating_sub(self.made) < TURN.as_secs()
    }

    fn opens(&self, now: u64) -> bool {
        now.saturating_sub(self.made) < 2 * TURN.as_secs()
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets")
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes")
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_process_sealed_the_next_one_opens() {
        let old = Tickets::new().expect("random numbers");
        let ticket = old.encrypt(b"a session").expect("sealed");
        let new = Tickets::with(&old.keys()).expect("keys");
        assert_eq!(new.decrypt(&ticket).as_deref(), Some(&b"a session"[..]));
        assert_eq!(Tickets::new().expect("random numbers").decrypt(&ticket), None);
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(new.decrypt(&changed), None, "byte {at}");
            assert_eq!(new.decrypt(&ticket[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn keys_take_turns() {
        let tickets = Tickets::new().expect("random numbers");
        let (start, turn) = (now(), TURN.as_secs());
        let first = tickets.encrypt_at(b"1", start).expect("sealed");
        let second = tickets.encrypt_at(b"2", start + turn + 1).expect("sealed");
        assert_ne!(first[..NAME], second[..NAME], "another key");
        assert!(tickets.decrypt_at(&first, start + turn + 1).is_some());
        assert!(tickets.decrypt_at(&first, start + 2 * turn + 1).is_none(), "its time is over");
        assert!(tickets.decrypt_at(&second, start + 2 * turn + 1).is_some());
        tickets.encrypt_at(b"3", start + 3 * turn).expect("sealed");
        assert_eq!(tickets.keys().len(), 2);
    }
}
