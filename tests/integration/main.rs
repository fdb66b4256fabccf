//! All integration tests: one binary, so that it is linked once. One file a subject; what they
//! share is in `tests/support`.

#[path = "../support/mod.rs"]
mod support;

mod admin_api;
mod bad_config;
mod commands;
mod frozen;
mod killed;
mod load;
mod metrics;
mod origin;
mod quickstart;
mod reloads;
mod scaling;
mod stopping;
