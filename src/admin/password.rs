//! Whose password it is: the users of `[[admin.user]]`.
//!
//! A verification is made to be slow, so it runs on a thread for what blocks, few at once, and
//! what was found right is remembered for a while: not the password, but an HMAC of it under a key of this process.
//! An unknown name costs as much as a known one, so that the time tells no names.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::{Argon2, PasswordVerifier};
use aws_lc_rs::hmac;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::types::{AdminUser, PasswordHash};

/// Verifications at once; each takes a core and, with argon2, tens of MiB.
pub const AT_ONCE: usize = 2;
/// Longest wait for one's turn.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a password that was right is believed without asking again.
const REMEMBERED: Duration = Duration::from_secs(60);
/// No password is longer, in bytes; more would only be work.
const LONGEST: usize = 1024;

/// The users, and who was right lately.
#[derive(Debug)]
pub struct Passwords {
    users: Vec<AdminUser>,
    /// The last right password of each user, and when it was verified.
    remembered: Vec<Mutex<Option<(hmac::Tag, Instant)>>>,
    key: hmac::Key,
    turns: Arc<Semaphore>,
}

/// One's turn to have a password verified.
pub struct Turn(OwnedSemaphorePermit);

impl Passwords {
    /// `turns` is shared with the passwords of other configurations.
    pub fn new(users: &[AdminUser], turns: Arc<Semaphore>) -> Self {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).expect("the system has random bytes");
        Self {
            users: users.to_vec(),
            remembered: users.iter().map(|_| Mutex::default()).collect(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &bytes),
            turns,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The user, if the same password was right within the last minute.
    pub fn remembered(&self, name: &[u8], password: &[u8], now: Instant) -> Option<&AdminUser> {
        let at = self.find(name)?;
        let remembered = self.remembered[at].lock().unwrap_or_else(PoisonError::into_inner);
        let (tag, _) = remembered.filter(|(_, since)| now.duration_since(*since) < REMEMBERED)?;
        hmac::verify(&self.key, password, tag.as_ref()).is_ok().then(|| &self.users[at])
    }

    /// Waits for one's turn. `None`: it did not come in time.
    pub async fn turn(&self, within: Duration) -> Option<Turn> {
        let turn = tokio::time::timeout(within, self.turns.clone().acquire_owned()).await;
        turn.ok()?.ok().map(Turn)
    }

    /// The user, if it has this password.
    pub async fn verify(
        &self,
        turn: Turn,
        name: &[u8],
        password: &[u8],
        now: Instant,
    ) -> Option<&AdminUser> {
        let known = self.find(name);
        let hash = self.users.get(known.unwrap_or_else(|| self.instead_of(name)))?.hash.clone();
        let given = password.get(..LONGEST).unwrap_or(password).to_vec();
        let verifying = tokio::task::spawn_blocking(move || {
            // The turn is over when the work is, also where nobody waits for it any more.
            let _turn = turn.0;
            is_of(&given, &hash)
        });
        let right = verifying.await.unwrap_or(false) && password.len() <= LONGEST;
        let at = known.filter(|_| right)?;
        let tag = hmac::sign(&self.key, password);
        *self.remembered[at].lock().unwrap_or_else(PoisonError::into_inner) = Some((tag, now));
        Some(&self.users[at])
    }

    fn find(&self, name: &[u8]) -> Option<usize> {
        self.users.iter().position(|user| user.name.as_bytes() == name)
    }

    /// Whose hash is used for an unknown name: always the same one for the same name.
    fn instead_of(&self, name: &[u8]) -> usize {
        let tag = hmac::sign(&self.key, name);
        usize::from(tag.as_ref()[0]) % self.users.len().max(1)
    }
}

fn is_of(password: &[u8], hash: &PasswordHash) -> bool {
    match hash {
        PasswordHash::Argon2id(hash) => {
            Argon2::default().verify_password(password, &**hash).is_ok()
        }
        // As everywhere with bcrypt, the first 72 bytes count.
        PasswordHash::Bcrypt(hash) => bcrypt::verify(password, hash).unwrap_or(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::types::Role;

    /// Of "secret of NAME", by both, with the least work there can be.
    fn users() -> Vec<AdminUser> {
        let params = argon2::Params::new(8, 1, 1, None).expect("params");
        let argon = argon2::PasswordHasher::hash_password_with_salt(
            &Argon2::from(params),
            b"secret of a",
            b"saltsalt",
        );
        let argon = PasswordHash::Argon2id(argon.expect("a hash").to_string().into());
        let bcrypt = bcrypt::hash_with_salt("secret of b", 4, [7; 16]).expect("a hash");
        let bcrypt = PasswordHash::Bcrypt(bcrypt.to_string().into());
        let user = |name: &str, hash| AdminUser {
            name: name.into(),
            hash,
            role: Role::Viewer,
            file: None,
        };
        vec![user("a", argon), user("b", bcrypt)]
    }

    async fn verify(passwords: &Passwords, name: &str, password: &str, now: Instant) -> bool {
        let turn = passwords.turn(PATIENCE).await.expect("a turn");
        let found = passwords.verify(turn, name.as_bytes(), password.as_bytes(), now).await;
        assert!(found.is_none_or(|user| &*user.name == name));
        found.is_some()
    }

    #[tokio::test]
    async fn the_right_password_of_the_right_user() {
        let passwords = Passwords::new(&users(), Arc::new(Semaphore::new(AT_ONCE)));
        let now = Instant::now();
        for (name, password, right) in [
            ("a", "secret of a", true),
            ("b", "secret of b", true),
            ("a", "secret of b", false),
            ("a", "", false),
            ("b", "secret of b ", false),
            ("", "secret of a", false),
            ("c", "secret of a", false),
            ("d", "secret of b", false),
            ("A", "secret of a", false),
        ] {
            assert_eq!(verify(&passwords, name, password, now).await, right, "{name} {password}");
        }
        let long = format!("secret of a{}", "x".repeat(LONGEST));
        assert!(!verify(&passwords, "a", &long, now).await);
    }

    #[tokio::test]
    async fn what_was_right_is_remembered_for_a_minute_and_nothing_else_is() {
        let passwords = Passwords::new(&users(), Arc::new(Semaphore::new(AT_ONCE)));
        let begin = Instant::now();
        let known = |name: &str, password: &str, seconds| {
            let now = begin + Duration::from_secs(seconds);
            passwords.remembered(name.as_bytes(), password.as_bytes(), now).is_some()
        };
        assert!(!known("a", "secret of a", 0));
        assert!(!verify(&passwords, "a", "wrong", begin).await);
        assert!(!known("a", "wrong", 0));
        assert!(verify(&passwords, "a", "secret of a", begin).await);
        assert!(known("a", "secret of a", 0) && known("a", "secret of a", 59));
        assert!(!known("a", "secret of a", 60));
        assert!(
            !known("a", "wrong", 1)
                && !known("b", "secret of a", 1)
                && !known("b", "secret of b", 1)
        );
        assert!(!verify(&passwords, "a", "wrong", begin).await);
        assert!(known("a", "secret of a", 1), "a wrong guess does not put the user out");
    }

    #[tokio::test]
    async fn few_at_once_and_the_rest_waits_but_not_for_long() {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let passwords = Passwords::new(&users(), turns.clone());
        let mut all = Vec::new();
        for _ in 0..AT_ONCE {
            all.push(passwords.turn(PATIENCE).await.expect("a turn"));
        }
        assert!(passwords.turn(Duration::from_millis(1)).await.is_none());
        all.pop();
        assert!(passwords.turn(PATIENCE).await.is_some());
        drop(all);
        assert_eq!(turns.available_permits(), AT_ONCE);
    }
}
