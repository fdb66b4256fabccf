//! `tidegate simulate`: the arguments, and what is made of them. [`crate::simulate`] does the work.

mod plan;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::simulate::policy::Kind;
use crate::simulate::requests::Faults;
use crate::simulate::trace::Start;
use crate::simulate::{Shape, sweep};
use crate::units;

use super::USAGE;

/// Plays a load to scaling policies and says what each would have cost, and whom it would have kept waiting.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tidegate simulate --trace CSV [-c FILE --service NAME] [OPTIONS]\n       \
                      tidegate simulate --shape ramp|step|spike [-c FILE --service NAME] [OPTIONS]",
    after_help = "\
A trace is a CSV file of TIME,REQUESTS (time in seconds or as 1998-06-30T12:00:00; the requests of a
row are spread over the time until the next), or of one column, arrivals in ms. Arrivals are drawn
from it (Poisson), unless it has every second or every arrival and is not scaled by --peak. Dates
are UTC; seconds since 1970, as in a recording, are dates too. Schedules of --service hold by them.

Shapes: ramp 150 to 1500 requests a second, step 60 to 1000, spike 100 to 1500 for 60 s.

With -c the scaler of that service takes part with all that is configured, and its minimum and
maximum hold for all. Policies to compare with: hpa (CPU 70 %), keda-http, kpa (Knative), slo, aws
(target tracking), linear, exponential, static (for the peak), oracle (knows the load, starts
backends at once); each as it was published, without tidegate's own limits.

The model: every backend serves --slots requests at once, each for --service-time; a request that waits for a
slot longer than --slo is a violation, longer than 10 s it is dropped. A backend is ready --lead
after its order. Cost counts backends from their order, over what the oracle has.

Examples:
  tidegate simulate --trace week.csv --from 1998-06-30 --for 24h --peak 1200
  tidegate simulate -c tidegate.toml --service app --trace day.csv --compare hpa,kpa --out day.html"
)]
pub struct Args {
    /// The configuration of --service
    #[arg(short = 'c', long = "config", value_name = "FILE", requires = "service")]
    config: Option<PathBuf>,
    /// A service with [service.NAME.scaling]
    #[arg(long, value_name = "NAME", requires = "config")]
    service: Option<String>,
    /// The load: a CSV file, see below
    #[arg(long, value_name = "CSV", required_unless_present = "shape", conflicts_with = "shape")]
    trace: Option<PathBuf>,
    /// The load: ramp, step or spike
    #[arg(long, value_parser = shape)]
    shape: Option<Shape>,
    /// Where in the trace to begin: a date as in the file, or a time after its beginning
    #[arg(long, value_name = "TIME", requires = "trace")]
    from: Option<Start>,
    /// How much of the trace [default: all]
    #[arg(long = "for", value_name = "TIME", value_parser = time, requires = "trace")]
    length: Option<Duration>,
    /// Scale the load so that this is its highest rate, in requests per second
    #[arg(long, value_name = "RATE", value_parser = positive)]
    peak: Option<f64>,
    /// Policies to compare with, by commas [default: all]
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = policy)]
    compare: Option<Vec<Kind>>,
    /// Runs with other arrivals; the table has mean and standard deviation
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// The first seed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..1 << 40))]
    seed: u64,
    /// From the order of a backend to its first request [default: the service's, else 30s]
    #[arg(long, value_parser = lead)]
    lead: Option<Duration>,
    /// Requests that one backend serves at once [default: the service's, else 4]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    slots: Option<u32>,
    /// Time that one request takes in its slot [default: the service's, else 100ms]
    #[arg(long, value_parser = time)]
    service_time: Option<Duration>,
    /// Longest wait that is no violation [default: what the service's goal leaves, else 2.5 × the
    /// service time]
    #[arg(long, value_name = "WAIT", value_parser = time)]
    slo: Option<Duration>,
    /// Requests a second that something behind all backends gets done at most: a database [default:
    /// no bound]
    #[arg(long, value_name = "RATE", value_parser = positive)]
    shared: Option<f64>,
    /// Least backends [default: the service's, else 2]
    #[arg(long)]
    min: Option<u32>,
    /// Most backends [default: the service's, else 60]
    #[arg(long)]
    max: Option<u32>,
    /// Try slo with other head-rooms and targets, and mark those that nothing beats
    #[arg(long, conflicts_with_all = ["service", "compare", "out"])]
    sweep: bool,
    /// Simulate single requests: slower, and right for slow services, drains and failed starts
    #[arg(long)]
    requests: bool,
    /// Share of starts that fail: 0.1 or 10%
    #[arg(long, default_value = "0", value_parser = units::parse_ratio, requires = "requests")]
    start_failures: f64,
    /// Share of seconds in which nobody knows the metrics
    #[arg(long, default_value = "0", value_parser = units::parse_ratio, requires = "requests")]
    lost_metrics: f64,
    /// Write a picture: one HTML file
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Prints the table or JSON; 2 for files and arguments that are not right.
pub fn run(args: &Args) -> ExitCode {
    let plan = match plan::Plan::new(args) {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("{}", message.trim_end());
            return ExitCode::from(USAGE);
        }
    };
    for note in &plan.notes {
        eprintln!("{note}");
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let started = Instant::now();
    if args.sweep {
        let choices = sweep::sweep(&plan.trial, threads);
        report::sweep(&plan.trial, &choices, started.elapsed(), args.json);
        return ExitCode::SUCCESS;
    }
    let outcomes = plan.trial.run(&plan.entrants(), threads);
    report::table(&plan.trial, &outcomes, started.elapsed(), args.json);
    match &args.out {
        Some(file) => report::picture(&plan.trial, &outcomes, file),
        None => ExitCode::SUCCESS,
    }
}

impl Args {
    fn faults(&self) -> Faults {
        Faults { start_failures: self.start_failures, lost_metrics: self.lost_metrics }
    }
}

fn shape(text: &str) -> Result<Shape, &'static str> {
    Shape::ALL.into_iter().find(|s| s.name() == text).ok_or("write ramp, step or spike")
}

fn policy(text: &str) -> Result<Kind, String> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.name() == text)
        .ok_or_else(|| format!("write some of {}", Kind::ALL.map(Kind::name).join(", ")))
}

fn positive(text: &str) -> Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 && value <= 1e7 => Ok(value),
        _ => Err("write a number above 0, at most 10000000"),
    }
}

fn time(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it has to be above 0".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

fn lead(text: &str) -> Result<Duration, String> {
    match time(text)? {
        lead if lead < plan::LEAST_LEAD => Err("a second is the least".to_owned()),
        lead => Ok(lead),
    }
}
