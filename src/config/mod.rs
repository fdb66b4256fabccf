//! Configuration: one TOML file to validated types, every mistake in one report.
//!
//! `tree` parses text into tables that know their places, `include`, `expand` and `defaults`
//! complete them, `reader` takes typed values out, `check` walks the whole into
//! [`types::Config`], `effective` shows it, `watch` notices changes of the files.

pub mod effective;
pub mod reader;
pub mod tree;
pub mod types;
pub mod watch;

mod check;
mod defaults;
mod expand;
mod field;
mod include;
mod values;
mod words;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use effective::Effective;

/// One mistake, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub file: PathBuf,
    /// From 1; 0 = the file as a whole.
    pub line: usize,
    /// From 1, in characters; 0 = the file as a whole.
    pub column: usize,
    /// `what is wrong; what would be right`
    pub message: String,
}

/// Problems as people read them: a line each, and how many there are.
pub fn report(problems: &[Problem]) -> String {
    let mut text: String = problems.iter().map(|problem| format!("{problem}\n")).collect();
    let plural = if problems.len() == 1 { "" } else { "s" };
    text.push_str(&format!("{} problem{plural}\n", problems.len()));
    text
}

/// A configuration that is valid, and what goes with it.
#[derive(Debug, Clone)]
pub struct Loaded {
    pub config: types::Config,
    /// What it was made from: configuration files and certificates, and the patterns of
    /// `include`, as they were when they were read. For [`watch::Watch`].
    pub files: Vec<watch::Seen>,
    pub effective: Effective,
    /// Valid, but probably not meant.
    pub warnings: Vec<Problem>,
}

/// Gives the value of a variable, if it is set.
pub type Lookup = Box<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// What a configuration depends on besides its files.
pub struct Env {
    /// Looks up an environment variable.
    pub var: Lookup,
    /// Processor cores that `workers = 0` stands for.
    pub cores: usize,
    /// Whether this process runs as root.
    pub root: bool,
}

/// The orchestrator kinds that are registered, and how to check the keys of one.
pub trait Kinds {
    /// In a stable order, without `none`.
    fn names(&self) -> Vec<String>;

    /// Every mistake in the kind's own keys. Starts nothing. Called only for a kind in `names`.
    fn check(&self, orchestrator: &OwnKeys<'_>) -> Vec<Problem>;
}

/// What a kind gets to check its own keys.
pub struct OwnKeys<'a> {
    pub kind: &'a str,
    pub service: &'a str,
    /// `[service.NAME.orchestrator]` without the common keys.
    pub table: &'a tree::Table,
    /// `runtime.state_dir`.
    pub state_dir: &'a Path,
    pub stop_grace: Duration,
}

/// Reads a file and all it includes, and checks everything.
///
/// # Errors
/// Every mistake that was found, by file and line.
pub fn load(path: &Path, kinds: &dyn Kinds, env: &Env) -> Result<Loaded, Vec<Problem>> {
    let mut problems = Vec::new();
    let mut sources = include::read(path, &mut problems);
    if sources.files.is_empty() {
        // Not even the first could be read. What is missing in nothing is no news.
        return Err(problems);
    }
    expand::expand(&mut sources.root, env, &mut problems);
    defaults::merge(&mut sources.root);
    let syntax = problems.clone();
    let checked = check::check(&sources.root, kinds, env, &mut problems);
    // What follows from a syntax error on the same line is no news.
    let same_line = |a: &Problem, b: &Problem| (&a.file, a.line) == (&b.file, b.line);
    problems
        .retain(|p| syntax.contains(p) || p.line == 0 || !syntax.iter().any(|s| same_line(s, p)));
    let order = |file: &PathBuf| sources.files.iter().position(|other| other.path == *file);
    problems.sort_by_cached_key(|problem| {
        (order(&problem.file), problem.line, problem.column, problem.message.clone())
    });
    problems.dedup();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut files = sources.files;
    files.extend(sources.patterns);
    // They are read once more when they are taken into use, so now is early enough.
    files.extend(checked.needs.into_iter().map(watch::Seen::now));
    let effective = Effective::new(checked.effective);
    Ok(Loaded { config: checked.config, files, effective, warnings: checked.warnings })
}

impl Env {
    /// The environment of this process.
    pub fn of_process() -> Self {
        Self {
            var: Box::new(|name| std::env::var(name).ok()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            root: nix::unistd::geteuid().is_root(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        write!(f, " {}", self.message)
    }
}
