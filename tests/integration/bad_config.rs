//! Bad configurations: all that is wrong is told at once, and what runs goes on.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::{Backend, Origin, Output, Proxy, Running, get, run, wait_until};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

/// One mistake a line, each of another sort.
const TEN: &str = r#"
[[listener]]
name = "http"
address = "127.0.0.1:99999"
max_connection = 5
[[listener]]
name = "http"
address = "127.0.0.1:8081"
[[route]]
service = "nowhere"
timeout = "5 parsecs"
max_body = "10MB"
[service.app]
balance = "fair"
[[service.app.backend]]
address = "127.0.0.1:3000"
weight = "heavy"
[service.app.retry]
budget = 2
[log.access]
sample = "lots"
"#;
/// Their lines, and a word of each message.
const LINES: [(usize, &str); 10] = [
    (4, "127.0.0.1:99999"),
    (5, "max_connections"),
    (7, "another listener"),
    (10, "there are: app"),
    (11, "5 parsecs"),
    (12, "10MB"),
    (14, "fair"),
    (17, "heavy"),
    (19, "budget"),
    (21, "lots"),
];

/// What every configuration has.
const LISTENER: &str = "[[listener]]\nname = \"http\"\naddress = \"127.0.0.1:0\"\n";

fn write(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("tidegate.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn check(file: &Path, more: &[&str]) -> Output {
    let file = file.display().to_string();
    run(TIDEGATE, &[&["check", "-c", &file], more].concat())
}

#[test]
fn ten_mistakes_are_ten_lines_whoever_reads_them() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), TEN);
    let checked = check(&file, &[]);
    let ran = run(TIDEGATE, &["run", "-c", &file.display().to_string()]);
    assert_eq!((checked.code, ran.code), (Some(1), Some(2)));
    assert_eq!(checked.stderr, ran.stderr, "both tell the same");
    assert!(checked.stdout.is_empty());
    let lines: Vec<_> = checked.stderr.lines().collect();
    assert_eq!((lines.len(), lines[10]), (11, "10 problems"), "{}", checked.stderr);
    for (line, (number, word)) in lines.iter().zip(LINES) {
        let place = format!("{}:{number}:", file.display());
        let rest = line.strip_prefix(&place).unwrap_or_else(|| panic!("{line} is not at {place}"));
        let (column, message) = rest.split_once(": ").unwrap();
        assert!(column.parse::<usize>().is_ok_and(|column| column > 0), "{line}");
        assert!(message.contains(word), "{line}");
        assert!(message.contains("; "), "says what would be right: {line}");
    }
}

#[test]
fn a_file_that_is_not_there_or_not_toml_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let missing = check(&folder.path().join("none.toml"), &[]);
    assert_eq!(missing.code, Some(1));
    assert!(
        missing.stderr.contains("none.toml") && missing.stderr.ends_with("1 problem\n"),
        "{}",
        missing.stderr
    );
    let syntax = check(&write(folder.path(), "[[listener\nname = x\n"), &[]);
    assert_eq!(syntax.code, Some(1));
    assert!(syntax.stderr.contains("tidegate.toml:1:"), "{}", syntax.stderr);
    // Without -c, where there is none.
    let (code, output) = {
        let mut command = std::process::Command::new(TIDEGATE);
        let output = command.arg("run").current_dir(folder.path().join("..")).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    if !Path::new("/etc/tidegate/tidegate.toml").exists() {
        assert_eq!(code, Some(2));
        assert!(output.contains("name one with -c FILE"), "{output}");
    }
}

#[test]
fn a_port_that_is_taken_is_an_error_at_start() {
    let origin = Origin::new().start();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let on = |address: std::net::SocketAddr| {
        Proxy::new().backend(&origin).listener(&format!("address = \"{address}\"")).fail()
    };
    let says = |(code, output): (Option<i32>, String), address: std::net::SocketAddr| {
        assert_eq!(code, Some(1), "{output}");
        let what = format!("listener \"http\": cannot listen on {address}");
        assert!(output.contains(&what) && output.contains("stop what listens there"), "{output}");
    };
    let address = taken.local_addr().unwrap();
    says(on(address), address);
    // Another tidegate listens there with SO_REUSEPORT, which must not make it welcome.
    let first = Proxy::new().backend(&origin).run();
    let address = first.address("http");
    says(on(address), address);
    assert_eq!(get(&first.url("/")).status, 200);
}

#[test]
fn an_admin_port_that_is_taken_is_an_error_at_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text =
        format!("[runtime]\nstate_dir = \"{{dir}}/state\"\n[admin]\nlisten = \"{address}\"\n");
    let (code, output) = Proxy::new().config(&(text + LISTENER)).fail();
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains(&format!("admin {address}: ")), "{output}");
}

#[test]
fn a_state_directory_belongs_to_one() {
    let origin = Origin::new().start();
    let first = Proxy::new().backend(&origin).run();
    let state = first.directory().join("state").display().to_string();
    let text = format!(
        "[runtime]\nstate_dir = \"{state}\"\n[admin]\nlisten = \"127.0.0.1:0\"\n{LISTENER}"
    );
    let (code, output) = Proxy::new().config(&text).fail();
    assert_eq!(code, Some(1), "{output}");
    let who =
        format!("state_dir {state} is in use by another tidegate (pid {})", first.process.pid());
    assert!(output.contains(&who), "{output}");
    assert_eq!(get(&first.url("/")).status, 200);
}

/// Where a failed reload is told, apart from its answer.
fn told(proxy: &Running, messages: &[&str]) {
    let status = proxy.status();
    let last = &status["last_reload"];
    assert_eq!(last["ok"], false, "{status}");
    assert!(last["error"].is_string() && last["at"].is_string(), "{status}");
    let problems: Vec<_> =
        last["problems"].as_array().unwrap().iter().map(|p| p["message"].to_string()).collect();
    for message in messages {
        assert!(problems.iter().any(|p| p.contains(message)), "{message}: {problems:?}");
        wait_until(&format!("the log says {message}"), || proxy.process.output().contains(message));
    }
}

#[test]
fn a_bad_reload_changes_nothing_and_is_told_in_four_places() {
    let origin = Origin::new().id("a").start();
    let mut proxy = Proxy::new().backend(&origin).run();
    let before =
        (proxy.status()["config_generation"].clone(), proxy.admin("GET", "/v1/config").json());
    let failures =
        |proxy: &Running| proxy.metric("tidegate_config_reloads_total", &[("result", "error")]);
    assert_eq!(failures(&proxy), 0.0);

    let bad =
        "[service.app.retry]\nbudget = 2\n[nonsense]\n[[route]]\nname = \"x\"\nservice = \"b\"\n";
    let messages = ["budget", "nonsense", "there is no service"];
    let answer = proxy.reload(|p| p.toml(bad));
    assert_eq!(answer.status, 422);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    let document = answer.json();
    let problems = document["problems"].as_array().unwrap();
    assert_eq!(problems.len(), 3, "{document}");
    let file = proxy.config_file().display().to_string();
    for (problem, message) in problems.iter().zip(messages) {
        assert_eq!(problem["file"], file.as_str());
        assert!(problem["line"].as_u64() > Some(1) && problem["column"].as_u64() > Some(0));
        assert!(problem["message"].to_string().contains(message), "{problem}");
    }
    told(&proxy, &messages);
    assert_eq!(failures(&proxy), 1.0);

    let command = proxy.command(&["reload"]);
    assert_eq!(command.code, Some(1));
    for message in messages {
        let line = command.stderr.lines().find(|line| line.contains(message));
        assert!(line.is_some_and(|line| line.starts_with(&file)), "{}", command.stderr);
    }
    assert_eq!(failures(&proxy), 2.0);
    proxy.signal(Signal::SIGHUP);
    wait_until("the signal fails as well", || failures(&proxy) == 3.0);

    assert_eq!(get(&proxy.url("/")).status, 200);
    let after =
        (proxy.status()["config_generation"].clone(), proxy.admin("GET", "/v1/config").json());
    assert_eq!(before, after);
    let table = proxy.command(&["status"]).text();
    assert!(table.starts_with("the reload at "), "{table}");

    let good = proxy.reload(|_| Proxy::new().backend(&origin));
    assert_eq!(good.status, 200, "{}", good.text());
    let last = proxy.status()["last_reload"].clone();
    assert_eq!((&last["ok"], &last["error"]), (&Value::Bool(true), &Value::Null));
}

#[test]
fn a_reload_whose_new_port_is_taken_changes_nothing() {
    let [a, b] = ["a", "b"].map(|id| Origin::new().id(id).start());
    let mut proxy = Proxy::new().backend(&a).run();
    let other = Proxy::new().backend(&a).run();
    let plain = TcpListener::bind("127.0.0.1:0").unwrap();
    for taken in [plain.local_addr().unwrap(), other.address("http")] {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let more = format!(
            "[[listener]]\nname = \"free\"\naddress = \"{free}\"\n\
             [[listener]]\nname = \"taken\"\naddress = \"{taken}\"\n"
        );
        let answer = proxy.reload(|_| Proxy::new().backend(&b).toml(&more));
        assert_eq!(answer.status, 422, "{}", answer.text());
        let message = format!("cannot listen on {taken}");
        assert!(answer.text().contains(&message), "{}", answer.text());
        told(&proxy, &[&message]);
        assert_eq!(get(&proxy.url("/")).header("x-origin-id"), Some("a"), "the old backend");
        assert_eq!(proxy.status()["config_generation"], 1);
        assert_eq!(proxy.status()["listeners"].as_array().unwrap().len(), 1);
        TcpListener::bind(free).expect("the free one was let go again");
    }
}

#[test]
fn a_bad_certificate_in_a_reload_changes_nothing() {
    let origin = Origin::new().id("a").start();
    let mut proxy = Proxy::new().backend(&origin).run();
    let [one, two] = ["one", "two"].map(|name| {
        let folder = proxy.directory().join(name);
        std::fs::create_dir(&folder).unwrap();
        crate::support::certificate(&folder, &[name])
    });
    // The key of another certificate.
    let table = format!(
        "[[listener]]\nname = \"tls\"\naddress = \"127.0.0.1:0\"\n\
         [[listener.tls.certificate]]\ncert = \"{}\"\nkey = \"{}\"\n",
        one.0.display(),
        two.1.display()
    );
    let answer = proxy.reload(|p| p.toml(&table));
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert_eq!(proxy.status()["listeners"].as_array().unwrap().len(), 1);
    assert_eq!(get(&proxy.url("/")).status, 200);
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_file_in_conf_passes_and_prints_what_passes_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut files = 0;
    for entry in std::fs::read_dir(repository().join("conf")).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_none_or(|extension| extension != "toml") {
            continue;
        }
        files += 1;
        let plain = check(&file, &[]);
        assert_eq!(plain.code, Some(0), "{}", plain.stderr);
        let printed = check(&file, &["--print"]);
        assert_eq!(printed.code, Some(0), "{}", printed.stderr);
        // What is printed means the same. Paths in it are absolute or stay as they were, so it
        // stands in the same place.
        let again = write(folder.path(), &printed.text());
        let again = check(&again, &["--print"]);
        assert_eq!(again.code, Some(0), "{}: {}", file.display(), again.stderr);
        let values = |text: String| {
            let lines =
                text.lines().map(|line| line.split("  #").next().unwrap().trim_end().to_owned());
            lines.filter(|line| !line.starts_with('#')).collect::<Vec<_>>()
        };
        assert_eq!(values(printed.text()), values(again.text()), "{}", file.display());
    }
    assert!(files >= 4, "{files} files in conf/");
}

/// Fenced blocks of a document: language and text.
fn blocks(file: &str) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(repository().join(file)).unwrap();
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(language) = line.trim_start().strip_prefix("```") else { continue };
        let block: Vec<_> =
            lines.by_ref().take_while(|line| !line.trim_start().starts_with("```")).collect();
        found.push((language.trim().to_owned(), block.join("\n")));
    }
    found
}

const DOCUMENTS: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// A snippet shows what it is about; what it needs besides is added here.
#[test]
fn configurations_in_the_documents_pass() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("certs")).unwrap();
    let (cert, key) = crate::support::certificate(folder.path(), &["shop.example"]);
    for name in ["shop", "internal", "partners"] {
        std::fs::copy(&cert, folder.path().join(format!("certs/{name}.pem"))).unwrap();
    }
    std::fs::copy(key, folder.path().join("certs/shop.key")).unwrap();
    std::fs::copy(TIDEGATE, folder.path().join("app")).unwrap();
    std::fs::create_dir(folder.path().join("errors")).unwrap();
    std::fs::write(folder.path().join("errors/starting.html"), "<p>One moment").unwrap();
    let mut checked = 0;
    for (document, text) in DOCUMENTS
        .iter()
        .flat_map(|document| blocks(document).into_iter().map(move |block| (document, block)))
        .filter_map(|(document, (language, text))| (language == "toml").then_some((document, text)))
    {
        checked += 1;
        let more = if text.contains("[[listener]]") { "" } else { LISTENER };
        let file = write(folder.path(), &format!("{text}\n{more}"));
        let told = check(&file, &[]);
        assert_eq!(told.code, Some(0), "{document}:\n{text}\n{}", told.stderr);
    }
    assert!(checked >= 3, "{checked} snippets");
}

/// `tidegate …` lines of the documents: the command and its options exist.
#[test]
fn commands_in_the_documents_exist() {
    let mut seen = 0;
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(repository().join(document)).unwrap();
        let prose = text.split("```").step_by(2).collect::<String>();
        let inline: Vec<_> = prose.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        let fenced = blocks(document)
            .into_iter()
            .filter(|(language, _)| language.is_empty() || language == "sh");
        let lines =
            fenced.flat_map(|(_, text)| text.lines().map(str::to_owned).collect::<Vec<_>>());
        for line in lines.chain(inline) {
            let line = line
                .trim()
                .strip_prefix("cargo run --release -- ")
                .map_or(line.clone(), |rest| format!("tidegate {rest}"));
            let Some(rest) = line.trim().strip_prefix("tidegate ") else { continue };
            let words: Vec<_> = rest.split_whitespace().take_while(|word| *word != "#").collect();
            let Some(command) =
                words.first().filter(|word| word.bytes().all(|b| b.is_ascii_lowercase()))
            else {
                continue;
            };
            let help = run(TIDEGATE, &[command, "--help"]);
            assert_eq!(help.code, Some(0), "{document}: {line}: {}", help.stderr);
            seen += 1;
            for option in words.iter().filter(|word| word.starts_with('-')) {
                let option = option.split('=').next().unwrap();
                assert!(help.text().contains(option), "{document}: {line}: no {option}");
            }
        }
    }
    assert!(seen >= 5, "{seen} commands");
}

#[test]
fn the_effective_configuration_names_its_sources() {
    let folder = tempfile::tempdir().unwrap();
    let origin = Origin::new().start();
    let text = format!(
        "{LISTENER}[defaults.route]\nmax_body = \"1MiB\"\n[[route]]\nname = \"app\"\nservice = \"app\"\n\
         [[service.app.backend]]\naddress = \"{}\"\n",
        origin.address()
    );
    let printed = check(&write(folder.path(), &text), &["--print"]).text();
    let line = printed.lines().find(|line| line.starts_with("max_body")).unwrap_or_default();
    assert!(line.contains("1MiB") && line.contains("tidegate.toml:5"), "{printed}");
}
