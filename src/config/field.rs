//! One key that was asked for: what is to be done when it is there, and when it is not.

use super::reader::Reader;
use super::tree::{Node, Value};
use super::values::Wrong;

/// Makes the typed value of a key, or says what is wrong with it.
pub(super) type Parse<T> = Box<dyn Fn(&Value) -> Result<T, Wrong>>;

/// A key with its type, waiting to hear what is to be done when it is not there.
#[must_use = "say `or`, `optional` or `required`"]
pub struct Field<'r, 'a, T> {
    pub(super) reader: &'r mut Reader<'a>,
    pub(super) key: &'static str,
    pub(super) parse: Parse<T>,
    /// How the effective value is written.
    pub(super) shown: fn(&Value) -> Value,
}

impl<'r, 'a, T: 'static> Field<'r, 'a, T> {
    /// A further condition; the message says what is wrong and what would be right.
    pub fn and<U: 'static>(
        self,
        check: impl Fn(T) -> Result<U, String> + 'static,
    ) -> Field<'r, 'a, U> {
        let parse = self.parse;
        let parse = move |value: &Value| {
            check(parse(value)?).map_err(|message| vec![(value.place.clone(), message)])
        };
        Field { reader: self.reader, key: self.key, parse: Box::new(parse), shown: self.shown }
    }

    /// The value, or this default.
    ///
    /// # Panics
    /// If the default itself is not valid, which is a mistake of the caller's.
    pub fn or(self, default: impl Into<Node>) -> T {
        let default = Value::built_in(default, self.reader.table().place.clone());
        let Ok(fallback) = (self.parse)(&default) else {
            panic!("the default of {} is not valid", self.key)
        };
        self.take(Some(default)).unwrap_or(fallback)
    }

    /// The value, if it is there.
    pub fn optional(self) -> Option<T> {
        self.take(None)
    }

    /// The value; it is a mistake not to have it, and then the type's own default is returned.
    pub fn required(self) -> T
    where
        T: Default,
    {
        self.required_or(T::default())
    }

    /// Like [`Field::required`] for types without a default.
    pub fn required_or(self, placeholder: T) -> T {
        let (table, key) = (self.reader.table(), self.key);
        if table.get(key).is_none() {
            let name = if table.name.is_empty() { "the file" } else { &table.name };
            self.reader.missing(format!("{name} has no {key:?}; add it"));
        }
        self.take(None).unwrap_or(placeholder)
    }

    fn take(self, default: Option<Value>) -> Option<T> {
        let Self { reader, key, parse, shown } = self;
        reader.ask(key);
        let table = reader.table();
        let Some(value) = table.get(key) else {
            if let Some(default) = default {
                reader.effective.set(key, default.place.clone(), shown(&default));
            }
            return None;
        };
        reader.effective.set(key, value.place.clone(), shown(value));
        match parse(value) {
            Ok(good) => Some(good),
            // Told already: by the expansion, or where the table of defaults itself was read.
            Err(_) if value.is_unknown() || value.is_from_defaults() => None,
            Err(bad) => {
                let problems =
                    bad.into_iter().map(|(at, message)| at.problem(format!("{key}: {message}")));
                reader.report.problems.extend(problems);
                None
            }
        }
    }
}
