//! What `tidegate simulate` prints and writes.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Value, json};

use crate::simulate::sweep::Choice;
use crate::simulate::{Fidelity, Outcome, Trial, picture, text};

/// The table, or the same as JSON.
pub(super) fn table(trial: &Trial, outcomes: &[Outcome], took: Duration, as_json: bool) {
    let summaries: Vec<_> = outcomes.iter().map(|outcome| &outcome.summary).collect();
    let requests: f64 =
        outcomes.iter().flat_map(|outcome| &outcome.scores).map(|score| score.arrivals).sum();
    if as_json {
        let mut all = head(trial, took, requests);
        all["policies"] = json!(summaries);
        say(&format!("{all:#}\n"));
        return;
    }
    let runs = outcomes.len() as u64 * trial.seeds;
    say(&format!(
        "{}\n{}\n{}",
        above(trial),
        text::table(&summaries),
        below(trial, runs, requests, took)
    ));
}

/// The grid of a sweep.
pub(super) fn sweep(trial: &Trial, choices: &[Choice], took: Duration, as_json: bool) {
    if as_json {
        let mut all = head(trial, took, 0.0);
        all["choices"] = json!(choices);
        say(&format!("{all:#}\n"));
        return;
    }
    let runs = choices.len() as u64 * trial.seeds;
    say(&format!("{}\n{}\n{}", above(trial), text::grid(choices), below(trial, runs, 0.0, took)));
}

/// The page of the picture.
pub(super) fn picture(trial: &Trial, outcomes: &[Outcome], file: &Path) -> ExitCode {
    let when = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M").to_string();
    let page = picture::page(trial, outcomes, &when);
    match std::fs::write(file, page) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate simulate: --out {}: {error}", file.display());
            ExitCode::FAILURE
        }
    }
}

fn head(trial: &Trial, took: Duration, requests: f64) -> Value {
    let setting = &trial.setting;
    json!({
        "load": {
            "name": trial.load.name,
            "seconds": trial.load.rates.len(),
            "peak": trial.load.peak(),
            "exact": trial.load.exact,
        },
        "setting": {
            "slots": setting.slots,
            "service_time": setting.service,
            "wait": setting.wait,
            "lead": setting.lead,
            "min": setting.min,
            "max": setting.max,
        },
        "fidelity": match trial.fidelity {
            Fidelity::Fluid => "fluid",
            Fidelity::Requests(_) => "requests",
        },
        "first_seed": trial.first_seed,
        "seeds": trial.seeds,
        "requests": requests,
        "took_seconds": took.as_secs_f64(),
    })
}

/// What was simulated.
fn above(trial: &Trial) -> String {
    let of = &trial.setting;
    format!(
        "{}: {} in {} s, at most {:.0}/s\n\
         {} slots of {:.0} ms, {:.0} ms of waiting allowed, ready after {:.0} s, {} to {} backends\n",
        trial.load.name,
        if trial.load.exact { "requests as they came" } else { "Poisson arrivals" },
        trial.load.rates.len(),
        trial.load.peak(),
        of.slots,
        of.service * 1000.0,
        of.wait * 1000.0,
        of.lead,
        of.min,
        of.max
    )
}

/// How it was done, and how quickly.
fn below(trial: &Trial, runs: u64, requests: f64, took: Duration) -> String {
    let took = took.as_secs_f64().max(1e-6);
    let seconds = runs as f64 * trial.load.rates.len() as f64;
    let pace = match trial.fidelity {
        Fidelity::Fluid => {
            format!("{:.1} million seconds of a service a second", seconds / took / 1e6)
        }
        Fidelity::Requests(_) => format!("{:.2} million requests a second", requests / took / 1e6),
    };
    format!("{} seeds, {runs} runs in {took:.2} s ({pace})\n", trial.seeds)
}

/// On standard output. Whoever closed the pipe does not want it.
fn say(text: &str) {
    let mut out = std::io::stdout();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
