//! Checks the import table of ARCHITECTURE.md against the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

type Table = BTreeMap<String, BTreeSet<String>>;

/// Files at the top that belong to no module: they tie the modules together.
const TOP: [&str; 3] = ["lib", "main", "architecture"];

/// The rows between the heading of the table and the next heading.
fn table(text: &str) -> Table {
    let section = text.split("## Who may import whom").nth(1).unwrap_or_default();
    let rows = section.split("\n## ").next().unwrap_or_default().lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.split('|').map(str::trim);
        let (module, imports) = (cells.next()?, cells.next()?);
        let imports = imports.split(',').map(str::trim).filter(|name| !name.is_empty());
        Some((module.to_owned(), imports.map(str::to_owned).collect()))
    });
    rows.filter(|(module, _)| module != "module" && !module.starts_with('-')).collect()
}

/// Names right after `crate::`, also those in braces.
fn imports(text: &str) -> BTreeSet<String> {
    let name = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '_')
            .collect()
    };
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        match rest.strip_prefix('{') {
            None => drop(found.insert(name(rest))),
            Some(group) => {
                let mut depth = 0;
                let mut start = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => start = true,
                        c if start && !c.is_whitespace() => {
                            found.insert(name(&group[at..]));
                            start = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found.remove("");
    found
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn the_import_table_holds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let allowed = table(&fs::read_to_string(root.join("ARCHITECTURE.md")).unwrap());
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);

    let mut modules = BTreeSet::new();
    let mut wrong = Vec::new();
    for file in files {
        let inner = file.strip_prefix(root.join("src")).unwrap();
        let first = inner.components().next().unwrap().as_os_str().to_string_lossy();
        let module = first.trim_end_matches(".rs").to_owned();
        if TOP.contains(&module.as_str()) {
            continue;
        }
        for import in imports(&fs::read_to_string(&file).unwrap()) {
            let known = allowed.get(&module).is_some_and(|row| row.contains(&import));
            if import != module && !known {
                wrong.push(format!("{}: {module} may not import {import}", inner.display()));
            }
        }
        modules.insert(module);
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(allowed.keys().cloned().collect::<BTreeSet<_>>(), modules);
}

#[test]
fn imports_are_found_however_they_are_written() {
    let text =
        "use crate::{a, b_c::{d, e}, f::g};\npub(crate) fn x() -> crate::h::I { }\n// crate::no";
    assert_eq!(Vec::from_iter(imports(text)), ["a", "b_c", "f", "h"]);
}
