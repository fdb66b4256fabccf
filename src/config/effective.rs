//! The configuration as it is meant: every value with its source, as TOML or JSON.
//!
//! The table is written down by the reader while it checks, so this file only prints. Paths
//! are absolute, so that the printed file means the same wherever it is put.

use std::borrow::Cow;
use std::fmt::Write;

use serde::ser::{Serialize, SerializeMap, Serializer};

use super::expand::escape;
use super::tree::{Node, Source, Table, Value};

/// What is never shown in masked output, whatever its value.
const SECRET_KEYS: [&str; 7] =
    ["command", "env", "password", "password_hash", "secret", "token", "token_hash"];

/// Stands where something was masked.
const MASK: &str = "***";

/// Lists of tables that read better on one line.
const INLINE: [&str; 1] = ["limits"];

/// The effective configuration.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Effective {
    root: Table,
}

impl Effective {
    /// From what the reader wrote down.
    pub fn new(root: Table) -> Self {
        Self { root }
    }

    /// A configuration file that means the same, each value with its source in a comment.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        write_table(&mut out, &self.root, "");
        out
    }

    /// The values alone. Masked: no secrets, expanded variables, user-info in URLs, `env` or
    /// `command`.
    pub fn to_json(&self, masked: bool) -> String {
        let json = serde_json::to_string(&Json { masked, what: &self.root });
        json.expect("keys are strings, and a String takes everything")
    }
}

fn write_table(out: &mut String, table: &Table, path: &str) {
    for entry in &table.entries {
        if section_of(&entry.key, &entry.value).is_none() {
            let (key, value) = (key_of(&entry.key), inline(&entry.value.node));
            let _ = writeln!(out, "{key} = {value}  # {}", source_of(&entry.value));
        }
    }
    for entry in &table.entries {
        let key = key_of(&entry.key);
        let path = if path.is_empty() { key } else { format!("{path}.{key}") };
        for (table, header) in section_of(&entry.key, &entry.value).unwrap_or_default() {
            // A table that only holds tables needs no header of its own.
            let bare = table.entries.iter().any(|e| section_of(&e.key, &e.value).is_none());
            match header {
                Header::List => _ = writeln!(out, "\n[[{path}]]"),
                Header::Table if bare || table.entries.is_empty() => {
                    _ = writeln!(out, "\n[{path}]")
                }
                Header::Table => {}
            }
            write_table(out, table, &path);
        }
    }
}

enum Header {
    Table,
    List,
}

/// The tables that a value is written as, if it is not written on one line.
fn section_of<'a>(key: &str, value: &'a Value) -> Option<Vec<(&'a Table, Header)>> {
    match &value.node {
        Node::Table(table) => Some(vec![(table, Header::Table)]),
        Node::Array(values) if !values.is_empty() && !INLINE.contains(&key) => values
            .iter()
            .map(|value| match &value.node {
                Node::Table(table) => Some((table, Header::List)),
                _ => None,
            })
            .collect(),
        _ => None,
    }
}

fn inline(node: &Node) -> String {
    match node {
        Node::String(text) => quoted(&escape(text)),
        Node::Integer(number) => number.to_string(),
        Node::Float(number) => format!("{number:?}"),
        Node::Bool(value) => value.to_string(),
        Node::Datetime(date) => date.clone(),
        Node::Array(values) => {
            let values: Vec<_> = values.iter().map(|value| inline(&value.node)).collect();
            format!("[{}]", values.join(", "))
        }
        Node::Table(table) => {
            let pair =
                |e: &super::tree::Entry| format!("{} = {}", key_of(&e.key), inline(&e.value.node));
            let pairs: Vec<_> = table.entries.iter().map(pair).collect();
            format!("{{ {} }}", pairs.join(", "))
        }
    }
}

fn key_of(key: &str) -> String {
    let bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.bytes().all(bare) { key.to_owned() } else { quoted(key) }
}

/// A basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn source_of(value: &Value) -> String {
    let (file, line) = (value.place.file.display(), value.place.line);
    let in_environment = |value: &Value| value.source == Source::Environment;
    let expanded = match &value.node {
        Node::Array(values) => values.iter().any(in_environment),
        _ => false,
    };
    match value.source {
        Source::Environment => format!("environment, {file}:{line}"),
        Source::File if expanded => format!("environment, {file}:{line}"),
        Source::File => format!("{file}:{line}"),
        Source::Defaults(table) => format!("{table}, {file}:{line}"),
        Source::Default | Source::Unknown => "default".to_owned(),
    }
}

/// The URL of a hook lets anyone who has it write there.
fn is_secret(table: &Table, key: &str) -> bool {
    SECRET_KEYS.contains(&key) || table.name == "notify" && key == "url"
}

/// Written without a tree of its own: of a large configuration that would be the larger part.
struct Json<'a, T> {
    masked: bool,
    what: &'a T,
}

impl Serialize for Json<'_, Table> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(self.what.entries.len()))?;
        for entry in &self.what.entries {
            if self.masked && is_secret(self.what, &entry.key) {
                map.serialize_entry(&entry.key, MASK)?;
            } else {
                map.serialize_entry(&entry.key, &Json { masked: self.masked, what: &entry.value })?;
            }
        }
        map.end()
    }
}

impl Serialize for Json<'_, Value> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let masked = self.masked;
        if masked && self.what.source == Source::Environment {
            return to.serialize_str(MASK);
        }
        match &self.what.node {
            Node::String(text) if masked => to.serialize_str(&without_user_info(text)),
            Node::String(text) | Node::Datetime(text) => to.serialize_str(text),
            Node::Integer(number) => to.serialize_i64(*number),
            Node::Float(number) => to.serialize_f64(*number),
            Node::Bool(value) => to.serialize_bool(*value),
            Node::Array(values) => to.collect_seq(values.iter().map(|what| Json { masked, what })),
            Node::Table(what) => Json { masked, what }.serialize(to),
        }
    }
}

/// `redis://user:password@host/0` without who and what.
fn without_user_info(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://{MASK}@{host}{}", &rest[end..]).into(),
        None => text.into(),
    }
}
