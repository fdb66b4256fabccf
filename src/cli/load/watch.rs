//! Watches the backends of one service while a load runs: how many there are, each second, and
//! what happens to them, as it happens.
//!
//! Two threads ask the admin; neither can hold up the load. Where it does not answer, that is
//! said once and shows as a gap.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::progress::note;
use crate::admin::view::{Backend, BackendState, Event, Service};
use crate::cli::client::{AdminArgs, Client, Failure, Heard, service_path};
use crate::load::{Look, Mark, MarkKind, Sizes};

const LOOK: Duration = Duration::from_secs(1);
/// How long the stream of events may take to open.
const HEAR: Duration = Duration::from_secs(5);
/// How long backends that are wanted may take after the load.
const REACH: Duration = Duration::from_secs(30);
/// Most marks that are kept; the counts go on.
const MOST_MARKS: usize = 2000;

/// What is seen of a service, until it is dropped.
pub(super) struct Watch {
    service: String,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    looks: Vec<(Instant, Look)>,
    marks: Vec<(Instant, Mark)>,
    crashed: u64,
    unhealthy: u64,
    missed_events: bool,
    /// The stream of events is open.
    hears: bool,
    /// The admin did not answer the last time.
    lost: bool,
    ended: bool,
}

impl Watch {
    /// The service may be left out where there is only one.
    ///
    /// # Errors
    /// The admin does not answer, or there is no such service.
    pub(super) fn start(args: &AdminArgs, service: Option<&str>) -> Result<Self, Failure> {
        let client = Client::new(args)?;
        let name = match service {
            Some(name) => name.to_owned(),
            None => only(client.get("/v1/services")?)?,
        };
        let path = service_path(&name, "");
        let first: Service = client.get(&path)?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        lock(&seen).looks.push((Instant::now(), look(&first)));
        let (looks, ears, heard) = (client.clone(), client, name.clone());
        let (ours, theirs) = (seen.clone(), seen.clone());
        thread::spawn(move || {
            while !lock(&ours).ended {
                thread::sleep(LOOK);
                lock(&ours).take(looks.get(&path));
            }
        });
        thread::spawn(move || listen(&ears, &heard, &theirs));
        let watch = Self { service: name, seen };
        // Without the stream, what happens is not heard of, which the verdict says.
        watch.wait(HEAR, |seen| seen.hears || seen.missed_events);
        Ok(watch)
    }

    /// For the line of progress: `  backends 3/4`, ready and wanted.
    pub(super) fn line(&self) -> String {
        let seen = lock(&self.seen);
        match seen.looks.last() {
            _ if seen.lost => "  backends: the admin does not answer".to_owned(),
            Some((_, look)) => format!("  backends {}/{}", look.ready, look.desired),
            None => String::new(),
        }
    }

    /// Everything that was seen, with times since `start`. Where backends are wanted that are
    /// not there yet, it waits for them first, unless `enough` says that nobody wants to.
    pub(super) fn finish(self, start: Instant, enough: impl Fn() -> bool) -> Sizes {
        if !lock(&self.seen).is_reached() {
            self.wait(REACH, |seen| seen.is_reached() || seen.lost || enough());
        }
        let seen = lock(&self.seen);
        let since = |at: Instant| match at.checked_duration_since(start) {
            Some(after) => after.as_secs_f64(),
            None => -start.duration_since(at).as_secs_f64(),
        };
        Sizes {
            service: self.service.clone(),
            looks: seen.looks.iter().map(|(at, look)| Look { at_s: since(*at), ..*look }).collect(),
            marks: seen
                .marks
                .iter()
                .map(|(at, mark)| Mark { at_s: since(*at), ..mark.clone() })
                .collect(),
            crashed: seen.crashed,
            unhealthy: seen.unhealthy,
            missed_events: seen.missed_events,
        }
    }

    fn wait(&self, most: Duration, until: impl Fn(&Seen) -> bool) {
        let start = Instant::now();
        while start.elapsed() < most && !until(&lock(&self.seen)) {
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        lock(&self.seen).ended = true;
    }
}

impl Seen {
    fn take(&mut self, answer: Result<Service, Failure>) {
        match answer {
            Ok(service) => {
                self.lost = false;
                self.looks.push((Instant::now(), look(&service)));
            }
            Err(failure) if !self.ended => {
                if !std::mem::replace(&mut self.lost, true) {
                    note(&format!("tidegate load: {failure}; the load goes on"));
                }
            }
            Err(_) => {}
        }
    }

    fn hear(&mut self, service: &str, data: &str) {
        let value: Value = serde_json::from_str(data).unwrap_or_default();
        if value.get("missed").is_some() {
            self.missed_events = true;
        }
        let Ok(event) = serde_json::from_value::<Event>(value) else { return };
        if event.service.as_deref() != Some(service) {
            return;
        }
        let Some((kind, text)) = mark(&event.data) else { return };
        self.crashed += u64::from(kind == MarkKind::Crash);
        self.unhealthy += u64::from(kind == MarkKind::Unhealthy);
        if self.marks.len() < MOST_MARKS {
            self.marks.push((Instant::now(), Mark { at_s: 0.0, kind, text }));
        }
    }

    fn is_reached(&self) -> bool {
        let looks = || self.looks.iter().map(|(_, look)| look);
        looks().map(|look| look.ready).max() >= looks().map(|look| look.desired).max()
    }
}

/// Hears events until the watch has ended, over as many streams as it takes.
fn listen(client: &Client, service: &str, seen: &Mutex<Seen>) {
    while !lock(seen).ended {
        // Why it ended does not matter: the looks tell of an admin that does not answer.
        let _ = client.follow("/v1/events", |heard| {
            let mut seen = lock(seen);
            match heard {
                Heard::Open => seen.hears = true,
                Heard::Data(data) => seen.hear(service, data),
            }
        });
        lock(seen).missed_events = true;
        thread::sleep(LOOK);
    }
}

fn only(services: Vec<Service>) -> Result<String, Failure> {
    let mut names: Vec<String> = services.into_iter().map(|service| service.name).collect();
    match names.len() {
        1 => Ok(names.remove(0)),
        0 => Err(Failure::Usage("there is no service to watch".into())),
        _ => {
            Err(Failure::Usage(format!("--service NAME is needed: there are {}", names.join(", "))))
        }
    }
}

fn look(service: &Service) -> Look {
    let count = |wanted: &dyn Fn(&Backend) -> bool| {
        service.backends.iter().filter(|backend| wanted(backend)).count() as u32
    };
    let is_ejected = |backend: &Backend| backend.ejected_until.is_some();
    let ready = count(&|b| b.state == BackendState::Ready && b.healthy && !is_ejected(b));
    let total = count(&|b| b.state != BackendState::Gone);
    let fixed = count(&|b| b.state != BackendState::Gone && !b.drained_by_operator);
    let scaling = service.scaling.as_ref();
    Look {
        at_s: 0.0,
        ready,
        total,
        desired: scaling.map_or(fixed, |scaling| scaling.desired),
        max: scaling.map(|scaling| scaling.max),
    }
}

/// What an event means for a test; `None`: nothing. The names are those of the event's `data`.
fn mark(data: &Value) -> Option<(MarkKind, String)> {
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
    let number = |key: &str| data.get(key).and_then(Value::as_u64);
    let place = || text(if data.get("address").is_some() { "address" } else { "backend" });
    match text("kind").as_str() {
        "scaled" => {
            let (from, to) = (number("from")?, number("to")?);
            let kind = if to > from { MarkKind::Up } else { MarkKind::Down };
            Some((kind, format!("{from} → {to} backends: {}", text("reason"))))
        }
        "crash" => {
            Some((MarkKind::Crash, format!("{} ended by itself: {}", place(), text("cause"))))
        }
        "backend_state" if text("state") == "unhealthy" => {
            Some((MarkKind::Unhealthy, format!("{} is unhealthy: {}", place(), text("reason"))))
        }
        "scale_blocked" => Some((MarkKind::Held, format!("held back: {}", text("reason")))),
        "replaced" => {
            let text = format!("{} lost, replaced; {} wanted", number("lost")?, number("size")?);
            Some((MarkKind::Replaced, text))
        }
        _ => None,
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(service: &str, data: Value) -> String {
        let at = "2026-01-31T14:03:07.000Z";
        json!({"id": 1, "at": at, "kind": "backend", "service": service, "data": data}).to_string()
    }

    #[test]
    fn events_of_the_service_become_marks() {
        let mut seen = Seen::default();
        let scaled =
            json!({"kind": "scaled", "from": 2, "to": 4, "reason": "cpu: 4", "decision": 9});
        seen.hear("app", &event("app", scaled.clone()));
        seen.hear("app", &event("other", scaled));
        let crash = json!({"kind": "crash", "backend": "a", "address": "127.0.0.1:1", "cause": "signal: 9"});
        seen.hear("app", &event("app", crash));
        let state = |state: &str| json!({"kind": "backend_state", "backend": "b", "state": state, "reason": "timeout"});
        let blocked = json!({"kind": "scale_blocked", "reason": "21 wanted, 8 kept: at_max"});
        seen.hear("app", &event("app", blocked));
        seen.hear("app", &event("app", state("unhealthy")));
        seen.hear("app", &event("app", state("gone")));
        let marks: Vec<_> = seen.marks.iter().map(|(_, m)| (m.kind, m.text.as_str())).collect();
        assert_eq!(
            marks,
            [
                (MarkKind::Up, "2 → 4 backends: cpu: 4"),
                (MarkKind::Crash, "127.0.0.1:1 ended by itself: signal: 9"),
                (MarkKind::Held, "held back: 21 wanted, 8 kept: at_max"),
                (MarkKind::Unhealthy, "b is unhealthy: timeout"),
            ]
        );
        assert_eq!((seen.crashed, seen.unhealthy, seen.missed_events), (1, 1, false));
        seen.hear("app", "{\"missed\":3}");
        assert!(seen.missed_events);
    }
}
