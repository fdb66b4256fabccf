//! The figures of the acceptance points of the front door: printed, each beside its target,
//! nothing gated. Behaviour is asserted by the integration tests; how long it takes depends on
//! the machine, and is told here.
//!
//!     cargo bench --bench acceptance            everything, about four minutes
//!     cargo bench --bench acceptance -- term    only the parts whose names contain that
//!
//! Without `--bench` (as `cargo test --bench acceptance` runs it) every part is run once and as short as
//! can be, to see that it works. Proxy, backends and load are processes and threads of this
//! machine and talk over the loopback; with few cores they take each other's time.

mod growth;
mod held;
mod kill;
mod reloads;
mod table;
mod term;

#[path = "../../tests/support/mod.rs"]
mod support;

use std::time::Duration;

use table::Table;
use tidegate::load::Report;

/// How long and how much.
#[derive(Debug, Clone, Copy)]
struct Extent {
    /// With the whole load.
    busy: Duration,
    /// With a load that backends do not notice, before and after something happens.
    calm: Duration,
    /// Wait for the pool to shrink after the load.
    shrink: bool,
    reloads: usize,
}

const WHOLE: Extent = Extent {
    busy: Duration::from_secs(40),
    calm: Duration::from_secs(5),
    shrink: true,
    reloads: 50,
};
const SHORT: Extent = Extent {
    busy: Duration::from_secs(1),
    calm: Duration::from_millis(200),
    shrink: false,
    reloads: 2,
};

type Part = fn(Extent, &mut Table);
const PARTS: [(&str, Part); 5] = [
    ("growth", growth::run),
    ("kill", kill::run),
    ("reloads", reloads::run),
    ("term", term::run),
    ("held", held::run),
];

fn main() {
    let (options, names): (Vec<_>, Vec<_>) =
        std::env::args().skip(1).partition(|argument| argument.starts_with('-'));
    let measured = options.iter().any(|option| option == "--bench");
    let extent = if measured { WHOLE } else { SHORT };
    let mut table = Table::default();
    for (name, part) in PARTS {
        if names.is_empty() || names.iter().any(|wanted| name.contains(wanted.as_str())) {
            eprintln!("{name} …");
            part(extent, &mut table);
        }
    }
    println!("{}", table.text());
    if !measured {
        println!("a short run to see that it works; for figures: cargo bench --bench acceptance");
    }
}

/// Failed requests of several loads, and those that never had an end.
fn failed(reports: &[Report]) -> u64 {
    reports.iter().map(|report| report.failed + report.unfinished).sum()
}

fn completed(reports: &[Report]) -> u64 {
    reports.iter().map(|report| report.completed).sum()
}
