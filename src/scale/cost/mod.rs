//! What a service's backends came to: hours that ran, beside those of always running `max` and of the least that
//! the load needed.
//!
//! The scaling loop adds every tick; hours are the finest that is kept. Money is left to the report, which knows the
//! price of today: hours are facts, prices change.

mod hints;
mod ledger;

pub use hints::{Hint, hints};
pub use ledger::{Hour, Ledger, Spent, line, read_back};
