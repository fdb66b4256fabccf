//! The tidegate binary: the allocator, the command line, the exit code.

use std::process::ExitCode;

use clap::Parser;
use tidegate::cli::Cli;

// Small, short-lived allocations on many threads: mimalloc is measurably ahead of glibc here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The guard of `on_crash = "stop"` is this binary again; it has no command line of its own.
    tidegate::orchestrator::process::run_guard_if_asked();
    // clap prints usage errors itself and exits with 2.
    Cli::parse().run()
}
