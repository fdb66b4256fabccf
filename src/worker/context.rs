//! What every task of one worker shares.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::CatchUnwind;
use ipnet::IpNet;
use pin_project_lite::pin_project;

use crate::clock::{Clock, Micros};
use crate::limits::shared::Asker;
use crate::snapshot::Snapshot;
use crate::telemetry::access_log::Writer;

use super::local::LocalSnapshot;
use super::shared::Shared;
use super::slack::Slack;
use super::tarpit::Tarpit;
use super::timers::Timers;
use super::waste::Waste;

/// Bytes that a tunnel moves at once, and keeps at most for a side that reads slowly. Larger reads
/// cost less a byte: fewer system calls.
const SCRATCH: usize = 64 * 1024;

/// One worker: single-threaded, so cells are enough.
pub struct Worker {
    pub id: usize,
    pub clock: Clock,
    pub timers: Rc<Timers>,
    pub shared: Arc<Shared>,
    pub rng: RefCell<fastrand::Rng>,
    /// What tunnels read into, and what is thrown away; used within one poll, never across two.
    pub scratch: RefCell<Box<[u8]>>,
    pub waste: Waste,
    /// For banned clients.
    pub tarpit: Tarpit,
    /// Of connections that went idle.
    pub slack: Slack,
    /// Asks those who count limits together with us.
    pub asker: Asker,
    local: RefCell<Rc<LocalSnapshot>>,
    log: RefCell<Option<Writer>>,
    /// Of `Shared::wakes`, those that were heeded.
    woken: Cell<u64>,
    /// Copies of requests that are under way.
    pub mirrored: Cell<usize>,
    /// The process is ending: answers close their connections.
    stopping: Cell<bool>,
}

/// Counts one client connection while it lives.
pub struct Counted(Arc<Shared>);

impl Worker {
    pub fn new(id: usize, clock: Clock, shared: Arc<Shared>, seed: u64) -> Rc<Self> {
        let local = LocalSnapshot::new(shared.current.load_full(), id);
        Rc::new(Self {
            id,
            timers: Timers::new(clock.clone()),
            asker: Asker::new(clock.clone(), shared.together.clone()),
            clock,
            shared,
            rng: RefCell::new(fastrand::Rng::with_seed(seed)),
            scratch: RefCell::new(vec![0; SCRATCH].into_boxed_slice()),
            waste: Waste::default(),
            tarpit: Tarpit::default(),
            slack: Slack::default(),
            local: RefCell::new(Rc::new(local)),
            log: RefCell::new(None),
            woken: Cell::new(0),
            mirrored: Cell::new(0),
            stopping: Cell::new(false),
        })
    }

    #[inline]
    pub fn now(&self) -> Micros {
        self.clock.now()
    }

    /// The snapshot as it is now. Cheap: one counter.
    #[inline]
    pub fn local(&self) -> Rc<LocalSnapshot> {
        self.local.borrow().clone()
    }

    /// Takes up the latest snapshot, purges what left, and acknowledges the generation.
    pub fn take_up(&self) {
        let latest = self.shared.current.load_full();
        let generation = latest.generation;
        let old = self.local();
        self.follow_log(&latest);
        if !Arc::ptr_eq(&old.snapshot, &latest) {
            *self.local.borrow_mut() = Rc::new(old.next(latest));
        }
        self.shared.acknowledge(self.id, generation);
        let wakes = self.shared.wakes.load(SeqCst);
        if self.woken.replace(wakes) != wakes {
            self.timers.wake_all();
        }
    }

    /// Takes up the latest snapshot if this worker does not have it yet.
    pub fn catch_up(&self) {
        if self.shared.current.load().generation > self.local().snapshot.generation {
            self.take_up();
        }
    }

    /// A client was ended for a flood. Who does so again and again is banned, where limits ban: whether it is now.
    #[cold]
    pub fn offends(&self, client: IpAddr, trusted: &[IpNet]) -> bool {
        let local = self.local();
        let limits = local.snapshot.offences.as_ref();
        limits.is_some_and(|limits| limits.offend(client, trusted, &self.shared.bans))
    }

    fn follow_log(&self, latest: &Snapshot) {
        let mut log = self.log.borrow_mut();
        let same = match (&*log, &latest.access_log) {
            (Some(writer), Some(now)) => writer.is_of(now),
            (None, None) => true,
            _ => false,
        };
        if !same {
            *log = latest.access_log.clone().map(Writer::new);
        }
    }

    /// Whether requests have to remember what the access log wants to know.
    #[inline]
    pub fn logs(&self) -> bool {
        self.log.borrow().is_some()
    }

    /// Lets `write` add to the access log, if it is on.
    pub fn log(&self, write: impl FnOnce(&mut Writer, &mut fastrand::Rng)) {
        if let Some(writer) = &mut *self.log.borrow_mut() {
            write(writer, &mut self.rng.borrow_mut());
            if self.stopping() {
                writer.flush();
            }
        }
    }

    /// Hands over what was logged since the last time.
    pub fn flush_log(&self) {
        if let Some(writer) = &mut *self.log.borrow_mut() {
            writer.flush();
        }
    }

    pub fn stopping(&self) -> bool {
        self.stopping.get()
    }

    /// Begins the end: idle connections notice at once, busy ones with their next answer.
    pub fn begin_stop(&self) {
        self.stopping.set(true);
        self.flush_log();
        self.timers.wake_all();
    }

    /// Runs a task of this worker; a panic in it is logged and counted, and ends only that task.
    pub fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        let task = AssertUnwindSafe(task).catch_unwind();
        tokio::task::spawn_local(Guarded { task, worker: self.clone() });
    }

    /// Counts a client connection until the guard is dropped.
    pub fn count(&self) -> Counted {
        self.shared.open.fetch_add(1, SeqCst);
        Counted(self.shared.clone())
    }
}

pin_project! {
    // By hand: an async block would keep the task twice, before and while it awaits it.
    struct Guarded<F> {
        #[pin]
        task: CatchUnwind<AssertUnwindSafe<F>>,
        worker: Rc<Worker>,
    }
}

impl<F: Future<Output = ()>> Future for Guarded<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.task.poll(cx).map(|result| {
            if result.is_err() {
                this.worker.shared.stats.of(this.worker.id).panics.inc();
                tracing::error!(
                    "a connection's task panicked; the connection is lost, others go on"
                );
            }
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, SeqCst) == 1 {
            self.0.emptied.notify_waiters();
        }
    }
}
