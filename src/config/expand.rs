//! `${NAME}` and `${NAME:-default}` in string values; `$${` is a literal `${`.
//!
//! Done once, after parsing and over the whole tree, so that a variable can neither add keys
//! nor be expanded again.

use super::tree::{Node, Place, Source, Table, Value};
use super::{Env, Problem};

/// Expands every string value below a table.
pub fn expand(table: &mut Table, env: &Env, problems: &mut Vec<Problem>) {
    for entry in &mut table.entries {
        value(&mut entry.value, env, problems);
    }
}

/// Writes a text so that [`expand`] gives it back.
pub fn escape(text: &str) -> String {
    text.replace("${", "$${")
}

fn value(value: &mut Value, env: &Env, problems: &mut Vec<Problem>) {
    match &mut value.node {
        Node::String(string) if string.contains("${") => match text(string, env, &value.place) {
            Ok((expanded, from_environment)) => {
                *string = expanded;
                if from_environment {
                    value.source = Source::Environment;
                }
            }
            Err(problem) => {
                problems.push(problem);
                // One mistake is enough: what would be read here is not known.
                value.source = Source::Unknown;
            }
        },
        Node::Array(values) => {
            for element in values.iter_mut() {
                self::value(element, env, problems);
            }
        }
        Node::Table(table) => expand(table, env, problems),
        _ => {}
    }
}

/// The expanded text, and whether a variable was looked at.
fn text(text: &str, env: &Env, place: &Place) -> Result<(String, bool), Problem> {
    let (mut out, mut rest, mut looked) = (String::new(), text, false);
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(literal) = before.strip_suffix('$') {
            out.push_str(literal);
            out.push_str("${");
            rest = &from[2..];
            continue;
        }
        out.push_str(before);
        let Some((inside, after)) = from[2..].split_once('}') else {
            return Err(
                place.problem("\"${\" without \"}\"; close it, or write $${ for a literal one")
            );
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        let well_formed = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !well_formed {
            let message = format!(
                "{name:?} is not the name of a variable; write ${{NAME}} or ${{NAME:-default}}"
            );
            return Err(place.problem(message));
        }
        // As in a shell, ":-" also stands in for a variable that is empty.
        let found = (env.var)(name).filter(|value| default.is_none() || !value.is_empty());
        match (found, default) {
            (Some(value), _) => out.push_str(&value),
            (None, Some(default)) => out.push_str(default),
            (None, None) => {
                let message =
                    format!("the environment has no {name}; set it or write ${{{name}:-default}}");
                return Err(place.problem(message));
            }
        }
        looked = true;
        rest = after;
    }
    out.push_str(rest);
    Ok((out, looked))
}
