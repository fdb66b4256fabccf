//! The hand-over to a new process (USR2): the same sockets, the same backends, no gap.
//!
//! The running tidegate starts the program that is now at its path, with a socket as its standard
//! input, and they talk over it (`Message`):
//!
//! ```text
//! old                                   new
//! Offer: listening sockets, lock   ──▶  reads its configuration, binds what it was not given
//!                                  ◀──  Prepared
//! stops scaling, lets its backends go
//! Go: who is ready, sizes, orders  ──▶  finds the backends again, takes over what is known of them
//!                                  ◀──  Ready
//! Yours                            ──▶  accepts, scales, watches
//! accepts no more, drains, ends
//! ```
//!
//! Before `Go` the old one has changed nothing. Before `Yours` it can take everything back, and does
//! so when the new one fails, ends or takes too long. At no time do two of them scale. The new one
//! stops no backend before the old one is gone: its last requests may be there.
//!
//! A socket pair and not inherited numbers: each descriptor comes with its name in one message, none
//! is inherited by a backend that is started at that moment, the state goes the same way, and the end
//! of either side is noticed by the other. Standard input, because it is the one descriptor that can
//! be given to a child without a moment in which others get it too.
//!
//! [`give`] is the old one's part, [`take`] the new one's, [`state`] what is told of services.

mod away;
pub mod give;
pub mod program;
pub mod state;
pub mod take;

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::listener::passing::Channel;
use crate::tls::tickets::KeyBytes;

use state::State;

/// What an end of the socket to an earlier process is called, which may still be finishing.
const BEFORE: &str = "predecessor";

/// Tells a process that its standard input is the socket of its predecessor; the value is the
/// version of what is spoken there.
pub const VARIABLE: &str = "TIDEGATE_HANDOVER";
const VERSION: u32 = 1;

/// From the start of the new process until it is prepared, and from then until it is ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is said.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// With all descriptors, in the order of the names.
    Offer(Offer),
    /// The configuration is good, and everything that it needs is there.
    Prepared,
    /// The backends are yours to be found.
    Go(Box<State>),
    Ready,
    /// From now on the receiver is the service.
    Yours,
    /// The receiver lets go of what it has, and ends.
    Abort,
    /// The sender ends; the text is for people.
    Failed(String),
}

#[derive(Debug, Serialize, Deserialize)]
struct Offer {
    version: u32,
    names: Vec<String>,
    state_dir: PathBuf,
    tickets: HashMap<String, Vec<KeyBytes>>,
}

/// How the process stands to the one before it and the one after it.
#[derive(Debug)]
pub struct Standing {
    /// Another process is tidegate now; this one finishes what runs.
    pub handed_over: AtomicBool,
    /// It is being handed over: nothing is decided or changed.
    frozen: AtomicBool,
    /// This process is not the service yet.
    taking_over: AtomicBool,
    /// No process before this one has requests on our backends.
    alone: watch::Sender<bool>,
    /// Our ends of the sockets to those that may still be there.
    before: Mutex<Vec<Arc<Channel>>>,
    /// Hand-overs that went well, over all processes, and that failed.
    pub ok: AtomicU64,
    pub failed: AtomicU64,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            handed_over: AtomicBool::new(false),
            frozen: AtomicBool::new(false),
            taking_over: AtomicBool::new(false),
            alone: watch::Sender::new(true),
            before: Mutex::default(),
            ok: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }
}

impl Standing {
    /// Whether this process may decide and change things now.
    pub fn may_change(&self) -> bool {
        ![&self.frozen, &self.handed_over, &self.taking_over].iter().any(|flag| flag.load(SeqCst))
    }

    /// Whether people and the service manager hear of this process.
    pub fn is_service(&self) -> bool {
        !self.handed_over.load(SeqCst) && !self.taking_over.load(SeqCst)
    }

    /// Whether the processes before this one are gone.
    pub fn is_alone(&self) -> bool {
        *self.alone.borrow()
    }

    /// Resolves once the processes before this one are gone.
    pub async fn alone(&self) {
        // The sender lives as long as `self`.
        let _ = self.alone.subscribe().wait_for(|alone| *alone).await;
    }
}

fn send(channel: &Channel, message: &Message, fds: &[OwnedFd]) -> io::Result<()> {
    channel.send(&serde_json::to_vec(message)?, fds)
}

fn receive(channel: &Channel, within: Option<Duration>) -> io::Result<(Message, Vec<OwnedFd>)> {
    let (bytes, fds) = channel.receive(within)?;
    Ok((serde_json::from_slice(&bytes)?, fds))
}

/// The next message, waited for aside.
async fn hear(channel: &Arc<Channel>, within: Option<Duration>) -> io::Result<Message> {
    let channel = channel.clone();
    let heard = tokio::task::spawn_blocking(move || receive(&channel, within)).await;
    heard.map_err(io::Error::other)?.map(|(message, _)| message)
}
