//! What the parts of a request cost, each alone: nanoseconds of one call, data in the cache.
//!
//!     cargo bench --bench micro                 everything, about a minute after the build
//!     cargo bench --bench micro -- balance      only what has that in its name
//!     cargo test --bench micro                  each once, to see that it works
//!
//! They are for comparing two versions of one part. What a request costs as a whole is counted by
//! `benches/instructions` and measured by `benches/side_by_side`. A new algorithm, limit or recorder
//! is one more function in the file of its kind.

mod balance;
mod headers;
mod limits;
mod route;
mod telemetry;
mod timers;
mod world;

fn main() {
    divan::main();
}
