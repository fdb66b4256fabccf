//! One worker thread: its runtime, and the loop that follows the control plane.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::clock::Clock;
use crate::listener::bind::{self, Bound};
use crate::listener::{accept, quic};

use super::context::Worker;
use super::shared::Shared;

/// How often pools are looked through for connections that were idle for too long.
const SWEEP: Duration = Duration::from_millis(500);

/// While memory is short, connections to backends that were idle for this long are closed.
const UNUSED: Duration = Duration::from_secs(1);

/// What the control plane tells a worker. New snapshots come by another way.
pub enum Command {
    /// Accept on this socket.
    Listen(Bound, bind::Listening),
    /// Accept until it would block, then close it.
    Close(Bound),
    /// Close every listener that way, then drop the sender, and finish what runs.
    Stop(mpsc::Sender<()>),
    /// Give memory back that is not used, then drop the sender.
    GiveBack(mpsc::Sender<()>),
    /// Nothing but to drop the sender: it shows that the worker turns.
    Turn(#[expect(dead_code, reason = "it is dropped")] mpsc::Sender<()>),
}

/// Starts the thread; if it ever ends, `shared.died` says so.
pub fn spawn(
    id: usize,
    clock: Clock,
    shared: Arc<Shared>,
    commands: mpsc::Receiver<Command>,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || {
        let death = Death { id, shared: shared.clone() };
        let worker = Worker::new(id, clock, shared, fastrand::u64(..));
        LocalSet::new().block_on(&runtime, follow(worker, commands));
        drop(death);
    })
}

/// Reports the end of the thread, also when it unwinds.
struct Death {
    id: usize,
    shared: Arc<Shared>,
}

impl Drop for Death {
    fn drop(&mut self) {
        self.shared.died.send_replace(Some(self.id));
    }
}

async fn follow(worker: Rc<Worker>, mut commands: mpsc::Receiver<Command>) {
    tokio::task::spawn_local(worker.timers.clone().run());
    tokio::task::spawn_local(sweep(worker.clone()));
    let mut published = worker.shared.published.subscribe();
    let mut listening = Vec::new();
    worker.take_up();
    loop {
        tokio::select! {
            biased;
            changed = published.changed() => match changed {
                Ok(()) => worker.take_up(),
                Err(_) => return,
            },
            command = commands.recv() => match command {
                Some(command) => obey(&worker, command, &mut listening),
                // The control plane let go without a stop (the process is ending).
                None => return,
            },
        }
    }
}

fn obey(worker: &Rc<Worker>, command: Command, listening: &mut Vec<Listening>) {
    match command {
        Command::Listen(bound, socket) => match Listening::start(worker, bound.clone(), socket) {
            Ok(new) => listening.push(new),
            Err(error) => tracing::error!(
                listener = &*bound.listener,
                address = %bound.address,
                "cannot accept: {error}"
            ),
        },
        Command::Close(bound) => {
            listening.retain(|one| one.bound() != &bound);
        }
        Command::GiveBack(done) => {
            worker.local().sweep(worker.now(), UNUSED);
            (worker.shared.heap.give_back)();
            drop(done);
        }
        Command::Turn(_) => {}
        Command::Stop(closed) => {
            worker.begin_stop();
            for one in listening.drain(..) {
                one.close_and_tell(closed.clone());
            }
        }
    }
}

/// What accepts connections.
enum Listening {
    Tcp(accept::Listening),
    Udp(quic::Listening),
}

impl Listening {
    fn start(worker: &Rc<Worker>, bound: Bound, socket: bind::Listening) -> io::Result<Self> {
        let worker = worker.clone();
        match socket {
            bind::Listening::Tcp(socket) => accept::listen(worker, bound, socket).map(Self::Tcp),
            bind::Listening::Udp(group, number) => {
                quic::listen(worker, bound, (group, number)).map(Self::Udp)
            }
        }
    }

    fn bound(&self) -> &Bound {
        match self {
            Self::Tcp(listening) => listening.bound(),
            Self::Udp(listening) => listening.bound(),
        }
    }

    fn close_and_tell(self, tell: mpsc::Sender<()>) {
        match self {
            Self::Tcp(listening) => listening.close_and_tell(tell),
            Self::Udp(listening) => listening.close_and_tell(tell),
        }
    }
}

async fn sweep(worker: Rc<Worker>) {
    let mut tick = tokio::time::interval(SWEEP);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = tick.tick().await;
        worker.shared.stats.of(worker.id).stall.record(due.elapsed().as_micros() as u64);
        worker.local().sweep(worker.now(), Duration::MAX);
        worker.tarpit.sweep(worker.now());
        worker.flush_log();
        if worker.slack.is_much() {
            (worker.shared.heap.give_back)();
        }
    }
}
