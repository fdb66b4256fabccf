//! `[[admin.token]]`: who may ask the admin API, and for what.

use std::sync::Arc;

use crate::config::field::Field;
use crate::config::reader::Reader;
use crate::config::tree::Value;
use crate::config::types::{AdminToken, Role};
use crate::config::values::{self, Wrong, wrong};

use super::{Named, fields, listener, unique};

pub const ROLES: [(&str, Role); 3] =
    [("viewer", Role::Viewer), ("operator", Role::Operator), ("admin", Role::Admin)];

pub fn all(r: &mut Reader<'_>) -> Vec<AdminToken> {
    let all = r.sections("token", |r| {
        let name = r.string("name").and(listener::name).required();
        let hash = Field { shown: fields::absolute_secret, ..r.field("token_hash", hash) };
        let (hash, file) = hash.required();
        let role = r.one_of("role", &ROLES).required_or(Role::Viewer);
        let item = AdminToken { name: Arc::from(name.as_str()), hash, role, file };
        Named { place: r.place("name"), name, item }
    });
    unique(r, "token", &all);
    all.into_iter().map(|token| token.item).collect()
}

/// `sha256:HEX`, or `file:PATH` of a file that has that.
fn hash(value: &Value) -> Result<([u8; 32], Option<std::path::PathBuf>), Wrong> {
    let (text, file) = values::or_file(value)?;
    match text.trim().strip_prefix("sha256:").and_then(bytes) {
        Some(hash) => Ok((hash, file)),
        None => {
            // What stands in a file may be the token itself.
            let what = if file.is_some() { "what it has".to_owned() } else { format!("{text:?}") };
            let message = format!(
                "{what} is not a hash; write \"sha256:\" and 64 hexadecimal digits, as \
                 `printf %s TOKEN | sha256sum` prints them"
            );
            wrong(value, message)
        }
    }
}

fn bytes(hex: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok()?;
    }
    Some(bytes)
}
