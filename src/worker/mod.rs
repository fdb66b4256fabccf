//! The data plane: worker threads, each a current-thread runtime that owns its listeners,
//! its upstream connections, its snapshot and its counters.
//!
//! This file is what the control plane sees of it.

pub mod context;
pub mod local;
pub mod shared;
mod slack;
mod tarpit;
#[cfg(test)]
mod tests;
mod thread;
pub mod timers;
mod waste;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock::Clock;
use crate::config::types as config;
use crate::limits::bans::Bans;
use crate::limits::shared::Status;
use crate::listener::bind::{self, Bound};
use crate::listener::given::Given;
use crate::memory::Heap;
use crate::route::Router;
use crate::snapshot::Snapshot;
use crate::telemetry::{ListenerStats, PerWorker, WorkerStats};

use shared::Shared;
use thread::Command;

pub use crate::listener::bind::BindError;

/// Listener changes that may wait for one worker; far more than a reload makes.
const COMMANDS: usize = 4096;

/// Connections leave a listener that ends a thousand a second, over ten seconds at most.
const LEAVE_EACH: Duration = Duration::from_millis(1);
const LEAVE_MOST: Duration = Duration::from_secs(10);
/// In steps, as each wakes every connection.
const LEAVE_STEP: Duration = Duration::from_millis(20);
const LEAVE_STEPS: u128 = 50;

/// A worker that has not given its memory back within this time does so when it can.
const GIVE_BACK_WITHIN: Duration = Duration::from_millis(250);

/// What the workers are started with.
pub struct Params {
    pub workers: usize,
    pub clock: Clock,
    /// Sockets that are not to be bound: they were passed to this process.
    pub given: Given,
    pub heap: Heap,
}

/// The running workers. Dropping it does not stop them; see [`DataPlane::stop`].
pub struct DataPlane {
    shared: Arc<Shared>,
    workers: Vec<mpsc::Sender<Command>>,
    _threads: Vec<JoinHandle<()>>,
    /// What is bound now. Control plane only.
    bound: Mutex<Vec<Held>>,
    given: Mutex<Given>,
}

/// A bound address, and its sockets once more, by name: to be handed over. They are let go of before the
/// workers close theirs, as a socket takes connections until the last descriptor of it is closed.
struct Held {
    bound: Bound,
    spare: Vec<(String, OwnedFd)>,
}

/// Addresses that are bound but not accepted on yet.
#[must_use]
pub struct Binding(bind::Change);

impl DataPlane {
    /// Starts the threads with an empty snapshot and no listeners.
    pub fn start(params: Params) -> io::Result<Self> {
        let empty = Snapshot {
            generation: 0,
            listeners: Vec::new(),
            router: Arc::new(Router::new(&[], &[])),
            routes: Vec::new(),
            services: Vec::new(),
            offences: None,
            access_log: None,
        };
        let shared = Shared::new(params.workers, empty, params.heap);
        let mut workers = Vec::new();
        let mut threads = Vec::new();
        for id in 0..params.workers {
            let (sender, commands) = mpsc::channel(COMMANDS);
            threads.push(thread::spawn(id, params.clock.clone(), shared.clone(), commands)?);
            workers.push(sender);
        }
        Ok(Self {
            shared,
            workers,
            _threads: threads,
            bound: Mutex::default(),
            given: Mutex::new(params.given),
        })
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Binds what is new, all or nothing; sockets whose listener and address stay are left
    /// untouched. Each new address is first bound without SO_REUSEPORT, so that a port in use is
    /// an error. Connections wait in the kernel until [`DataPlane::listen`]; dropped before that,
    /// nothing has changed.
    pub fn bind(&self, listeners: &[Arc<config::Listener>]) -> Result<Binding, Vec<BindError>> {
        let bound: Vec<_> = lock(&self.bound).iter().map(|held| held.bound.clone()).collect();
        bind::change(&bound, listeners, self.workers.len(), &mut lock(&self.given)).map(Binding)
    }

    /// Closes what was passed to this process and is of no use to it; the names of that.
    pub fn close_unused(&self) -> Vec<String> {
        let unused = std::mem::take(&mut *lock(&self.given));
        unused.unused().into_iter().map(str::to_owned).collect()
    }

    /// The sockets of all listeners by name, for the process that takes over: the same sockets,
    /// with their queues of connections.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn sockets(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let bound = lock(&self.bound);
        let all = bound.iter().flat_map(|held| &held.spare);
        all.map(|(name, fd)| Ok((name.clone(), fd.try_clone()?))).collect()
    }

    /// Accepts on what was bound, and closes what is no longer there after accepting until it is
    /// empty. Comes after the workers took up a snapshot that knows these listeners: a connection
    /// accepted before that would be told that there is no service.
    pub async fn listen(&self, Binding(change): Binding) {
        let mut opened = Vec::new();
        for new in change.open {
            let mut spare = new.for_next;
            for (worker, socket) in new.sockets {
                match socket.spare() {
                    Ok(again) => spare.push((new.bound.handover_name(), again)),
                    Err(error) => tracing::warn!(
                        listener = &*new.bound.listener,
                        "cannot be handed over to a new tidegate: {error}"
                    ),
                }
                // A worker that is gone ends the process elsewhere.
                let _ = self.workers[worker].send(Command::Listen(new.bound.clone(), socket)).await;
            }
            opened.push(Held { bound: new.bound, spare });
        }
        lock(&self.bound).retain(|held| !change.close.contains(&held.bound));
        for old in &change.close {
            for worker in &self.workers {
                let _ = worker.send(Command::Close(old.clone())).await;
            }
        }
        lock(&self.bound).extend(opened);
    }

    /// Addresses that are bound now, by listener name (port 0 resolved); HTTP/3 is on the same.
    pub fn addresses(&self) -> Vec<(Arc<str>, SocketAddr)> {
        let bound = lock(&self.bound);
        let tcp =
            bound.iter().map(|held| &held.bound).filter(|bound| bound.kind == bind::Kind::Tcp);
        tcp.map(|bound| (bound.listener.clone(), bound.address)).collect()
    }

    /// Who is not let in for a while.
    pub fn bans(&self) -> &Bans {
        &self.shared.bans
    }

    /// How it stands with those who count limits together with us.
    pub fn together(&self) -> &Status {
        &self.shared.together
    }

    /// Counters of the worker threads themselves.
    pub fn worker_stats(&self) -> &PerWorker<WorkerStats> {
        &self.shared.stats
    }

    /// Swaps the snapshot in (its `generation` is set here) and wakes every worker; returns the
    /// generation. One caller at a time.
    pub fn publish(&self, mut snapshot: Snapshot) -> u64 {
        let generation = self.shared.current.load().generation + 1;
        snapshot.generation = generation;
        self.shared.current.store(Arc::new(snapshot));
        self.shared.published.send_replace(generation);
        generation
    }

    /// Wakes every connection of every worker once, to look at what was changed before this call.
    pub fn wake(&self) {
        self.shared.wakes.fetch_add(1, SeqCst);
        self.shared.published.send_modify(|_| {});
    }

    pub fn current(&self) -> Arc<Snapshot> {
        self.shared.current.load_full()
    }

    /// Resolves once every worker has taken up that generation: pools purged, no pick from an older one.
    pub async fn acknowledged(&self, generation: u64) {
        self.shared.acknowledged(generation).await;
    }

    /// Resolves once every worker's own loop came around.
    pub async fn turned(&self) {
        let (turning, mut all_turned) = mpsc::channel(1);
        for worker in &self.workers {
            let _ = worker.send(Command::Turn(turning.clone())).await;
        }
        drop(turning);
        while all_turned.recv().await.is_some() {}
    }

    /// Lets every worker, and then this thread, give memory back that nobody uses. The last one gets what others had to
    /// leave.
    pub async fn give_back(&self) {
        let (giving, mut all_gave) = mpsc::channel(1);
        // One that is stuck takes no orders either.
        let all = async {
            for worker in &self.workers {
                let _ = worker.send(Command::GiveBack(giving.clone())).await;
            }
            drop(giving);
            while all_gave.recv().await.is_some() {}
        };
        let _ = tokio::time::timeout(GIVE_BACK_WITHIN, all).await;
        (self.shared.heap.give_back)();
    }

    /// What there is no memory for. `scarce`: idle connections that nobody used lately. `full`: new ones, which wait in
    /// the kernel's queue, or are refused where there is none (QUIC). It may be said again and again.
    pub fn set_memory(&self, scarce: bool, full: bool) {
        // The line that they are in is read by everybody.
        if self.shared.full.load(Relaxed) != full {
            self.shared.full.store(full, Relaxed);
        }
        if self.shared.scarce.load(Relaxed) != scarce {
            self.shared.scarce.store(scarce, Relaxed);
            // Those that are idle already have a later end. What is armed early stays so.
            if scarce {
                self.wake();
            }
        }
    }

    /// Resolves with the worker's number if a worker thread ends by itself; the process must then end, non-zero.
    pub async fn died(&self) -> usize {
        let mut died = self.shared.died.subscribe();
        loop {
            if let Some(worker) = *died.borrow_and_update() {
                return worker;
            }
            if died.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Closes the listeners (accepting until each would block) and finishes what runs: `Connection: close`,
    /// GOAWAY, idle connections until their next answer or 1 s; resolves when all connections are gone, or
    /// at the limit, and says how many were cut.
    pub async fn stop(&self, limit: Duration) -> usize {
        lock(&self.bound).iter_mut().for_each(|held| held.spare.clear());
        let (closed, mut all_closed) = mpsc::channel(self.workers.len().max(1));
        for worker in &self.workers {
            let _ = worker.send(Command::Stop(closed.clone())).await;
        }
        drop(closed);
        let listeners: Vec<_> =
            self.current().listeners.iter().map(|view| view.stats.clone()).collect();
        let done = async {
            // Every worker drops its sender once its listeners are closed.
            while all_closed.recv().await.is_some() {}
            self.shared.empty().await;
        };
        // Once all are gone nobody has to be told any more.
        let done = async {
            tokio::select! {
                () = done => {}
                () = async {
                    self.let_leave(&listeners, limit).await;
                    std::future::pending().await
                } => {}
            }
        };
        let _ = tokio::time::timeout(limit, done).await;
        self.shared.open.load(SeqCst)
    }

    /// Lets all connections of these listeners end, each once nothing runs on it: not all at once, or
    /// their clients would all be back at the same moment, but so many a second, and all of them within
    /// a quarter of `limit`.
    pub async fn let_leave(&self, listeners: &[Arc<ListenerStats>], limit: Duration) {
        let open: usize = listeners.iter().map(|stats| stats.open()).sum();
        let spread = (LEAVE_EACH * open as u32).min(LEAVE_MOST).min(limit / 4);
        let steps = (spread.as_micros() / LEAVE_STEP.as_micros()).clamp(1, LEAVE_STEPS) as u32;
        for step in 1..=steps {
            let share = f64::from(step) / f64::from(steps);
            listeners.iter().for_each(|stats| stats.let_leave(share));
            self.wake();
            if step < steps {
                tokio::time::sleep(spread / steps).await;
            }
        }
    }
}

/// Under these locks nothing is left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
