//! Runs a plan: one thread keeps the time, others send.
//!
//! The pacing thread does nothing but sleep until the next request is due and hand it over, so
//! that answers, however many or slow, cannot delay what comes next.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::arrivals::Arrivals;
use super::client::Client;
use super::log::Log;
use super::outcome::{Cause, Done, Outcome};
use super::record::Recorder;
use super::report::{Report, Second, Totals};
use super::{LoadError, Plan, Stop};

/// The pacing thread looks at least this often whether it was stopped.
const LOOK: Duration = Duration::from_millis(20);
/// What requests under way get when the load is ended early.
const STOP_WAIT: Duration = Duration::from_secs(1);

struct Run {
    client: Client,
    recorder: Mutex<Recorder>,
    in_flight: AtomicUsize,
    start: Instant,
    timeout: Duration,
}

/// Runs a plan to its end, or until `stop`. Blocks the calling thread, which keeps the time.
/// `on_second` is called after each second with what is known of it, and with the number of
/// requests under way.
///
/// # Errors
/// The plan cannot be carried out at all; what servers do is in the report instead.
pub fn run(
    plan: &Plan,
    stop: &Stop,
    mut on_second: impl FnMut(Second, usize),
) -> Result<Report, LoadError> {
    raise_file_limit();
    let mut recorder = Recorder::new(plan.timeout);
    recorder.log = plan.log.as_deref().map(Log::create).transpose().map_err(|e| no_log(plan, e))?;
    let client = Client::new(plan)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(plan.threads.max(1))
        .thread_name("load")
        .enable_all()
        .build()?;
    // What fails here fails again, and is counted, when requests are sent.
    runtime.block_on(async {
        let connections = join_all((0..plan.connections).map(|_| client.warm()));
        let _ = tokio::time::timeout(plan.timeout, connections).await;
    });
    let run = Arc::new(Run {
        client,
        recorder: Mutex::new(recorder),
        in_flight: AtomicUsize::new(0),
        start: Instant::now(),
        timeout: plan.timeout,
    });

    let mut told = 0;
    let mut tell = |run: &Run| {
        while run.start.elapsed().as_secs() > told {
            if let Some(second) = run.record(|recorder| recorder.at(told)) {
                on_second(second, run.in_flight.load(Relaxed));
            }
            told += 1;
        }
    };
    for due in Arrivals::new(plan.rate.clone(), plan.spacing, plan.duration, plan.seed) {
        if !run.wait_until(due, stop, &mut tell) {
            break;
        }
        let sent = run.in_flight.load(Relaxed) < plan.max_in_flight;
        run.record(|recorder| recorder.due(due, sent));
        if sent {
            run.in_flight.fetch_add(1, Relaxed);
            let run = run.clone();
            runtime.spawn(async move { run.request(due).await });
        }
    }
    // The rest of a plan with a low rate, in which nothing is due any more.
    run.wait_until(plan.duration, stop, &mut tell);
    let seconds = run.start.elapsed().min(plan.duration).as_secs_f64();
    run.finish(stop, &mut tell);

    let unfinished = run.in_flight.load(Relaxed) as u64;
    let totals = Totals {
        start: run.start,
        url: plan.url.to_string(),
        seconds,
        unfinished,
        resent: run.client.resent.load(Relaxed),
        connections: run.client.opened.load(Relaxed),
    };
    let (report, log) = run.record(|recorder| (Report::new(recorder, totals), recorder.log.take()));
    runtime.shutdown_background();
    log.map_or(Ok(()), Log::finish).map_err(|error| no_log(plan, error))?;
    Ok(report)
}

impl Run {
    /// One request, from its planned time to its record.
    async fn request(&self, due: Duration) {
        let late = self.start.elapsed().saturating_sub(due);
        let deadline = tokio::time::Instant::from_std(self.start + due + self.timeout);
        let (outcome, connection) =
            match tokio::time::timeout_at(deadline, self.client.exchange()).await {
                Ok(done) => done,
                Err(_) => (Outcome::Failed(Cause::Timeout), None),
            };
        let latency = self.start.elapsed().saturating_sub(due);
        self.record(|recorder| recorder.done(Done { due, latency, late, outcome }));
        self.in_flight.fetch_sub(1, Relaxed);
        if let Some(connection) = connection {
            self.client.keep(connection).await;
        }
    }

    /// Sleeps until a time since the start. False: it was stopped before.
    fn wait_until(&self, due: Duration, stop: &Stop, tell: &mut impl FnMut(&Self)) -> bool {
        loop {
            tell(self);
            if stop.is_enough() {
                return false;
            }
            match due.saturating_sub(self.start.elapsed()) {
                Duration::ZERO => return true,
                left => thread::sleep(left.min(LOOK)),
            }
        }
    }

    /// Waits for what is under way: until its timeout, or a second after it was stopped.
    fn finish(&self, stop: &Stop, tell: &mut impl FnMut(&Self)) {
        let mut deadline = Instant::now() + self.timeout + LOOK;
        let mut stopped = false;
        while self.in_flight.load(Relaxed) > 0 && Instant::now() < deadline {
            tell(self);
            if stop.is_stopped() && !stopped {
                stopped = true;
                deadline = deadline.min(Instant::now() + STOP_WAIT);
            }
            thread::sleep(LOOK / 10);
        }
    }

    fn record<T>(&self, f: impl FnOnce(&mut Recorder) -> T) -> T {
        f(&mut self.recorder.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn no_log(plan: &Plan, error: std::io::Error) -> LoadError {
    let file = plan.log.as_deref().unwrap_or(Path::new("")).display().to_string();
    LoadError::Log { file, error }
}

/// Thousands of connections need as many descriptors; where it cannot be raised, connecting
/// fails and is reported.
fn raise_file_limit() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}
