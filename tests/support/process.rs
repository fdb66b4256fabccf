//! A child process with captured output, of which nothing outlives its test.

use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::{DEADLINE, wait_for};

/// How long a child may take to end in order when its test is over.
const END: Duration = Duration::from_secs(10);
/// How long its output may take once it has ended.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A running child in its own process group. Dropped: TERM, then KILL, for it and for every
/// process that it started, also in other groups.
pub struct Process {
    name: String,
    child: Child,
    /// Standard output and error, line by line as they came.
    output: Arc<Mutex<String>>,
    /// Pipes that are read: ended with the child, unless it left them to another process.
    pipes: Vec<JoinHandle<()>>,
    /// Processes it had started when it was killed.
    strays: HashSet<i32>,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts the command. Its output is read all the time, so that it never blocks on it.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let output = Arc::new(Mutex::new(String::new()));
        let stdout = child.stdout.take().expect("it is piped");
        let stderr = child.stderr.take().expect("it is piped");
        let pipes = vec![capture(stdout, output.clone()), capture(stderr, output.clone())];
        Self { name: name.into(), child, output, pipes, strays: HashSet::new(), ended: None }
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Everything it has printed so far.
    pub fn output(&self) -> String {
        self.output.lock().expect("no holder panics").clone()
    }

    /// Waits until `find` makes something of what it has printed; fails when it ends before.
    pub fn wait_for_output<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        wait_for(&format!("{}: {what}", self.name), || {
            let ended = self.status();
            let output = self.output();
            let found = find(&output);
            assert!(found.is_some() || ended.is_none(), "{} ended: {ended:?}\n{output}", self.name);
            found
        })
    }

    /// Its exit status, if it has ended.
    pub fn status(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().expect("it is our child");
        }
        self.ended
    }

    /// Waits for its end, for a minute at most, and for all that it has printed.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.wait_for_end();
        let start = Instant::now();
        // What it started may hold its pipes open for longer.
        while self.pipes.iter().any(|pipe| !pipe.is_finished()) && start.elapsed() < LAST_WORDS {
            std::thread::sleep(Duration::from_millis(1));
        }
        status
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        let name = self.name.clone();
        wait_for(&format!("{name} ends"), || self.status())
    }

    /// Sends a signal to it alone.
    pub fn signal(&mut self, signal: Signal) {
        if self.status().is_none() {
            kill(Pid::from_raw(self.pid()), signal).expect("our child is there");
        }
    }

    /// Ends it without any warning. What it started is left alone until this is dropped.
    pub fn crash(&mut self) {
        self.remember();
        self.signal(Signal::SIGKILL);
        self.wait_for_end();
    }

    /// Takes down what it has started, so that it is ended with this value even if it outlives
    /// its parent.
    pub fn remember(&mut self) {
        self.strays.extend(descendants(self.pid()));
    }

    /// Ends that process, and what it started by then, with this value: it took this one's place.
    pub fn follow(&mut self, pid: i32) {
        self.strays.insert(pid);
    }

    /// Processes that it started, and those that they started.
    pub fn descendants(&self) -> Vec<i32> {
        descendants(self.pid())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- output of {}\n{}----", self.name, self.output());
        }
        if self.status().is_none() {
            self.remember();
            self.signal(Signal::SIGTERM);
            let start = Instant::now();
            while self.status().is_none() && start.elapsed() < END.min(DEADLINE) {
                std::thread::sleep(Duration::from_millis(5));
            }
            // The group may be gone already, and so may the others.
            let _ = killpg(Pid::from_raw(self.pid()), Signal::SIGKILL);
        }
        let descendants: Vec<i32> = self.strays.iter().flat_map(|pid| descendants(*pid)).collect();
        for pid in self.strays.iter().chain(&descendants) {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}

/// Processes that a process started, and those that they started.
pub fn started_by(pid: i32) -> Vec<i32> {
    descendants(pid)
}

/// Whether there is such a process and it still runs (a zombie does not).
pub fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
}

fn capture(pipe: impl Read + Send + 'static, output: Arc<Mutex<String>>) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while pipe.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            output.lock().expect("no holder panics").push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}

/// From the parents in /proc/PID/stat (proc_pid_stat(5), field 4, after the name in parentheses).
fn descendants(root: i32) -> Vec<i32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").expect("there is /proc").flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        // It may be gone by now.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1));
        if let Some(parent) = parent.and_then(|parent| parent.parse::<i32>().ok()) {
            parents.push((pid, parent));
        }
    }
    let mut found = vec![root];
    let mut next = 0;
    while next < found.len() {
        let of = found[next];
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(pid, _)| *pid));
        next += 1;
    }
    found.split_off(1)
}
