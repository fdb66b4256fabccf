//! What is kept of the configuration in use: as little as serves. How it comes to be in use is
//! left to `reload`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;

use crate::admin::view;
use crate::config::Loaded;
use crate::config::types::Config;
use crate::config::watch::Seen;
use crate::tls;

/// What is taken from a configuration that was read. The tree with the place of every value is
/// not: of a thousand services it takes more than everything else about them.
#[derive(Clone)]
pub struct Taken {
    pub config: Config,
    pub files: Vec<Seen>,
    /// The effective configuration as JSON, masked.
    pub shown: Bytes,
}

impl From<Loaded> for Taken {
    fn from(loaded: Loaded) -> Self {
        let shown = loaded.effective.to_json(true).into_boxed_str().into_boxed_bytes().into();
        Self { config: loaded.config, files: loaded.files, shown }
    }
}

/// The configuration in use.
pub struct Applied {
    pub path: PathBuf,
    pub taken: Taken,
    started: Config,
    /// 1 for the first one.
    pub generation: u64,
    pub last: Option<view::LastReload>,
    /// Reloads that went well and that failed.
    pub reloads: (u64, u64),
    pub certificates: Vec<tls::CertificateInfo>,
    /// Files to watch, for whoever watches.
    pub files: tokio::sync::watch::Sender<Vec<Seen>>,
}

impl Applied {
    /// Before it is taken into use.
    pub fn new(path: PathBuf, loaded: Loaded) -> Self {
        let taken = Taken::from(loaded);
        Self {
            path,
            generation: 0,
            last: None,
            reloads: (0, 0),
            certificates: Vec::new(),
            files: tokio::sync::watch::Sender::new(taken.files.clone()),
            started: of_process(&taken.config),
            taken,
        }
    }

    /// The first configuration, as far as it concerns the process as a whole: without listeners,
    /// routes, services and metrics.
    pub fn started(&self) -> &Config {
        &self.started
    }
}

fn of_process(config: &Config) -> Config {
    Config {
        runtime: config.runtime.clone(),
        dns: config.dns.clone(),
        log: config.log.clone(),
        admin: config.admin.clone(),
        listeners: Vec::new(),
        routes: Vec::new(),
        services: BTreeMap::new(),
        notify: Vec::new(),
        redis: None,
        metrics: Vec::new(),
    }
}
