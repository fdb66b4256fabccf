//! `[defaults.listener]`, `[defaults.route]` and `[defaults.service]`.
//!
//! Each listener, route or service takes from its table of defaults what it does not say
//! itself: tables key by key, everything else as a whole.

use super::tree::{Node, Source, Table, Value};

/// A route does one of these; its own word replaces that of the defaults.
const ACTIONS: [&str; 4] = ["service", "split", "redirect", "respond"];

/// Fills every listener, route and service. The tables of defaults stay, for `check`.
pub fn merge(root: &mut Table) {
    let Some(defaults) = root.table("defaults").cloned() else { return };
    for (key, source) in [
        ("listener", "defaults.listener"),
        ("route", "defaults.route"),
        ("service", "defaults.service"),
    ] {
        let Some(from) = defaults.table(key) else { continue };
        let Some(entry) = root.entries.iter_mut().find(|entry| entry.key == key) else { continue };
        match &mut entry.value.node {
            Node::Array(values) => {
                values
                    .iter_mut()
                    .filter_map(table_in)
                    .for_each(|table| fill_top(table, from, source));
            }
            Node::Table(services) => {
                let values = services.entries.iter_mut().map(|entry| &mut entry.value);
                values.filter_map(table_in).for_each(|table| fill_top(table, from, source));
            }
            _ => {}
        }
    }
}

fn table_in(value: &mut Value) -> Option<&mut Table> {
    match &mut value.node {
        Node::Table(table) => Some(table),
        _ => None,
    }
}

fn fill_top(table: &mut Table, from: &Table, source: &'static str) {
    let mut from = from.clone();
    if ACTIONS.iter().any(|action| table.get(action).is_some()) {
        from.entries.retain(|entry| !ACTIONS.contains(&entry.key.as_str()));
    }
    fill(table, &from, source);
}

fn fill(table: &mut Table, from: &Table, source: &'static str) {
    for entry in &from.entries {
        match (table.entries.iter_mut().find(|own| own.key == entry.key), &entry.value.node) {
            (None, _) => {
                let mut entry = entry.clone();
                mark(&mut entry.value, &table.dotted(&entry.key), source);
                table.entries.push(entry);
            }
            (Some(own), Node::Table(from)) => {
                if let Node::Table(own) = &mut own.value.node {
                    fill(own, from, source);
                }
            }
            (Some(_), _) => {}
        }
    }
}

/// Says of a value and all below it where it came from, and gives tables their new names.
fn mark(value: &mut Value, name: &str, source: &'static str) {
    if value.source == Source::File {
        value.source = Source::Defaults(source);
    }
    match &mut value.node {
        Node::Array(values) => values.iter_mut().for_each(|value| mark(value, name, source)),
        Node::Table(table) => {
            table.name = name.to_owned();
            for entry in &mut table.entries {
                mark(&mut entry.value, &format!("{name}.{}", entry.key), source);
            }
        }
        _ => {}
    }
}
