//! Names to addresses and SRV records, each with the time that the answer is good for.
//!
//! hickory-resolver asks; its cache is not used, as the TTL is followed by whoever asks. The hosts
//! file goes first, as everywhere on the system, and is read anew each time. Of a name that has
//! both, IPv4 counts: a host with two families is one backend and not two.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use hickory_resolver::{Hosts, TokioResolver};

use super::AskError;

/// Longest wait for one server, before the next try.
const TRY_LIMIT: Duration = Duration::from_secs(2);
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// One SRV record, RFC 2782.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Record {
    pub priority: u16,
    pub weight: u16,
    pub port: u16,
    /// Without the last dot; empty: the service is not there (a target of ".").
    pub target: String,
}

/// Asks nameservers. One a process; a change of `[dns]` makes a new one.
pub struct Dns {
    servers: Vec<SocketAddr>,
    /// Made again when /etc/resolv.conf changed.
    made: Mutex<Option<(Option<SystemTime>, TokioResolver)>>,
    /// Under which full name a name was found last (of those that the search list makes of it).
    /// It is asked first: while its server fails, "there is no such name" of another is no news.
    full: Mutex<BTreeMap<(String, RecordType), Name>>,
}

type Answered<T> = Result<(Vec<T>, Duration), AskError>;

impl Dns {
    /// `servers`: none = the system's.
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, made: Mutex::default(), full: Mutex::default() }
    }

    /// Addresses of one family in numerical order, never none.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn addresses(&self, host: &str) -> Answered<IpAddr> {
        if let Some(addresses) = local(host) {
            // As good as what a server says; the file may change.
            return Ok((addresses, Duration::MAX));
        }
        match self.look_up(host, RecordType::A, ip).await {
            Err(AskError::None(_)) => self.look_up(host, RecordType::AAAA, ip).await,
            answer => answer,
        }
    }

    /// SRV records of a name.
    ///
    /// # Errors
    /// See [`AskError`].
    pub async fn services(&self, name: &str) -> Answered<Record> {
        self.look_up(name, RecordType::SRV, |data| match data {
            RData::SRV(srv) => Some(Record {
                priority: srv.priority,
                weight: srv.weight,
                port: srv.port,
                target: srv.target.to_utf8().trim_end_matches('.').to_owned(),
            }),
            _ => None,
        })
        .await
    }

    async fn look_up<T: Ord + PartialEq>(
        &self,
        name: &str,
        kind: RecordType,
        take: impl Fn(&RData) -> Option<T>,
    ) -> Answered<T> {
        let resolver = self.resolver().map_err(|error| AskError::Failed(error.to_string()))?;
        let asked = |error: NetError| ask_error(name, kind, &error);
        let key = (name.to_owned(), kind);
        let full = self.full.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned();
        let mut lookup = None;
        if let Some(full) = full {
            resolver.clear_cache();
            match resolver.lookup(full, kind).await.map_err(asked) {
                Ok(found) => lookup = Some(found),
                Err(AskError::None(_)) => {}
                Err(failed) => return Err(failed),
            }
        }
        let lookup = match lookup {
            Some(lookup) => lookup,
            None => {
                resolver.clear_cache();
                let found = resolver.lookup(name, kind).await.map_err(asked)?;
                let full = found.query().name().clone();
                if !name.ends_with('.') {
                    self.full.lock().unwrap_or_else(PoisonError::into_inner).insert(key, full);
                }
                found
            }
        };
        let records = lookup.answers();
        // Also of the aliases on the way.
        let ttl = records.iter().map(|record| record.ttl).min().unwrap_or(0);
        let mut found: Vec<T> = records.iter().filter_map(|record| take(&record.data)).collect();
        found.sort_unstable();
        found.dedup();
        match found.is_empty() {
            true => Err(AskError::None(format!("{name} has no {kind} records"))),
            false => Ok((found, Duration::from_secs(ttl.into()))),
        }
    }

    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let system = self.servers.is_empty();
        let changed =
            system.then(|| std::fs::metadata(RESOLV_CONF).ok()?.modified().ok()).flatten();
        if let Some((seen, resolver)) = &*made
            && *seen == changed
        {
            return Ok(resolver.clone());
        }
        let (config, mut options) = match system {
            true => hickory_resolver::system_conf::read_system_conf()?,
            false => (given(&self.servers), ResolverOpts::default()),
        };
        options.timeout = options.timeout.min(TRY_LIMIT);
        options.attempts = options.attempts.clamp(1, 2);
        options.use_hosts_file = ResolveHosts::Never;
        options.preserve_intermediates = true;
        options.cache_size = 1;
        let mut builder =
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build()?;
        *made = Some((changed, resolver.clone()));
        Ok(resolver)
    }
}

fn given(servers: &[SocketAddr]) -> ResolverConfig {
    let servers = servers.iter().map(|server| {
        let connections =
            [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    ResolverConfig::from_parts(None, Vec::new(), servers.collect())
}

fn ip(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

/// What needs no server: `localhost` (RFC 6761, 6.3) and the hosts file.
fn local(host: &str) -> Option<Vec<IpAddr>> {
    let host = host.trim_end_matches('.');
    if host == "localhost" || host.ends_with(".localhost") {
        return Some(vec![Ipv4Addr::LOCALHOST.into()]);
    }
    let hosts = Hosts::from_system().ok()?;
    let name = Name::from_utf8(host).ok()?;
    [RecordType::A, RecordType::AAAA].into_iter().find_map(|kind| {
        let lookup = hosts.lookup_static_host(&Query::query(name.clone(), kind))?;
        let mut found: Vec<_> = lookup.answers().iter().filter_map(|r| ip(&r.data)).collect();
        found.sort_unstable();
        found.dedup();
        (!found.is_empty()).then_some(found)
    })
}

/// "There are none" is an answer; all else is not, and says nothing of what there is.
fn ask_error(name: &str, kind: RecordType, error: &NetError) -> AskError {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => AskError::None(match none.response_code {
            ResponseCode::NXDomain => format!("there is no name {name}"),
            _ => format!("{name} has no {kind} records"),
        }),
        NetError::Dns(DnsError::ResponseCode(code)) => {
            AskError::Failed(format!("{name}: the nameserver answers {code}"))
        }
        NetError::Timeout => AskError::Failed(format!("{name}: no nameserver answers")),
        other => AskError::Failed(format!("{name}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_needs_no_server_and_is_one_address() {
        for name in ["localhost", "app.localhost"] {
            assert_eq!(local(name), Some(vec![Ipv4Addr::LOCALHOST.into()]));
        }
        assert_eq!(local("localhost.test"), None);
    }

    #[test]
    fn only_none_is_an_answer() {
        let kind = RecordType::A;
        let code = NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail));
        for error in [code, NetError::Timeout, NetError::NoConnections] {
            assert!(matches!(ask_error("a.test", kind, &error), AskError::Failed(_)), "{error}");
        }
        let none = hickory_resolver::net::NoRecords::new(Query::new(), ResponseCode::NXDomain);
        let error = ask_error("a.test", kind, &NetError::Dns(DnsError::NoRecordsFound(none)));
        assert_eq!(error, AskError::None("there is no name a.test".into()));
    }
}
