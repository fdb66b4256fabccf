//! `[[admin.user]]`: who may ask the admin API by name and password, and for what.

use std::path::PathBuf;
use std::sync::Arc;

use argon2::Params;
use argon2::password_hash::phc;

use crate::config::field::Field;
use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::types::{AdminUser, PasswordHash, Role};
use crate::config::values::{self, Wrong, wrong};

use super::{Named, fields, listener, token, unique};

/// Most memory that one verification may take, in KiB.
const MEMORY: u32 = 1 << 20;
/// Most passes over it.
const PASSES: u32 = 64;
/// bcrypt does 2 to the power of its cost of rounds; 16 is a matter of seconds.
const COST: u32 = 16;

pub fn all(r: &mut Reader<'_>) -> Vec<AdminUser> {
    let all = r.sections("user", |r| {
        let name = r.string("name").and(listener::name).and(plain).required();
        let hash = Field { shown: fields::absolute_secret, ..r.field("password_hash", hash) };
        let (hash, file) = hash.required();
        let role = r.one_of("role", &token::ROLES).required_or(Role::Viewer);
        let item = AdminUser { name: Arc::from(name.as_str()), hash, role, file };
        Named { place: r.place("name"), name, item }
    });
    unique(r, "user", &all);
    all.into_iter().map(|user| user.item).collect()
}

/// RFC 7617 section 2: a colon would end it.
fn plain(name: String) -> Result<String, String> {
    match name.contains(':') {
        true => Err(format!("{name:?} has a colon; write a name without, as \"ops\"")),
        false => Ok(name),
    }
}

/// A hash, or `file:PATH` of a file that has one.
fn hash(value: &Value) -> Result<(PasswordHash, Option<PathBuf>), Wrong> {
    let (text, file) = values::or_file(value)?;
    match parse(text.trim()) {
        Ok(hash) => Ok((hash, file)),
        // Never what was given: it may be the password itself.
        Err(message) => wrong(value, message),
    }
}

fn parse(text: &str) -> Result<PasswordHash, String> {
    if text.starts_with("$argon2id$") {
        let hash = phc::PasswordHash::new(text).ok().filter(|hash| hash.hash.is_some());
        let params =
            hash.filter(|hash| hash.salt.is_some()).and_then(|h| Params::try_from(&h).ok());
        let Some(params) = params else {
            return Err("an argon2id hash that is not whole; write what \
                        `argon2 SALT -id -e` prints"
                .into());
        };
        if params.m_cost() > MEMORY || params.t_cost() > PASSES {
            return Err(format!(
                "an argon2id hash of m={},t={} takes too much to verify; make one of \
                 m={MEMORY},t={PASSES} at most",
                params.m_cost(),
                params.t_cost()
            ));
        }
        return Ok(PasswordHash::Argon2id(text.into()));
    }
    // What htpasswd calls 2y is the same.
    if ["$2a$", "$2b$", "$2y$"].iter().any(|prefix| text.starts_with(prefix)) {
        let Ok(parts) = text.parse::<bcrypt::HashParts>() else {
            return Err("a bcrypt hash that is not whole; write what `htpasswd -nB NAME` prints \
                        after the colon"
                .into());
        };
        let cost = parts.get_cost();
        if !(4..=COST).contains(&cost) {
            return Err(format!("a bcrypt hash of cost {cost}; make one from 4 to {COST}"));
        }
        return Ok(PasswordHash::Bcrypt(text.into()));
    }
    Err("no hash of a password; write one of argon2id (\"$argon2id$…\") or bcrypt (\"$2b$…\"), as \
         `htpasswd -nB NAME` prints it after the colon"
        .into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_both_kinds_are_read() {
        let salted = "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$\
                      c2FsdHNhbHRzYWx0c2FsdHNhbHRzYWx0c2FsdHNhbHQ";
        assert!(matches!(parse(salted), Ok(PasswordHash::Argon2id(_))), "{:?}", parse(salted));
        let bcrypt = format!("12${}", ".".repeat(53));
        for version in ["2a", "2b", "2y"] {
            let hash = format!("${version}${bcrypt}");
            assert!(matches!(parse(&hash), Ok(PasswordHash::Bcrypt(_))), "{hash}");
        }
    }

    #[test]
    fn what_is_none_or_too_much_is_told_without_its_text() {
        for (text, says) in [
            ("hunter22", "no hash"),
            ("$argon2i$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", "no hash"),
            ("$argon2id$hunter22", "not whole"),
            ("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ", "not whole"),
            ("$argon2id$v=19$m=4000000,t=1,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", "too much"),
            ("$argon2id$v=19$m=8,t=1000,p=1$c2FsdHNhbHQ$c2FsdHNhbHRzYWx0c2FsdA", "too much"),
            ("$2b$12$hunter22", "not whole"),
            (&format!("$2b$31${}", ".".repeat(53)), "cost 31"),
        ] {
            let message = parse(text).expect_err(text);
            assert!(message.contains(says) && !message.contains("hunter22"), "{text}: {message}");
        }
    }
}
