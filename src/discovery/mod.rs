//! Where backends come from that are neither written as numbers nor started by us: names, SRV
//! records, a watched file, the admin API.
//!
//! Here it is found out what there is ([`Asker`]) and judged whether to believe it ([`Follower`]).
//! What follows for the backends is the registry's, and when to ask is left to `control`.

mod ask;
mod dns;
mod file;
mod follow;
mod refuse;
mod srv;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::types::{DiscoveryKind, FixedBackend, Service};

pub use ask::Asker;
pub use dns::Dns;
pub use follow::{Follower, Verdict};
pub use refuse::{Own, refusal};
pub use store::{Kept, Store};

/// Most backends that one feed may bring; what is beyond is left out and said.
pub const MAX_BACKENDS: usize = 4096;

/// What brings backends to a service. A service has as many as it has fixed backends that are
/// written as names, one for its `discovery`, and one for what the admin API adds.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Feed {
    /// The fixed backend of this id.
    Name(Arc<str>),
    Discovery,
    Admin,
}

/// One backend that a feed names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub id: Arc<str>,
    pub address: SocketAddr,
    /// Host and port as they were written, if a name was.
    pub named: Option<(Arc<str>, u16)>,
    /// 1..=65535
    pub weight: u32,
    pub backup: bool,
    pub zone: Option<Arc<str>>,
}

/// What one feed asks for. A change of it begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    pub feed: Feed,
    pub origin: Origin,
    /// Networks that are allowed although they would be refused.
    pub allow: Vec<IpNet>,
    /// For a fixed backend: what was written of it.
    pub fixed: Option<FixedBackend>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A or AAAA records.
    Addresses {
        host: String,
        port: u16,
    },
    /// SRV records and the addresses of their targets.
    Services {
        name: String,
    },
    File {
        path: PathBuf,
    },
}

/// What was found, all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Answer {
    pub found: Vec<Found>,
    /// Parts that were left out, and why.
    pub doubts: Vec<String>,
    /// How long it is good for, as its source says.
    pub ttl: Duration,
}

/// Why there is no answer; for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// Whoever answers says that there are none.
    #[error("{0}")]
    None(String),
    /// Nobody answered, or nothing that can be used.
    #[error("{0}")]
    Failed(String),
}

impl Origin {
    /// The word for it in the configuration and in status.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Addresses { .. } => "dns",
            Self::Services { .. } => "srv",
            Self::File { .. } => "file",
        }
    }

    /// What is asked for, for people.
    pub fn name(&self) -> String {
        match self {
            Self::Addresses { host, port } => format!("{host}:{port}"),
            Self::Services { name } => name.clone(),
            Self::File { path } => path.display().to_string(),
        }
    }
}

impl Found {
    /// A backend at a number, with the id that it has unless another is given.
    pub fn at(address: SocketAddr) -> Self {
        let id = address.to_string().replace(':', "-");
        Self { id: id.into(), address, named: None, weight: 1, backup: false, zone: None }
    }
}

/// Everything that a service follows, in the order of its file.
pub fn specs(service: &Service) -> Vec<Spec> {
    let allow = service.discovery.as_ref().map_or_else(Vec::new, |d| d.allow.clone());
    let names = service.backends.iter().filter(|fixed| fixed.address().is_none()).map(|fixed| {
        let origin = Origin::Addresses { host: fixed.host.clone(), port: fixed.port };
        let feed = Feed::Name(fixed.id.clone());
        Spec { feed, origin, allow: allow.clone(), fixed: Some(fixed.clone()) }
    });
    let discovered = service.discovery.iter().map(|discovery| {
        let origin = match &discovery.kind {
            DiscoveryKind::Dns { host, port } => {
                Origin::Addresses { host: host.clone(), port: *port }
            }
            DiscoveryKind::Srv { name } => Origin::Services { name: name.clone() },
            DiscoveryKind::File { path } => Origin::File { path: path.clone() },
        };
        Spec { feed: Feed::Discovery, origin, allow: allow.clone(), fixed: None }
    });
    names.chain(discovered).collect()
}
