//! Any text as a configuration.

use std::path::{Path, PathBuf};

use crate::config::{self, Env, Kinds, Loaded, OwnKeys, Problem};

/// No orchestrators: their keys are their own.
struct None;

impl Kinds for None {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn check(&self, _: &OwnKeys<'_>) -> Vec<Problem> {
        Vec::new()
    }
}

/// A file of this thread.
fn file() -> PathBuf {
    let thread = std::thread::current().id();
    std::env::temp_dir().join(format!("tidegate-fuzz-{}-{thread:?}.toml", std::process::id()))
}

pub(super) fn load(text: &str, file: &Path) -> Option<Loaded> {
    // Without a place to write there is nothing to find out.
    std::fs::write(file, text).ok()?;
    let env = Env { var: Box::new(|_| Option::None), cores: 2, root: false };
    let loaded = config::load(file, &None, &env);
    if let Err(problems) = &loaded {
        assert!(!problems.is_empty(), "refused without a reason");
        let _ = config::report(problems);
    }
    loaded.ok()
}

/// Reading never panics, and what was accepted is printed as a file that means the same.
///
/// # Panics
/// It does not.
pub fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that never end are for operators to avoid.
    if ["/dev", "/proc", "include", "file:"].iter().any(|word| text.contains(word)) {
        return;
    }
    let file = file();
    if let Some(first) = load(text, &file) {
        let printed = first.effective.to_toml();
        let again = load(&printed, &file);
        let again = again.unwrap_or_else(|| panic!("what was printed is refused:\n{printed}"));
        assert_eq!(first.effective.to_json(false), again.effective.to_json(false), "{printed}");
    }
    let _ = std::fs::remove_file(&file);
}
