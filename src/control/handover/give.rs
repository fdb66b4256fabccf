//! The old process's part: starting the new one, passing everything on, and taking it back if the
//! new one fails.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::admin::Spare;
use crate::listener::passing::Channel;

use super::super::core::Control;
use super::super::events::Kind;
use super::super::lock;
use super::super::reload::Reloader;
use super::program::Program;
use super::state::State;
use super::{BEFORE, Message, Offer, PATIENCE, VERSION, hear, send};

/// For a new process that was told to end, or ends by itself.
const END: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(5);

/// What a hand-over needs besides the control plane.
pub struct Giver {
    pub program: Program,
    pub admin: Spare,
    /// The locked state directory.
    pub lock: OwnedFd,
}

/// The new process. It learns from the end of this value that this process is gone.
#[derive(Debug)]
pub struct Handed {
    pub pid: u32,
    _channel: Arc<Channel>,
}

/// Why nothing was handed over. Everything goes on as before.
#[derive(Debug, thiserror::Error)]
pub enum GiveError {
    #[error("this is process 1: its end would be the end of everything here; restart it instead")]
    First,
    #[error("tidegate is stopping")]
    Stopping,
    #[error("the backends of service \"{0}\" would not outlive this process")]
    Mortal(String),
    #[error("{path} cannot be started: {error}")]
    Start { path: String, error: io::Error },
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("the new process says: {0}")]
    Failed(String),
    #[error("the new process ended ({0}) before it was {1}")]
    Ended(String, &'static str),
    #[error("the new process was not {1} within {0} s")]
    TooLong(u64, &'static str),
    #[error("it was called off")]
    Cancelled,
}

impl Control {
    /// Hands everything over to a new process. When this returns well, that is tidegate, and this one
    /// has to accept no more, finish what runs and end. `cancel` becoming true calls it off.
    ///
    /// # Errors
    /// See [`GiveError`]; it was told to people.
    pub async fn pass_on(
        self: &Arc<Self>,
        giver: &Giver,
        cancel: watch::Receiver<bool>,
    ) -> Result<Handed, GiveError> {
        let begun = self.clock.now();
        let handed = self.try_pass_on(giver, cancel).await;
        match &handed {
            Ok(handed) => {
                let took_ms = (self.clock.now() - begun) / 1000;
                self.events.send(None, Kind::HandedOver { pid: handed.pid, took_ms });
            }
            Err(error) => {
                self.standing.failed.fetch_add(1, Relaxed);
                self.events.send(None, Kind::HandoverFailed { error: error.to_string() });
            }
        }
        handed
    }

    async fn try_pass_on(
        self: &Arc<Self>,
        giver: &Giver,
        cancel: watch::Receiver<bool>,
    ) -> Result<Handed, GiveError> {
        // No reload from here on.
        let mut reloader = self.reloading.lock().await;
        self.may_be_handed_over()?;
        let mut cancel = cancel;
        self.wait_for_held(&mut cancel).await;
        let (channel, theirs) = Channel::pair()?;
        let path = giver.program.path();
        let child = giver.program.start(theirs).map_err(|error| {
            let path = path.display().to_string();
            GiveError::Start { path, error }
        })?;
        tracing::info!(pid = child.id(), path = %path.display(), "handing over to a new process");
        let mut talk = Talk { channel: Arc::new(channel), child, cancel };
        let done = self.talk(&mut talk, giver, &mut reloader).await;
        match done {
            Ok(()) => {
                self.standing.handed_over.store(true, SeqCst);
                self.stopping.store(true, SeqCst);
                giver.admin.own(false);
                lock(&self.registry).release_held("another process has taken over");
                Ok(Handed { pid: talk.child.id(), _channel: talk.channel })
            }
            Err((error, released)) => {
                let status = talk.end().await;
                if released {
                    self.take_back(&mut reloader).await;
                }
                Err(match error {
                    GiveError::Ended(_, what) => GiveError::Ended(status, what),
                    error => error,
                })
            }
        }
    }

    /// Requests that wait for a backend to start cannot go along, and what is started later is the other's. While there are
    /// any, for as long as one may wait.
    async fn wait_for_held(&self, cancel: &mut watch::Receiver<bool>) {
        let Some(longest) = lock(&self.registry).held() else { return };
        let served = async {
            while lock(&self.registry).held().is_some() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            _ = tokio::time::timeout(longest, served) => {}
            // It is seen again where it is heeded.
            _ = cancel.wait_for(|cancelled| *cancelled) => {}
        }
    }

    fn may_be_handed_over(&self) -> Result<(), GiveError> {
        if std::process::id() == 1 {
            return Err(GiveError::First);
        }
        if self.stopping.load(SeqCst) {
            return Err(GiveError::Stopping);
        }
        let managed = lock(&self.managed);
        let mortal = managed.values().find(|m| !m.orchestrator().capabilities().outlives_us);
        mortal.map_or(Ok(()), |managed| Err(GiveError::Mortal(managed.service.to_string())))
    }

    /// With an error: whether the backends were let go of by then.
    async fn talk(
        self: &Arc<Self>,
        talk: &mut Talk,
        giver: &Giver,
        reloader: &mut Reloader,
    ) -> Result<(), (GiveError, bool)> {
        let untouched = |error| (error, false);
        let (offer, fds) = self.offer(giver, reloader).map_err(|e| untouched(e.into()))?;
        talk.say(&Message::Offer(offer), &fds, "prepared").map_err(untouched)?;
        drop(fds);
        talk.hear("prepared").await.and_then(only_prepared).map_err(untouched)?;

        let released = |error| (error, true);
        self.standing.frozen.store(true, SeqCst);
        for task in reloader.tasks.orchestrated.drain().flat_map(|(_, tasks)| tasks) {
            task.abort();
        }
        self.let_backends_go().await;
        let state = Box::new(State::of(self));
        talk.say(&Message::Go(state), &[], "ready").map_err(released)?;
        talk.hear("ready").await.and_then(only_ready).map_err(released)?;
        // Before it speaks for itself, or the manager would not know who does.
        self.manager.main_pid(talk.child.id());
        talk.say(&Message::Yours, &[], "ready").map_err(|error| {
            self.manager.main_pid(std::process::id());
            released(error)
        })
    }

    fn offer(&self, giver: &Giver, reloader: &Reloader) -> io::Result<(Offer, Vec<OwnedFd>)> {
        let mut all = self.plane.sockets()?;
        for (name, socket) in &giver.admin.sockets {
            all.push((name.clone(), socket.try_clone()?));
        }
        all.push(("lock".to_owned(), giver.lock.try_clone()?));
        if !self.standing.is_alone() {
            // The new one has to wait for them as we do.
            for earlier in lock(&self.standing.before).iter() {
                all.push((BEFORE.to_owned(), earlier.again()?));
            }
        }
        let (names, fds) = all.into_iter().unzip();
        let tickets = reloader.tls.ticket_keys();
        let state_dir = lock(&self.applied).started().runtime.state_dir.clone();
        Ok((Offer { version: VERSION, names, state_dir, tickets }, fds))
    }

    /// The new process is gone: what was let go of is found again, and everything goes on.
    async fn take_back(self: &Arc<Self>, reloader: &mut Reloader) {
        let all: HashMap<_, _> =
            lock(&self.managed).iter().map(|(name, m)| (name.clone(), m.clone())).collect();
        for (name, managed) in all {
            self.rebuild(reloader, &managed).await;
            let tasks = self.follow_again(&managed);
            reloader.tasks.orchestrated.insert(name, tasks);
        }
        self.standing.frozen.store(false, SeqCst);
    }
}

/// The conversation with the new process.
struct Talk {
    channel: Arc<Channel>,
    child: Child,
    cancel: watch::Receiver<bool>,
}

impl Talk {
    fn say(&self, message: &Message, fds: &[OwnedFd], what: &'static str) -> Result<(), GiveError> {
        send(&self.channel, message, fds).map_err(|_| GiveError::Ended(String::new(), what))
    }

    async fn hear(&mut self, what: &'static str) -> Result<Message, GiveError> {
        let heard = tokio::select! {
            heard = hear(&self.channel, Some(PATIENCE)) => heard,
            Ok(_) = self.cancel.wait_for(|cancel| *cancel) => return Err(GiveError::Cancelled),
        };
        heard.map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                GiveError::TooLong(PATIENCE.as_secs(), what)
            }
            _ => GiveError::Ended(String::new(), what),
        })
    }

    /// Ends the new process, in order if it listens, and says how it ended.
    async fn end(mut self) -> String {
        let aborted = send(&self.channel, &Message::Abort, &[]);
        if aborted.is_err() {
            self.channel.close();
        }
        let ended = tokio::task::spawn_blocking(move || wait(&mut self.child)).await;
        match ended.map_err(io::Error::other).flatten() {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }
}

/// Waits for a moment, then kills.
fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let begun = Instant::now();
    while begun.elapsed() < END {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
    }
    child.kill()?;
    child.wait()
}

fn only_prepared(message: Message) -> Result<(), GiveError> {
    match message {
        Message::Prepared => Ok(()),
        other => Err(failure(other)),
    }
}

fn only_ready(message: Message) -> Result<(), GiveError> {
    match message {
        Message::Ready => Ok(()),
        other => Err(failure(other)),
    }
}

fn failure(message: Message) -> GiveError {
    match message {
        Message::Failed(why) => GiveError::Failed(why),
        _ => GiveError::Failed("something out of turn".to_owned()),
    }
}
