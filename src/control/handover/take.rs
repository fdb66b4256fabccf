//! The new process's part: taking the sockets, the backends and what is known from the old one.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use nix::unistd::dup2_stdin;

use crate::listener::given::Given;
use crate::listener::passing::Channel;
use crate::tls::Loader;

use super::super::core::Control;
use super::super::privileges::DropError;
use super::super::state_dir::StateDir;
use super::super::{banner, lock, managed};
use super::state::State;
use super::{BEFORE, Message, Offer, PATIENCE, VARIABLE, VERSION, hear, receive, send};

/// The offer is there before we are; it only has to be read.
const OFFER: Duration = Duration::from_secs(10);
/// For the first round of checks. What is not settled by then was not with the old one either.
const SETTLE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(5);

/// The process before this one, while it waits for us.
#[derive(Debug)]
pub struct Predecessor {
    channel: Arc<Channel>,
    offer: Offer,
    /// To those before it that may still be finishing.
    earlier: Vec<Arc<Channel>>,
}

/// Why this process does not become tidegate. The one before goes on.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error("{VARIABLE} is set, but standard input is not the socket of a tidegate: {0}")]
    NoSocket(io::Error),
    #[error(
        "the running tidegate hands over in version {0} of its protocol, this one takes {VERSION}"
    )]
    Version(u32),
    #[error("runtime.state_dir is {new}, the running tidegate has {old}: that takes a restart")]
    StateDir { old: String, new: String },
    #[error("the running tidegate does not hand over any more: {0}")]
    Gone(io::Error),
    #[error("the running tidegate called the hand-over off")]
    Aborted,
    #[error("{0}")]
    Start(String),
    #[error("no backend of {0} is ready here, though there are with the running tidegate")]
    Dark(String),
}

impl Predecessor {
    /// The process that started this one to take over from it, and the sockets that it passed.
    ///
    /// # Errors
    /// There should be one, but it cannot be understood.
    pub fn of_process() -> Result<Option<(Self, Given)>, TakeError> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let (channel, offer, fds) = offer().map_err(TakeError::NoSocket)?;
        let mut predecessor = Self { channel, offer, earlier: Vec::new() };
        let version = predecessor.offer.version;
        if version != VERSION {
            return Err(predecessor.failed(TakeError::Version(version)));
        }
        let names = predecessor.offer.names.clone();
        let mut given = Given::by_predecessor(names.into_iter().zip(fds).collect());
        // One that cannot be listened to any more is gone.
        let earlier = given.handed(BEFORE).into_iter().filter_map(|fd| Channel::of(fd).ok());
        predecessor.earlier = earlier.map(Arc::new).collect();
        Ok(Some((predecessor, given)))
    }

    /// Tells the old process why this one ends.
    pub fn failed(&self, why: TakeError) -> TakeError {
        self.tell_failure(&why.to_string());
        why
    }

    /// The same in other words.
    pub fn tell_failure(&self, why: &str) {
        // If it is gone there is nobody to be told.
        let _ = send(&self.channel, &Message::Failed(why.to_owned()), &[]);
    }

    /// The locked directory of the old process.
    ///
    /// # Errors
    /// The configuration has another one.
    pub fn state_dir(&self, path: &Path, given: &mut Given) -> Result<StateDir, TakeError> {
        let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let lock = given.handed("lock").pop().filter(|_| real(path) == real(&self.offer.state_dir));
        lock.map(|lock| StateDir::taken_over(path, lock)).ok_or_else(|| {
            let (old, new) =
                (self.offer.state_dir.display().to_string(), path.display().to_string());
            self.failed(TakeError::StateDir { old, new })
        })
    }

    /// Sessions that clients began with the old process go on.
    pub fn give_tickets(&self, to: &mut Loader) {
        to.go_on_with(self.offer.tickets.clone());
    }

    /// Becomes tidegate: returns once this process is the service and accepts.
    ///
    /// # Errors
    /// See [`TakeError`]; the old process was told and goes on, and the backends are let go of.
    pub async fn take_over(
        &self,
        control: &Arc<Control>,
        drop_rights: impl FnOnce() -> Result<(), DropError>,
        text: bool,
    ) -> Result<(), TakeError> {
        let standing = &control.standing;
        standing.taking_over.store(true, SeqCst);
        standing.alone.send_replace(false);
        let taken = self.try_take(control, drop_rights, text).await;
        if let Err(error) = taken {
            // Ours to let go of even where the old one is gone: the next start finds them.
            control.let_backends_go().await;
            return Err(self.failed(error));
        }
        standing.taking_over.store(false, SeqCst);
        control.manager.ready("serving");
        let before: Vec<_> = self.earlier.iter().chain([&self.channel]).cloned().collect();
        lock(&standing.before).clone_from(&before);
        let control = control.clone();
        tokio::spawn(async move {
            for channel in before {
                // It says nothing any more. That the socket closes is what is waited for.
                while hear(&channel, None).await.is_ok() {}
            }
            lock(&control.standing.before).clear();
            control.standing.alone.send_replace(true);
            tracing::info!("the tidegate before this one is gone");
        });
        Ok(())
    }

    async fn try_take(
        &self,
        control: &Arc<Control>,
        drop_rights: impl FnOnce() -> Result<(), DropError>,
        text: bool,
    ) -> Result<(), TakeError> {
        let wrong = |problems: Vec<crate::config::Problem>| {
            let all: Vec<_> = problems.iter().map(ToString::to_string).collect();
            TakeError::Start(all.join("\n"))
        };
        let starting = control.prepare_start(drop_rights).await.map_err(wrong)?;
        self.say(&Message::Prepared)?;
        let Message::Go(state) = self.hear(PATIENCE).await? else { return Err(TakeError::Aborted) };
        state.inherit_first(control);
        let binding = control.take_first(starting).await.map_err(wrong)?;
        state.inherit(control).await;
        tokio::spawn(banner::settle(control.clone(), text));
        settled(control, &state).await?;
        // From here on, if the old one is gone, somebody has to be tidegate.
        if self.say(&Message::Ready).is_ok() {
            match self.hear(PATIENCE).await {
                Ok(Message::Yours) => {}
                Ok(_) => return Err(TakeError::Aborted),
                Err(error) => tracing::warn!("{error}; this process takes its place all the same"),
            }
        }
        control.plane.listen(binding).await;
        Ok(())
    }

    fn say(&self, message: &Message) -> Result<(), TakeError> {
        send(&self.channel, message, &[]).map_err(TakeError::Gone)
    }

    async fn hear(&self, within: Duration) -> Result<Message, TakeError> {
        hear(&self.channel, Some(within)).await.map_err(TakeError::Gone)
    }
}

/// Waits for the first round of checks.
async fn settled(control: &Control, state: &State) -> Result<(), TakeError> {
    let settled = async {
        while !control.settled.load(SeqCst) || !state.dark(control).is_empty() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let _ = tokio::time::timeout(SETTLE, settled).await;
    match &state.dark(control)[..] {
        [] => Ok(()),
        dark => Err(TakeError::Dark(dark.join(", "))),
    }
}

impl Control {
    /// Backends live on without us.
    pub(super) async fn let_backends_go(&self) {
        let all: Vec<_> = lock(&self.managed).values().cloned().collect();
        for one in all {
            if let Err(error) = managed::within(one.orchestrator().shutdown(false)).await {
                tracing::warn!(service = &*one.service, "letting its backends go: {error}");
            }
        }
    }
}

/// Takes the socket from standard input, where nothing of it is left.
fn offer() -> io::Result<(Arc<Channel>, Offer, Vec<OwnedFd>)> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let channel = Channel::of(socket)?;
    match receive(&channel, Some(OFFER))? {
        (Message::Offer(offer), fds) if fds.len() == offer.names.len() => {
            Ok((Arc::new(channel), offer, fds))
        }
        _ => Err(io::Error::other("it begins with no offer")),
    }
}
