//! The validated configuration: what the rest of the program may rely on.
//!
//! Every value here has passed `check`, so bad states cannot be expressed where a type can
//! rule them out. Field names are the keys of the TOML file. No other module takes the whole
//! [`Config`]; each takes the small part it needs.

mod address;
mod discovery;
mod limits;
mod listener;
mod metric;
mod notify;
mod process;
mod route;
mod scaling;
mod schedule;
mod service;
mod url;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use address::*;
pub use discovery::*;
pub use limits::*;
pub use listener::*;
pub use metric::*;
pub use notify::*;
pub use process::*;
pub use route::*;
pub use scaling::*;
pub use schedule::*;
pub use service::*;
pub use url::*;

/// One whole configuration, as made from one file and what it includes.
#[derive(Debug, Clone)]
pub struct Config {
    pub runtime: Runtime,
    pub dns: Dns,
    pub log: Log,
    pub admin: Admin,
    pub listeners: Vec<Arc<Listener>>,
    /// In file order; the router sorts them by precedence.
    pub routes: Vec<Arc<Route>>,
    pub services: BTreeMap<Arc<str>, Arc<Service>>,
    pub notify: Vec<Arc<Notify>>,
    /// `shared.redis`
    pub redis: Option<Arc<Redis>>,
    /// Signals from elsewhere.
    pub metrics: Vec<Arc<ExternalMetric>>,
}
