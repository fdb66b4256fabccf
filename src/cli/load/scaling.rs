//! `tidegate load sustained|spike|ramp`: a test of scaling from its arguments to its verdict.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use super::progress::Progress;
use super::watch::Watch;
use super::{Args, plan, text};
use crate::cli::USAGE;
use crate::cli::client::AdminArgs;
use crate::load::chart::{self, Chart};
use crate::load::{self, Judgement, Phases, Report, Sizes, Standard, Stop, Verdict};

/// What `--json` prints: the report of a load, and more.
#[derive(Serialize)]
struct Document<'a> {
    test: Standard,
    phases: &'a Phases,
    #[serde(flatten)]
    report: &'a Report,
    /// With `--admin`.
    scaling: Option<&'a Sizes>,
    verdict: &'a Verdict,
}

pub(super) fn run(test: Standard, args: Args, stop: &Stop) -> ExitCode {
    let phases = phases(test, &args);
    // Before the load, so that nobody waits ten minutes for these.
    let file = match args.out.as_deref().map(create).transpose() {
        Ok(file) => file,
        Err(error) => return fail(&error),
    };
    let watch = match watch(&args).transpose() {
        Ok(watch) => watch,
        Err(failure) => return failure.exit(),
    };
    if !args.json {
        say(&format!("{} to {}: {phases}\n", test.name(), args.url));
    }
    let duration = std::time::Duration::from_secs_f64(phases.seconds());
    let mut progress = Progress::new(phases.seconds());
    let report = load::run(&plan(&args, phases.rate(), duration), stop, |second, in_flight| {
        let backends = watch.as_ref().map(Watch::line).unwrap_or_default();
        progress.show(&second, in_flight, &backends);
    });
    progress.end();
    let report = match report {
        Ok(report) => report,
        Err(error) => return fail(&error.to_string()),
    };
    let sizes = watch.map(|watch| watch.finish(report.start, || stop.is_stopped()));
    let verdict = Verdict::of(&report, phases.seconds(), sizes.as_ref());
    let (report, sizes, verdict) = (&report, sizes.as_ref(), &verdict);
    let said = match args.json {
        true => text::json(&Document { test, phases: &phases, report, scaling: sizes, verdict }),
        false => text::describe(report) + &text::judge(verdict),
    };
    say(&said);
    if let Some((file, name)) = file.zip(args.out.as_deref()) {
        let when = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M").to_string();
        let (test, when, phases) = (test.name(), when.as_str(), &phases);
        let page = chart::page(&Chart { test, when, phases, report, sizes, verdict });
        if let Err(error) = write(file, &page) {
            eprintln!("tidegate load: {}: {error}", name.display());
            return ExitCode::FAILURE;
        }
    }
    match verdict.result {
        Judgement::Passed => ExitCode::SUCCESS,
        Judgement::Failed | Judgement::Inconclusive => ExitCode::FAILURE,
    }
}

fn phases(test: Standard, args: &Args) -> Phases {
    let mut phases = test.phases().scaled(args.scale.unwrap_or(1.0));
    if let Some(rate) = args.rate {
        phases = phases.with_highest(rate);
    }
    match args.duration {
        Some(duration) => phases.lasting(duration),
        None => phases,
    }
}

fn watch(args: &Args) -> Option<Result<Watch, crate::cli::client::Failure>> {
    let set = || std::env::var("TIDEGATE_ADMIN").ok().filter(|url| !url.is_empty());
    let admin = args.admin.clone().or_else(set)?;
    let admin = AdminArgs { admin, token: args.token.clone(), ca: args.ca.clone() };
    Some(Watch::start(&admin, args.service.as_deref()))
}

/// On standard output. Whoever closed the pipe does not want it.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn create(name: &Path) -> Result<File, String> {
    File::create(name).map_err(|error| format!("--out {}: {error}", name.display()))
}

fn write(mut file: File, page: &str) -> std::io::Result<()> {
    file.write_all(page.as_bytes())?;
    file.sync_all()
}

fn fail(error: &str) -> ExitCode {
    eprintln!("tidegate load: {error}");
    ExitCode::from(USAGE)
}
