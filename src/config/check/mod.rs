//! Walks the whole tree into [`types::Config`] and finds every mistake.
//!
//! One file a part of the configuration; this one ties them together and checks what concerns
//! several parts: names that must be there, names and addresses that must not be there twice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::reader::{Reader, Report};
use super::tree::{Place, Table};
use super::types::{Config, ListenAddress, Service};
use super::{Env, Kinds, Problem};

mod balance;
mod cost;
mod discovery;
mod fields;
mod health;
mod limits;
mod listener;
mod metric;
mod notify;
mod overload;
mod process;
mod route;
mod scaling;
mod schedule;
mod service;
mod token;
mod transport;
mod user;

#[cfg(test)]
mod tests;

/// What came of the walk. `config` is of use only if there was no problem.
pub struct Checked {
    pub config: Config,
    pub effective: Table,
    /// Files that it depends on besides its own: certificates, keys, secrets.
    pub needs: Vec<PathBuf>,
    pub warnings: Vec<Problem>,
    /// Every key that was asked for, dotted.
    #[cfg(test)]
    pub known: std::collections::BTreeSet<String>,
}

/// Something named in the file, with the place of its name.
pub struct Named<T> {
    pub name: String,
    pub place: Place,
    pub item: T,
}

/// Checks a complete tree; mistakes are added to `problems`.
pub fn check(root: &Table, kinds: &dyn Kinds, env: &Env, problems: &mut Vec<Problem>) -> Checked {
    let mut report = Report::default();
    let mut warnings = Vec::new();
    let ((config, needs), mut effective) =
        root.read_into(&mut report, |r| read(r, kinds, env, &mut warnings));
    // Defaults are merged and includes are read: neither is part of what it means.
    effective.entries.retain(|entry| !matches!(entry.key.as_str(), "include" | "defaults"));
    problems.append(&mut report.problems);
    Checked {
        config,
        effective,
        needs,
        warnings,
        #[cfg(test)]
        known: report.known,
    }
}

fn read(
    r: &mut Reader<'_>,
    kinds: &dyn Kinds,
    env: &Env,
    warnings: &mut Vec<Problem>,
) -> (Config, Vec<PathBuf>) {
    // Read and taken away before; asked for so that it is known.
    let _ = r.strings("include").optional();
    let runtime = process::runtime(r, env, warnings);
    let dns = discovery::dns(r);
    let log = process::log(r);
    let (admin, mut bound) = process::admin(r);
    let redis = limits::shared(r);
    let metrics = r.named("metric", metric::read);
    let names: Vec<_> = metrics.iter().map(|metric| metric.name.clone()).collect();
    let context = service::Context {
        kinds,
        state_dir: &runtime.state_dir,
        added: !admin.dynamic_backends.is_empty(),
        metrics: &names,
    };
    r.section_if("defaults", |r| {
        r.partial(|r| {
            r.section_if("listener", listener::read);
            r.section_if("route", route::read);
            r.section_if("service", |r| service::read("defaults", r, &context));
        });
    });

    let listeners = r.sections("listener", listener::read);
    let routes = r.sections("route", route::read);
    let notify = r.sections("notify", notify::read);
    let services: BTreeMap<_, _> = r
        .named("service", |name, r| (Arc::from(name), Arc::new(service::read(name, r, &context))))
        .into_iter()
        .collect();
    if listeners.is_empty() && !r.has("listener") {
        r.missing("there is no listener; add a [[listener]] with name and address");
    }
    unique(r, "listener", &listeners);
    unique(r, "route", &routes);
    unique(r, "notify", &notify);
    for listener in &listeners {
        bound.extend(listener.item.bound.iter().cloned());
    }
    one_address_each(r, &bound);
    for route in &routes {
        references(r, route, &listeners, &services);
        limits::has_redis(r, route, redis.as_ref());
    }

    warnings.extend(balance::shared_cookies(r, &routes, &services));
    let mut needs: Vec<_> = listeners.iter().flat_map(|listener| listener.item.files()).collect();
    let secret = |service: &Arc<Service>| service.sticky.as_ref()?.secret.as_ref()?.file.clone();
    needs.extend(services.values().filter_map(secret));
    needs.extend(services.values().flat_map(|service| service.transport.files()));
    needs.extend(routes.iter().flat_map(|route| route.item.route.access.files.iter().cloned()));
    let notify: Vec<_> = notify.into_iter().filter_map(|one| one.item).map(Arc::new).collect();
    needs.extend(admin.tokens.iter().filter_map(|token| token.file.clone()));
    needs.extend(admin.users.iter().filter_map(|user| user.file.clone()));
    needs.extend(admin.tls.iter().flat_map(|tls| [tls.cert.clone(), tls.key.clone()]));
    needs.extend(notify.iter().flat_map(|one| one.files()));
    let config = Config {
        runtime,
        dns,
        log,
        admin,
        listeners: listeners.into_iter().map(|one| Arc::new(one.item.listener)).collect(),
        routes: routes.into_iter().map(|one| Arc::new(one.item.route)).collect(),
        services,
        notify,
        redis,
        metrics: metrics.into_iter().map(Arc::new).collect(),
    };
    (config, needs)
}

/// Two listeners, routes or backends of one name.
fn unique<T>(r: &mut Reader<'_>, what: &str, items: &[Named<T>]) {
    let mut seen: BTreeMap<&str, &Place> = BTreeMap::new();
    for item in items.iter().filter(|item| !item.name.is_empty()) {
        match seen.get(item.name.as_str()) {
            None => _ = seen.insert(&item.name, &item.place),
            Some(first) => {
                let (name, file, line) = (&item.name, first.file.display(), first.line);
                let message = format!(
                    "another {what} is called {name:?}, at {file}:{line}; each needs a name of its own"
                );
                r.push(item.place.problem(message));
            }
        }
    }
}

/// An address that is to be bound, and where that is written.
pub type Bound = (ListenAddress, Place);

fn one_address_each(r: &mut Reader<'_>, bound: &[Bound]) {
    for (index, (address, place)) in bound.iter().enumerate() {
        let clash = bound[..index].iter().find(|(other, _)| overlap(address, other));
        if let Some((other, first)) = clash {
            let (file, line) = (first.file.display(), first.line);
            let instead = match address {
                ListenAddress::Socket(_) => "use another port or address",
                ListenAddress::Passed(_) => "one socket serves one listener",
            };
            let message = format!("{address} is taken by {other} at {file}:{line}; {instead}");
            r.push(place.problem(message));
        }
    }
}

/// An unspecified address has the port of every address of its family. IPv6 sockets take no IPv4.
fn overlap(a: &ListenAddress, b: &ListenAddress) -> bool {
    let (Some(a), Some(b)) = (a.socket(), b.socket()) else { return a == b };
    let every = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port()
        && a.port() != 0
        && (a.ip() == b.ip() || every && a.is_ipv4() == b.is_ipv4())
}

fn references<T>(
    r: &mut Reader<'_>,
    route: &Named<route::Read>,
    listeners: &[Named<listener::Read>],
    services: &BTreeMap<Arc<str>, T>,
) {
    for (name, place) in &route.item.listeners {
        if !listeners.iter().any(|listener| &listener.name == name) {
            let there = fields::there_are(listeners.iter().map(|listener| &*listener.name));
            r.push(place.problem(format!("listeners: there is no listener {name:?}; {there}")));
        }
    }
    for (key, name, place) in &route.item.services {
        if !name.is_empty() && !services.contains_key(name.as_str()) {
            let there = fields::there_are(services.keys().map(|name| &**name));
            r.push(place.problem(format!("{key}: there is no service {name:?}; {there}")));
        }
    }
}
