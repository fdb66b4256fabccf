//! Where the backends of a service come from, as `/v1/services` shows it.

use serde::{Deserialize, Serialize};

use super::Time;

/// One source of backends, and how it does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Discovery {
    /// `dns`, `srv`, `file` or `admin`.
    pub source: String,
    /// The name or path that is followed; empty for the admin API.
    pub name: String,
    /// Backends that it names now.
    pub backends: u64,
    /// When it last said what there is; `None`: never yet.
    pub answered_at: Option<Time>,
    /// What is wrong with it now; what it said before is kept.
    pub error: Option<String>,
}
