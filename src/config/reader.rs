//! Reads typed values out of a table and collects every mistake on the way.
//!
//! A key is asked for by name and type, then said to have a default, to be optional or to be
//! required. Whatever was not asked for by the end is an unknown key. The same walk writes
//! down the effective value of each key with its source, so `check --print` cannot differ
//! from what runs. Orchestrator factories read their own keys with it too.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use super::Problem;
use super::field::Field;
use super::tree::{Node, Place, Source, Table, Value};
use super::values::{self, Wrong};
use super::words::nearest;

/// What comes of reading: mistakes, and every key that was asked for (dotted, list indexes left out).
#[derive(Debug, Default)]
pub struct Report {
    pub problems: Vec<Problem>,
    #[cfg(test)]
    pub known: BTreeSet<String>,
    /// Reading a table of defaults: nothing is missing in one.
    pub partial: bool,
}

/// Reads one table. See the module's text.
pub struct Reader<'a> {
    table: &'a Table,
    pub(super) report: &'a mut Report,
    asked: Vec<String>,
    pub(super) effective: Table,
}

impl Table {
    /// Reads the whole table; returns what `read` made of it and every mistake. What it made
    /// is of use only if there is no mistake.
    pub fn read<T>(&self, read: impl FnOnce(&mut Reader<'_>) -> T) -> (T, Vec<Problem>) {
        let mut report = Report::default();
        let (out, _) = self.read_into(&mut report, read);
        (out, report.problems)
    }

    /// Like [`Table::read`], into a report that others add to; also returns the effective table.
    pub fn read_into<T>(
        &self,
        report: &mut Report,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> (T, Self) {
        let effective =
            Self { name: self.name.clone(), place: self.place.clone(), entries: Vec::new() };
        let mut reader = Reader { table: self, report, asked: Vec::new(), effective };
        let out = read(&mut reader);
        reader.tell_unknown_keys();
        (out, reader.effective)
    }
}

impl<'a> Reader<'a> {
    /// The table that is read.
    pub fn table(&self) -> &'a Table {
        self.table
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.get(key).is_some()
    }

    /// A mistake at a key's value, or at the table if the key is not there.
    pub fn problem(&mut self, key: &str, message: impl Into<String>) {
        let problem = self.place(key).problem(message);
        self.report.problems.push(problem);
    }

    /// A mistake at a place of one's own.
    pub fn push(&mut self, problem: Problem) {
        self.report.problems.push(problem);
    }

    /// The table lacks something; not told of a table of defaults.
    pub fn missing(&mut self, message: impl Into<String>) {
        if !self.report.partial {
            self.report.problems.push(self.table.place.problem(message));
        }
    }

    /// Of a key's value, or of the table if the key is not there.
    pub fn place(&self, key: &str) -> Place {
        self.table.get(key).map_or(&self.table.place, |value| &value.place).clone()
    }

    pub fn string(&mut self, key: &'static str) -> Field<'_, 'a, String> {
        self.field(key, values::string)
    }

    pub fn bool(&mut self, key: &'static str) -> Field<'_, 'a, bool> {
        self.field(key, values::boolean)
    }

    /// A whole number within a range that fits the wanted type.
    pub fn int<T: TryFrom<i64> + 'static>(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Field<'_, 'a, T> {
        self.field(key, move |value| {
            let number = values::integer(value, &range)?;
            T::try_from(number)
                .or_else(|_| values::wrong(value, format!("{number} is out of range")))
        })
    }

    /// A finite number within a range.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Field<'_, 'a, f64> {
        self.field(key, move |value| values::number(value, &range))
    }

    /// Zero to a year.
    pub fn duration(&mut self, key: &'static str) -> Field<'_, 'a, Duration> {
        self.field(key, values::duration)
    }

    /// A duration above zero.
    pub fn period(&mut self, key: &'static str) -> Field<'_, 'a, Duration> {
        self.field(key, values::period)
    }

    /// Bytes.
    pub fn size(&mut self, key: &'static str) -> Field<'_, 'a, u64> {
        self.field(key, values::size)
    }

    /// From 0 to 1.
    pub fn ratio(&mut self, key: &'static str) -> Field<'_, 'a, f64> {
        self.field(key, values::ratio)
    }

    /// Relative to the file that names it; whether it exists is not looked at.
    pub fn path(&mut self, key: &'static str) -> Field<'_, 'a, PathBuf> {
        Field { shown: absolute, ..self.field(key, values::path) }
    }

    pub fn strings(&mut self, key: &'static str) -> Field<'_, 'a, Vec<String>> {
        self.field(key, |value| values::list(value, values::string))
    }

    /// A list, each element read by `each`.
    pub fn list<T: 'static>(
        &mut self,
        key: &'static str,
        each: impl Fn(&Value) -> Result<T, Wrong> + 'static,
    ) -> Field<'_, 'a, Vec<T>> {
        self.field(key, move |value| values::list(value, &each))
    }

    /// A table of strings (`env`), in file order.
    pub fn string_map(&mut self, key: &'static str) -> Field<'_, 'a, Vec<(String, String)>> {
        self.field(key, |value| {
            let entries = values::string_map(value)?;
            entries.into_iter().map(|(key, value)| Ok((key, values::string(&value)?))).collect()
        })
    }

    /// One of a set of words.
    pub fn one_of<T: Copy + 'static>(
        &mut self,
        key: &'static str,
        choices: &'static [(&'static str, T)],
    ) -> Field<'_, 'a, T> {
        self.field(key, |value| values::one_of(value, choices))
    }

    /// A key of any other type.
    pub fn field<T>(
        &mut self,
        key: &'static str,
        parse: impl Fn(&Value) -> Result<T, Wrong> + 'static,
    ) -> Field<'_, 'a, T> {
        Field { reader: self, key, parse: Box::new(parse), shown: Value::clone }
    }

    /// A table below this one. One that is not there is read as an empty one.
    pub fn section<T>(&mut self, key: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> T {
        self.ask(key);
        let empty = Table {
            name: self.table.dotted(key),
            place: self.table.place.clone(),
            entries: Vec::new(),
        };
        let value = self.table.get(key);
        let table = match value.map(|value| &value.node) {
            None => &empty,
            Some(Node::Table(table)) => table,
            Some(other) => {
                let message = format!(
                    "{key}: {} where a table belongs; write [{}]",
                    other.type_name(),
                    empty.name
                );
                self.problem(key, message);
                &empty
            }
        };
        let (out, effective) = table.read_into(self.report, read);
        self.keep(key, Node::Table(effective), value.map_or(Source::Default, |value| value.source));
        out
    }

    /// A table that means something by being there.
    pub fn section_if<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(&mut Reader<'_>) -> T,
    ) -> Option<T> {
        self.ask(key);
        self.has(key).then(|| self.section(key, read))
    }

    /// A list of tables: `[[key]]`.
    pub fn sections<T>(&mut self, key: &str, mut read: impl FnMut(&mut Reader<'_>) -> T) -> Vec<T> {
        self.ask(key);
        let values = match self.table.get(key).map(|value| &value.node) {
            None => return Vec::new(),
            Some(Node::Array(values)) => values,
            Some(other) => {
                let name = self.table.dotted(key);
                let message = format!(
                    "{key}: {} where a list of tables belongs; write [[{name}]]",
                    other.type_name()
                );
                self.problem(key, message);
                return Vec::new();
            }
        };
        let (mut out, mut effective) = (Vec::new(), Vec::new());
        for value in values {
            match &value.node {
                Node::Table(table) => {
                    let (one, table) = table.read_into(self.report, &mut read);
                    out.push(one);
                    effective.push(Value { node: Node::Table(table), ..value.clone() });
                }
                other => {
                    let message = format!(
                        "{key}: {} where a table belongs; write {{ … }}",
                        other.type_name()
                    );
                    self.report.problems.push(value.place.problem(message));
                }
            }
        }
        self.keep(key, Node::Array(effective), Source::File);
        out
    }

    /// A table of tables that are named by people: `[key.NAME]`. `read` gets the name.
    pub fn named<T>(
        &mut self,
        key: &str,
        mut read: impl FnMut(&str, &mut Reader<'_>) -> T,
    ) -> Vec<T> {
        self.section(key, |reader| {
            let mut out = Vec::new();
            for entry in &reader.table.entries {
                out.push(reader.section(&entry.key, |reader| read(&entry.key, reader)));
            }
            out
        })
    }

    /// Everything that was not asked for yet, for someone else to read; it counts as known.
    pub fn rest(&mut self) -> Table {
        let mut rest = self.table.clone();
        rest.entries.retain(|entry| !self.asked.contains(&entry.key));
        for entry in &mut rest.entries {
            self.asked.push(entry.key.clone());
            self.effective.set(&entry.key, entry.key_place.clone(), entry.value.clone());
            // Whoever reads it is the first to look at it, defaults included.
            entry.value.source = Source::File;
        }
        rest
    }

    /// Reads a table of defaults: nothing is missing in it.
    pub fn partial<T>(&mut self, read: impl FnOnce(&mut Self) -> T) -> T {
        let before = std::mem::replace(&mut self.report.partial, true);
        let out = read(self);
        self.report.partial = before;
        out
    }

    pub fn is_partial(&self) -> bool {
        self.report.partial
    }

    pub(super) fn ask(&mut self, key: &str) {
        self.asked.push(key.to_owned());
        // For the comparison with conf/full.toml.
        #[cfg(test)]
        self.report.known.insert(self.table.dotted(key));
    }

    fn keep(&mut self, key: &str, node: Node, source: Source) {
        let place = self.place(key);
        self.effective.set(key, place.clone(), Value { node, place, source });
    }

    fn tell_unknown_keys(&mut self) {
        for entry in &self.table.entries {
            if self.asked.contains(&entry.key) || entry.value.is_from_defaults() {
                continue;
            }
            let place = match self.table.name.as_str() {
                "" => String::new(),
                name => format!(" in {name}"),
            };
            let known = self.asked.iter().map(String::as_str);
            let right = match nearest(&entry.key, known.clone()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known here: {}", sorted(known).join(", ")),
            };
            let message = format!("unknown key {:?}{place}; {right}", entry.key);
            self.report.problems.push(entry.key_place.problem(message));
        }
    }
}

/// A path as it is from anywhere; `-` (standard output) stays.
fn absolute(value: &Value) -> Value {
    let path = match &value.node {
        Node::String(text) if text != "-" => std::path::absolute(value.place.resolve(text)).ok(),
        _ => None,
    };
    let node = path.map_or_else(|| value.node.clone(), |path| Node::from(&*path.to_string_lossy()));
    Value { node, ..value.clone() }
}

fn sorted<'w>(words: impl Iterator<Item = &'w str>) -> Vec<&'w str> {
    words.collect::<BTreeSet<_>>().into_iter().collect()
}
