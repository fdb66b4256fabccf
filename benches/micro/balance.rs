//! One pick of each algorithm, with the place at the gate that it takes and gives back.

use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use divan::{Bencher, black_box};

use tidegate::balance::{Balancer, Pick};
use tidegate::config::types::Balance;
use tidegate::snapshot::hash;
use tidegate::snapshot::maglev::Maglev;
use tidegate::snapshot::sessions::Sessions;
use tidegate::upstream::learned::Observer;

use super::world;

const BACKENDS: [usize; 3] = [3, 30, 1000];

#[divan::bench(args = BACKENDS)]
fn adaptive(bencher: Bencher, backends: usize) {
    pick(bencher, Balance::Adaptive, backends);
}

/// With the look at the whole pool, which one pick in a tenth of a second pays for.
#[divan::bench(args = BACKENDS)]
fn adaptive_look(bencher: Bencher, backends: usize) {
    let view = world::service(Balance::Adaptive, backends);
    let mut observer = Observer::default();
    bencher.bench_local(|| {
        let backends = black_box(&view).backends.iter().map(|m| (&m.backend.learned, true));
        view.peers.look(&mut observer, backends, world::NOW);
    });
}

#[divan::bench(args = BACKENDS)]
fn round_robin(bencher: Bencher, backends: usize) {
    pick(bencher, Balance::RoundRobin, backends);
}

/// Unequal weights: the smooth rule itself, which looks at every backend.
#[divan::bench(args = BACKENDS)]
fn round_robin_weighted(bencher: Bencher, backends: usize) {
    let mut view = world::service(Balance::RoundRobin, backends);
    view.backends[0].weight = 5;
    pick_from(bencher, &view);
}

#[divan::bench(args = BACKENDS)]
fn least_connections(bencher: Bencher, backends: usize) {
    pick(bencher, Balance::LeastConnections, backends);
}

/// Unequal weights: ties take a second look.
#[divan::bench(args = BACKENDS)]
fn least_connections_weighted(bencher: Bencher, backends: usize) {
    let mut view = world::service(Balance::LeastConnections, backends);
    view.backends[0].weight = 5;
    pick_from(bencher, &view);
}

#[divan::bench(args = BACKENDS)]
fn random(bencher: Bencher, backends: usize) {
    pick(bencher, Balance::Random, backends);
}

/// Unequal weights: draws search the sums of them.
#[divan::bench(args = BACKENDS)]
fn random_weighted(bencher: Bencher, backends: usize) {
    let mut view = world::service(Balance::Random, backends);
    view.backends[0].weight = 5;
    pick_from(bencher, &view);
}

#[divan::bench(args = BACKENDS)]
fn p2c_ewma(bencher: Bencher, backends: usize) {
    pick(bencher, Balance::P2cEwma, backends);
}

#[divan::bench(args = BACKENDS)]
fn ip_hash(bencher: Bencher, backends: usize) {
    pick(bencher, Balance::IpHash, backends);
}

#[divan::bench(args = BACKENDS)]
fn nginx_ip_hash(bencher: Bencher, backends: usize) {
    pick(bencher, Balance::NginxIpHash, backends);
}

#[divan::bench(args = BACKENDS)]
fn hash(bencher: Bencher, backends: usize) {
    pick(bencher, Balance::Hash, backends);
}

/// Half of them in another zone, all well: the share is reckoned for each pick.
#[divan::bench(args = BACKENDS)]
fn adaptive_zones(bencher: Bencher, backends: usize) {
    let mut view = world::service(Balance::Adaptive, backends);
    view.backends.iter_mut().step_by(2).for_each(|m| m.near = false);
    pick_from(bencher, &view);
}

/// All report their load, each another.
#[divan::bench(args = BACKENDS)]
fn adaptive_load_report(bencher: Bencher, backends: usize) {
    let mut view = world::service(Balance::Adaptive, backends);
    Arc::make_mut(&mut view.config).load_report = true;
    for (i, m) in view.backends.iter().enumerate() {
        for at in [world::NOW - 20_000_000, world::NOW - 1_000_000] {
            m.backend.reported.record(0.1 + 0.8 * i as f32 / backends as f32, at);
        }
    }
    pick_from(bencher, &view);
}

/// What a cookie costs: it is read, and its backend picked.
#[divan::bench(args = BACKENDS)]
fn sticky(bencher: Bencher, backends: usize) {
    let mut view = world::service(Balance::Adaptive, backends);
    let (hour, key) = (Duration::from_secs(3600), b"sixteen bytes or more");
    let sessions = Sessions::new("app".into(), "tg", hour, key, &view.backends);
    let cookie = sessions.write(&view.backends[backends / 2].backend.id, UNIX_EPOCH, false);
    view.sessions = Some(sessions);
    let value = cookie.as_bytes()[3..].split(|byte| *byte == b';').next().expect("a value");
    let mut balancer = Balancer::new(view.config.balance);
    balancer.sync(&view);
    let mut rng = fastrand::Rng::with_seed(7);
    bencher.bench_local(|| {
        let sessions = view.sessions.as_ref().expect("it is sticky");
        let session = sessions.read(black_box(value), UNIX_EPOCH).map(|session| session.handle);
        let client = [10, 0, 0, 1].into();
        let pick = Pick { now: world::NOW, client, key: None, session, tried: &[] };
        let picked = balancer.pick(black_box(&view), &pick, &mut rng).expect("all are ready");
        view.backends[picked].backend.gate.leave();
        picked
    });
}

/// What a changed membership costs the control plane.
#[divan::bench(args = BACKENDS)]
fn hash_table(bencher: Bencher, backends: usize) {
    let view = world::service(Balance::Hash, backends);
    bencher.bench_local(|| Maglev::new(black_box(&view.backends)));
}

/// What a changed membership costs each worker.
#[divan::bench(args = BACKENDS)]
fn sync(bencher: Bencher, backends: usize) {
    let view = world::service(Balance::LeastConnections, backends);
    let mut balancer = Balancer::new(view.config.balance);
    bencher.bench_local(|| balancer.sync(black_box(&view)));
}

fn pick(bencher: Bencher, balance: Balance, backends: usize) {
    pick_from(bencher, &world::service(balance, backends));
}

fn pick_from(bencher: Bencher, view: &tidegate::snapshot::ServiceView) {
    let mut balancer = Balancer::new(view.config.balance);
    balancer.sync(view);
    let mut rng = fastrand::Rng::with_seed(7);
    // Another client each time: those of one would all hash to the same backend.
    let mut client = 0x0a00_0000_u32;
    bencher.bench_local(|| {
        client += 1;
        let client = client.to_be_bytes().into();
        let key = Some(hash::client(client));
        let pick = Pick { now: world::NOW, client, key, session: None, tried: &[] };
        let picked = balancer.pick(black_box(view), black_box(&pick), &mut rng);
        let picked = picked.expect("all are ready");
        view.backends[picked].backend.gate.leave();
        picked
    });
}
