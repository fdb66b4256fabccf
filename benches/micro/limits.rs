//! What lets a request in or not: the gate of a backend, the retry budget, connections an address.

use std::sync::Arc;

use divan::{Bencher, black_box};

use tidegate::listener::per_address::PerAddress;
use tidegate::upstream::budget::RetryBudget;
use tidegate::upstream::gate::{Gate, State};

use super::world::NOW;

/// In and out again.
#[divan::bench]
fn gate(bencher: Bencher) {
    let gate = Gate::new(State::Ready);
    bencher.bench_local(|| {
        let entered = black_box(&gate).enter();
        gate.leave();
        entered
    });
}

/// A request counted: once each.
#[divan::bench]
fn budget_request(bencher: Bencher) {
    let budget = RetryBudget::default();
    bencher.bench_local(|| black_box(&budget).request(black_box(NOW)));
}

/// A retry asked for and not allowed, which looks at the whole window.
#[divan::bench]
fn budget_withdraw(bencher: Bencher) {
    let budget = RetryBudget::default();
    bencher.bench_local(|| black_box(&budget).withdraw(black_box(NOW), 0.0, 0));
}

/// A new connection among those of 1,000 addresses.
#[divan::bench]
fn connections_per_address(bencher: Bencher) {
    let counts = Arc::new(PerAddress::default());
    let listener: Arc<str> = "http".into();
    let address = |i: u32| std::net::IpAddr::from((0x0a00_0000 + i).to_be_bytes());
    let _others: Vec<_> = (0..1000).map(|i| counts.enter(&listener, address(i), 100)).collect();
    bencher.bench_local(|| counts.enter(&listener, black_box(address(7)), 100).is_some());
}
