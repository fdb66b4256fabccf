//! The tidegate binary: the allocator, the command line, the exit code.

mod allocator;

use std::process::ExitCode;

use clap::Parser;
use tidegate::cli::Cli;
use tidegate::memory::Heap;

#[global_allocator]
static ALLOCATOR: allocator::Mimalloc = allocator::Mimalloc;

fn main() -> ExitCode {
    // The guard of `on_crash = "stop"` is this binary again; it has no command line of its own.
    tidegate::orchestrator::process::run_guard_if_asked();
    // clap prints usage errors itself and exits with 2.
    Cli::parse().run(Heap { give_back: allocator::give_back })
}
