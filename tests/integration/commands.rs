//! The commands, run as people run them: what they print, and their exit codes.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::{Origin, Proxy, get, missing, refusing_address, run, wait_until};

const TIDEGATE: &str = env!("CARGO_BIN_EXE_tidegate");

const COMMANDS: [&str; 11] = [
    "run", "check", "status", "explain", "scale", "drain", "undrain", "reload", "simulate", "load",
    "origin",
];

#[test]
fn help_names_every_command_and_each_shows_an_example() {
    let help = run(TIDEGATE, &["--help"]);
    assert_eq!(help.code, Some(0));
    for command in COMMANDS {
        let line = help
            .text()
            .lines()
            .find(|line| line.trim().starts_with(&format!("{command} ")))
            .map(str::to_owned);
        let line = line.unwrap_or_else(|| panic!("{command} is not in {}", help.text()));
        let own = run(TIDEGATE, &[command, "--help"]);
        assert_eq!(own.code, Some(0));
        // The list and the command's own page say the same of it.
        let says = line.trim().trim_start_matches(command).trim().to_owned();
        let own_line = own.text().lines().next().unwrap_or_default().to_owned();
        assert!(own_line.starts_with(&says), "{command}: {says:?} and {own_line:?}");
        let example = format!(" tidegate {command} ");
        assert!(own.text().contains("Example") && own.text().contains(&example), "{}", own.text());
    }
    let version = run(TIDEGATE, &["--version"]);
    assert_eq!(version.text(), format!("tidegate {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn bad_usage_is_2() {
    for arguments in [
        &[][..],
        &["fly"],
        &["status", "--fast"],
        &["status", "--admin", "127.0.0.1:9900"],
        &["status", "--token", "a\nb"],
        &["scale", "app", "many"],
        &["scale", "app", "auto", "--for", "10m"],
        &["scale", "app", "3", "--for", "ten"],
        &["explain", "app", "--at", "noon"],
        &["drain", "app"],
        &["load", "--rate", "x", "--url", "http://127.0.0.1:1/"],
    ] {
        let told = run(TIDEGATE, arguments);
        assert_eq!(told.code, Some(2), "{arguments:?}: {}", told.stderr);
        assert!(told.stdout.is_empty() && !told.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn nobody_there_is_1_and_says_where() {
    let admin = format!("http://{}", refusing_address());
    for arguments in [
        &["status"][..],
        &["status", "--watch"],
        &["status", "--json"],
        &["explain", "app"],
        &["scale", "app", "3"],
        &["drain", "app", "a"],
        &["undrain", "app", "a"],
        &["reload"],
    ] {
        let told = run(TIDEGATE, &[arguments, &["--admin", &admin]].concat());
        assert_eq!(told.code, Some(1), "{arguments:?}");
        assert_eq!(
            told.stderr,
            format!(
                "tidegate: no tidegate answers at {admin} (connection refused); \
                 is it running? --admin URL says where\n"
            )
        );
        // By environment as well.
        let output =
            Command::new(TIDEGATE).args(arguments).env("TIDEGATE_ADMIN", &admin).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&output.stderr), told.stderr);
    }
    // Something else listens there.
    let origin = Origin::new().start();
    let told = run(TIDEGATE, &["status", "--admin", &origin.url("")]);
    assert_eq!(told.code, Some(1));
    assert!(told.stderr.contains("is not a tidegate"), "{}", told.stderr);
}

#[test]
fn status_shows_services_and_backends_in_columns() {
    let origins = ["a", "b"].map(|id| Origin::new().id(id).delay("2ms").start());
    let proxy = Proxy::new()
        .backend(&origins[0])
        .backend_with(&origins[1], "backup = true")
        .toml("[service.idle]\n[[service.idle.backend]]\naddress = \"127.0.0.1:1\"\n")
        .run();
    for _ in 0..30 {
        assert_eq!(get(&proxy.url("/")).status, 200);
    }
    wait_until("the traffic is measured", || proxy.service("app")["rps"].as_f64() > Some(0.0));
    let table = proxy.command(&["status"]);
    assert_eq!((table.code, table.stderr.as_str()), (Some(0), ""));
    let text = table.text();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 7, "two services with a header and their backends:\n{text}");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let head = words(lines[0]);
    assert_eq!((head[0].as_str(), head[2].as_str()), ("app", "rps"), "{text}");
    assert!(lines[0].contains("errors 0.00 %") && lines[0].ends_with("backends 2"), "{text}");
    assert_eq!(
        words(lines[1]),
        ["backend", "state", "in", "flight", "rps", "p50", "p99", "share", "note"]
    );
    // Numbers end where their titles end.
    for title in ["in flight", "rps", "p50", "p99", "share"] {
        let end = lines[1].find(title).unwrap() + title.len();
        for line in &lines[2..4] {
            let cell: String = line.chars().take(end).collect();
            let next: String = line.chars().skip(end).take(1).collect();
            assert!(!cell.ends_with(' ') && next.trim().is_empty(), "{title}: {line}\n{text}");
        }
    }
    assert!(
        lines[2].contains(&origins_address(&proxy, 0)) && lines[2].ends_with("100 %"),
        "{text}"
    );
    assert!(lines[3].ends_with("backup"), "{text}");
    assert!(lines[4].starts_with("idle "), "{text}");
    assert!(!text.contains('\x1b'), "no escapes where nobody looks");

    let json = proxy.command(&["status", "--json"]);
    assert_eq!(json.text().lines().count(), 1, "a line for programs");
    let json: Value = serde_json::from_str(&json.text()).unwrap();
    assert_eq!(json["services"][0]["backends"][1]["backup"], true);
    assert_eq!(json["status"]["listeners"][0]["name"], "http");
}

fn origins_address(proxy: &crate::support::Running, at: usize) -> String {
    proxy.service("app")["backends"][at]["address"].as_str().unwrap().to_owned()
}

/// On a pseudo terminal made by script(1), which also passes Ctrl-C on.
#[test]
fn status_watch_refreshes_in_place_until_ctrl_c() {
    if missing("script") {
        return;
    }
    let origin = Origin::new().id("a").start();
    let proxy = Proxy::new().backend(&origin).run();
    let command = format!("{TIDEGATE} status --watch --admin {}", proxy.admin_url(""));
    // Where the tests run in the background of a shell, SIGINT is ignored, and that is inherited.
    let mut script = Command::new("env")
        .args(["--default-signal=INT", "script", "-qfec", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = script.stdout.take().unwrap();
    let mut seen = String::new();
    let mut until = |what: &str, count: usize| {
        let mut buffer = [0; 4096];
        while seen.matches(what).count() < count {
            let read = out.read(&mut buffer).unwrap();
            assert!(read > 0, "it ended after {seen:?}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
        seen.clone()
    };
    let text = until("app ", 2);
    assert!(text.contains("errors 0.00 %") && text.contains("\x1b["), "{text:?}");
    // What changes is seen.
    assert_eq!(proxy.command(&["drain", "app", "a"]).code, Some(0));
    let text = until("drained by an operator", 1);
    // To the end of the frame that it stands in.
    let text = until("\x1b[?7h", text.matches("\x1b[?7l").count());
    assert_eq!(
        text.matches("\x1b[?7l").count(),
        text.matches("\x1b[?7h").count(),
        "wrapping is given back"
    );
    // Kept open: with its end `script` may throw away what it has not passed on.
    let mut keys = script.stdin.take().unwrap();
    keys.write_all(b"\x03").unwrap();
    let mut status = None;
    wait_until("Ctrl-C ends it", || {
        status = script.try_wait().unwrap();
        status.is_some()
    });
    drop(keys);
    // 128 + SIGINT, as script tells it.
    assert_eq!(status.unwrap().code(), Some(130));
}

#[test]
fn status_watch_into_a_pipe_is_a_line_a_second_and_ends_with_its_reader() {
    let origin = Origin::new().start();
    let mut proxy = Proxy::new().backend(&origin).run();
    let admin = proxy.admin_url("");
    let watch = || {
        Command::new(TIDEGATE)
            .args(["status", "--watch", "--json", "--admin", &admin])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut reader = watch();
    let mut out = std::io::BufReader::new(reader.stdout.take().unwrap());
    for _ in 0..2 {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap();
    }
    drop(out);
    let mut status = None;
    wait_until("it ends with its reader", || {
        status = reader.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
    // A program learns from the exit code that there is nobody any more.
    let other = watch();
    proxy.stop();
    let output = other.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no tidegate answers"));
}

#[test]
fn explain_without_a_decision_says_so() {
    let origin = Origin::new().start();
    let proxy = Proxy::new().backend(&origin).run();
    let none = proxy.command(&["explain", "app"]);
    assert_eq!((none.code, none.text().as_str()), (Some(0), "app: no scaling decision yet\n"));
    let none = proxy.command(&["explain", "app", "--at", "2000-01-01T00:00:00"]);
    assert!(none.text().contains("no scaling decision is known"), "{}", none.text());
    let unknown = proxy.command(&["explain", "shop"]);
    assert_eq!(unknown.code, Some(1));
    assert!(unknown.stderr.contains("there are: app"), "{}", unknown.stderr);
    let scale = proxy.command(&["scale", "app", "3"]);
    assert_eq!(scale.code, Some(1));
    assert!(scale.stderr.contains("no scaling"), "{}", scale.stderr);
}

#[test]
fn load_reports_as_json() {
    let origin = Origin::new().id("a").start();
    let told = run(
        TIDEGATE,
        &["load", "--rate", "50", "--duration", "1s", "--url", &origin.url("/"), "--json"],
    );
    assert_eq!(told.code, Some(0), "{}", told.stderr);
    let report: Value = serde_json::from_str(&told.text()).unwrap();
    assert_eq!((&report["failed"], &report["backends"]["a"]["share"]), (&0.into(), &1.0.into()));
    let dead = format!("http://{}/", refusing_address());
    let told =
        run(TIDEGATE, &["load", "--rate", "50", "--duration", "1s", "--url", &dead, "--json"]);
    assert_eq!(told.code, Some(1), "nothing was answered: {}", told.text());
}
