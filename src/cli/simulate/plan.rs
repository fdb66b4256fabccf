//! From arguments, a configuration and a trace to what is simulated.

use std::path::Path;
use std::time::Duration;

use crate::config::types::{Metric, Scaling, ScalingMode};
use crate::config::{self, Env};
use crate::orchestrator::kinds::Kinds;
use crate::simulate::own::Own;
use crate::simulate::policy::Kind;
use crate::simulate::trace::{self, Part};
use crate::simulate::{Entrant, Fidelity, Load, Setting, Trial};

use super::Args;

/// The model moves by seconds.
pub(super) const LEAST_LEAD: Duration = Duration::from_secs(1);

/// Everything, checked.
pub(super) struct Plan {
    pub(super) trial: Trial,
    /// The service's name and scaling.
    own: Option<(String, Scaling)>,
    compared: Vec<Kind>,
    /// What the simulation leaves out, for people.
    pub(super) notes: Vec<String>,
}

impl Plan {
    /// # Errors
    /// Text for people: what is wrong in which file, and what would be right.
    pub(super) fn new(args: &Args) -> Result<Self, String> {
        let own = match (&args.config, &args.service) {
            (Some(file), Some(service)) => Some((service.clone(), scaling(file, service)?)),
            _ => None,
        };
        let setting = setting(args, own.as_ref().map(|(_, scaling)| scaling))?;
        let fidelity = match args.requests {
            true => Fidelity::Requests(args.faults()),
            false => Fidelity::Fluid,
        };
        let load = load(args)?;
        let dated = load.begins.is_some();
        let trial = Trial { setting, load, first_seed: args.seed, seeds: args.seeds, fidelity };
        let notes = own.as_ref().map(|(_, scaling)| notes(scaling, dated)).unwrap_or_default();
        let compared = args.compare.clone().unwrap_or_else(|| Kind::ALL.to_vec());
        Ok(Self { trial, own, compared, notes })
    }

    /// The service first, then what it is compared with.
    pub(super) fn entrants(&self) -> Vec<Entrant<'_>> {
        let Trial { setting, load, .. } = &self.trial;
        let own = self.own.iter().map(|(name, scaling)| Entrant {
            name: name.clone(),
            build: Box::new(|| Box::new(Own::new(name, scaling, setting).beginning(load.begins))),
        });
        let compared = self.compared.iter().map(|kind| Entrant {
            name: kind.name().to_owned(),
            build: Box::new(|| kind.build(setting, load)),
        });
        own.chain(compared).collect()
    }
}

fn scaling(file: &Path, service: &str) -> Result<Scaling, String> {
    let loaded = config::load(file, &Kinds::default(), &Env::of_process())
        .map_err(|problems| config::report(&problems))?;
    let file = file.display();
    let services = &loaded.config.services;
    let Some(found) = services.get(service) else {
        let known: Vec<&str> = services.keys().map(|name| &**name).collect();
        return Err(format!("{file}: no service '{service}'; there are {}", known.join(", ")));
    };
    let scaling = found.scaling.as_ref().ok_or_else(|| {
        format!("{file}: service '{service}' has no scaling; write [service.{service}.scaling]")
    })?;
    Ok(scaling.clone())
}

/// What the arguments say, else the service's configuration, else the standard setting.
fn setting(args: &Args, scaling: Option<&Scaling>) -> Result<Setting, String> {
    let standard = Setting::standard(30.0);
    let slo = scaling.and_then(|scaling| scaling.slo.as_ref());
    let min = args.min.or(scaling.map(|scaling| scaling.min)).unwrap_or(standard.min);
    let max = args.max.or(scaling.map(most)).unwrap_or(standard.max);
    if max == 0 || min > max || max > 100_000 {
        return Err(format!(
            "--min {min} --max {max}: write a maximum of 1 to 100000, and a minimum up to it"
        ));
    }
    let seconds = |time: Duration| time.as_secs_f64();
    let slots = args.slots.map(f64::from).or(slo.and_then(|slo| slo.slots));
    let service = args.service_time.or(slo.and_then(|slo| slo.service_time));
    let service = service.map_or(standard.service, seconds);
    let lead = args.lead.or(slo.map(|slo| slo.lead_time).filter(|lead| *lead >= LEAST_LEAD));
    // What a goal leaves for waiting, if the slowest requests take twice the mean.
    let latency = slo.and_then(|slo| slo.latency).map(seconds);
    let left = latency.map(|latency| (latency - 2.0 * service).max(service / 4.0));
    Ok(Setting {
        slots: slots.unwrap_or(standard.slots),
        service,
        wait: args.slo.map(seconds).or(left).unwrap_or(2.5 * service),
        lead: lead.map_or(standard.lead, seconds),
        min,
        max,
        shared: args.shared,
    })
}

/// The most that there may be at any time.
fn most(scaling: &Scaling) -> u32 {
    let scheduled = scaling.schedules.iter().filter_map(|schedule| schedule.max);
    scheduled.chain([scaling.max]).max().unwrap_or(scaling.max)
}

fn load(args: &Args) -> Result<Load, String> {
    let load = match (&args.trace, args.shape) {
        (Some(file), _) => {
            let name = file.display().to_string();
            let text = std::fs::read(file).map_err(|error| format!("{name}: {error}"))?;
            let text = String::from_utf8(text)
                .map_err(|_| format!("{name}: not text; write a CSV file in UTF-8"))?;
            let length = args.length.map(|length| length.as_secs_f64());
            let part = Part { from: args.from.unwrap_or_default(), length };
            trace::read(&name, &text, &part).map_err(|error| error.to_string())?
        }
        (None, Some(shape)) => shape.load(),
        (None, None) => return Err("name a load with --trace or --shape".to_owned()),
    };
    Ok(match args.peak {
        Some(peak) => load.with_peak(peak),
        None => load,
    })
}

/// What of a configuration has no part in a simulation.
fn notes(scaling: &Scaling, dated: bool) -> Vec<String> {
    let mut notes = Vec::new();
    if matches!(scaling.mode, ScalingMode::Off | ScalingMode::DryRun) {
        notes.push("its mode does nothing; simulated as \"on\"".to_owned());
    }
    if scaling.slo.as_ref().is_some_and(|slo| slo.slots.is_none() || slo.service_time.is_none()) {
        notes.push(
            "slots or service_time of slo are not configured: it learns them from the beginning of the load"
                .to_owned(),
        );
    }
    if !scaling.schedules.is_empty() && !dated {
        notes.push(
            "the load is of no day: it begins on 1 January 2026 at 00:00 UTC for the schedules"
                .to_owned(),
        );
    }
    let targets = scaling.targets.iter().map(|(name, policy)| ("target", name, &policy.metric));
    let thresholds = scaling.thresholds.iter().map(|(name, p)| ("threshold", name, &p.metric));
    let queues = scaling.queues.iter().map(|(name, policy)| ("queue", name, &policy.metric));
    for (table, name, metric) in targets.chain(thresholds).chain(queues) {
        if matches!(metric, Metric::Memory | Metric::External(_)) {
            notes.push(format!(
                "{table}.{name} goes by what is not simulated: it has no data, and nothing goes down"
            ));
        }
    }
    notes
}
