//! The end of a listening endpoint, for its connections: HTTP/3 ones end with it, as it is their socket too.

use std::cell::Cell;

use tokio::sync::Notify;

/// Shared by an endpoint and its connections, all on one worker.
#[derive(Debug, Default)]
pub struct Closing {
    asked: Cell<bool>,
    notify: Notify,
}

impl Closing {
    /// Asks everyone to come to an end.
    pub fn ask(&self) {
        self.asked.set(true);
        self.notify.notify_waiters();
    }

    pub fn is_asked(&self) -> bool {
        self.asked.get()
    }

    /// Resolves once that was asked for.
    pub async fn asked(&self) {
        // Nobody else runs between the look and the wait: one worker has one thread.
        if !self.asked.get() {
            self.notify.notified().await;
        }
    }
}
