//! Asks one feed's origin once: names to addresses, addresses to backends that may be used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;

use super::dns::{Dns, Record};
use super::refuse::{Own, refusal};
use super::srv::{self, Located};
use super::{Answer, AskError, Feed, Found, MAX_BACKENDS, Origin, Spec, file};

/// Longest wait for one answer, with all tries and servers.
const LIMIT: Duration = Duration::from_secs(10);
/// A file is watched; it is read again after this in any case.
const FILE_TTL: Duration = Duration::from_secs(10);
/// SRV targets that are looked up at once, and at most.
const TARGETS: (usize, usize) = (8, 256);

/// Asks for one feed, and remembers what SRV targets had last.
pub struct Asker {
    spec: Spec,
    dns: Arc<Dns>,
    targets: Mutex<BTreeMap<String, Vec<IpAddr>>>,
}

impl Asker {
    pub fn new(spec: Spec, dns: Arc<Dns>) -> Self {
        Self { spec, dns, targets: Mutex::default() }
    }

    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Everything there is now.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn ask(&self, own: &Own) -> Result<Answer, AskError> {
        let asked = async {
            match &self.spec.origin {
                Origin::Addresses { host, port } => self.addresses(host, *port).await,
                Origin::Services { name } => self.services(name).await,
                Origin::File { path } => {
                    let path = path.clone();
                    let read = tokio::task::spawn_blocking(move || file::read(&path));
                    let found =
                        read.await.map_err(|error| AskError::Failed(error.to_string()))??;
                    Ok(Answer { found, doubts: Vec::new(), ttl: FILE_TTL })
                }
            }
        };
        let answer = tokio::time::timeout(LIMIT, asked).await.unwrap_or_else(|_| {
            let why =
                format!("{}: no answer within {} s", self.spec.origin.name(), LIMIT.as_secs());
            Err(AskError::Failed(why))
        })?;
        self.admit(answer, own)
    }

    async fn addresses(&self, host: &str, port: u16) -> Result<Answer, AskError> {
        let (addresses, ttl) = self.dns.addresses(host).await?;
        let named: Arc<str> = host.trim_end_matches('.').into();
        let found = addresses.into_iter().map(|ip| {
            let mut found = Found::at(SocketAddr::new(ip, port));
            found.named = Some((named.clone(), port));
            if let (Feed::Name(id), Some(fixed)) = (&self.spec.feed, &self.spec.fixed) {
                found.id = format!("{id}@{ip}").replace(':', "-").into();
                (found.weight, found.backup) = (fixed.weight, fixed.backup);
                found.zone.clone_from(&fixed.zone);
            }
            found
        });
        Ok(Answer { found: found.collect(), doubts: Vec::new(), ttl })
    }

    async fn services(&self, name: &str) -> Result<Answer, AskError> {
        let (mut records, mut ttl) = self.dns.services(name).await?;
        // A target of ".": decidedly not available (RFC 2782).
        records.retain(|record: &Record| !record.target.is_empty());
        let mut doubts = Vec::new();
        if records.len() > TARGETS.1 {
            doubts.push(format!("{} SRV records; {} are used", records.len(), TARGETS.1));
            records.truncate(TARGETS.1);
        }
        let names: BTreeSet<_> = records.iter().map(|record| record.target.clone()).collect();
        let look_ups: Vec<_> = names
            .into_iter()
            .map(|name| async move {
                // Whole names, which no search list adds to.
                let answer = self.dns.addresses(&format!("{name}.")).await;
                (name, answer)
            })
            .collect();
        let answers: Vec<_> =
            futures_util::stream::iter(look_ups).buffer_unordered(TARGETS.0).collect().await;
        let mut located = BTreeMap::new();
        {
            let mut known = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
            for (name, answer) in answers {
                match answer {
                    Ok((addresses, good_for)) => {
                        ttl = ttl.min(good_for);
                        located.insert(name, addresses);
                    }
                    // One target's server fails: what it had is as good as before.
                    Err(error @ AskError::Failed(_)) => {
                        doubts.push(error.to_string());
                        ttl = Duration::ZERO;
                        let kept = known.get(&name).cloned().unwrap_or_default();
                        located.insert(name, kept);
                    }
                    Err(error @ AskError::None(_)) => doubts.push(error.to_string()),
                }
            }
            known.clone_from(&located);
        }
        // They come in any order, and are news when they differ.
        doubts.sort_unstable();
        let located: Vec<_> = records
            .iter()
            .filter_map(|record| Some(Located { record, addresses: located.get(&record.target)? }))
            .collect();
        let found = srv::backends(&located);
        match (found.is_empty(), doubts.is_empty()) {
            (false, _) => Ok(Answer { found, doubts, ttl }),
            (true, true) => Err(AskError::None(format!("{name} has no SRV records with a target"))),
            // Nothing is known of any target: that is a failure, not an answer.
            (true, false) => Err(AskError::Failed(doubts.join("; "))),
        }
    }

    /// Leaves out what is refused, or too much.
    fn admit(&self, mut answer: Answer, own: &Own) -> Result<Answer, AskError> {
        let some = !answer.found.is_empty();
        let mut refused = Vec::new();
        answer.found.retain(|found| match refusal(found.address, own, &self.spec.allow) {
            None => true,
            Some(why) => {
                refused.push(why);
                false
            }
        });
        if !refused.is_empty() {
            refused.truncate(3);
            answer.doubts.push(format!("refused: {}; see discovery.allow", refused.join(", ")));
        }
        if some && answer.found.is_empty() {
            return Err(AskError::Failed(answer.doubts.join("; ")));
        }
        if answer.found.len() > MAX_BACKENDS {
            answer.doubts.push(format!("{} backends; {MAX_BACKENDS} are used", answer.found.len()));
            answer.found.truncate(MAX_BACKENDS);
        }
        Ok(answer)
    }
}
