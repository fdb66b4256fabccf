//! The few things that workers and the control plane both touch: the published snapshot, the
//! generations taken up, and the number of open connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};

use crate::limits::bans::Bans;
use crate::limits::shared::Status;
use crate::listener::per_address::PerAddress;
use crate::memory::Heap;
use crate::snapshot::Snapshot;
use crate::telemetry::{PerWorker, WorkerStats};

pub struct Shared {
    pub current: ArcSwap<Snapshot>,
    /// Wakes every worker when it changes; holds the latest generation.
    pub published: watch::Sender<u64>,
    /// Counts the times that everyone who waits on a worker's timers was to look up.
    pub wakes: AtomicU64,
    /// By worker: the generation it has taken up.
    taken_up: Box<[AtomicU64]>,
    acknowledged: Notify,
    /// Client connections of all workers.
    pub open: AtomicUsize,
    pub emptied: Notify,
    /// There is no memory for new connections.
    pub full: AtomicBool,
    /// There is little memory for idle ones.
    pub scarce: AtomicBool,
    pub heap: Heap,
    /// Connections per client address, where a listener limits them.
    pub per_address: Arc<PerAddress>,
    /// Who is not let in for a while.
    pub bans: Arc<Bans>,
    /// How it stands with those who count limits together with us.
    pub together: Arc<Status>,
    pub stats: PerWorker<WorkerStats>,
    /// Number of a worker thread that ended by itself.
    pub died: watch::Sender<Option<usize>>,
}

impl Shared {
    pub fn new(workers: usize, snapshot: Snapshot, heap: Heap) -> Arc<Self> {
        Arc::new(Self {
            published: watch::Sender::new(snapshot.generation),
            current: ArcSwap::from_pointee(snapshot),
            wakes: AtomicU64::new(0),
            taken_up: (0..workers).map(|_| AtomicU64::new(0)).collect(),
            acknowledged: Notify::new(),
            open: AtomicUsize::new(0),
            emptied: Notify::new(),
            full: AtomicBool::new(false),
            scarce: AtomicBool::new(false),
            heap,
            per_address: Arc::default(),
            bans: Arc::default(),
            together: Arc::default(),
            stats: PerWorker::new(workers),
            died: watch::Sender::new(None),
        })
    }

    pub fn acknowledge(&self, worker: usize, generation: u64) {
        self.taken_up[worker].store(generation, SeqCst);
        self.acknowledged.notify_waiters();
    }

    /// Resolves once every worker has taken up that generation or a later one.
    pub async fn acknowledged(&self, generation: u64) {
        loop {
            let next = self.acknowledged.notified();
            tokio::pin!(next);
            next.as_mut().enable();
            if self.taken_up.iter().all(|g| g.load(SeqCst) >= generation) {
                return;
            }
            next.await;
        }
    }

    /// Resolves once no client connection is open.
    pub async fn empty(&self) {
        loop {
            let next = self.emptied.notified();
            tokio::pin!(next);
            next.as_mut().enable();
            if self.open.load(SeqCst) == 0 {
                return;
            }
            next.await;
        }
    }
}
