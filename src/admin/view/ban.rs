//! `GET /v1/bans`: who is not let in for a while.

use serde::{Deserialize, Serialize};

use super::Time;

/// `GET /v1/bans`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bans {
    /// How many there are in all.
    pub active: usize,
    /// By network; as many as were asked for.
    pub bans: Vec<Ban>,
}

/// A network that is not let in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ban {
    /// As `10.0.0.1/32`.
    pub address: String,
    pub since: Time,
    pub until: Time,
    /// The limit that refused it too often, and its route.
    pub route: String,
    pub limit: String,
}
