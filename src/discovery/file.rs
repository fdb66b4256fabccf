//! A file of backends, TOML or JSON: what may be in it, and where a mistake is.
//!
//! ```toml
//! [[backend]]
//! address = "10.0.0.1:3000"   # required: IP and port
//! id = "one"                  # default: the address with "-" for ":"
//! weight = 1                  # 1 to 65535
//! backup = false
//! zone = "a"
//! ```
//!
//! In JSON: `{"backend": [{"address": …}]}`, or the list alone. A file that names none says so:
//! `backend = []`. An empty one is taken for half-written.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{AskError, Found, MAX_BACKENDS};

/// Longest file that is read; its length bounds what a slip can make us keep.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// One backend as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub address: SocketAddr,
    #[serde(default)]
    pub id: String,
    #[serde(default = "one")]
    pub weight: Weight,
    #[serde(default)]
    pub backup: bool,
    #[serde(default)]
    pub zone: String,
}

/// 1 to 65535, so that a mistake is told where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(u32);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    backend: Vec<Row>,
}

fn one() -> Weight {
    Weight(1)
}

impl TryFrom<u32> for Weight {
    type Error = String;

    fn try_from(weight: u32) -> Result<Self, String> {
        match weight {
            1..=65_535 => Ok(Self(weight)),
            _ => Err(format!("a weight of {weight}; write one from 1 to 65535")),
        }
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.0
    }
}

impl From<Row> for Found {
    fn from(row: Row) -> Self {
        let found = Self::at(row.address);
        Self {
            id: if row.id.is_empty() { found.id } else { row.id.into() },
            weight: row.weight.0,
            backup: row.backup,
            zone: Some(row.zone.into()).filter(|zone: &std::sync::Arc<str>| !zone.is_empty()),
            ..found
        }
    }
}

impl From<&Found> for Row {
    fn from(found: &Found) -> Self {
        Self {
            address: found.address,
            id: found.id.to_string(),
            weight: Weight(found.weight),
            backup: found.backup,
            zone: found.zone.as_deref().unwrap_or_default().to_owned(),
        }
    }
}

/// Reads it now. Blocks for as long as the file system does.
///
/// # Errors
/// What is wrong, with file, line and column.
pub fn read(path: &Path) -> Result<Vec<Found>, AskError> {
    let failed = |why: &dyn Display| AskError::Failed(format!("{}: {why}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if length > MAX_BYTES {
        return Err(failed(&format!("{length} bytes; at most {MAX_BYTES} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    parse(&text).map_err(|(place, why)| match place {
        Some((line, column)) => {
            AskError::Failed(format!("{}:{line}:{column}: {why}", path.display()))
        }
        None => failed(&why),
    })
}

/// Line and column from 1 on, where that is known, and what is wrong there.
pub type Mistake = (Option<(usize, usize)>, String);

/// The backends of a file.
///
/// # Errors
/// The first mistake.
pub fn parse(text: &str) -> Result<Vec<Found>, Mistake> {
    let rows = match text.trim_start().chars().next() {
        None => return Err((None, "the file is empty; write backend = [] for none".to_owned())),
        Some('{') => json::<Rows>(text)?.backend,
        Some('[')
            if !text.trim_start().starts_with("[[") && !text.trim_start().starts_with("[b") =>
        {
            json::<Vec<Row>>(text)?
        }
        Some(_) => toml(text)?.backend,
    };
    if rows.len() > MAX_BACKENDS {
        return Err((None, format!("{} backends; at most {MAX_BACKENDS}", rows.len())));
    }
    let found: Vec<Found> = rows.into_iter().map(Found::from).collect();
    let mut ids = BTreeSet::new();
    match found.iter().find(|found| !ids.insert(&found.id)) {
        Some(twice) => Err((None, format!("the backend {:?} is there twice", twice.id))),
        None => Ok(found),
    }
}

fn json<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Mistake> {
    serde_json::from_str(text).map_err(|error| {
        let place = (error.line(), error.column());
        let why = error.to_string();
        let why = why.rsplit_once(" at line ").map_or(&*why, |(why, _)| why);
        (Some(place), why.to_owned())
    })
}

fn toml(text: &str) -> Result<Rows, Mistake> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().and_then(|span| {
            let before = text.get(..span.start)?;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            Some((before.matches('\n').count() + 1, column))
        });
        (place, error.message().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_say_the_same() {
        let toml = "[[backend]]\naddress = \"10.0.0.1:3000\"\n\n[[backend]]\n\
                    address = \"[::1]:3001\"\nid = \"b\"\nweight = 7\nbackup = true\nzone = \"z\"\n";
        let list = r#"[{"address": "10.0.0.1:3000"},
            {"address": "[::1]:3001", "id": "b", "weight": 7, "backup": true, "zone": "z"}]"#;
        let found = parse(toml).expect("it is good");
        assert_eq!(parse(list).expect("it is good"), found);
        assert_eq!(parse(&format!("{{\"backend\": {list}}}")).expect("it is good"), found);
        assert_eq!((&*found[0].id, found[0].weight, &found[0].zone), ("10.0.0.1-3000", 1, &None));
        let b = &found[1];
        assert_eq!((&*b.id, b.weight, b.backup, b.zone.as_deref()), ("b", 7, true, Some("z")));
        let again: Vec<_> = found.iter().map(|f| Found::from(Row::from(f))).collect();
        assert_eq!(again, found);
    }

    #[test]
    fn none_must_be_said() {
        assert_eq!(parse("backend = []"), Ok(vec![]));
        assert_eq!(parse("[]"), Ok(vec![]));
        for half in ["", " \n", "# a comment\n", "{}"] {
            assert!(parse(half).is_err(), "{half:?}");
        }
    }

    #[test]
    fn a_mistake_has_its_line() {
        let at = |text: &str| parse(text).expect_err("it is bad").0.map(|(line, _)| line);
        assert_eq!(at("[[backend]]\naddress = \"app:3000\"\n"), Some(2));
        assert_eq!(at("[[backend]]\naddress = \"10.0.0.1:1\"\nweigth = 1\n"), Some(3));
        assert_eq!(at("[[backend]]\naddress = \"10.0.0.1:1\"\nweight = 0\n"), Some(3));
        assert_eq!(at("[[backend]]\naddress = \"10.0.0"), Some(2));
        assert_eq!(at("[\n {\"address\": \"10.0.0.1:1\"},\n {\"address\": \"10.0"), Some(3));
        assert_eq!(at("[\n {\"address\": \"10.0.0.1:1\",\n  \"weight\": 70000}]"), Some(3));
        let twice = "[{\"address\": \"10.0.0.1:1\"}, {\"address\": \"10.0.0.1:1\"}]";
        assert!(parse(twice).expect_err("it is bad").1.contains("twice"));
    }
}
