//! Tests of the whole check: what is told of bad files, and what comes of good ones.

use std::collections::BTreeSet;
use std::path::Path;

use proptest::prelude::*;

use crate::config::tree::{Node, Table};
use crate::config::{Env, Kinds, Loaded, OwnKeys, Problem, load};

/// Knows one kind, `process`, and takes any keys for it.
struct Process;

impl Kinds for Process {
    fn names(&self) -> Vec<String> {
        vec!["process".to_owned()]
    }

    fn check(&self, _: &OwnKeys<'_>) -> Vec<Problem> {
        Vec::new()
    }
}

fn env() -> Env {
    let var = |name: &str| match name {
        "PORT" => Some("8081".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    };
    Env { var: Box::new(var), cores: 2, root: false }
}

fn load_in(dir: &Path, text: &str) -> Result<Loaded, Vec<Problem>> {
    let file = dir.join("t.toml");
    std::fs::write(&file, text).unwrap();
    load(&file, &Process, &env())
}

/// What is told of a text, without the folder.
fn told(text: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let folder = format!("{}/", dir.path().display());
    let problems = load_in(dir.path(), text).err().unwrap_or_default();
    problems.iter().map(|problem| problem.to_string().replace(&folder, "")).collect()
}

/// A listener, a route and a service, so that a snippet is the only mistake. Seven lines, so
/// the snippet starts at line 8.
const BASE: &str = "[[listener]]\nname = \"l\"\naddress = \"127.0.0.1:8080\"\n[[service.a.backend]]\naddress = \"127.0.0.1:3000\"\n[service.b]\norchestrator = { kind = \"process\" }\n";

#[test]
fn bad_snippets() {
    let listener = "[[listener]]\nname = \"x\"\naddress = \"127.0.0.1:1\"\n";
    let scaling = "[service.b.scaling]\nmax = 3\n";
    let route = "[[route]]\nservice = \"a\"\n";
    let long = [("runtime", "[runtime]\n"), ("L", listener), ("S", scaling), ("R", route)];
    let file = std::fs::read_to_string("src/config/check/bad.txt").unwrap();
    let (mut wrong, mut count) = (Vec::new(), 0);
    for line in file.lines().filter(|line| !line.starts_with('#')) {
        let short = line.split_once(" => ").map_or(line, |(snippet, _)| snippet);
        let mut snippet = short.replace(" | ", "\n");
        for (abbreviation, text) in long {
            if let Some(rest) = snippet.strip_prefix(&format!("{abbreviation}: ")) {
                snippet = format!("{text}{rest}");
            }
        }
        let lines = told(&format!("{BASE}{snippet}\n"));
        let lines: Vec<_> = lines.iter().map(|line| line.trim_start_matches("t.toml:")).collect();
        let actual = format!("{short} => {}", lines.join(" && "));
        count += 1;
        if actual != line {
            wrong.push(actual);
        }
    }
    assert!(wrong.is_empty(), "told otherwise:\n{}", wrong.join("\n"));
    assert!(count >= 60, "{count} snippets are too few");
}

#[test]
fn ten_mistakes_are_ten_lines() {
    let text = r#"
[runtime]
wrokers = 2
shutdown_timeout = "half a minute"
[[listener]]
name = "l"
address = "localhost"
max_connections = "many"
[[listener]]
name = "l"
address = "127.0.0.1:8080"
trusted_proxies = ["10.0.0.0/33"]
[[route]]
path = "~("
service = "c"
[service.a]
backend = [{ address = "10.0.0.1:3000" }]
[service.a.scaling]
min = 3
max = 2
"#;
    let lines = told(text);
    let at: Vec<_> = lines.iter().map(|line| line.split(": ").next().unwrap_or("")).collect();
    assert_eq!(
        at,
        [
            "t.toml:3:1",
            "t.toml:4:20",
            "t.toml:7:11",
            "t.toml:8:19",
            "t.toml:10:8",
            "t.toml:12:20",
            "t.toml:14:8",
            "t.toml:15:11",
            "t.toml:18:1",
            "t.toml:19:7",
        ],
        "{lines:#?}"
    );
}

#[test]
fn includes_append_and_tell_what_is_there_twice() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    std::fs::create_dir(at("conf.d")).unwrap();
    let route = "[[route]]\nname = \"NAME\"\nservice = \"a\"\n";
    std::fs::write(at("conf.d/2.toml"), route.replace("NAME", "two")).unwrap();
    std::fs::write(at("conf.d/1.toml"), route.replace("NAME", "one")).unwrap();
    std::fs::write(at("conf.d/ignored"), "not = read").unwrap();
    let good = load_in(dir.path(), &format!("include = [\"conf.d/*.toml\"]\n{BASE}")).unwrap();
    let names: Vec<_> = good.config.routes.iter().map(|route| route.name.to_string()).collect();
    assert_eq!(names, ["one", "two"]);
    assert!(
        [at("conf.d/*.toml"), at("conf.d/1.toml")]
            .iter()
            .all(|file| good.files.iter().any(|seen| seen.path == *file))
    );

    let bad = "include = [\"../t.toml\"]\n[log]\n[service.a]\n[[route]]\n";
    std::fs::write(at("conf.d/2.toml"), bad).unwrap();
    let text = format!("include = [\"conf.d/*.toml\", \"none.toml\"]\n{BASE}[log]\n");
    let problems = load_in(dir.path(), &text).unwrap_err();
    let folder = format!("{}/", dir.path().display());
    let lines: Vec<_> = problems.iter().map(|p| p.to_string().replace(&folder, "")).collect();
    assert_eq!(
        lines,
        [
            "t.toml:1:29: none.toml cannot be read (No such file or directory (os error 2)); name a file that can",
            "conf.d/2.toml:1:12: conf.d/../t.toml includes itself; remove this include",
            "conf.d/2.toml:2:2: log is defined twice, first at t.toml:9; keep one of them",
            "conf.d/2.toml:3:10: service.a is defined twice, first at t.toml:5; keep one of them",
            "conf.d/2.toml:4:1: this route does nothing; add service, split, redirect or respond",
        ]
    );
}

#[test]
fn defaults_fill_what_is_not_said() {
    let text = format!(
        "{BASE}[defaults.service]\nslow_start = \"1s\"\nretry = {{ attempts = 5, on = [\"502\"] }}\n\
         [defaults.route]\nservice = \"a\"\n[[route]]\n[[route]]\npath = \"=/x\"\nrespond = {{}}\n\
         [service.c]\nretry = {{ attempts = 1 }}\nbackend = [{{ address = \"h:1\" }}]\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let loaded = load_in(dir.path(), &text).unwrap();
    let (a, c) = (&loaded.config.services["a"], &loaded.config.services["c"]);
    assert_eq!((a.slow_start.as_secs(), a.retry.attempts), (1, 5));
    assert_eq!((c.retry.attempts, c.retry.on.statuses.clone()), (1, vec![502]));
    let printed = loaded.effective.to_toml();
    assert!(printed.contains("slow_start = \"1s\"  # defaults.service, "), "{printed}");
    assert!(printed.contains("max_body = \"10MiB\"  # default\n"), "{printed}");
}

#[test]
fn services_that_share_a_host_and_a_cookie_are_told_of() {
    let dir = tempfile::tempdir().unwrap();
    let warnings = |hosts: [&str; 2], cookie: &str| {
        let text = format!(
            "{BASE}[service.c]\nbackend = [{{ address = \"h:1\" }}]\nsticky = {{ cookie = \"tg\" }}\n\
             [service.d]\nbackend = [{{ address = \"h:1\" }}]\nsticky = {{ cookie = \"{cookie}\" }}\n\
             [[route]]\nhost = [{}]\nservice = \"c\"\n[[route]]\npath = \"/d/\"\nhost = [{}]\n\
             split = [{{ service = \"a\", weight = 1 }}, {{ service = \"d\", weight = 1 }}]\n",
            hosts[0], hosts[1]
        );
        load_in(dir.path(), &text).unwrap().warnings
    };
    for hosts in [["", ""], ["", "\"h.test\""], ["\"h.test\"", "\"g.test\", \"h.test\""]] {
        let told = warnings(hosts, "tg");
        assert_eq!(told.len(), 1, "{hosts:?}");
        assert!(told[0].message.contains("\"d\" and \"c\" share a host and the cookie \"tg\""));
        assert_eq!(told[0].line, 13);
    }
    assert!(warnings(["\"g.test\"", "\"h.test\""], "tg").is_empty());
    assert!(warnings(["", ""], "other").is_empty());
}

#[test]
fn the_environment_reaches_every_type_and_is_masked() {
    let text = format!(
        "{BASE}[runtime]\nworkers = \"${{WORKERS:-3}}\"\nwatch = \"${{EMPTY:-false}}\"\n\
         [[route]]\nservice = \"a\"\nhost = [\"h${{PORT}}\"]\n\
         [[route]]\npath = \"=/r\"\nrespond = {{ body = \"$${{PORT}}\" }}\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let loaded = load_in(dir.path(), &text).unwrap();
    assert_eq!((loaded.config.runtime.workers, loaded.config.runtime.watch), (3, false));
    let masked: serde_json::Value = serde_json::from_str(&loaded.effective.to_json(true)).unwrap();
    assert_eq!(masked["runtime"]["workers"], "***");
    assert_eq!(masked["route"][0]["host"][0], "***");
    assert_eq!(masked["route"][1]["respond"]["body"], "${PORT}");
    let printed = loaded.effective.to_toml();
    assert!(printed.contains("host = [\"h8081\"]  # environment, "), "{printed}");
    assert!(printed.contains("body = \"$${PORT}\""), "{printed}");
}

/// Whatever the order they are written in.
fn values(loaded: &Loaded) -> serde_json::Value {
    serde_json::from_str(&loaded.effective.to_json(false)).unwrap()
}

#[test]
fn every_file_in_conf_loads_and_prints_itself() {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir("conf").unwrap() {
        let file = entry.unwrap().path();
        // A run in the folder leaves its state there.
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        let loaded = load(&file, &Process, &env()).unwrap_or_else(|problems| {
            let lines: Vec<_> = problems.iter().map(ToString::to_string).collect();
            panic!("{}", lines.join("\n"))
        });
        let again = load_in(dir.path(), &loaded.effective.to_toml()).unwrap();
        assert_eq!(values(&again), values(&loaded));
    }
}

#[test]
fn full_toml_has_every_key() {
    let text = std::fs::read_to_string("conf/full.toml").unwrap();
    let (table, problems) = Table::parse(&text, Path::new("conf/full.toml"));
    assert!(problems.is_empty());
    let mut problems = Vec::new();
    let known = super::check(&table, &Process, &env(), &mut problems).known;
    let mut written = BTreeSet::new();
    collect(&table, &mut written);
    let missing: Vec<_> = known
        .iter()
        .filter(|key| !key.starts_with("defaults.") && !written.contains(*key))
        .collect();
    assert!(missing.is_empty(), "not in conf/full.toml: {missing:?}");
}

fn collect(table: &Table, keys: &mut BTreeSet<String>) {
    for entry in &table.entries {
        keys.insert(table.dotted(&entry.key));
        match &entry.value.node {
            Node::Table(table) => collect(table, keys),
            Node::Array(values) => values.iter().for_each(|value| {
                if let Node::Table(table) = &value.node {
                    collect(table, keys);
                }
            }),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_check_panic(text in "\\PC{0,200}") {
        let (table, mut problems) = Table::parse(&text, Path::new("t.toml"));
        super::check(&table, &Process, &env(), &mut problems);
    }

    #[test]
    fn no_change_of_a_good_file_makes_the_check_panic(cut in 0usize..9000, len in 0usize..40, put in "[\\[\\]{}=\".\n0-9a-z]{0,6}") {
        let mut text = include_str!("../../../conf/full.toml").to_owned();
        let from = (0..=cut.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        let to = (from + len..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text.replace_range(from..to, &put);
        let (table, mut problems) = Table::parse(&text, Path::new("conf/full.toml"));
        super::check(&table, &Process, &env(), &mut problems);
    }
}
