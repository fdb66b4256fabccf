//! Follows what brings backends (names, SRV records, files): a task each asks, has its
//! [`Follower`] judge the answer, and hands it to the registry. What is no longer named is drained
//! and then taken out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use crate::config::types::{self as config, AdminListen, Config};
use crate::config::watch::{Seen, Watch};
use crate::discovery::{Answer, AskError, Asker, Feed, Follower, Origin, Own, Spec, specs};
use crate::registry::{Change, DrainedBy, Registry, Supplied};
use crate::upstream::backend::{Backend, Source};
use crate::upstream::gate::State;

use super::core::Control;
use super::drain::Drained;
use super::events::Kind;
use super::feeds::Key;
use super::lock;
use super::retire::FIXED;
use super::services::Tasks;

/// A reload waits this long for the first answers of what is new; they may come later.
const FIRST_LIMIT: Duration = Duration::from_secs(5);

/// What is no longer named serves on this long at most, while those named instead do not yet.
const HANDOVER_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether they do.
const LOOK: Duration = Duration::from_millis(20);

type Outcome = Result<Answer, AskError>;

/// A feed that is followed.
pub struct Following {
    spec: Spec,
    dns: config::Dns,
    task: AbortHandle,
}

/// The first word of a feed, heard before its configuration is taken into use.
pub struct First {
    service: Arc<str>,
    asker: Arc<Asker>,
    outcome: Option<Outcome>,
}

/// Takes first answers in where they only add: what takes away goes through a drain, later.
pub fn first_answers(registry: &mut Registry, firsts: &[First]) -> Vec<Change> {
    let mut changes = Vec::new();
    for First { service, asker, outcome } in firsts {
        let feed = &asker.spec().feed;
        if let Some(Ok(answer)) = outcome
            && registry.fed(service, feed) == 0
        {
            let supplied = registry.supply(service, feed, source(asker.spec()), &answer.found);
            changes.extend(supplied.changes);
        }
    }
    changes
}

impl Control {
    /// Asks what is new in a configuration, so that its backends are there when it is taken into
    /// use. What does not answer now is asked on later.
    pub(super) async fn ask_first(&self, tasks: &Tasks, config: &Config) -> Vec<First> {
        let dns = self.feeds.dns(&config.dns);
        let own = Arc::new(self.own(config));
        let new = each_spec(config).filter(|(key, spec)| !tasks.follows(key, spec, &config.dns));
        let askers = new.map(|((service, _), spec)| (service, Asker::new(spec, dns.clone())));
        let askers: Vec<_> = askers.collect();
        let asked = askers.into_iter().map(|(service, asker)| {
            let own = own.clone();
            async move {
                let outcome = tokio::time::timeout(FIRST_LIMIT, asker.ask(&own)).await.ok();
                First { service, asker: Arc::new(asker), outcome }
            }
        });
        futures_util::future::join_all(asked.collect::<Vec<_>>()).await
    }

    /// Follows what the configuration names and nothing else. What stays the same goes on.
    pub(super) fn follow_feeds(
        self: &Arc<Self>,
        tasks: &mut Tasks,
        config: &Config,
        firsts: Vec<First>,
    ) {
        let wanted: BTreeMap<Key, Spec> = each_spec(config).collect();
        tasks.feeds.retain(|key, following| {
            let same = following.dns == config.dns && wanted.get(key) == Some(&following.spec);
            if !same {
                following.task.abort();
            }
            same
        });
        self.hand_over();
        let is_followed = |key: &Key| wanted.contains_key(key);
        self.feeds.keep(is_followed);
        let mut firsts: BTreeMap<Key, First> = firsts
            .into_iter()
            .map(|first| ((first.service.clone(), first.asker.spec().feed.clone()), first))
            .collect();
        let dns = self.feeds.dns(&config.dns);
        for (key, spec) in wanted {
            if tasks.feeds.contains_key(&key) {
                continue;
            }
            self.feeds.begin(key.clone(), &spec.origin);
            let (asker, first) = match firsts.remove(&key) {
                Some(first) => (first.asker, first.outcome),
                None => (Arc::new(Asker::new(spec.clone(), dns.clone())), None),
            };
            let bounds = (config.dns.min_ttl, config.dns.max_ttl);
            let follow = follow(self.clone(), key.0.clone(), asker, first, bounds);
            let task = tokio::spawn(follow).abort_handle();
            tasks.feeds.insert(key, Following { spec, dns: config.dns.clone(), task });
        }
    }

    /// Lets an answer take effect; how long to wait before the next one is asked for.
    fn hear(
        self: &Arc<Self>,
        service: &Arc<str>,
        spec: &Spec,
        follower: &mut Follower,
        outcome: Outcome,
        bounds: (Duration, Duration),
    ) -> Duration {
        let known = lock(&self.registry).fed(service, &spec.feed) > 0;
        let (now, mut rng) = (self.clock.now(), fastrand::Rng::new());
        let verdict = follower.judge(outcome, known, bounds, now, &mut rng);
        let mut error = verdict.error;
        let answered = verdict.found.is_some();
        let (mut joined, mut left) = (0, 0);
        if let Some(found) = verdict.found {
            let supplied = lock(&self.registry).supply(service, &spec.feed, source(spec), &found);
            (joined, left) = (supplied.joined, supplied.leaving.len());
            if !supplied.clashes.is_empty() {
                let ids = supplied.clashes.join(", ");
                let clash = format!("other backends of the service are called {ids}");
                error = Some(error.map_or(clash.clone(), |error| format!("{error}; {clash}")));
            }
            self.take_supplied(supplied);
        }
        if let Some(error) = &error {
            lock(&self.registry).unfed(service, &spec.feed, error);
        }
        let key = (service.clone(), spec.feed.clone());
        let news = self.feeds.note(&key, answered, error.clone());
        let source = format!("{} {}", spec.origin.kind(), spec.origin.name());
        if joined + left > 0 || (news && error.is_none()) {
            let backends = lock(&self.registry).fed(service, &spec.feed) as u64;
            let (joined, left) = (joined as u64, left as u64);
            let kind = Kind::Discovered { source: source.clone(), backends, joined, left };
            self.events.send(Some(service), kind);
        }
        if let Some(error) = error.filter(|_| news) {
            self.events.send(Some(service), Kind::DiscoveryFailed { source, error });
        }
        verdict.wait
    }

    /// Publishes what a feed changed, and sees off what leaves. The generation without it.
    pub(super) fn take_supplied(self: &Arc<Self>, supplied: Supplied) -> Option<u64> {
        let generation = self.act(supplied.changes);
        for backend in supplied.leaving {
            tokio::spawn(self.clone().see_off(backend, generation));
        }
        generation
    }

    /// Sees off what a new configuration no longer names, but what replaces it does not serve yet.
    fn hand_over(self: &Arc<Self>) {
        let registry = lock(&self.registry);
        for pool in registry.services().filter_map(|name| registry.pool(name)) {
            let leaving = pool.entries().filter(|e| e.leaving && e.drain.is_none());
            for backend in leaving.filter_map(|e| e.backend.clone()) {
                tokio::spawn(self.clone().see_off(backend, None));
            }
        }
    }

    /// From no longer named to gone.
    async fn see_off(self: Arc<Self>, backend: Arc<Backend>, mut generation: Option<u64>) {
        if backend.gate.state() != State::Draining {
            let until = self.clock.now() + HANDOVER_LIMIT.as_micros() as u64;
            // What serves in its place has to be known to every worker before it drains.
            let mut known = false;
            loop {
                let needed = lock(&self.registry).is_needed(&backend);
                match needed {
                    None => return,
                    Some(true) if self.clock.now() < until => {
                        known = false;
                        tokio::time::sleep(LOOK).await;
                    }
                    Some(_) if known => break,
                    Some(_) => {
                        self.acknowledged(self.plane.current().generation).await;
                        known = true;
                    }
                }
            }
            let changes = lock(&self.registry).leave(&backend);
            generation = self.act(changes);
        }
        if let Some(generation) = generation {
            self.acknowledged(generation).await;
        }
        let ended = self.wait_idle(&backend, FIXED).await;
        if ended == Drained::Over {
            return;
        }
        let changes = lock(&self.registry).left(&backend);
        if !changes.is_empty() {
            self.tell_drained(&backend, DrainedBy::Removed, ended);
            self.act(changes);
        }
    }

    /// Where we listen, for telling a loop.
    pub(super) fn own(&self, config: &Config) -> Own {
        let mut listeners: Vec<_> =
            self.plane.addresses().into_iter().map(|(_, address)| address).collect();
        listeners.extend(
            config.listeners.iter().flat_map(|l| &l.address).filter_map(|address| address.socket()),
        );
        if let AdminListen::Tcp(address) = &config.admin.listen {
            listeners.push(*address);
        }
        listeners.extend(config.admin.public_listen);
        let machine = nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::from(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::from(a.ip())))
        });
        Own { listeners, machine: machine.collect() }
    }
}

impl Tasks {
    fn follows(&self, key: &Key, spec: &Spec, dns: &config::Dns) -> bool {
        self.feeds.get(key).is_some_and(|f| f.spec == *spec && f.dns == *dns)
    }
}

fn each_spec(config: &Config) -> impl Iterator<Item = (Key, Spec)> {
    config.services.iter().flat_map(|(name, service)| {
        specs(service).into_iter().map(|spec| ((name.clone(), spec.feed.clone()), spec))
    })
}

/// How a feed's backends are shown and checked.
fn source(spec: &Spec) -> Source {
    match (&spec.feed, &spec.origin) {
        (Feed::Name(_), _) => Source::Fixed,
        (_, Origin::Addresses { .. }) => Source::Dns,
        (_, Origin::Services { .. }) => Source::Srv,
        (_, Origin::File { .. }) => Source::File,
    }
}

/// Runs until it is aborted.
async fn follow(
    control: Arc<Control>,
    service: Arc<str>,
    asker: Arc<Asker>,
    mut first: Option<Outcome>,
    bounds: (Duration, Duration),
) {
    let spec = asker.spec().clone();
    let mut follower = Follower::default();
    let mut watch = match &spec.origin {
        // Without a watch it is looked at as its TTL runs out.
        Origin::File { path } => Watch::new(vec![Seen::now(path.clone())]).ok(),
        _ => None,
    };
    loop {
        let outcome = match first.take() {
            Some(outcome) => outcome,
            None => {
                let config = lock(&control.applied).taken.config.clone();
                asker.ask(&control.own(&config)).await
            }
        };
        let wait = control.hear(&service, &spec, &mut follower, outcome, bounds);
        match &mut watch {
            Some(watch) => {
                let _ = tokio::time::timeout(wait, watch.changed()).await;
            }
            None => tokio::time::sleep(wait).await,
        }
    }
}
