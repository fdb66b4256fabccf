//! An attack beside polite clients: they are answered all the time, it is counted, memory stays within its bound, and
//! afterwards every worker serves.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::{Running, send, wait_until};

/// Connections that are opened one after the other at the end. The kernel spreads them over the workers by their
/// ports, and one of a worker that is stuck is never answered.
const AFTERWARDS: usize = 50;

/// What a process may need for anything but the attack, in KiB: for the others, and what the allocator keeps.
pub const OTHERS: usize = 16 * 1024;

/// See the module.
pub struct Siege<'a> {
    proxy: &'a Running,
    path: &'a str,
    memory: usize,
}

impl<'a> Siege<'a> {
    /// `path`: of requests that are answered with success, by which the polite are told apart from others.
    pub fn of(proxy: &'a Running, path: &'a str) -> Self {
        Self { proxy, path, memory: OTHERS }
    }

    /// What the attack itself may cost, in KiB.
    pub fn memory(mut self, kib: usize) -> Self {
        self.memory += kib;
        self
    }

    /// Runs an attack to its end, while `polite` asks politely again and again (it is given how often it did before, and
    /// fails by a panic), and until `is_counted`.
    #[track_caller]
    pub fn run(
        self,
        polite: impl Fn(usize) + Sync,
        attack: impl FnOnce(),
        is_counted: impl Fn() -> bool,
    ) {
        let url = self.proxy.url(self.path);
        // One that is not answered takes the whole time that there is; one that is refused at connect is asked again,
        // as connections of the attack may count for a moment more.
        let ask = || {
            wait_until("it serves", || {
                send("GET", &url, &[], b"").is_ok_and(|answer| (200..300).contains(&answer.status))
            });
        };
        // Warm, with all that is there once.
        (0..20).for_each(|_| ask());
        let before = peak(self.proxy);
        let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                while !stop.load(SeqCst) {
                    polite(answered.load(SeqCst));
                    answered.fetch_add(1, SeqCst);
                }
            });
            let _stop = Stop(&stop);
            let more = |many| {
                let then = answered.load(SeqCst);
                let is_over = || thread.is_finished() || answered.load(SeqCst) >= then + many;
                wait_until("others are served", is_over);
            };
            more(1);
            attack();
            wait_until("it is counted", is_counted);
            more(5);
            stop.store(true, SeqCst);
            thread.join().expect("all were answered");
        });
        (0..AFTERWARDS).for_each(|_| ask());
        let grown = peak(self.proxy) - before;
        assert!(grown <= self.memory, "{grown} KiB more, {} may be", self.memory);
        assert_eq!(self.proxy.metric("tidegate_panics_total", &[]), 0.0);
    }
}

/// The most memory that a process has ever had, in KiB.
pub fn peak(proxy: &Running) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", proxy.process.pid()));
    let status = status.expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is Linux");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}

/// Ends the polite client also when an attack is not as it should be.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}
