//! `tidegate load --rate RATE`: a constant rate, and a report without a verdict.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use super::progress::Progress;
use super::{Args, plan, text};
use crate::cli::USAGE;
use crate::load::{self, Rate, Stop};

const DURATION: Duration = Duration::from_secs(10);

pub(super) fn run(args: Args, stop: &Stop) -> ExitCode {
    let duration = args.duration.unwrap_or(DURATION);
    let rate = Rate::constant(args.rate.expect("it is required without a test"));
    let mut progress = Progress::new(duration.as_secs_f64());
    let report = load::run(&plan(&args, rate, duration), stop, |second, in_flight| {
        progress.show(&second, in_flight, "");
    });
    progress.end();
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("tidegate load: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let said = match args.json {
        true => text::json(&report),
        false => text::describe(&report),
    };
    // Whoever closed the pipe does not want it.
    let _ = std::io::stdout().write_all(said.as_bytes());
    let good = report.failed == 0 && report.not_sent == 0 && report.not_connected.is_empty();
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
