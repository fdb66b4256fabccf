//! One tree from a file and everything it includes.
//!
//! Included files are merged into the including one: lists of tables append, a table that is
//! defined twice is a mistake, and so is a cycle. Patterns know `*` and `?` in the parts of a
//! path; what they match is read in the order of names.

use std::path::{Component, Path, PathBuf};

use super::tree::{Entry, Node, Place, Table, Value};
use super::watch::Seen;
use super::{Problem, values};

/// Every file, merged.
#[derive(Debug, Default)]
pub struct Sources {
    pub root: Table,
    /// In the order they were read, each as it was before that.
    pub files: Vec<Seen>,
    /// The patterns of `include` that have a wildcard: a new file may match them.
    pub patterns: Vec<Seen>,
}

/// Reads a file and what it includes.
pub fn read(path: &Path, problems: &mut Vec<Problem>) -> Sources {
    let mut sources = Sources::default();
    sources.root.place = Place::file(path);
    read_one(path, &Place::file(path), &mut Vec::new(), &mut sources, problems);
    sources
}

/// Files that match a pattern, sorted; a path without wildcards matches itself.
pub fn matches(pattern: &Path) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::new()];
    for part in pattern.components() {
        let name = part.as_os_str().to_string_lossy();
        if !matches!(part, Component::Normal(_)) || !has_wildcard(&name) {
            found.iter_mut().for_each(|path| path.push(part));
            continue;
        }
        let mut next = Vec::new();
        for folder in &found {
            let folder_or_here =
                if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let names = std::fs::read_dir(folder_or_here).into_iter().flatten().flatten();
            let mut names: Vec<_> =
                names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
            // As in a shell, a wildcard does not match hidden files.
            names.retain(|other| {
                (!other.starts_with('.') || name.starts_with('.'))
                    && fits(name.as_bytes(), other.as_bytes())
            });
            names.sort();
            next.extend(names.iter().map(|name| folder.join(name)));
        }
        found = next;
    }
    found
}

/// Whether a path has a wildcard in it.
pub fn is_pattern(path: &Path) -> bool {
    has_wildcard(&path.to_string_lossy())
}

fn has_wildcard(text: &str) -> bool {
    text.contains(['*', '?'])
}

fn read_one(
    path: &Path,
    named_at: &Place,
    stack: &mut Vec<PathBuf>,
    sources: &mut Sources,
    problems: &mut Vec<Problem>,
) {
    let real = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    if stack.contains(&real) {
        let message = format!("{} includes itself; remove this include", path.display());
        return problems.push(named_at.problem(message));
    }
    if sources.files.iter().any(|file| file.path.canonicalize().is_ok_and(|file| file == real)) {
        let message = format!("{} is included twice; name it once", path.display());
        return problems.push(named_at.problem(message));
    }
    let seen = Seen::now(path.to_owned());
    let text = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message =
                format!("{} cannot be read ({error}); name a file that can", path.display());
            return problems.push(named_at.problem(message));
        }
    };
    sources.files.push(seen);
    let Ok(text) = String::from_utf8(text) else {
        return problems.push(Place::file(path).problem("not UTF-8; TOML is always UTF-8"));
    };
    let (mut table, mut syntax) = Table::parse(&text, path);
    problems.append(&mut syntax);
    let includes = table.entries.iter().position(|entry| entry.key == "include");
    let includes = includes.map(|at| table.entries.remove(at).value);
    merge(table, &mut sources.root, problems);

    let Some(includes) = includes else { return };
    let with_place = |value: &Value| Ok((values::path(value)?, value.place.clone()));
    let patterns = values::list(&includes, with_place).unwrap_or_else(|bad| {
        problems.extend(bad.into_iter().map(|(at, text)| at.problem(format!("include: {text}"))));
        Vec::new()
    });
    stack.push(real);
    for (pattern, place) in patterns {
        if is_pattern(&pattern) {
            sources.patterns.push(Seen::now(pattern.clone()));
        }
        for file in matches(&pattern) {
            read_one(&file, &place, stack, sources, problems);
        }
    }
    stack.pop();
}

/// Puts the tables of one file into those of the others.
fn merge(from: Table, into: &mut Table, problems: &mut Vec<Problem>) {
    for entry in from.entries {
        let Some(there) = into.entries.iter_mut().find(|other| other.key == entry.key) else {
            into.entries.push(entry);
            continue;
        };
        match (&mut there.value.node, entry.value.node) {
            (Node::Array(there), Node::Array(mut more)) => there.append(&mut more),
            // These hold tables that people name; each is defined once.
            (Node::Table(there), Node::Table(more))
                if matches!(entry.key.as_str(), "service" | "defaults") =>
            {
                for inner in more.entries {
                    match there.entry(&inner.key) {
                        None => there.entries.push(inner),
                        Some(first) => problems.push(twice(&inner, &more.name, &first.key_place)),
                    }
                }
            }
            (_, node) => {
                let again = Entry { value: Value { node, ..entry.value }, ..entry };
                problems.push(twice(&again, "", &there.key_place));
            }
        }
    }
}

fn twice(entry: &Entry, table: &str, first: &Place) -> Problem {
    let dot = if table.is_empty() { "" } else { "." };
    let (file, line) = (first.file.display(), first.line);
    entry.key_place.problem(format!(
        "{table}{dot}{} is defined twice, first at {file}:{line}; keep one of them",
        entry.key
    ))
}

/// Whether a name fits a pattern of `*` (any letters) and `?` (one).
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            fits(rest, name) || name.split_first().is_some_and(|(_, tail)| fits(pattern, tail))
        }
        (Some((b'?', rest)), Some((_, tail))) => fits(rest, tail),
        (Some((p, rest)), Some((n, tail))) => p == n && fits(rest, tail),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn wildcards() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml~", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*b*c", "a-b-b-c", true),
            ("", "", true),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }
}
