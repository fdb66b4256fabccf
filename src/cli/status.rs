//! `tidegate status`: services, backends, traffic and scaling, once or every second.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::json;

use super::client::{AdminArgs, Client, Failure, finish};
use super::cost;
use super::table::render;
use crate::admin::view::{Service, Status};

const REFRESH: Duration = Duration::from_secs(1);

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tidegate status --watch\n  tidegate status --cost --since 7d")]
pub struct Args {
    /// Show it again every second, until Ctrl-C
    #[arg(long)]
    pub watch: bool,
    /// For programs; with --watch one line a second
    #[arg(long)]
    pub json: bool,
    /// What backends came to, instead
    #[arg(long, conflicts_with = "watch")]
    pub cost: bool,
    /// Costs since this time (RFC 3339), or so long ago [default: 30d]
    #[arg(long, value_name = "TIME", requires = "cost")]
    pub since: Option<String>,
    #[command(flatten)]
    pub admin: AdminArgs,
}

pub fn run(args: &Args) -> ExitCode {
    let client = match Client::new(&args.admin) {
        Ok(client) => client,
        Err(failure) => return failure.exit(),
    };
    match args.watch {
        false if args.cost => finish(cost::frame(&client, args.since.as_deref(), args.json)),
        false => finish(frame(&client, args.json)),
        true => finish(watch(&client, args.json).map(|()| String::new())),
    }
}

/// What is shown once.
pub(super) fn frame(client: &Client, json: bool) -> Result<String, Failure> {
    let status: Status = client.get("/v1/status")?;
    let services: Vec<Service> = client.get("/v1/services")?;
    Ok(match json {
        true => format!("{}\n", json!({ "status": status, "services": services })),
        false => render(&status, &services, SystemTime::now()),
    })
}

/// Ends when nobody reads any more, or with an error if nothing was there from the start.
/// Ctrl-C ends the process as usual: between two frames the terminal is as it was.
fn watch(client: &Client, json: bool) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    let in_place = out.is_terminal() && !json;
    let mut shown = frame(client, json)?;
    let mut above = 0;
    loop {
        match in_place {
            true => out.write_all(overwrite(&shown, above).as_bytes())?,
            false if json => out.write_all(shown.as_bytes())?,
            false => out.write_all(format!("{shown}\n").as_bytes())?,
        }
        out.flush()?;
        above = shown.lines().count();
        thread::sleep(REFRESH);
        shown = match frame(client, json) {
            Ok(frame) => frame,
            // It may be starting again; a program sees it in the exit code instead.
            Err(failure) if in_place => format!("{failure}\n"),
            Err(failure) => return Err(failure),
        };
    }
}

/// The frame over the one before it, which had `above` lines: up, each line to its end, the
/// rest cleared. Wrapping is off meanwhile, so that a long line stays one line.
fn overwrite(frame: &str, above: usize) -> String {
    let mut text = String::from("\x1b[?7l\r");
    if above > 0 {
        text.push_str(&format!("\x1b[{above}A"));
    }
    for line in frame.lines() {
        text.push_str(line);
        text.push_str("\x1b[K\n");
    }
    text + "\x1b[J\x1b[?7h"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_covers_the_one_before_and_leaves_the_terminal_as_it_was() {
        assert_eq!(overwrite("a\nb\n", 0), "\x1b[?7l\ra\x1b[K\nb\x1b[K\n\x1b[J\x1b[?7h");
        assert_eq!(overwrite("c\n", 2), "\x1b[?7l\r\x1b[2Ac\x1b[K\n\x1b[J\x1b[?7h");
    }
}
