//! `tidegate load`: the arguments, and which of the two it is: a constant rate, or a standard
//! test of scaling. [`crate::load`] does the work.

mod plain;
mod progress;
mod scaling;
mod text;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use crate::load::{Plan, Protocol, Rate, Spacing, Standard, Stop, Trust};
use crate::units;

/// Sends requests at a rate, whether or not earlier ones were answered, and says what came back.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "tidegate load --rate RATE --url URL [OPTIONS]\n       \
                      tidegate load sustained|spike|ramp --url URL [OPTIONS]",
    after_help = "\
Latency is counted from the planned time of each request.

The tests of scaling:
  sustained  1,000 requests a second for 10 minutes
  spike      100, then 10,000, then 100 a second, for 2, 1 and 2 minutes
  ramp       500 to 5,000 a second in ten steps of a minute
They are passed with fewer than 0.1 % errors (no complete answer, or a status of 400 and above)
and a p99 below 200 ms. With --admin also: as many backends were ready as were ever wanted (looked
at until 30 s after the load), and none ended by itself or became unhealthy. Where this generator
did not keep the rate, that is the verdict, and nothing is said of the server.

Exit code 0: passed (without a test: every request was sent and none failed), else 1; 2 is bad usage.

Examples:
  tidegate load --url http://127.0.0.1:8080/ --rate 200 --duration 30s
  tidegate load ramp --scale 0.1 --duration 60s --url http://127.0.0.1:8080/ \\
      --admin http://127.0.0.1:9900 --out chart.html"
)]
pub struct Args {
    /// One of the tests of scaling, see below
    #[arg(value_name = "TEST")]
    test: Option<Test>,
    /// http:// or https://
    #[arg(long)]
    url: Uri,
    /// Requests per second; of a test the highest rate, the others keep their proportion to it
    #[arg(long, value_parser = positive, required_unless_present = "test")]
    rate: Option<f64>,
    /// How long [default: 10s]; of a test in all, its phases keep their proportions
    #[arg(long, value_parser = duration)]
    duration: Option<Duration>,
    /// Multiplies the rates of a test; 0.1 makes 50 to 500 requests a second of the ramp
    #[arg(long, value_name = "FACTOR", value_parser = positive, conflicts_with = "rate", requires = "test")]
    scale: Option<f64>,
    /// Write a chart of the test: one HTML file
    #[arg(long, value_name = "FILE", requires = "test")]
    out: Option<PathBuf>,
    /// Watch the backends of a test: http(s)://HOST:PORT or unix:/PATH [env: TIDEGATE_ADMIN]
    #[arg(long, value_name = "URL", requires = "test")]
    admin: Option<String>,
    /// Sent to the admin as a bearer token
    #[arg(long, env = "TIDEGATE_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The service to watch; needed if there are several
    #[arg(long, value_name = "NAME", requires = "test")]
    service: Option<String>,
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
    /// Most requests under way, and so connections; those due above it are reported as not sent
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
    /// Write a line of CSV for each request: when it was due, how late it was sent and how long it
    /// took (milliseconds), the status or what went wrong, and the backend's x-origin-id
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy)]
struct Test(Standard);

#[derive(Debug, Clone, Copy)]
struct Arrivals(Spacing);

impl std::str::FromStr for Test {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Standard::Sustained, Standard::Spike, Standard::Ramp];
        let named = all.into_iter().find(|test| test.name() == text);
        named.map(Self).ok_or("write sustained, spike or ramp")
    }
}

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
    let stop = Stop::default();
    stop_on_interrupt(stop.clone());
    match args.test {
        Some(Test(test)) => scaling::run(test, args, &stop),
        None => plain::run(args, &stop),
    }
}

/// The plan of a load with these rates.
fn plan(args: &Args, rate: Rate, duration: Duration) -> Plan {
    let mut headers = HeaderMap::new();
    for (name, value) in &args.header {
        headers.append(name, value.clone());
    }
    Plan {
        method: args.method.clone(),
        headers,
        body: Bytes::from(vec![b'x'; args.body_size as usize]),
        protocol: if args.http2 { Protocol::Http2 } else { Protocol::Http1 },
        trust: match &args.ca {
            _ if args.insecure => Trust::Anyone,
            Some(file) => Trust::File(file.clone()),
            None => Trust::System,
        },
        rate,
        spacing: args.arrivals.0,
        timeout: args.timeout,
        connections: args.connections,
        max_in_flight: args.max_in_flight,
        threads: args.threads,
        seed: args.seed,
        log: args.log.clone(),
        ..Plan::new(args.url.clone(), 0.0, duration)
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

fn positive(text: &str) -> Result<f64, &'static str> {
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() && value > 0.0 => Ok(value),
        _ => Err("write a number above 0"),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text) {
        Ok(Duration::ZERO) => Err("it has to be above 0".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (name, value) = text.split_once(':').ok_or("write \"Name: value\"")?;
    let name = name.trim().parse::<HeaderName>().map_err(|error| error.to_string())?;
    let value = value.trim().parse::<HeaderValue>().map_err(|error| error.to_string())?;
    Ok((name, value))
}
