//! The `process_*` metrics, read from the kernel at each scrape.

use std::fs;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// What is known of this process; `None` where the kernel does not say (no /proc).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Process {
    /// User and system time.
    pub cpu_seconds: Option<f64>,
    pub resident_bytes: Option<u64>,
    pub open_fds: Option<u64>,
    /// Seconds since the epoch.
    pub start_time: f64,
}

impl Process {
    /// `start_time`: when the process started, in seconds since the epoch.
    pub fn read(start_time: f64) -> Self {
        let micros = |usage: nix::sys::resource::Usage| {
            usage.user_time().num_microseconds() + usage.system_time().num_microseconds()
        };
        Self {
            cpu_seconds: getrusage(UsageWho::RUSAGE_SELF).ok().map(|u| micros(u) as f64 / 1e6),
            resident_bytes: fs::read_to_string("/proc/self/status").ok().and_then(|s| resident(&s)),
            // Less the descriptor that reads the directory.
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|d| d.count() as u64 - 1),
            start_time,
        }
    }
}

/// `VmRSS` of /proc/PID/status, in bytes (proc_pid_status(5): always in kB).
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_resident_memory() {
        let status = "Name:\ttidegate\nVmHWM:\t   99999 kB\nVmRSS:\t   12345 kB\nThreads:\t3\n";
        assert_eq!(resident(status), Some(12_345 * 1024));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_memory_and_files() {
        let process = Process::read(1.0);
        assert!(process.resident_bytes.is_some_and(|n| n > 100_000), "{process:?}");
        assert!(process.open_fds.is_some_and(|n| n >= 3), "{process:?}");
        assert!(process.cpu_seconds.is_some_and(|s| s >= 0.0), "{process:?}");
    }
}
