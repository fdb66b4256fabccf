//! Rights are given up before anything is started or served, and a start that fails leaves
//! nothing behind. Needs root, who alone has rights to give up.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::unistd::{User, geteuid};
use tempfile::TempDir;

use crate::support::{Proxy, get, wait_until};

/// The tests' user to become.
const NAME: &str = "nobody";

/// Two backends of our own binary, from a place where anybody may run it.
fn proxy() -> Proxy {
    let command = r#"["{dir}/tidegate", "origin", "--port", "{port}"]"#;
    let user = format!("user = \"{NAME}\"");
    Proxy::new().runtime(&user).processes(command, "").scaling(2, 2, "")
}

/// The user to become; `None`, and said, where that cannot be tested.
fn user() -> Option<User> {
    let user = User::from_name(NAME).ok().flatten();
    if !geteuid().is_root() || user.is_none() {
        eprintln!("skipped: needs root and a user {NAME}");
        return None;
    }
    user
}

/// A folder that everyone may enter, with the binary in it.
fn open_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary directory");
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))
        .expect("it is ours");
    std::fs::copy(env!("CARGO_BIN_EXE_tidegate"), folder.path().join("tidegate"))
        .expect("there is room for a copy");
    folder
}

/// Real, effective, saved and file system user of every thread of a process.
fn users_of(pid: i32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs");
    tasks
        .flatten()
        // A thread may end meanwhile.
        .filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok())
        .flat_map(|status| status.lines().map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| line.starts_with("Uid:") || line.starts_with("Gid:"))
        .collect()
}

fn owned_by(path: &Path, uid: u32) {
    let owner = std::fs::symlink_metadata(path).expect("it is there").uid();
    assert_eq!(owner, uid, "owner of {}", path.display());
}

#[test]
fn tidegate_and_its_backends_run_as_the_user() {
    let Some(user) = user() else { return };
    let mut proxy = proxy().start_in(open_folder());
    wait_until("the proxy is ready", || proxy.admin("GET", "/readyz").status == 200);
    assert_eq!(get(&proxy.url("/")).status, 200);

    let children = proxy.process.descendants();
    assert_eq!(children.len(), 2, "two backends");
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    for pid in children.into_iter().chain([proxy.process.pid()]) {
        for line in users_of(pid) {
            let id = if line.starts_with('U') { uid } else { gid };
            let ids: Vec<_> = line.split_whitespace().skip(1).collect();
            assert_eq!(ids, [id.to_string().as_str(); 4], "{line} of {pid}");
        }
    }
    let state = proxy.directory().join("state");
    for path in ["", "lock", "journal", "services/app/instances.json"] {
        owned_by(&state.join(path), uid);
    }
    assert!(proxy.stop().success());
}

#[test]
fn what_is_not_its_own_is_not_given_away() {
    let Some(user) = user() else { return };
    let folder = open_folder();
    let state = folder.path().join("state");
    std::fs::create_dir(&state).expect("a new folder");
    for name in ["secret", "elsewhere"] {
        std::fs::write(folder.path().join(name), "root's").expect("a new file");
    }
    std::fs::write(state.join("left"), "").expect("a new file");
    std::fs::hard_link(folder.path().join("secret"), state.join("hard")).expect("one file system");
    std::os::unix::fs::symlink("../elsewhere", state.join("soft")).expect("a new name");

    let proxy = proxy().start_in(folder);
    wait_until("the proxy is ready", || proxy.admin("GET", "/readyz").status == 200);
    owned_by(&state.join("left"), user.uid.as_raw());
    owned_by(&proxy.directory().join("secret"), 0);
    owned_by(&proxy.directory().join("elsewhere"), 0);
}

#[test]
fn a_start_that_fails_after_binding_leaves_nothing() {
    let Some(_) = user() else { return };
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("loopback");
    // Only root can start processes of another user, and by then it is none any more.
    let proxy = Proxy::new()
        .runtime(&format!("user = \"{NAME}\""))
        .origins("--slots 4", "user = \"daemon\"");
    let (code, output) = proxy.scaling(2, 2, "").listener(&format!("address = \"{port}\"")).fail();
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("only root can start processes of another user"), "{output}");
    assert!(!output.contains("\"listening\""), "{output}");
    TcpListener::bind(port).expect("it is free again");
}
