//! All integration tests: one binary, so that it is linked once. One file a subject; what they
//! share is in `tests/support`.

#[path = "../support/mod.rs"]
mod support;

mod frozen;
mod killed;
mod load;
mod origin;
mod quickstart;
mod scaling;
mod stopping;
