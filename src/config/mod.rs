//! Configuration: one TOML file to validated types, every mistake in one report.

pub mod tree;
pub mod types;

/// One mistake, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: std::path::PathBuf,
    /// From 1; 0 = the file as a whole.
    pub line: usize,
    pub column: usize,
    /// `what is wrong; what would be right`
    pub message: String,
}
