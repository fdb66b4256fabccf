//! From one value to one Rust value: the types that keys have.
//!
//! Each function takes a value of the tree and says what is wrong and what would be right. A
//! string that holds a number or a truth value is taken as such: that is how the environment
//! reaches keys that are not strings.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use crate::units;

use super::tree::{Node, Place, Value};

/// What is wrong with a value, each at its place (an element of a list has its own).
pub type Wrong = Vec<(Place, String)>;

/// A mistake at the value itself.
pub fn wrong<T>(value: &Value, message: impl Into<String>) -> Result<T, Wrong> {
    Err(vec![(value.place.clone(), message.into())])
}

/// The value as it would be written, shortened.
fn shown(value: &Value) -> String {
    match &value.node {
        Node::String(text) if text.chars().count() > 40 => {
            format!("{:?}", text.chars().take(40).chain(['…']).collect::<String>())
        }
        Node::String(text) => format!("{text:?}"),
        Node::Integer(number) => number.to_string(),
        Node::Float(number) => format!("{number:?}"),
        Node::Bool(value) => value.to_string(),
        other => other.type_name().to_owned(),
    }
}

pub fn string(value: &Value) -> Result<String, Wrong> {
    match &value.node {
        Node::String(text) => Ok(text.clone()),
        other => wrong(
            value,
            format!("{} where a string belongs; write it in quotes", other.type_name()),
        ),
    }
}

/// A string, or `file:PATH` of a file that has it, with that file's path.
pub fn or_file(value: &Value) -> Result<(String, Option<PathBuf>), Wrong> {
    let text = string(value)?;
    let Some(path) = text.strip_prefix("file:") else { return Ok((text, None)) };
    let path = value.place.resolve(path);
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((text, Some(path))),
        Err(error) => {
            let path = path.display();
            wrong(value, format!("{path} cannot be read ({error}); name a file that can"))
        }
    }
}

pub fn boolean(value: &Value) -> Result<bool, Wrong> {
    match &value.node {
        Node::Bool(value) => Ok(*value),
        Node::String(text) if text == "true" => Ok(true),
        Node::String(text) if text == "false" => Ok(false),
        _ => wrong(value, format!("{} is not a truth value; write true or false", shown(value))),
    }
}

pub fn integer(value: &Value, range: &RangeInclusive<i64>) -> Result<i64, Wrong> {
    let number = match &value.node {
        Node::Integer(number) => Some(*number),
        Node::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let (low, high) = (range.start(), range.end());
    let right = if *high == i64::MAX {
        format!("write one of at least {low}")
    } else {
        format!("write one from {low} to {high}")
    };
    match number {
        Some(number) if range.contains(&number) => Ok(number),
        Some(number) => wrong(value, format!("{number} is out of range; {right}")),
        None => wrong(value, format!("{} is not a whole number; {right}", shown(value))),
    }
}

/// A finite number within the range.
pub fn number(value: &Value, range: &RangeInclusive<f64>) -> Result<f64, Wrong> {
    let number = match &value.node {
        Node::Integer(number) => Some(*number as f64),
        Node::Float(number) => Some(*number),
        Node::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    let (low, high) = (range.start(), range.end());
    let right = if high.is_infinite() {
        format!("write one of at least {low}")
    } else {
        format!("write one from {low} to {high}")
    };
    match number {
        Some(number) if number.is_finite() && range.contains(&number) => Ok(number),
        Some(number) => wrong(value, format!("{number} is out of range; {right}")),
        None => wrong(value, format!("{} is not a number; {right}", shown(value))),
    }
}

pub fn duration(value: &Value) -> Result<Duration, Wrong> {
    match &value.node {
        Node::String(text) => units::parse_duration(text).or_else(|e| wrong(value, e.to_string())),
        Node::Integer(number) if (0..=31_536_000).contains(number) => {
            wrong(value, format!("{number} has no unit; write a duration such as \"{number}s\""))
        }
        other => wrong(
            value,
            format!(
                "{} where a duration belongs; write \"250ms\", \"10s\" or \"5m\"",
                other.type_name()
            ),
        ),
    }
}

/// A duration above zero.
pub fn period(value: &Value) -> Result<Duration, Wrong> {
    match duration(value)? {
        Duration::ZERO => wrong(value, "it may not be zero; write \"1ms\" or more"),
        period => Ok(period),
    }
}

pub fn size(value: &Value) -> Result<u64, Wrong> {
    match &value.node {
        Node::String(text) => units::parse_size(text).or_else(|e| wrong(value, e.to_string())),
        Node::Integer(bytes) if *bytes >= 0 => Ok(*bytes as u64),
        _ => wrong(
            value,
            format!(
                "{} is not a size; write \"64KiB\", \"10MiB\" or a number of bytes",
                shown(value)
            ),
        ),
    }
}

pub fn ratio(value: &Value) -> Result<f64, Wrong> {
    let text = match &value.node {
        Node::String(text) => text.clone(),
        Node::Integer(number) => number.to_string(),
        Node::Float(number) => format!("{number:?}"),
        _ => shown(value),
    };
    units::parse_ratio(&text).or_else(|_| {
        wrong(
            value,
            format!("{} is not a ratio; write one from 0 to 1 as 0.2 or \"20%\"", shown(value)),
        )
    })
}

/// Joined to the folder of the file that names it.
pub fn path(value: &Value) -> Result<PathBuf, Wrong> {
    let text = string(value)?;
    if text.is_empty() {
        return wrong(value, "an empty path; name a file or folder");
    }
    Ok(value.place.resolve(&text))
}

/// A list, each element read by `each`; all mistakes of all elements are told.
pub fn list<T>(value: &Value, each: impl Fn(&Value) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    let Node::Array(values) = &value.node else {
        let right = match &value.node {
            Node::String(_) => format!("write [{}]", shown(value)),
            _ => "write it in [ ]".to_owned(),
        };
        return wrong(value, format!("{} where a list belongs; {right}", value.node.type_name()));
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for value in values {
        match each(value) {
            Ok(one) => good.push(one),
            Err(mut some) => bad.append(&mut some),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

/// A table of strings, in file order: the value of `set`, `headers`, `env`.
pub fn string_map(value: &Value) -> Result<Vec<(String, Value)>, Wrong> {
    let Node::Table(table) = &value.node else {
        let message = format!(
            "{} where a table belongs; write {{ \"name\" = \"value\" }}",
            value.node.type_name()
        );
        return wrong(value, message);
    };
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for entry in &table.entries {
        match string(&entry.value) {
            Ok(_) => good.push((entry.key.clone(), entry.value.clone())),
            Err(mut some) => bad.append(&mut some),
        }
    }
    if bad.is_empty() { Ok(good) } else { Err(bad) }
}

/// One of a set of words.
pub fn one_of<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, Wrong> {
    let words: Vec<_> = choices.iter().map(|(word, _)| format!("{word:?}")).collect();
    let right = words.join(", ");
    let text = match &value.node {
        Node::String(text) => text,
        other => {
            let message =
                format!("{} where a word belongs; write one of {right}", other.type_name());
            return wrong(value, message);
        }
    };
    match choices.iter().find(|(word, _)| word == text) {
        Some((_, choice)) => Ok(*choice),
        None => wrong(value, format!("{} is not known here; write one of {right}", shown(value))),
    }
}
