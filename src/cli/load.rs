//! `tidegate load`: the arguments, the progress and the report for people; [`crate::load`] does the work.

use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::load::{self, Plan, Protocol, Rate, Report, Second, Spacing, Stop, Trust};
use crate::units;

/// An answer that is later than this was held up by this generator itself, and it says so.
const LATE_MS: f64 = 50.0;

/// Sends requests at a rate, whether or not earlier ones were answered, and says what came back.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Latency is counted from the planned time of each request. Exit code 1 if a request failed or
the rate could not be kept.

Example: tidegate load --url http://127.0.0.1:8080/ --rate 200 --duration 30s")]
pub struct Args {
    /// http:// or https://
    #[arg(long)]
    url: Uri,
    /// Requests per second
    #[arg(long, value_parser = rate)]
    rate: f64,
    #[arg(long, default_value = "10s", value_parser = units::parse_duration)]
    duration: Duration,
    /// How requests follow each other
    #[arg(long, default_value = "poisson")]
    arrivals: Arrivals,
    /// HTTP/1.1 (the default)
    #[arg(long, conflicts_with = "http2")]
    http1: bool,
    /// HTTP/2, without TLS by prior knowledge
    #[arg(long)]
    http2: bool,
    /// Connections opened at the start; more follow when they are needed
    #[arg(long, default_value_t = 1)]
    connections: usize,
    /// Most requests under way; those due above it are reported as not sent
    #[arg(long, default_value_t = 4096)]
    max_in_flight: usize,
    /// Time from the planned moment to the end of the answer
    #[arg(long, default_value = "10s", value_parser = units::parse_duration)]
    timeout: Duration,
    #[arg(long, default_value = "GET")]
    method: Method,
    /// Bytes of each request's body, as 512 or 64KiB
    #[arg(long, default_value = "0", value_parser = units::parse_size)]
    body_size: u64,
    /// One more header, "Name: value"
    #[arg(long, value_parser = header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// Accept any certificate
    #[arg(long)]
    insecure: bool,
    /// PEM file with the certificates to believe instead of the system's
    #[arg(long, conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Threads that send
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Repeats the arrivals of another run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
struct Arrivals(Spacing);

impl std::str::FromStr for Arrivals {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "poisson" => Ok(Self(Spacing::Poisson)),
            "uniform" => Ok(Self(Spacing::Uniform)),
            _ => Err("write poisson or uniform"),
        }
    }
}

/// Runs the load; the first Ctrl-C ends it with a report, the second at once.
pub fn run(args: Args) -> ExitCode {
    let json = args.json;
    let stop = Stop::default();
    stop_on_interrupt(stop.clone());
    let progress = std::io::stderr().is_terminal();
    let report = load::run(&plan(args), &stop, |second, in_flight| {
        if progress {
            show(&second, in_flight);
        }
    });
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("tidegate load: {error}");
            return ExitCode::from(2);
        }
    };
    let text = if json {
        serde_json::to_string_pretty(&report).map_or_else(|e| e.to_string(), |text| text + "\n")
    } else {
        describe(&report)
    };
    // Whoever closed the pipe does not want it.
    let _ = std::io::stdout().write_all(text.as_bytes());
    let good = report.failed == 0 && report.not_sent == 0 && report.not_connected.is_empty();
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn plan(args: Args) -> Plan {
    let mut headers = HeaderMap::new();
    for (name, value) in args.header {
        headers.append(name, value);
    }
    Plan {
        method: args.method,
        headers,
        body: Bytes::from(vec![b'x'; args.body_size as usize]),
        protocol: if args.http2 { Protocol::Http2 } else { Protocol::Http1 },
        trust: match args.ca {
            _ if args.insecure => Trust::Anyone,
            Some(file) => Trust::File(file),
            None => Trust::System,
        },
        rate: Rate::constant(args.rate),
        spacing: args.arrivals.0,
        timeout: args.timeout,
        connections: args.connections,
        max_in_flight: args.max_in_flight,
        threads: args.threads,
        seed: args.seed,
        ..Plan::new(args.url, args.rate, args.duration)
    }
}

/// On a thread of its own: the caller's keeps the time of the load.
fn stop_on_interrupt(stop: Stop) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        if let Ok(runtime) = runtime {
            runtime.block_on(async {
                if tokio::signal::ctrl_c().await.is_ok() {
                    stop.stop();
                }
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(130);
                }
            });
        }
    });
}

fn show(second: &Second, in_flight: usize) {
    eprintln!(
        "{:>4} s  {:>6} sent  {:>6} answered  {:>5} in flight  p50 {:.1} ms  p99 {:.1} ms  {} failed{}",
        second.second + 1,
        second.sent,
        second.completed,
        in_flight,
        second.p50_ms,
        second.p99_ms,
        second.failed + second.not_connected,
        if second.not_sent > 0 { format!("  {} not sent", second.not_sent) } else { String::new() },
    );
}

/// The report for people.
fn describe(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_report(&mut text, report);
    text
}

fn write_report(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(
        out,
        "{}: {} requests in {:.1} s ({:.1}/s), {} connections",
        report.url, report.sent, report.seconds, report.rate_sent, report.connections
    )?;
    let l = &report.latency_ms;
    writeln!(
        out,
        "latency    mean {:.1}  p50 {:.1}  p90 {:.1}  p95 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1} ms",
        l.mean, l.p50, l.p90, l.p95, l.p99, l.p999, l.max
    )?;
    write!(out, "answers    {}", report.completed)?;
    for (status, count) in &report.status {
        write!(out, "  {status}: {count}")?;
    }
    write!(out, "\nfailed     {}", report.failed)?;
    for (cause, count) in &report.failures {
        write!(out, "  {}: {count}", name(cause))?;
    }
    writeln!(out)?;
    if !report.not_connected.is_empty() {
        write!(out, "not connected")?;
        for (cause, count) in &report.not_connected {
            write!(out, "  {}: {count}", name(cause))?;
        }
        writeln!(out)?;
    }
    if report.backend_errors > 0 {
        writeln!(out, "5xx from backends  {}", report.backend_errors)?;
    }
    if report.resent > 0 {
        writeln!(out, "resent     {} (a kept connection was closed before them)", report.resent)?;
    }
    if report.unfinished > 0 {
        writeln!(out, "unfinished {}", report.unfinished)?;
    }
    for (backend, share) in &report.backends {
        let percent = share.share * 100.0;
        writeln!(out, "  {backend:<20} {:>8} answers  {percent:>5.1} %", share.answers)?;
    }
    if report.not_sent > 0 {
        writeln!(
            out,
            "COULD NOT KEEP THE RATE: {} of {} requests were not sent, {:.1}/s instead of {:.1}/s",
            report.not_sent, report.planned, report.rate_sent, report.rate_planned
        )?;
    }
    if report.late_ms.p99 > LATE_MS {
        writeln!(
            out,
            "THIS GENERATOR WAS LATE: p99 {:.1} ms; the latencies above contain it",
            report.late_ms.p99
        )?;
    }
    Ok(())
}

/// The name that the JSON report has for it.
fn name(cause: &load::Cause) -> String {
    serde_json::to_value(cause)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn rate(text: &str) -> Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err("write requests per second, more than 0"),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write \"Name: value\"")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    let value = value.trim().parse::<HeaderValue>().map_err(|error| error.to_string())?;
    Ok((name, value))
}
