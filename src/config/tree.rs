//! TOML with places: tables that know where each key stands.

/// A table with the place of each key and value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {}
