//! The memory of this process: how much there is, and giving back what is not used.
//!
//! What is done about too much of it is decided in [`level`], a pure function of what was read; `control::memory` reads
//! and acts. The allocator belongs to the program, not to this library, so how it gives memory back is handed in.

pub mod level;

use std::io;

use nix::unistd::{SysconfVar, sysconf};

/// What the program's allocator can do.
#[derive(Debug, Clone, Copy)]
pub struct Heap {
    /// Gives the memory that the calling thread has freed, and no other uses, back to the system. It may take
    /// milliseconds.
    pub give_back: fn(),
}

impl Default for Heap {
    /// Of an allocator that gives back by itself, or cannot.
    fn default() -> Self {
        Self { give_back: || {} }
    }
}

/// Bytes of this process that are in memory, as `top` and `process_resident_memory_bytes` have them: the second number
/// of /proc/self/statm (proc_pid_statm(5)) times the size of a page. The kernel counts by batches of pages for each
/// thread, so it may be off by some hundred KiB.
///
/// # Errors
/// There is no /proc.
pub fn resident() -> io::Result<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let page = sysconf(SysconfVar::PAGE_SIZE)?.and_then(|size| u64::try_from(size).ok());
    resident_of(&statm, page.unwrap_or(4096))
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not what proc(5) describes"))
}

fn resident_of(statm: &str, page: u64) -> Option<u64> {
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    pages.checked_mul(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_is_the_second_number_in_pages() {
        assert_eq!(resident_of("9000 2500 800 1200 0 3000 0\n", 4096), Some(2500 * 4096));
        assert_eq!(resident_of("9000", 4096), None);
        assert_eq!(resident_of("9000 many", 4096), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_written_to_is_resident() {
        const BYTES: usize = 64 << 20;
        let before = resident().expect("/proc is there");
        let block = std::hint::black_box(vec![1_u8; BYTES]);
        let with = resident().expect("/proc is there");
        assert!(with > before + BYTES as u64 / 2, "{before} and then {with}");
        drop(block);
    }
}
