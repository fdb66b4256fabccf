//! TOML with places: tables that know where each key stands.
//!
//! Own types and not `toml::Table`, since every message must name a line and every effective
//! value its source. Parsing goes on after a syntax error, so that one report has them all.
//! What the keys mean is left to [`super::reader`] and whoever uses it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
pub use super::field::Field;
pub use super::reader::Reader;

/// Where something stands in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub file: Arc<Path>,
    /// From 1; 0 = the file as a whole.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl Place {
    /// A file as a whole.
    pub fn file(file: &Path) -> Self {
        Self { file: file.into(), line: 0, column: 0 }
    }

    /// A mistake at this place.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem {
            file: self.file.to_path_buf(),
            line: self.line,
            column: self.column,
            message: message.into(),
        }
    }

    /// A path that was written here: relative ones start at the folder of the file.
    pub fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::file(Path::new(""))
    }
}

/// Where an effective value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    /// Written at its place.
    #[default]
    File,
    /// Written at its place, with `${NAME}` in it.
    Environment,
    /// Written in a table of defaults, named here (`defaults.service`).
    Defaults(&'static str),
    /// Built in.
    Default,
    /// It could not be found out, and that was told already: nothing further is said of it.
    Unknown,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    pub node: Node,
    pub place: Place,
    pub source: Source,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    String(String),
    Integer(i64),
    Float(f64),
    Bool(bool),
    /// Kept as text: no key is one.
    Datetime(String),
    Array(Vec<Value>),
    Table(Table),
}

impl Node {
    /// With its article, for messages.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::String(_) => "a string",
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Bool(_) => "true or false",
            Self::Datetime(_) => "a date",
            Self::Array(_) => "a list",
            Self::Table(_) => "a table",
        }
    }
}

impl From<&str> for Node {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<i64> for Node {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<i32> for Node {
    fn from(number: i32) -> Self {
        Self::Integer(number.into())
    }
}

impl From<f64> for Node {
    fn from(number: f64) -> Self {
        Self::Float(number)
    }
}

impl From<bool> for Node {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<&[&str]> for Node {
    fn from(texts: &[&str]) -> Self {
        Self::Array(texts.iter().map(|text| Value::built_in(*text, Place::default())).collect())
    }
}

impl<const N: usize> From<[&str; N]> for Node {
    fn from(texts: [&str; N]) -> Self {
        Self::from(&texts[..])
    }
}

impl Value {
    /// Whether it, or an element of it, could not be found out.
    pub fn is_unknown(&self) -> bool {
        match &self.node {
            Node::Array(values) => values.iter().any(Self::is_unknown),
            _ => self.source == Source::Unknown,
        }
    }

    pub fn is_from_defaults(&self) -> bool {
        matches!(self.source, Source::Defaults(_))
    }

    /// A default that is built in; a path in it is relative to the file of `place`.
    pub fn built_in(node: impl Into<Node>, place: Place) -> Self {
        Self { node: node.into(), place, source: Source::Default }
    }
}

/// One key with its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub key: String,
    pub key_place: Place,
    pub value: Value,
}

/// A table with the place of each key and value, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// Dotted, for messages: `service.app.health`; empty for the file itself.
    pub name: String,
    pub place: Place,
    pub entries: Vec<Entry>,
}

impl Table {
    /// Parses a file's text. What can be understood is in the table, whatever else is wrong.
    pub fn parse(text: &str, file: &Path) -> (Self, Vec<Problem>) {
        let lines = Lines::new(text, file);
        let (root, errors) = DeTable::parse_recoverable(text);
        let problems = errors
            .iter()
            .map(|error| {
                let at = error.span().map_or(Place::file(file), |span| lines.place(span.start));
                at.problem(syntax_message(error.message()))
            })
            .collect();
        let mut table = table_of(root.get_ref(), String::new(), &lines, Place::file(file));
        table.place = Place::file(file);
        (table, problems)
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entry(key).map(|entry| &entry.value)
    }

    pub fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.key == key)
    }

    /// The table below a key, if it is one.
    pub fn table(&self, key: &str) -> Option<&Self> {
        match self.get(key).map(|value| &value.node) {
            Some(Node::Table(table)) => Some(table),
            _ => None,
        }
    }

    /// The name of a key of this table, dotted.
    pub fn dotted(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// Adds or replaces a key.
    pub fn set(&mut self, key: &str, key_place: Place, value: Value) {
        match self.entries.iter_mut().find(|entry| entry.key == key) {
            Some(entry) => entry.value = value,
            None => self.entries.push(Entry { key: key.to_owned(), key_place, value }),
        }
    }
}

/// Finds line and column of a byte.
struct Lines<'a> {
    text: &'a str,
    file: Arc<Path>,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str, file: &Path) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(newlines.map(|(at, _)| at + 1)).collect();
        Self { text, file: file.into(), starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset);
        let before = self.text.get(self.starts[line - 1]..offset).unwrap_or("");
        Place { file: self.file.clone(), line, column: before.chars().count() + 1 }
    }
}

/// The parser writes `what, expected a, b`; our form is `what; what would be right`.
fn syntax_message(message: &str) -> String {
    match message.split_once(", expected ") {
        Some((what, right)) => format!("{what}; expected {right}"),
        None if message == "duplicate key" => "duplicate key; keep one of them".to_owned(),
        None => message.to_owned(),
    }
}

fn table_of(from: &DeTable<'_>, name: String, lines: &Lines<'_>, place: Place) -> Table {
    let mut table = Table { name, place, entries: Vec::new() };
    for (key, value) in from.iter() {
        let key_place = lines.place(key.span().start);
        let value = value_of(value, table.dotted(key.get_ref()), lines);
        table.entries.push(Entry { key: key.get_ref().to_string(), key_place, value });
    }
    table
}

fn value_of(from: &Spanned<DeValue<'_>>, name: String, lines: &Lines<'_>) -> Value {
    let place = lines.place(from.span().start);
    let node = match from.get_ref() {
        DeValue::String(text) => Node::String(text.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Node::Float(f64::INFINITY), Node::Integer),
        DeValue::Float(number) => Node::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(value) => Node::Bool(*value),
        DeValue::Datetime(date) => Node::Datetime(date.to_string()),
        DeValue::Array(values) => {
            Node::Array(values.iter().map(|value| value_of(value, name.clone(), lines)).collect())
        }
        DeValue::Table(table) => Node::Table(table_of(table, name, lines, place.clone())),
    };
    Value { node, place, source: Source::File }
}
