//! The keys of `kind = "process"`, read and checked without starting anything.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

use super::group::ID_VARIABLE;
use super::spawn::Identity;
use crate::config::Problem;
use crate::config::tree::{Reader, Table};

/// What is done with children when tidegate died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OnCrash {
    /// The next tidegate finds them again.
    Adopt,
    /// A guard ends them at once.
    Stop,
}

/// One service's settings, ready for use.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Settings {
    /// With an absolute program; `{port}` is still to be replaced.
    command: Vec<String>,
    env: Vec<(String, String)>,
    pub(super) ports: RangeInclusive<u16>,
    pub(super) workdir: PathBuf,
    pub(super) stop_signal: Signal,
    pub(super) stop_grace: Duration,
    pub(super) identity: Option<Identity>,
    pub(super) on_crash: OnCrash,
}

impl Settings {
    /// Reads the kind's table; on a mistake, all of them.
    pub(super) fn read(table: &Table, stop_grace: Duration) -> Result<Self, Vec<Problem>> {
        let (settings, problems) = table.read(|reader| read(reader, stop_grace));
        if problems.is_empty() { Ok(settings) } else { Err(problems) }
    }

    /// It is told its port, so it is expected to listen there. Others are workers that listen nowhere.
    pub(super) fn gives_port(&self) -> bool {
        let words = self.command.iter().chain(self.env.iter().map(|(_, value)| value));
        words.into_iter().any(|word| word.contains("{port}"))
    }

    /// Program and arguments of one instance.
    pub(super) fn command(&self, port: u16) -> Vec<String> {
        self.command.iter().map(|word| word.replace("{port}", &port.to_string())).collect()
    }

    /// The whole environment of one instance.
    pub(super) fn env(&self, port: u16, id: &str) -> BTreeMap<String, String> {
        let mut env: BTreeMap<String, String> = self
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.replace("{port}", &port.to_string())))
            .collect();
        env.insert(ID_VARIABLE.to_owned(), id.to_owned());
        env
    }
}

fn read(reader: &mut Reader<'_>, stop_grace: Duration) -> Settings {
    let place = reader.place("command");
    let command = reader
        .strings("command")
        .and(move |mut words: Vec<String>| {
            let myself = own_path();
            for word in &mut words {
                *word = word.replace("{self}", &myself);
            }
            let Some(program) = words.first_mut() else {
                return Err("it is empty; give a program and its arguments".to_owned());
            };
            let path = if program.contains('/') {
                let path = place.resolve(program);
                is_executable(&path)?;
                path
            } else {
                in_path(program)
                    .ok_or_else(|| format!("{program:?} is not in PATH; give its path"))?
            };
            *program = absolute(&path).to_string_lossy().into_owned();
            Ok(words)
        })
        .required();
    let ports = reader.string("port_range").and(|text| port_range(&text)).or("20000-20999");
    let own_env = reader.string_map("env").optional().unwrap_or_default();
    let inherited = reader.strings("inherit_env").or(["PATH", "LANG"]);
    let workdir = reader
        .path("workdir")
        .and(|path| match path.is_dir() {
            true => Ok(absolute(&path)),
            false => Err(format!("there is no folder {}; make it", path.display())),
        })
        .optional()
        .unwrap_or_else(|| absolute(&reader.table().place.resolve(".")));
    let stop_signal = reader.string("stop_signal").and(|name| signal(&name)).or("TERM");
    let user = reader.string("user").and(user).optional().flatten();
    let group = reader.string("group").and(group).optional().flatten();
    let on_crash = reader
        .one_of("on_crash", &[("adopt", OnCrash::Adopt), ("stop", OnCrash::Stop)])
        .or("adopt");
    let identity = identity(user, group);
    if let Some(identity) = &identity
        && !Uid::effective().is_root()
        && identity.uid != Uid::effective().as_raw()
    {
        reader.problem("user", "only root can start processes of another user; leave it out");
    }
    // Set ones win over inherited ones.
    let env = inherited
        .into_iter()
        .filter_map(|name| std::env::var(&name).ok().map(|value| (name, value)))
        .chain(own_env)
        .collect();
    Settings { command, env, ports, workdir, stop_signal, stop_grace, identity, on_crash }
}

/// `{self}`. Once the file was replaced, the kernel adds a remark to the name.
fn own_path() -> String {
    let path = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"));
    let path = path.to_string_lossy();
    path.strip_suffix(" (deleted)").unwrap_or(&path).to_owned()
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn is_executable(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match path.metadata() {
        Err(error) => Err(format!("cannot use {shown}: {error}")),
        Ok(data) if !data.is_file() => Err(format!("{shown} is not a file; give a program")),
        Ok(data) if data.permissions().mode() & 0o111 == 0 => {
            Err(format!("{shown} is not executable; chmod +x it"))
        }
        Ok(_) => Ok(()),
    }
}

fn in_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|candidate| is_executable(candidate).is_ok())
}

fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let right = "write \"20000-20999\", from 1 to 65535";
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.trim().parse::<u16>(), last.trim().parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(format!("{text:?} is not a range of ports; {right}")),
    }
}

fn signal(name: &str) -> Result<Signal, String> {
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    full.parse().map_err(|_| format!("{name:?} is not a signal; write TERM, INT, QUIT, USR1 …"))
}

/// An empty name means none.
fn user(name: String) -> Result<Option<User>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    match User::from_name(&name) {
        Ok(Some(user)) => Ok(Some(user)),
        _ => Err(format!("there is no user {name:?}; create it or leave it out")),
    }
}

fn group(name: String) -> Result<Option<Group>, String> {
    if name.is_empty() {
        return Ok(None);
    }
    match Group::from_name(&name) {
        Ok(Some(group)) => Ok(Some(group)),
        _ => Err(format!("there is no group {name:?}; create it or leave it out")),
    }
}

fn identity(user: Option<User>, group: Option<Group>) -> Option<Identity> {
    let group = group.map(|group| group.gid);
    match user {
        Some(user) => {
            let gid = group.unwrap_or(user.gid);
            let groups = std::ffi::CString::new(user.name)
                .ok()
                .and_then(|name| getgrouplist(&name, gid).ok())
                .unwrap_or_else(|| vec![gid]);
            let groups = groups.into_iter().map(Gid::as_raw).collect();
            Some(Identity { uid: user.uid.as_raw(), gid: gid.as_raw(), groups })
        }
        None => group.map(|gid| Identity {
            uid: Uid::effective().as_raw(),
            gid: gid.as_raw(),
            groups: vec![gid.as_raw()],
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, Vec<String>> {
        let (table, problems) = Table::parse(text, Path::new("/etc/tidegate.toml"));
        assert_eq!(problems, []);
        Settings::read(&table, Duration::from_secs(1))
            .map_err(|all| all.into_iter().map(|p| p.message).collect())
    }

    #[test]
    fn placeholders_and_environment() {
        let text = "command = [\"sh\", \"-c\", \"{self} {port}\"]\nenv = { AT = \"x:{port}\" }\n\
                    inherit_env = []\nstop_signal = \"usr1\"\nport_range = \"1-9\"";
        let settings = read(text).expect("valid");
        let command = settings.command(7);
        assert!(command[0].starts_with('/') && command[0].ends_with("/sh"), "{command:?}");
        assert_eq!(command[2], format!("{} 7", own_path()));
        let env = settings.env(7, "app-1");
        assert_eq!(env.len(), 2, "nothing else is inherited");
        assert_eq!((&*env["AT"], &*env[ID_VARIABLE]), ("x:7", "app-1"));
        assert_eq!((settings.stop_signal, settings.ports), (Signal::SIGUSR1, 1..=9));
        assert_eq!(settings.workdir, Path::new("/etc/."));
        assert_eq!(settings.on_crash, OnCrash::Adopt);
    }

    #[test]
    fn every_mistake_is_told() {
        let text = "command = [\"./no-such-program\"]\nport_range = \"9-1\"\nuser = \"nobody-here\"\n\
                    stop_signal = \"TREM\"\nworkdir = \"/no/such/folder\"\non_crash = \"cry\"\nprot = 1";
        let problems = read(text).expect_err("seven mistakes");
        for part in
            ["/etc/./no-such-program", "\"9-1\"", "nobody-here", "TREM", "/no/such", "cry", "prot"]
        {
            assert!(problems.iter().any(|p| p.contains(part)), "{part} in {problems:#?}");
        }
        assert_eq!(problems.len(), 7, "{problems:#?}");
        assert!(read("").expect_err("required")[0].contains("command"));
    }
}
